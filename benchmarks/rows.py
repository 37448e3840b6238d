"""The rows of benchmarks/chain.sh: run folders made of others, and what their networks predict, scored.

.venv/bin/python -m benchmarks.rows start DATA RUN             # a run with the classifier of `make bench-quality`
.venv/bin/python -m benchmarks.rows files DATA                 # prints the list of training images, and the folder of masks
.venv/bin/python -m benchmarks.rows copy RUN NEW STEP ...      # a run with those steps by link
.venv/bin/python -m benchmarks.rows score RUN STEP MASKS --data DATA --name NAME [--crf] [--labels]
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

from .quality.__main__ import WORK, trained
from .quality.data import DATA
from .results import Measured, keep_masks


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


def score(run: Path, step: str, masks: Path, crf: bool, given: bool, what: Measured) -> None:
    """Prints and keeps mIoU and noise of a step's predictions over the images for scoring, and the step's time.

    With ``crf``, or with image labels given, predictions are made anew.
    """
    context = reopen(run, None, Runtime(), Reporter(quiet=True))
    positions, outputs = context.data.classes.positions(others=0), len(context.data.classes) + 1
    segmenter = replace(Segmenter.load(context.run.folder(step), torch.device("cpu")), crf=crf) if crf or given else None
    items, start = context.data.eval, time.monotonic()
    counts = torch.zeros(len(items), outputs, outputs, dtype=torch.long)
    for row, item in enumerate(items):
        shown = item.labels if given else None
        ids = segmenter(read_image(item.path), shown) if segmenter else load_mask(context.run.prediction(item.id, step))
        truth = load_mask(masks / f"{item.id}.png")
        counts[row] = confusion(torch.from_numpy(positions[ids]), torch.from_numpy(positions[truth]), outputs)
    seconds = time.monotonic() - start if segmenter else context.run.state()["steps"][step]["seconds"]
    keep_masks(replace(what, seconds=seconds), [item.id for item in items], counts)
    total = counts.sum(0)
    print(
        f"| {what.maps} | {what.way} | {100 * mean_iou(total):.1f} ({100 * noise(total):.1f}) | {seconds:.0f} s |", flush=True
    )


def main() -> None:
    """Copies or scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    make = verbs.add_parser("copy")
    make.add_argument("run", type=Path)
    make.add_argument("new", type=Path)
    make.add_argument("steps", nargs="+")
    begin = verbs.add_parser("start")
    begin.add_argument("data")
    begin.add_argument("new", type=Path)
    named = verbs.add_parser("files")
    named.add_argument("data")
    judge = verbs.add_parser("score")
    judge.add_argument("run", type=Path)
    judge.add_argument("step")
    judge.add_argument("masks", type=Path)
    judge.add_argument("--crf", action="store_true")
    judge.add_argument("--labels", action="store_true", help="give the image labels")
    judge.add_argument("--name", required=True, help="what the network learnt from")
    judge.add_argument("--data", required=True)
    args = parser.parse_args()
    if args.verb == "copy":
        copy(args.run, args.new, args.steps)
    elif args.verb == "start":
        copy(trained(WORK, "mobilenet", args.data).run.root, args.new, ["classify"])
    elif args.verb == "files":
        folder = WORK / args.data
        print(DATA[args.data].where(folder).train_list.resolve(), DATA[args.data].masks(folder).resolve())
    else:
        way = "image labels given" if args.labels else "with the CRF" if args.crf else "alone"
        stage = "semi" if args.step == "semi" else "network"
        what = Measured(args.data, "mobilenet", stage, args.name, way, "all for scoring", "none")
        score(args.run, args.step, args.masks, args.crf, args.labels, what)


if __name__ == "__main__":
    main()
