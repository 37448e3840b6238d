"""All limits on files from elsewhere and on arguments. Files beyond a limit are refused with a message before they are read."""

from __future__ import annotations

MIN_SIDE = 16
"""Shortest side of an image, pixels."""

MAX_PIXELS = 150_000_000
"""Most pixels of an image, a mask, or a mask drawn from regions."""

MAX_BANDS = 1000
"""Most bands of an image; hyperspectral cameras have some hundreds."""

MAX_PIXELS_AT_ONCE = 50_000_000
"""Pixels that are decoded at once while a data set is read; a larger image is decoded alone."""

MAX_IMAGE_BYTES = 2**30
"""Most bytes of an image or mask file."""

IGNORE = 255
"""The id of mask pixels that are ignored in training and scoring."""

MAX_CLASSES = IGNORE - 1
"""Most classes of a run: the ids of an 8-bit mask without 0 (background) and 255 (ignored)."""

MAX_MAP_VALUES = 2**29
"""Most values in all arrays of a map file or of a study's part: 254 maps at stride 4 of a 30-megapixel image."""

MAX_RECORD_BYTES = 2**30
"""Most bytes of a JSON file of a run."""

MAX_NAME_BYTES = 240
"""Most bytes of one part of an image's name without suffix: file systems allow 255, some needed for the masks' suffix."""

MAX_PATH_BYTES = 4096
"""Most bytes of a path: no file system allows more."""

MAX_DIGITS = 4000
"""Most digits of a whole number in COCO's JSON."""

MAX_NUMBER = 1e15
"""Bound on numbers in files that are pixels or ids."""

# Limits on arguments of functions.

MAX_VALUE = 1e30
"""Largest value of a setting: float32 ends at 3e38, so a product with another number still fits."""

MAX_ENTRIES = 10**6
"""Most entries of a list given as an argument."""

MAX_SCALE = 16.0
"""Largest scale of an image."""

MAX_GRID = 256
"""Largest number of pixels to a multiple of which a size is rounded up."""

MAX_CELLS = 2**31
"""Most cells of all maps together."""

MAX_COUNTS = 2**27
"""Most counts of a confusion matrix or a sweep, and most numbers that a bootstrap draws."""

MAX_COSTS = 2**28
"""Most costs (labels times pixels) of the unary term."""

MAX_WEIGHT = 1e6
"""Largest weight of a kernel of the dense CRF, and of a pair of labels; float32 still tells probabilities apart."""

MAX_RADIUS = 256
"""Largest radius of a neighbourhood, in cells or pixels."""

MAX_LOG2_STEPS = 20
"""Largest log2 of the steps of a random walk."""

MAX_PAIRS = 2**26
"""Most pairs of neighbours in a random walk, about 3 GB."""

MAX_COMPARED_CELLS = 10_000
"""Most cells of a walk that compares every cell with every other, 400 MB."""

MAX_CLIMB_STEPS = 10**5
"""Largest T of a climb."""

MAX_OPTION = 16_384
"""Largest number in an option of a backbone."""

MAX_SEED = 2**32 - 1
"""Largest seed: seeds are multiplied by epochs and positions, and the product must fit 64 bits."""
