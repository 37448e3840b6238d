"""The rows of benchmarks/segmentation.sh: run folders made of others, and what their networks predict, scored.

.venv/bin/python -m benchmarks.rows copy RUN NEW STEP ...      # a run with those steps by link
.venv/bin/python -m benchmarks.rows score RUN STEP MASKS [--crf] [--name NAME]
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch

import advcam.models  # noqa: F401  (the torchvision mend)
from advcam.data import read_image
from advcam.metrics import confusion, mean_iou, noise
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.segmenter import Segmenter
from advcam.stages.table import open_run
from advcam.store import load_mask, read_json, write_json


def copy(run: Path, new: Path, steps: list[str]) -> None:
    """A run with some steps of another, by link, and nothing else."""
    new.mkdir(parents=True)
    for step in steps:
        folder = open_run(run).folder(step)
        (new / folder.name).symlink_to(folder.resolve())
    shutil.copy(run / "data.json", new / "data.json")
    state = read_json(run / "run.json", dict)
    left = {"state": "planned", "key": "", "needs": None, "seconds": 0.0, "threads": None, "precision": None}
    state["steps"] = {name: made if name in steps else made | left for name, made in state["steps"].items()}
    write_json(new / "run.json", state)


def score(run: Path, step: str, masks: Path, crf: bool, name: str) -> None:
    """Prints mIoU and noise of a step's predictions over the images for scoring, and the step's time."""
    context = reopen(run, None, Runtime(), Reporter(quiet=True))
    positions, outputs = context.data.classes.positions(others=0), len(context.data.classes) + 1
    segmenter = replace(Segmenter.load(context.run.folder(step), torch.device("cpu")), crf=True) if crf else None
    counts, start = torch.zeros(outputs, outputs, dtype=torch.long), time.monotonic()
    for item in context.data.eval:
        ids = segmenter(read_image(item.path)) if segmenter else load_mask(context.run.prediction(item.id, step))
        truth = load_mask(masks / f"{item.id}.png")
        counts += confusion(torch.from_numpy(positions[ids]), torch.from_numpy(positions[truth]), outputs)
    seconds = time.monotonic() - start if crf else context.run.state()["steps"][step]["seconds"]
    how = "crf" if crf else "   "
    print(f"| {name} | {how} | {100 * mean_iou(counts):.1f} ({100 * noise(counts):.1f}) | {seconds:.0f} s |", flush=True)


def main() -> None:
    """Copies or scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    make = verbs.add_parser("copy")
    make.add_argument("run", type=Path)
    make.add_argument("new", type=Path)
    make.add_argument("steps", nargs="+")
    judge = verbs.add_parser("score")
    judge.add_argument("run", type=Path)
    judge.add_argument("step")
    judge.add_argument("masks", type=Path)
    judge.add_argument("--crf", action="store_true")
    judge.add_argument("--name", default="")
    args = parser.parse_args()
    if args.verb == "copy":
        copy(args.run, args.new, args.steps)
    else:
        score(args.run, args.step, args.masks, args.crf, args.name)


if __name__ == "__main__":
    main()
