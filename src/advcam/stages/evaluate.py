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
    positions = context.data.classes.positions(others=0)
    scores, skipped = _Scores(context, len(context.data.classes) + 1), []
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
    write_json(context.run.root / "metrics.json", scores.numbers(config.name, len(items)))
    write_text(context.run.root / "per-image.csv", scores.table())
    return skipped


class _Scores:
    """Counts over images; of each image by itself only its mIoU is kept."""

    def __init__(self, context: Context, outputs: int) -> None:
        self.context, self.outputs = context, outputs
        self.sweeps: dict[str, SweepCounts] = {}
        self.counts: dict[str, Tensor] = {}
        self.rows: list[dict[str, Any]] = []
        self.images = dict.fromkeys(("plain", "advcam", "masks", "predictions"), 0)

    def add(self, item: Item, truth: Tensor, positions: np.ndarray[Any, Any]) -> None:
        run, size = self.context.run, (truth.shape[0], truth.shape[1])
        row: dict[str, Any] = {"image": item.id}
        for name in ("plain", "advcam"):
            path = run.maps(item.id, plain=name == "plain")
            if path.is_file():
                stored = load_maps(path)
                maps = stored.maps.new_zeros(0, *size)
                if len(stored.maps):
                    maps = F.interpolate(stored.maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
                counts = sweep_counts(maps, [int(positions[c]) for c in stored.classes], truth, self.outputs)
                self.sweeps[name] = self.sweeps[name] + counts if name in self.sweeps else counts
                self.images[name] += 1
                row[name] = mean_iou(counts.counts)
        for name, path in (("masks", run.mask(item.id)), ("predictions", run.prediction(item.id))):
            if path.is_file():
                ids = load_mask(path)
                ours = torch.from_numpy(np.where(ids == IGNORE, 0, positions[ids]))  # left open counts as background
                confused = confusion(ours, truth, self.outputs)
                self.counts[name] = self.counts.get(name, torch.zeros_like(confused)) + confused
                self.images[name] += 1
                row[name] = float(mean_iou(confused))
        self.rows.append(row)

    def numbers(self, split: str, wanted: int) -> dict[str, Any]:
        """Everything measured, each with its split and the rule it was measured by."""
        names = ("background", *self.context.data.classes.names)
        numbers: dict[str, Any] = {}

        def described(name: str) -> str:
            return f"{split}, {self.images[name]} images" + (f" of {wanted}" if self.images[name] < wanted else "")

        for name, counts in self.sweeps.items():
            found = counts.result()
            best = found.best
            numbers[f"seed_{name}"] = {
                "mean_iou": float(found.mean_iou[best]),
                "noise": float(found.noise[best]),
                "threshold": found.thresholds[best],
                "split": described(name),
                "rule": f"best of {len(found.thresholds)} background thresholds, chosen with the ground truth of this split;"
                " image labels given",
                "per_class": dict(zip(names, found.iou[best].tolist(), strict=True)),
                "curve": {"threshold": found.thresholds, "mean_iou": found.mean_iou.tolist(), "noise": found.noise.tolist()},
            }
            for row in self.rows:
                if name in row:
                    row[name] = float(row[name][best])
        for name, confused in self.counts.items():
            numbers[name] = {
                "mean_iou": float(mean_iou(confused)),
                "noise": float(noise(confused)),
                "split": described(name),
                "rule": self._rule(name),
                "per_class": dict(zip(names, iou(confused).tolist(), strict=True)),
            }
        made = read_json(self.context.run.folder("classify") / "metrics.json")
        numbers["average_precision"] = {k: made[k] for k in ("split", "images", "rule")} | made["average_precision"]
        return numbers

    def _rule(self, name: str) -> str:
        refine = self.context.run.state()["steps"].get("refine", {}).get("settings", {})
        if name == "masks":
            return f"{refine.get('method')}, background threshold {refine.get('threshold')} as given; image labels given"
        seen = "" if self.context.data.eval else "; pictures it was trained on"
        return f"as written by the network, no threshold, no image labels{seen}"

    def table(self) -> str:
        """MIoU of every picture by itself, as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["image", *self.images], restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            scores = {name: value for name, value in row.items() if value == value}  # nan: nothing of the picture counts
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in scores.items()})
        return text.getvalue()
