"""Every way from maps to masks on one run, plain maps and AdvCAMs side by side; benchmarks/refinement.md records it.

    .venv/bin/python -m benchmarks.refinement RUN MASKS --work DIR [--data NAME] [--only irn,psa] [--maps advcam]
        [--first N] [--set irn.threshold=0.2]

RUN is a run with maps and a list for scoring. IRN and PSA learn from all its training images; only the images for
scoring get masks. What is learnt stays in DIR and is not learnt again; the time it took stays with it.
Ground truth is used for the numbers, and for the column "best", whose background threshold it chooses.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import advcam.models  # noqa: F401  (the torchvision mend)
from advcam.data import IGNORE
from advcam.metrics import SweepCounts, confusion, mean_iou, noise, sweep_counts
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages import refine
from advcam.stages.context import Context
from advcam.stages.maps import map_source
from advcam.stages.table import open_run
from advcam.store import RunFolder, load_maps, load_mask, read_json, write_json

from .results import Measured, keep, keep_masks


def working_copy(run: Path, folder: Path) -> RunFolder:
    """A run folder of its own for one method: classifier and maps by link, nothing refined yet."""
    if not (folder / "run.json").is_file():
        folder.mkdir(parents=True)
        for name in ("1-classify", "2-climb"):
            (folder / name).symlink_to((run / name).resolve())
        shutil.copy(run / "data.json", folder / "data.json")
        state = read_json(run / "run.json", dict)
        state["steps"] = {name: state["steps"][name] for name in ("classify", "climb")}
        write_json(folder / "run.json", state)
    return open_run(folder)


def measure(
    context: Context, config: refine.RefineConfig, items: list[Any], masks: Path, what: Measured | None
) -> dict[str, float]:
    """MIoU and noise of one method at its own threshold and at the best one, with the time it took; keeps the counts."""
    positions = context.data.classes.positions(others=0)
    outputs, start = len(context.data.classes) + 1, time.monotonic()
    refiner = refine.refiner_of(context, config, map_source(context, config.maps == "plain"))
    kept = context.run.root / "learning.json"
    if not kept.is_file():
        write_json(kept, time.monotonic() - start)
    learnt, made = read_json(kept, float), torch.zeros(len(items), outputs, outputs, dtype=torch.long)
    swept: list[SweepCounts] = []
    seconds = 0.0
    for row, item in enumerate(items):
        truth = torch.from_numpy(positions[load_mask(masks / f"{item.id}.png")])
        stored = load_maps(context.run.maps(item.id, plain=config.maps == "plain"))
        start = time.monotonic()
        ids, found = refine.refine(context, config, refiner, item, stored)
        seconds += time.monotonic() - start
        ids = np.where(ids == IGNORE, 0, ids)  # left open counts as background
        made[row] = confusion(torch.from_numpy(positions[ids]), truth, outputs)
        if found and found.threshold >= 0:
            maps = F.interpolate(found.maps[:, None], size=item.size, mode="bilinear", align_corners=False)[:, 0]
            swept.append(sweep_counts(maps, [int(positions[c]) for c in found.ids], truth, outputs))
    names = [item.id for item in items]
    if what:
        keep_masks(replace(what, seconds=seconds / len(items)), names, made)
    total = made.sum(0)
    result = {
        "miou": 100 * float(mean_iou(total)),
        "noise": 100 * float(noise(total)),
        "learn": learnt,
        "each": seconds / len(items),
    }
    if swept:
        best = sum(swept[1:], start=swept[0]).result()
        result |= {"best": 100 * float(best.mean_iou[best.best]), "at": best.thresholds[best.best]}
    if what and config.method == "threshold" and len(swept) == len(items):  # the maps as they are: the seed
        counts = torch.stack([each.counts for each in swept])
        rule = "best, chosen with the ground truth scored"
        seed = replace(what, stage="seed", way="", rule=rule)
        keep(seed, names, counts.diagonal(dim1=2, dim2=3), counts.sum(2), made.sum(2))
    return result


def main() -> None:
    """Prints the table, a row a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", help="name of the data set in the page of results; none: the counts are not kept")
    parser.add_argument("--only", default=",".join(refine.METHODS))
    parser.add_argument("--maps", default="plain,advcam")
    parser.add_argument("--first", type=int, help="so many of the images for scoring, shuffled by seed 1")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE")
    args = parser.parse_args()
    changes: dict[str, dict[str, Any]] = {name: {} for name in refine.METHODS}
    for entry in args.set:
        where, _, value = entry.partition("=")
        method, _, key = where.partition(".")
        changes[method][key] = ast.literal_eval(value)
    print("| method | maps | mIoU % (noise %) | best, at | learning, s | an image, s |\n|---|---|---|---|---|---|")
    for method in args.only.split(","):
        for maps in args.maps.split(","):
            config = refine.RefineConfig(method=method, changes=changes[method], maps=maps)
            folder = working_copy(args.run, args.work / f"{method}-{maps}")
            opened = reopen(folder.root, None, Runtime(), Reporter())
            items = list(opened.data.eval)
            if args.first:
                random.Random(1).shuffle(items)
                items = items[: args.first]
            maps_name = {"advcam": "multiscale"}.get(maps, maps)
            rule = "published" if method in ("irn", "psa") else "chosen without ground truth"
            what = Measured(args.data or "", "mobilenet", "masks", maps_name, method, "all for scoring", rule)
            found = measure(opened, config, items, args.masks, what if args.data else None)
            best = f"{found['best']:.1f}, {found['at']:.2f}" if "best" in found else ""
            row = f"{found['miou']:.1f} ({found['noise']:.1f}) | {best} | {found['learn']:.0f} | {found['each']:.3f}"
            print(f"| {method} | {maps} | {row} |", flush=True)


if __name__ == "__main__":
    main()
