"""Compares a run's maps, masks and predictions with ground truth: counts, and scores from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from advcam.attribution import rules
from advcam.data import IGNORE, Item
from advcam.metrics import (
    MAP_THRESHOLDS,
    Best,
    BoxCounts,
    Calibration,
    InstanceCounts,
    PixelCounts,
    SweepCounts,
    SweepResult,
    boundary_counts,
    boundary_iou,
    box_counts,
    confusion,
    finds,
    interval,
    iou,
    mask_boxes,
    match_instances,
    mean_iou,
    min_max,
    noise,
    pixel_counts,
    resampled,
    resampled_iou,
    sweep_counts,
)
from advcam.refinement import TEMPERATURE
from advcam.store import load_mask, load_scores, read_json, write_csv
from advcam.store.records import AtThreshold, ClassifyMetrics, ObjectRecord, ThresholdRecord

from .context import Context, redo
from .maps import maps_of

BAD = 0.5
"""IoU below which a class's mask is bad."""
BOUNDARY = (
    "boundary IoU: of pixels within 2 % of the image's diagonal of a contour of their class, the image's edge included;"
    " pixels of 255 make no contour; mean over background and classes"
)
"""How contours are scored; goes into metrics.json."""
PLACES = (
    "one map for each class of an image's labels that its ground truth shows, resized to the image and scaled to minimum 0"
    " and maximum 1; true boxes: of every 8-connected region of the class's mask, however small, one of which must be met;"
    f" best of {len(MAP_THRESHOLDS)} thresholds for each, chosen with the ground truth of this split; image labels given;"
    " max_box_acc: box of the largest contour, IoU 0.5; max_box_acc_v2: boxes of all contours, mean over IoU 0.3, 0.5, 0.7;"
    " pxap: all pixels but 255, no threshold; top1: of images with exactly one class, max_box_acc, a hit only if the"
    " classifier's highest logit (single view, whole image) is that class"
)
"""How localisation is measured; goes into metrics.json."""


class Places:
    """Localisation scores of maps: counts for each class of an image that its ground truth shows."""

    def __init__(self) -> None:
        self.boxes: BoxCounts | None = None
        self.pixels: PixelCounts | None = None
        self.top1: BoxCounts | None = None
        self.right = self.images = 0

    def add(self, maps: Tensor, classes: Sequence[int], truth: Tensor, classified: bool | None) -> None:
        """Counts the maps of an image.

        Args:
            maps: [k, H, W].
            classes: the k positions in the truth.
            truth: [H, W].
            classified: whether the classifier predicts the image's only class; None if it has several, or if unknown.
        """
        there = [(one, truth == c) for one, c in zip(maps, classes, strict=True) if bool((truth == c).any())]
        for one, mask in there:
            score_map = min_max(one)
            boxes, pixels = box_counts(score_map, mask_boxes(mask)), pixel_counts(score_map, mask, truth == IGNORE)
            self.boxes = boxes if self.boxes is None else self.boxes + boxes
            self.pixels = pixels if self.pixels is None else self.pixels + pixels
            if classified is not None:
                found = boxes if classified else boxes.missed()
                self.top1 = found if self.top1 is None else self.top1 + found
                self.right += classified
        self.images += bool(there)

    def numbers(self, boxes: BoxCounts, pixels: PixelCounts) -> dict[str, Any]:
        """Returns the scores as plain data."""

        def plain(best: Best) -> dict[str, float]:
            return {"value": best.value, "threshold": round(best.threshold, 3)}

        mean, each = boxes.max_box_acc_v2()
        top1 = self.top1
        return {
            "max_box_acc": plain(boxes.max_box_acc()),
            "max_box_acc_v2": {"value": mean, "per_iou": {str(iou): plain(best) for iou, best in each.items()}},
            "pxap": pixels.average_precision(),
            "top1": plain(top1.max_box_acc()) | {"classification": self.right / top1.maps, "images": top1.maps}
            if top1
            else None,
            "maps": boxes.maps,
        }


Interval = tuple[float, float] | None
"""The ends of a 95 % interval, None where there is too little to draw from."""


def intervals(confused: Sequence[Tensor]) -> tuple[Interval, list[Interval]]:
    """Returns the 95 % bootstrap intervals over images of the mIoU and of each label's IoU, from each image's counts [L, L].

    There is none of a single image, nor of a label that fewer than two images have, in the truth or in ours.
    """
    return _intervals([torch.stack([counts.diagonal(), counts.sum(0), counts.sum(1)]) for counts in confused])


def _intervals(counted: Sequence[Tensor]) -> tuple[Interval, list[Interval]]:
    """Returns the intervals from each image's [3, L]: pixels of each label in both masks, in ours, in the truth."""
    hits, predicted, true = torch.stack(list(counted)).unbind(1)
    if len(hits) < 2:
        return None, [None] * hits.shape[1]
    found = resampled_iou(hits, predicted, true, resampled(len(hits)))
    mean, each = (torch.stack(interval(values)) for values in (found.nanmean(-1), found))
    often = ((predicted + true) > 0).sum(0) > 1
    of_labels = [(low, high) if enough else None for low, high, enough in zip(*each.tolist(), often.tolist(), strict=True)]
    return (float(mean[0]), float(mean[1])), of_labels


def _boundary(counted: Sequence[Tensor], names: Sequence[str]) -> dict[str, Any]:
    """Returns the boundary IoU of all images: its mean over classes, of each class, and their intervals."""
    found, (mean, each) = boundary_iou(torch.stack(list(counted)).sum(0)), _intervals(counted)
    return {
        "mean_iou": float(found.nanmean()),
        "per_class": dict(zip(names, found.tolist(), strict=True)),
        "interval": mean,
        "per_class_intervals": dict(zip(names, each, strict=True)),
        "rule": BOUNDARY,
    }


class Scores:
    """Counts over all images, and per-image mIoU."""

    def __init__(self, context: Context, outputs: int) -> None:
        self.context, self.outputs = context, outputs
        self.sweeps: dict[str, SweepCounts] = {}
        self.counts: dict[str, Tensor] = {}
        self.each: dict[str, list[Tensor]] = {}
        self.contours: dict[str, list[Tensor]] = {}
        self.rows: list[dict[str, Any]] = []
        self.images = dict.fromkeys(("plain", "advcam", "masks", "predictions", "semi"), 0)
        self.objects: InstanceCounts | None = None
        self.calibration: Calibration | None = None
        self.scored: list[tuple[float, bool]] = []
        self.with_objects = 0
        self.classified: dict[str, bool] = {}
        self.places = {"plain": Places(), "advcam": Places()}

    def add(self, item: Item, truth: Tensor, positions: np.ndarray[Any, Any]) -> None:
        """Compares an image's maps, mask and predictions with its ground truth, class positions [H, W]."""
        run, size = self.context.run, (truth.shape[0], truth.shape[1])
        row: dict[str, Any] = {"image": item.id}
        for name in ("plain", "advcam"):
            if run.maps(item.id, plain=name == "plain").is_file():
                stored = maps_of(self.context, item, name == "plain")
                maps = stored.maps.new_zeros(0, *size)
                if len(stored.maps):
                    maps = F.interpolate(stored.maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
                classes = [int(positions[c]) for c in stored.classes]
                counts = sweep_counts(maps, classes, truth, self.outputs)
                self.places[name].add(maps, classes, truth, self.classified.get(item.id))
                self.sweeps[name] = self.sweeps[name] + counts if name in self.sweeps else counts
                self.images[name] += 1
                row[name] = mean_iou(counts.counts)
        made = {"masks": run.mask(item.id), "predictions": run.prediction(item.id), "semi": run.prediction(item.id, "semi")}
        semi = run.begun("semi")
        for name, path in made.items():
            if name == "semi" and not semi:
                continue
            if path.is_file():
                ids = load_mask(path, item.size)
                ours = torch.from_numpy(np.where(ids == IGNORE, 0, positions[ids]))  # undecided pixels count as background
                confused = confusion(ours, truth, self.outputs)
                self.counts[name] = self.counts.get(name, torch.zeros_like(confused)) + confused
                self.each.setdefault(name, []).append(confused.to(torch.int32))
                self.contours.setdefault(name, []).append(boundary_counts(ours, truth, self.outputs).to(torch.int32))
                self.images[name] += 1
                row[name] = float(mean_iou(confused))
                if name == "masks":
                    self._add_confidence(item, ids, ours == truth, truth != IGNORE, confused)
        self.rows.append(row)

    def _add_confidence(self, item: Item, ids: np.ndarray[Any, Any], right: Tensor, known: Tensor, confused: Tensor) -> None:
        """Counts how often the mask is right by its confidence, and whether low scores are those of bad masks."""
        path = self.context.run.confidence(item.id)
        if not path.is_file():
            return
        sure = torch.from_numpy(load_mask(path, item.size).copy())
        counted = Calibration.of(sure, right, known & torch.from_numpy(ids != IGNORE))
        self.calibration = counted if self.calibration is None else self.calibration + counted
        each, positions = iou(confused), self.context.data.classes.ids
        for number, score in load_scores(path).items():
            if number in positions and positions.index(number) in item.labels:
                self.scored.append((score, not float(each[positions.index(number) + 1]) >= BAD))

    def add_objects(self, item: Item, truth: Tensor, numbers: Tensor, positions: np.ndarray[Any, Any]) -> None:
        """Matches the objects found in an image with those of the ground truth."""
        path = self.context.run.instances(item.id)
        found = load_mask(path, item.size) if path.is_file() else np.zeros(item.size, dtype=np.uint8)
        remedy = redo(self.context.run, "refine")
        listed = read_json(path.with_suffix(".json"), list[ObjectRecord], remedy) if path.is_file() else []
        ours = torch.from_numpy(found.copy())
        known = truth != IGNORE
        ids = [number for number in numbers[known].unique().tolist() if number not in (0, IGNORE)]
        of_class = {number: int(truth[(numbers == number) & known].mode().values) for number in ids}
        there = [number for number in ids if of_class[number]]  # the others are of no class of the run
        counts = match_instances(
            torch.stack([ours == one["id"] for one in listed]) if listed else torch.zeros(0, *item.size, dtype=torch.bool),
            torch.tensor([int(positions[one["class"]]) for one in listed], dtype=torch.long),
            torch.tensor([float(one["score"]) for one in listed]),
            torch.stack([numbers == number for number in there]) if there else torch.zeros(0, *item.size, dtype=torch.bool),
            torch.tensor([of_class[number] for number in there], dtype=torch.long),
            ignore=(truth == IGNORE) | (numbers == IGNORE),
        )
        self.objects = counts if self.objects is None else self.objects + counts
        self.with_objects += 1

    def numbers(self, split: str, wanted: int) -> dict[str, Any]:
        """Returns all scores, each with its split and rule."""
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
                f" image labels given{self._climbed(name)}",
                "per_class": dict(zip(names, found.iou[best].tolist(), strict=True)),
                "curve": {"threshold": found.thresholds, "mean_iou": found.mean_iou.tolist(), "noise": found.noise.tolist()},
            }
            if chosen := self._without_truth(name, found):
                numbers[f"seed_{name}"]["without_truth"] = chosen
            for row in self.rows:
                if name in row:
                    row[name] = float(row[name][best])
        for name, confused in self.counts.items():
            mean, each = intervals(self.each[name])
            numbers[name] = {
                "mean_iou": float(mean_iou(confused)),
                "noise": float(noise(confused)),
                "split": described(name),
                "rule": self._rule(name),
                "per_class": dict(zip(names, iou(confused).tolist(), strict=True)),
                "interval": mean,
                "per_class_intervals": dict(zip(names, each, strict=True)),
                "boundary": _boundary(self.contours[name], names),
            }
        places = {
            name: found.numbers(found.boxes, found.pixels) | {"split": f"{split}, {found.images} images"}
            for name, found in self.places.items()
            if found.boxes and found.pixels
        }
        if places:
            shown = max(found.images for found in self.places.values())
            numbers["localisation"] = places | {"split": f"{split}, {shown} images", "rule": PLACES}
        if self.calibration is not None:
            numbers["confidence"] = self._of_confidence(described("masks"), self.calibration)
        if self.objects is not None:
            numbers["instances"] = self._of_objects(split, self.objects)
        path = self.context.run.folder("classify") / "metrics.json"
        made: dict[str, Any] = dict(read_json(path, ClassifyMetrics, redo(self.context.run, "classify")))
        numbers["average_precision"] = {k: made[k] for k in ("split", "images", "rule")} | made["average_precision"]
        return numbers

    def _of_confidence(self, split: str, counted: Calibration) -> dict[str, Any]:
        """Returns whether confidences can be believed, the temperature that fits, and how well low scores find bad masks."""
        factor = counted.best_factor()
        scores = torch.tensor([score for score, _ in self.scored], dtype=torch.float64)
        bad = torch.tensor([is_bad for _, is_bad in self.scored], dtype=torch.bool)
        return {
            "calibration_error": counted.error(),
            "temperature": TEMPERATURE,
            "fitted_temperature": round(TEMPERATURE * factor, 4),
            "calibration_error_fitted": counted.error(factor),
            "finds_bad_masks": finds(scores, bad),
            "bad_masks": int(bad.sum()),
            "masks": len(self.scored),
            "diagram": counted.diagram(),
            "split": split,
            "rule": "pixels: probability that the label is right; masks of a class: area under the ROC curve of the score for"
            f" an IoU below {BAD}; the fitted temperature uses the ground truth of this split",
        }

    def _of_objects(self, split: str, objects: InstanceCounts) -> dict[str, Any]:
        """Returns the average precision of objects at each IoU: per class, and the mean over the classes that occur."""
        names = ("background", *self.context.data.classes.names)
        rows = zip(objects.ious, objects.average_precision().tolist(), objects.mean_average_precision().tolist(), strict=True)
        return {
            "average_precision": {
                str(at): {"mean": mean, "per_class": {names[c]: v for c, v in zip(objects.classes, row, strict=True)}}
                for at, row, mean in rows
            },
            "found": len(objects.scores),
            "there": len(objects.truth),
            "split": f"{split}, {self.with_objects} images",
            "rule": "objects of irn, scored by the maximum of their map; image labels given; area under the monotone curve",
        }

    def _rule(self, name: str) -> str:
        refine = self.context.run.config("refine")
        if name == "masks":
            maps = "" if refine.get("maps", "advcam") == "advcam" else f" of {refine.get('maps')} maps"
            threshold = f", background threshold {refine['threshold']} as given" if refine.get("threshold") is not None else ""
            if chosen := self._chosen():
                threshold = f", background threshold {chosen.get('walked', chosen['threshold']):.2f}, {chosen['rule']}"
            return f"{refine.get('method')}{maps}{threshold}; image labels given"
        if name == "semi":
            semi = self.context.run.config("semi")
            how = f"{semi.get('method')}, mode {semi.get('mode')}"
            return f"as written by the network of {how}; no threshold, no image labels{self._seen()}"
        return f"as written by the network, no threshold, no image labels{self._seen()}"

    def _chosen(self) -> ThresholdRecord | None:
        """Returns the threshold that the refine step chose, if it chose one."""
        path = self.context.run.folder("refine") / "threshold.json"
        return read_json(path, ThresholdRecord, redo(self.context.run, "refine")) if path.is_file() else None

    def _without_truth(self, name: str, found: SweepResult) -> AtThreshold | None:
        """Returns the seeds' scores at the chosen threshold, of the maps that it was chosen from."""
        chosen = self._chosen()
        if chosen is None or self.context.run.config("refine").get("maps", "advcam") != name:
            return None
        at = min(range(len(found.thresholds)), key=lambda i: abs(found.thresholds[i] - chosen["threshold"]))
        return AtThreshold(
            threshold=found.thresholds[at], mean_iou=float(found.mean_iou[at]), noise=float(found.noise[at]),
            rule=f"background threshold {chosen['rule']}",
        )  # fmt: skip

    def _climbed(self, name: str) -> str:
        """Describes the rules of the climb."""
        return f"; climb by {rules(self.context.run.config('climb'))}" if name == "advcam" else ""

    def _seen(self) -> str:
        trained = {item.id for item in self.context.data.train}
        return "; images it was trained on" if any(row["image"] in trained for row in self.rows) else ""

    def write(self, path: Path) -> None:
        """Writes the per-image mIoU as CSV."""

        def cell(value: Any) -> str:
            return "" if value != value else f"{value:.4f}" if isinstance(value, float) else value  # NaN: no pixel counts

        columns = ["image", *self.images]
        write_csv(path, columns, [[cell(row.get(name, "")) for name in columns] for row in self.rows])
