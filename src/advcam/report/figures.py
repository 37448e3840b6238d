"""The charts of a run, each from the numbers that its steps and ``evaluate`` kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.data import Dataset
from advcam.store.records import ClassifyMetrics, History, ThresholdRecord, TrainingMetrics

from .charts import Chart, Points, bars, lines, matrix, scatter

TITLES = {
    "seed_plain": "seed, plain map",
    "seed_advcam": "seed, AdvCAM",
    "masks": "masks",
    "predictions": "predictions",
    "semi": "predictions, semi-supervised",
}
"""What is scored, as the page calls it."""
MOST = 20
"""Classes of a matrix, at most; the most frequent are shown."""
POINTS = 2000
"""Objects of the chart of sizes, at most."""
SIZES = 8
"""Groups of equal size for the median."""


def sweep(metrics: Mapping[str, Any], chosen: ThresholdRecord | None, maps: str) -> list[Chart]:
    """Returns mIoU and noise of the seeds at every background threshold, with the thresholds that were chosen."""
    found = {TITLES[f"seed_{n}"]: metrics[f"seed_{n}"] for n in ("plain", "advcam") if "curve" in metrics.get(f"seed_{n}", {})}
    if not found:
        return []
    marks = {f"best, {title}:": seed["threshold"] for title, seed in found.items()}
    of = {"plain": TITLES["seed_plain"], "advcam": TITLES["seed_advcam"]}.get(maps, maps)
    note = "Best: of 100 thresholds, chosen with this ground truth."
    if chosen:
        marks[f"chosen by refine, {of}:"] = chosen["threshold"]
        note += f" That of refine was {chosen['rule']}."
    charts = []
    for key, title in (("mean_iou", "mIoU"), ("noise", "noise")):
        series = {name: list(zip(seed["curve"]["threshold"], seed["curve"][key], strict=False)) for name, seed in found.items()}
        label = "background threshold, share of the map's maximum"
        charts.append(lines(f"Seeds: {title} against background threshold", note, label, f"{title} in %", series, marks, True))
    return charts


def per_class(metrics: Mapping[str, Any]) -> list[Chart]:
    """Returns IoU, and boundary IoU where it was measured, by class, and their means with their intervals."""
    charts = []
    for title, pick in (("IoU", lambda found: found), ("Boundary IoU", lambda found: found.get("boundary"))):
        found = {words: one for name, words in TITLES.items() if (one := pick(metrics.get(name) or {})) and "per_class" in one}
        if not found:
            continue
        mean = "mean of all"
        series = {words: {mean: one["mean_iou"], **one["per_class"]} for words, one in found.items()}
        given = {words: {mean: one.get("interval"), **one.get("per_class_intervals", {})} for words, one in found.items()}
        ends = {(words, name): tuple(both) for words, each in given.items() for name, both in each.items() if both}
        note = ""
        if ends:
            note = "Lines at the ends: 95 % interval over images (bootstrap); none where fewer than two images have the class."
        charts.append(bars(f"{title} per class", note, f"{title} in %", series, ends))
    return charts


def confusions(confused: Mapping[str, NDArray[np.int64]], names: Sequence[str], images: int, truth: str) -> list[Chart]:
    """Returns which labels are found in place of which, of masks and predictions; ``truth`` names the ground truth."""
    titles = {"mask": "masks", "prediction": "predictions", "semi": "predictions, semi-supervised"}
    charts = []
    for kind, counts in confused.items():
        labels = _most_frequent(counts.sum(1), background=True)
        part = counts[np.ix_(labels, labels)]
        share = part / np.maximum(counts.sum(1)[labels][:, None], 1)
        note = (
            f"Of each label's pixels in the ground truth of {images} images ({truth}), the share in % that is found as which."
        )
        if len(labels) < len(counts):
            note += f" The {len(labels)} most frequent of {len(counts)} labels."
        shown = ["background", *names]
        charts.append(
            matrix(f"Confusion of {titles[kind]}", note, "truth", "found", [shown[at] for at in labels], share.tolist(), True)
        )
    return charts


def precision(classify: ClassifyMetrics, ids: Mapping[str, int]) -> list[Chart]:
    """Returns the average precision of the classifier by class, and the curves that it is the area under.

    Args:
        classify: what the classify step measured.
        ids: the id of each class, by name.
    """
    found = classify["average_precision"]
    values = {"mean over classes": found["mean"], **found["per_class"]}
    if all(value is None for value in values.values()):
        return []
    note = f"{classify['split']}, {classify['images']} images; {classify['rule']}."
    if "precision_recall" not in classify:
        note += " The scores behind it were not kept by this run, so there is no curve of precision and recall."
    areas = bars("Average precision of the classifier", note, "average precision in %", {"average precision": values})
    return [areas, *curves_of(classify, ids)]


def curves_of(classify: ClassifyMetrics, ids: Mapping[str, int]) -> list[Chart]:
    """Returns precision against recall, a stair for each class, the area under which is its average precision.

    Args:
        classify: what the classify step measured; runs of earlier versions have no curves.
        ids: the id of each class, by name.
    """
    kept, areas = classify.get("precision_recall"), classify["average_precision"]["per_class"]
    known = [name for name in kept["per_class"] if name in ids] if kept else []
    shown = sorted(known, key=lambda name: (areas.get(name) or 0.0, name))[:MOST]
    if not kept or not shown:
        return []
    stairs, told = dict[str, Points](), dict[str, Points]()
    for name in shown:
        points = list(zip(kept["per_class"][name]["recall"], kept["per_class"][name]["precision"], strict=False))
        corners = [(recall, point[1]) for before, point in pairwise(points) for recall in (before[0], point[0])]
        stairs[name] = [(100 * recall, precision) for recall, precision in corners]
        told[name] = [(level, _reached(points, level / 100)) for level in range(0, 101, 10)]
    note = f"{kept['split']}, {kept['images']} images; {kept['rule']}. The lowest average precision first."
    if len(shown) < len(known):
        note += f" The {len(shown)} lowest of {len(known)} classes."
    title = "Precision and recall of the classifier"
    return [lines(title, note, "recall in %", "precision in %", stairs, percent=True, told=told, ids=ids)]


def _reached(points: Sequence[tuple[float, float]], recall: float) -> float | None:
    """The precision of the first threshold that reaches a recall, above 0 at the least."""
    return next((precision for at, precision in points if at > 0 and at >= recall - 1e-6), None)


def trainings(kept: Mapping[str, TrainingMetrics | ClassifyMetrics]) -> list[Chart]:
    """Returns loss, and held-out mIoU where it was measured, by epoch of each training."""
    titles = {"classify": "Classifier", "segment": "Segmentation network", "semi": "Semi-supervised network"}
    charts = []
    for step, metrics in kept.items():
        history = metrics.get("history") or []
        for keys, label, percent in ((("loss",), "loss", False), (_scores(history), "mIoU in %", True)):
            series = {words: points for key, words in _named(keys) if (points := _points(history, key))}
            if series:
                note = str(metrics.get("epoch_kept", "")) if percent else ""
                charts.append(lines(f"{titles[step]}: {label.split()[0]}", note, "epoch", label, series, percent=percent))
    return charts


def _scores(history: History) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for row in history for key in row if "mean_iou" in key))


def _named(keys: Sequence[str]) -> list[tuple[str, str]]:
    words = {
        "held_out_mean_iou": "of held-out images, against their pseudo masks",
        "mean_iou_of_training_images": "of training images, against their pseudo masks",
    }
    return [(key, words.get(key, key.replace("_", " "))) for key in keys]


def _points(history: History, key: str) -> list[tuple[float, float | None]]:
    found = [(float(row.get("epoch") or at), row.get(key)) for at, row in enumerate(history, 1)]
    return found if any(value is not None for _, value in found) else []


def together(data: Dataset) -> list[Chart]:
    """Returns how many images show which two classes; on the diagonal, one."""
    names = data.classes.names
    if len(names) < 2:
        return []
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for item in data.items:
        at = np.array(item.labels, dtype=np.intp)
        counts[np.ix_(at, at)] += 1
    labels = _most_frequent(counts.diagonal())
    note = f"Images of {len(data.items)} whose labels name both classes; on the diagonal, images that name the class."
    if len(labels) < len(names):
        note += f" The {len(labels)} most frequent of {len(names)} classes."
    part = counts[np.ix_(labels, labels)].tolist()
    return [matrix("Labels that occur together", note, "class", "with", [names[at] for at in labels], part)]


def sizes(objects: Sequence[tuple[str, int, float, float]], names: Sequence[str], truth: str) -> list[Chart]:
    """Returns IoU against size: of each image and class its share of the image, and the IoU of our mask.

    ``truth`` names the ground truth.
    """
    if not objects:
        return []
    ordered = sorted(objects, key=lambda one: one[2])
    groups = [group for group in np.array_split(np.arange(len(ordered)), min(SIZES, len(ordered))) if len(group)]
    middle = [(median(ordered[at][2] for at in group), median(ordered[at][3] for at in group)) for group in groups]
    kept = ordered[:: -(-len(ordered) // POINTS)]
    points = [(share, iou, f"{image}, {names[at - 1]}") for image, at, share, iou in kept]
    note = f"One point for each class of an image in the ground truth ({truth}), {len(ordered)} in all"
    note += f", of which {len(kept)} are drawn" if len(kept) < len(ordered) else ""
    note += f"; the line is the median of {len(middle)} groups of equal number."
    title = "Size of objects against IoU of their masks"
    return [scatter(title, note, "share of the image in %", "IoU in %", points, middle if len(ordered) > SIZES else ())]


def _most_frequent(counts: NDArray[np.int64], background: bool = False) -> list[int]:
    """The positions of the most frequent labels, in their order; with ``background``, its position 0 is among them."""
    first = [0] if background else []
    by_count = [at for at in np.argsort(-counts, kind="stable").tolist() if at not in first]
    return sorted([*first, *by_count[: MOST - len(first)]])
