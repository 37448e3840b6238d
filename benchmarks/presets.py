"""Seed quality and time of the single-scale presets, side by side, on pictures of a finished run.

    .venv/bin/python benchmarks/presets.py runs/photographs ../shared/photos/masks 60

One scale and no mirror for all; the first pictures of the run's list for scoring, shuffled by seed 1.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import torch

import advcam
from advcam.data import Normalisation, read_image
from advcam.flow import reopen
from advcam.machine import Machine, settled
from advcam.progress import Reporter
from advcam.stages.context import trained_classifier
from advcam.store import load_mask


def main(run: Path, masks: Path, count: int) -> None:
    """Prints one line a preset."""
    context = reopen(run, None, Machine(), Reporter(quiet=True))
    model, record = trained_classifier(context)
    normalise = Normalisation(tuple(record["backbone"]["mean"]), tuple(record["backbone"]["std"]))
    items = list(context.data.eval or context.data.items)
    random.Random(1).shuffle(items)
    items = [item for item in items if item.labels][:count]
    classes = context.data.classes
    positions = classes.positions(others=0)
    print(f"{len(items)} pictures, best threshold, image labels given")
    for name in ("plain", "default", "fast", "paper"):
        changes = {"steps": 1} if name == "plain" else {}
        climber = advcam.AdvCAM(model, "default" if name == "plain" else name, **changes)
        samples, seconds = [], 0.0
        for item in items:
            image = normalise(read_image(item.path))[None]
            start = time.perf_counter()
            maps = climber(image, [item.labels]).normalised(item.size)
            seconds += time.perf_counter() - start
            truth = torch.from_numpy(positions[load_mask(masks / f"{item.id}.png")])
            samples.append((maps, [label + 1 for label in item.labels], truth))
        found = advcam.sweep(samples, len(classes) + 1)
        best = found.best
        used = settled(climber.settings.precision, torch.device("cpu"))
        print(
            f"{name:8} {used} mIoU {100 * found.mean_iou[best]:.1f}  noise {100 * found.noise[best]:.1f}"
            f"  threshold {found.thresholds[best]:.2f}  {seconds / len(items):.3f} s a picture"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
