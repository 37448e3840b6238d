"""Seed quality and time of the single-scale presets, side by side, on images of a finished run.

    .venv/bin/python benchmarks/presets.py runs/photographs ../shared/photos/masks 60 [float32 bfloat16]

Without precisions: what ``auto`` is here.

One scale and no mirror for all; the first images of the run's list for scoring, shuffled by seed 1.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import torch

import advcam
from advcam.data import Normalisation, read_image
from advcam.metrics.sweep import Sample
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime, resolve_precision
from advcam.stages.context import trained_classifier
from advcam.store import load_mask


def main(run: Path, masks: Path, count: int, precisions: list[str]) -> None:
    """Prints one line a preset and precision."""
    context = reopen(run, None, Runtime(), Reporter(quiet=True))
    model, record = trained_classifier(context)
    normalise = Normalisation(record.backbone["mean"], record.backbone["std"])
    items = list(context.data.eval or context.data.items)
    random.Random(1).shuffle(items)
    items = [item for item in items if item.labels][:count]
    classes = context.data.classes
    positions = classes.positions(others=0)
    print(f"{len(items)} images, best threshold, image labels given")
    ways = [(name, precision) for name in ("plain", "default", "fast", "paper") for precision in precisions]
    climbers = {way: climber(model, *way) for way in ways}
    samples: dict[tuple[str, str], list[Sample]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    for item in items:
        image = normalise(read_image(item.path))[None]
        truth = torch.from_numpy(positions[load_mask(masks / f"{item.id}.png")])
        for way in ways:  # in turns
            start = time.perf_counter()
            maps = climbers[way](image, [item.labels]).normalised(item.size)
            seconds[way] += time.perf_counter() - start
            samples[way].append((maps, [label + 1 for label in item.labels], truth))
    for way in ways:
        found = advcam.sweep(samples[way], len(classes) + 1)
        best = found.best
        print(
            f"{way[0]:8} {way[1]:9} mIoU {100 * found.mean_iou[best]:.1f}  noise {100 * found.noise[best]:.1f}"
            f"  threshold {found.thresholds[best]:.2f}  {seconds[way] / len(items):.3f} s an image"
        )


def climber(model: torch.nn.Module, name: str, precision: str) -> advcam.AdvCAM:
    """A preset, or the plain map, in a precision."""
    changes = {"steps": 1} if name == "plain" else {}
    return advcam.AdvCAM(model, "default" if name == "plain" else name, precision=precision, **changes)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] or [resolve_precision("auto", torch.device("cpu"))]
    )
