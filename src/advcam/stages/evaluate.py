"""What a run made, against ground truth: the only place that reads any."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from advcam.data import IGNORE, Item, Skip
from advcam.errors import DataError, RunError, StoreError
from advcam.metrics import SweepCounts, confusion, iou, mean_iou, noise, sweep_counts
from advcam.store import load_maps, load_mask, read_json, write_json, write_text

from .context import Context


@dataclass(frozen=True)
class EvaluateConfig:
    """Where the ground truth is.

    Args:
        masks: folder of ID.png, class ids of the run's class list; other ids count as background, 255 is ignored.
        name: of the pictures scored on, for the record.
    """

    masks: Path
    name: str


def run(context: Context, config: EvaluateConfig) -> list[Skip]:
    """Scores seeds (plain maps and AdvCAMs, every threshold), masks and predictions of the pictures for scoring, or of
    all where no list names them; writes metrics.json and per-image.csv.

    Returns:
        Pictures left out, with the reason.

    Raises:
        DataError: no folder of masks, or none of the pictures has one.
        RunError: the run was not climbed yet.
    """
    if not context.run.done("climb"):
        raise RunError(f"{context.run.root}: has no maps yet; `advcam climb --run {context.run.root}` makes them")
    if not config.masks.is_dir():
        raise DataError(f"{config.masks}: there is no such folder of ground-truth masks; check --masks")
    classes = context.data.classes
    positions = np.zeros(256, dtype=np.uint8)
    positions[list(classes.ids)] = np.arange(1, len(classes) + 1)
    positions[IGNORE] = IGNORE
    scores, skipped = _Scores(context, len(classes) + 1), []
    items = context.data.eval or context.data.items
    for item in context.reporter.track(items, len(items), "evaluate"):
        try:
            truth = load_mask(config.masks / f"{item.id}.png")
            if truth.shape != item.size:
                raise StoreError(f"{config.masks / item.id}.png: is (h, w) {truth.shape}, its picture {item.size}")
        except StoreError as error:
            skipped.append(Skip(item.id, str(error)))
            continue
        scores.add(item, torch.from_numpy(positions[truth]), positions)
    if not scores.rows:
        raise DataError(
            f"{config.masks}: no ground-truth mask for any of {len(items)} pictures; the first: {skipped[0].reason}"
        )
    part = "" if len(scores.rows) == len(items) else f" of {len(items)}"
    split = f"{config.name}, {len(scores.rows)}{part} images"
    write_json(context.run.root / "metrics.json", scores.numbers(split))
    write_text(context.run.root / "per-image.csv", scores.table())
    return skipped


class _Scores:
    """Counts over images."""

    def __init__(self, context: Context, outputs: int) -> None:
        self.context, self.outputs = context, outputs
        self.sweeps: dict[str, SweepCounts] = {}
        self.counts: dict[str, Tensor] = {}
        self.rows: list[dict[str, Any]] = []
        self.single: dict[str, list[SweepCounts]] = {"plain": [], "advcam": []}

    def add(self, item: Item, truth: Tensor, positions: np.ndarray[Any, Any]) -> None:
        run = self.context.run
        row: dict[str, Any] = {"image": item.id}
        for name in ("plain", "advcam"):
            path = run.maps(item.id, plain=name == "plain")
            if not path.is_file():
                continue
            stored = load_maps(path)
            size = (truth.shape[0], truth.shape[1])
            maps = stored.maps
            if len(maps):
                maps = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
            counts = sweep_counts(maps.reshape(-1, *size), [int(positions[c]) for c in stored.classes], truth, self.outputs)
            self.sweeps[name] = self.sweeps[name] + counts if name in self.sweeps else counts
            self.single[name].append(counts)
        for name, path in (("masks", run.mask(item.id)), ("predictions", run.prediction(item.id))):
            if not path.is_file():
                continue
            ids = torch.from_numpy(positions[load_mask(path)])
            counted = torch.where(ids == IGNORE, IGNORE, truth)  # a pixel our mask leaves open does not count
            confused = confusion(ids, counted, self.outputs)
            self.counts[name] = self.counts.get(name, torch.zeros_like(confused)) + confused
            row[name] = float(mean_iou(confused))
        self.rows.append(row)

    def numbers(self, split: str) -> dict[str, Any]:
        """Everything measured, each with its split and the rule it was measured by."""
        names = ("background", *self.context.data.classes.names)
        state = self.context.run.state()["steps"]
        fixed = state.get("refine", {}).get("settings", {})
        numbers: dict[str, Any] = {}
        for name, counts in self.sweeps.items():
            found = counts.result()
            best = found.best
            numbers[f"seed_{name}"] = {
                "mean_iou": float(found.mean_iou[best]),
                "noise": float(found.noise[best]),
                "threshold": found.thresholds[best],
                "split": split,
                "rule": f"best of {len(found.thresholds)} background thresholds, chosen with the ground truth of this split",
                "per_class": dict(zip(names, found.iou[best].tolist(), strict=True)),
                "curve": {"threshold": found.thresholds, "mean_iou": found.mean_iou.tolist(), "noise": found.noise.tolist()},
            }
            for row, single in zip(self.rows, self.single[name], strict=False):
                row[name] = float(mean_iou(single.counts[best]))
        rules = {
            "masks": f"{fixed.get('method')}, threshold {fixed.get('threshold')} fixed beforehand",
            "predictions": "as written by the network, no threshold",
        }
        for name, confused in self.counts.items():
            numbers[name] = {
                "mean_iou": float(mean_iou(confused)),
                "noise": float(noise(confused)),
                "split": split,
                "rule": rules[name],
                "per_class": dict(zip(names, iou(confused).tolist(), strict=True)),
            }
        classify = self.context.run.folder("classify") / "metrics.json"
        if classify.is_file():
            made = read_json(classify)
            numbers["average_precision"] = {k: made[k] for k in ("split", "images", "rule")} | made["average_precision"]
        return numbers

    def table(self) -> str:
        """MIoU of every picture by itself, as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["image", "plain", "advcam", "masks", "predictions"], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows)
        return text.getvalue()
