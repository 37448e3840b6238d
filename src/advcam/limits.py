"""What a file from somebody else may ask of this machine, in one place. More is refused with a message before it is read."""

from __future__ import annotations

MIN_SIDE = 16
"""Pixels: shortest side of an image."""

MAX_PIXELS = 100_000_000
"""Pixels of an image, a mask, or a mask drawn from regions."""

MAX_PIXELS_AT_ONCE = 50_000_000
"""Pixels that are decoded at once while a data set is looked at; a larger image is decoded alone."""

MAX_IMAGE_BYTES = 2**30
"""Bytes of an image or mask file."""

IGNORE = 255
"""The id of pixels of a mask that are neither learnt from nor scored."""

MAX_CLASSES = IGNORE - 1
"""Classes of a run: ids of an 8-bit mask without 0, background, and 255, ignored."""

MAX_MAP_VALUES = 2**29
"""Values of all arrays that are read of a map file or a part of a study: 254 maps at stride 4 of 30 megapixels."""

MAX_RECORD_BYTES = 2**30
"""Bytes of a JSON file of a run."""

MAX_NAME_BYTES = 240
"""Bytes of one part of an image's name without its suffix: file systems take 255, of which the masks' suffix needs some."""

MAX_PATH_BYTES = 4096
"""Bytes of a path: no file system takes more."""

MAX_DIGITS = 4000
"""Digits of a whole number in COCO's JSON."""

MAX_NUMBER = 1e15
"""No number of a file that means pixels or ids is as large."""

# What arguments of functions may ask for.

MAX_VALUE = 1e30
"""Of a setting: float32 ends at 3e38, so that this can still be multiplied with another number."""

MAX_ENTRIES = 10**6
"""Entries of a list that is an argument."""

MAX_SCALE = 16.0
"""By which an image is enlarged."""

MAX_GRID = 256
"""Pixels to a multiple of which a size is rounded up."""

MAX_CELLS = 2**31
"""Cells of maps in all."""

MAX_COUNTS = 2**27
"""Counts of a confusion matrix or a sweep, numbers that a bootstrap draws."""

MAX_COSTS = 2**28
"""Costs of labels at pixels."""

MAX_WEIGHT = 1e6
"""Of a kernel of the dense CRF, and of two labels beside each other: float32 still tells probabilities apart."""

MAX_RADIUS = 256
"""Of a neighbourhood, in cells or pixels."""

MAX_LOG2_STEPS = 20
"""Of a random walk."""

MAX_PAIRS = 2**26
"""Pairs of neighbours in a random walk, about 3 GB."""

MAX_CLIMB_STEPS = 10**5
"""T of a climb."""

MAX_OPTION = 16_384
"""Of a number in an option of a backbone."""

MAX_SEED = 2**32 - 1
"""Seeds are multiplied with epochs and positions, which still are 64 bits then."""
