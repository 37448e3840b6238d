"""Every network on every data set: trained on image labels, climbed, scored, in one table.

    .venv/bin/python -m benchmarks.quality                                   # all, hours on two cores
    .venv/bin/python -m benchmarks.quality --networks mobilenet --data objects,scenes --count 30 --only fast,multiscale

What is measured is kept under ``--work`` by what it depends on, so a stopped or repeated command goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from advcam import PRESETS, pipeline
from advcam.metrics import resampled
from advcam.models.own import allow
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages import classify
from advcam.stages.classify import ClassifyConfig
from advcam.stages.context import Context
from advcam.store import read_json

from ..results import Measured, keep, keep_masks
from . import hybrid, objectives
from .data import DATA, NETWORKS, classifier
from .measure import RESAMPLES, Compared, Score, Way, chosen_items, climb_all, counts_of, masks_of, of_masks, words

WAYS = {
    "default": Way("default", {}, (1, 4)),
    "fast": Way("fast", {}, (1, 2)),
    "multiscale": Way("multiscale", {}, (1, 4, 8)),
    "features": Way("features", {}, (1, 4, 8)),
    "features-2-reach": Way("features", {"scales": (1.0, 2.0), "reach": 0.25}, (1, 4)),
    "published-one-scale": Way("official", {"mirror": False, "step_size": 0.034, "scales": (1.0,)}, (1, 27)),
    "published": Way("official", {"mirror": False, "step_size": 0.034}, (1, 27)),
}
"""Preset by preset, without mirror images. ``published`` is preset official with its four scales. The published step, .08 of
ImageNet-normalised pixels, is 1.7 % of their range: .034 of these networks' [-1, 1]."""

WORK = Path("runs/quality")
SCORED = "the last of the images for scoring, by the hash of their names"

HEAD = (
    "| network, data | images | maps | steps | mIoU, best threshold | noise | less the plain map | threshold without truth:"
    " less the best | an image, s |\n|---|---|---|---|---|---|---|---|---|"
)
MASKS = "| network, data | maps | masks | mIoU | noise |\n|---|---|---|---|---|"


def trained(work: Path, network: str, data: str) -> Context:
    """The run whose classifier is the network trained on the image labels of a data set."""
    where = DATA[data].where(work / data)
    context = pipeline.start(work / f"{data}-{network}", where, 0, Runtime(), Reporter())
    if context.run.done("classify"):
        return context
    if network == "hybrid":
        weights = work / f"{data}-hybrid.safetensors"
        if not weights.is_file():
            hybrid.train(context, DATA[data].train, weights)
        code = hybrid.written(weights, len(context.data.classes))
        allow(code)
        config = ClassifyConfig(classifier=code, mean=hybrid.MEAN, std=hybrid.MEAN)
    else:
        name, _, objective = network.partition("-")
        config = classifier(name, data, work / "weights")
        if objective:
            config = objectives.trained(context, config, objective, work / f"{data}-{network}.safetensors")
    pipeline.plan(context, {"classify": config}, {})
    classify.run(context, config)
    return context


def rows(work: Path, network: str, data: str, count: int, ways: dict[str, Way]) -> Iterator[tuple[str, str]]:
    """Rows of the two tables: kind (``seeds`` or ``masks``) and text."""
    context, masks = trained(work, network, data), DATA[data].masks(work / data)
    items = chosen_items(context, count)
    parts = climb_all(context, items, ways, masks)
    weights, compared = resampled(len(items), RESAMPLES), Compared(context, items)
    made = read_json(context.run.folder("classify") / "metrics.json", dict)["average_precision"]["mean"]
    title = f"{network}, {data} (average precision {made:.3f})"
    plain = None
    for name, way in ways.items():
        seconds = np.mean([float(part["seconds"]) for part in parts[name]]) / max(way.after)
        for t in way.after:
            one = way.settings.scales == (1.0,)
            if t == 1 and one and plain is not None:
                continue  # the same maps by every way of one scale
            score = Score.of(parts[name], t, weights, compared.threshold(parts[name], t))
            if t == 1 and one:
                plain = score
            gain = "" if plain is None or score is plain else words(score.mean_iou - plain.mean_iou, sign=True)
            label = f"plain, scales {', '.join(f'{s:g}' for s in way.settings.scales)}" if t == 1 else name
            seeds = f"{words(score.mean_iou)} at {score.threshold[0]:.2f} | {100 * float(score.noise[0]):.1f}"
            chosen = f"{score.chosen:.2f}: {100 * float(score.at_chosen[0] - score.mean_iou[0]):+.1f}"
            yield "seeds", f"| {title} | {len(items)} | {label} | {t} | {seeds} | {gain} | {chosen} | {seconds * t:.2f} |"
            each = " ".join(f"{100 * v:.0f}" for v in score.per_class)
            yield "classes", f"| {title} | {label} | {t} | {each} |"
            if t not in (1, PRESETS[way.preset]["steps"]):
                continue
            maps = "plain" if score is plain else label
            what = Measured(data, network, "seed", maps, "", SCORED, "best, chosen with the ground truth scored", seconds * t)
            keep(what, [item.id for item in items], *counts_of(parts[name], t))
            if name == "default" and score is not plain:
                continue
            for how, used, counts in masks_of(compared, context, parts[name], t, score.chosen, masks, t == 1 and not one):
                mean_iou, noise = of_masks(counts, weights)
                shown = f"{how}, threshold {used:.2f}"
                yield "masks", f"| {title} | {label} | {shown} | {words(mean_iou)} | {100 * float(noise[0]):.1f} |"
                keep_masks(
                    replace(what, stage="masks", way=how, rule=f"{used:.2f}, chosen without ground truth", seconds=None),
                    [item.id for item in items],
                    counts,
                )


def main() -> None:
    """Prints the tables, row by row as they are made, and writes them to ``WORK/quality.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of runs and of what was measured")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument(
        "--count", type=int, default=39, help="images scored of each data set, drawn by the hash of their names"
    )
    parser.add_argument("--only", default=",".join(WAYS), help="ways to make maps")
    args = parser.parse_args()
    found: dict[str, list[str]] = {
        "seeds": [HEAD],
        "masks": [MASKS],
        "classes": ["| network, data | maps | steps | IoU of background and each class |\n|---|---|---|---|"],
    }
    for data in args.data.split(","):
        for network in args.networks.split(","):
            for kind, row in rows(args.work, network, data, args.count, {name: WAYS[name] for name in args.only.split(",")}):
                found[kind].append(row)
                print(row, flush=True)
            args.work.mkdir(parents=True, exist_ok=True)
            (args.work / "quality.md").write_text("\n\n".join("\n".join(lines) for lines in found.values()) + "\n")


if __name__ == "__main__":
    main()
