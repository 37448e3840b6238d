"""A background threshold chosen without ground truth: from the images and their maps."""

from __future__ import annotations

import statistics

import numpy as np
import torch
from PIL import Image

from advcam.data import Item
from advcam.refinement import separation
from advcam.stages.context import Context, redo
from advcam.stages.maps import MapSource
from advcam.store import StoredMaps, digest, read_json, write_json
from advcam.store.records import ThresholdRecord

SAMPLE = 200
"""Most images that the threshold is chosen from."""
CANDIDATES = [hundredths / 100 for hundredths in range(15, 71)]
"""Below .15 of its maximum a map is mostly background, above .7 it has lost most of the object, on all data measured."""
FALLBACK = 0.3
"""Where no image separates into two colours."""

RULE = (
    "chosen without ground truth: the median over maps of the threshold, of .15 to .70, at which the mean colours inside and"
    " outside differ most (greatest variance between the two)"
)
"""How it is chosen; goes into metrics.json."""


def chosen_threshold(context: Context, source: MapSource) -> ThresholdRecord:
    """Returns the run's background threshold, and what it was chosen from; kept in ``threshold.json`` of the step.

    The images are a sample drawn by the run's seed, at most ``SAMPLE`` of those with labels.
    """
    path = context.run.folder("refine") / "threshold.json"
    if path.is_file():
        return read_json(path, ThresholdRecord, redo(context.run, "refine"))
    shown = sorted((item for item in context.data.items if item.labels), key=lambda item: digest([context.seed, item.id]))
    sample = shown[:SAMPLE]
    best = [t for item, stored in context.reporter.track(source(sample), len(sample), "threshold") for t in _best(item, stored)]
    found = ThresholdRecord(threshold=round(statistics.median(best), 2) if best else FALLBACK, maps=len(best), rule=RULE)
    write_json(path, found)
    context.reporter.say(f"refine: background threshold {found['threshold']:.2f}, {RULE}")
    return found


def _best(item: Item, stored: StoredMaps) -> list[float]:
    """Returns the threshold that separates the image's colours best, for each of its maps where any does."""
    size = (stored.maps.shape[2], stored.maps.shape[1])
    small = np.array(item.read().resize(size, Image.Resampling.BOX), dtype=np.float32)
    found = separation(stored.maps.cpu(), torch.from_numpy(small).permute(2, 0, 1), CANDIDATES)
    return [CANDIDATES[int(row.argmax())] for row in found if float(row.max()) > 0]
