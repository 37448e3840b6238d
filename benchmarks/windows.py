"""Climbs in windows beside climbs of the whole image: how far their maps differ, and the mIoU of both.

python -m benchmarks.windows RUN MASKS [--images 12] [--enlarge 3] [--windows 384,512,768] [--preset default]: images of a run,
enlarged, since photographs are small. One scale. Differences are of maps divided by their maximum.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from advcam import AdvCAM
from advcam.data import Windows
from advcam.metrics import SweepCounts, sweep_counts
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages.context import network_input, trained_classifier


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--enlarge", type=float, default=3)
    parser.add_argument("--windows", default="384,512,768")
    parser.add_argument("--preset", default="default")
    given = parser.parse_args()
    context = reopen(given.run, None, Runtime(), Reporter(quiet=True))
    model, record = trained_classifier(context)
    shown = [item for item in context.data.eval if item.labels]
    shown = shown[:: max(1, len(shown) // given.images)][: given.images]
    ways = {"whole": None} | {f"windows of {side}": int(side) for side in given.windows.split(",")}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    ids = np.array([0, *context.data.classes.ids])
    place = np.full(256, 255)
    place[ids] = range(len(ids))
    sweeps: dict[str, SweepCounts] = {}
    for item in shown:
        image = item.read()
        image = image.resize([round(side * given.enlarge) for side in image.size], Image.Resampling.BILINEAR)
        whole = Windows(image, network_input(record).normalise, torch.device("cpu"))
        truth = torch.from_numpy(place[np.asarray(Image.open(given.masks / f"{item.id}.png"))])
        reference = None
        for name, window in ways.items():
            began = time.perf_counter()
            climber = AdvCAM(model, given.preset, scales=(1.0,), window=window)
            if window is None:
                maps = climber(whole.window(whole.size, slice(0, whole.size[0]), slice(0, whole.size[1]))[None], [item.labels])
            else:
                maps = climber.in_windows(whole, item.labels)
            seconds = time.perf_counter() - began
            values = maps.normalised()
            reference = values if reference is None else reference
            apart = (values - reference).abs()
            found[name].append((float(apart.mean()), float(apart.amax()), seconds))
            full = maps.normalised((truth.shape[0], truth.shape[1]))
            counts = sweep_counts(full, [at + 1 for at in item.labels], truth, len(ids))
            sweeps[name] = sweeps[name] + counts if name in sweeps else counts
    print(f"{len(shown)} images of about {image.height}x{image.width}\n")
    print("| | mean difference | greatest, mean over images | best mIoU | s an image |\n|---|---|---|---|---|")
    for name, rows in found.items():
        mean, most, seconds = np.mean(rows, 0)
        best = sweeps[name].result().mean_iou.max()
        print(f"| {name} | {mean:.3f} | {most:.2f} | {100 * best:.1f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
