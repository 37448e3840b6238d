"""How well a classifier ranks images: its scores, average precision, and the curves of precision and recall."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advcam.data import Item, NetworkInput
from advcam.errors import NetworkError
from advcam.extractor import AdvCAM

from .context import Context

LEVELS = 100
"""Steps of recall at which a point of a curve is kept; a class of at most as many images keeps a point for each of them."""
CURVE = (
    "of each class, at every 0.01 of recall the first threshold of its score that reaches it; recall: share of the images that"
    " show the class; precision: share of the images found that show it; pairs not known are left out; single view, whole image"
)
"""How curves are measured; goes into metrics.json."""


def ranked(context: Context, model: nn.Module, prepare: NetworkInput, items: list[Item]) -> tuple[Tensor, Tensor]:
    """Scores every image, single view, whole.

    Returns:
        The probability of every class, float64 [N, K], and the labels: 1, 0, or -1 where not known.

    Raises:
        NetworkError: the model does not have one output per class.
    """
    device, names = context.runtime.torch_device(), context.data.classes.names
    rows, truth = [], torch.zeros(len(items), len(names), dtype=torch.long)
    classifier = AdvCAM(model)
    for at, item in enumerate(context.reporter.track(items, len(items), "average precision")):
        image = prepare(item.read())[None]
        rows.append(classifier.scores(image.to(device)).float().cpu()[0])
        truth[at, list(item.labels)], truth[at, list(item.unknown)] = 1, -1
    logits = torch.stack(rows)
    if logits.shape != truth.shape:
        raise NetworkError(
            f"the classifier returns {logits.shape[1]} outputs, the run has {len(names)} classes ({', '.join(names)}); it must"
            " return one logit for each, in this order"
        )
    return logits.double().sigmoid(), truth


def average_precision(scores: Tensor, truth: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    """Measures the average precision of every class, and the ``mean`` over the classes that occur.

    ``micro`` ranks all (image, class) pairs together. Pairs that are not known are left out.

    Args:
        scores: float64 [N, K] in [0, 1].
        truth: 1, 0 or -1 (not known) [N, K].
        names: of the K classes.
    """
    from torchmetrics.functional.classification import binary_average_precision  # takes longer to load than all of advcam

    precision = partial(binary_average_precision, ignore_index=-1)
    found = {
        name: float(precision(scores[:, at], truth[:, at])) if (truth[:, at] == 1).any() else None
        for at, name in enumerate(names)
    }
    there = [v for v in found.values() if v is not None]
    micro = float(precision(scores.flatten(), truth.flatten())) if there else None
    return {"mean": sum(there) / len(there) if there else None, "micro": micro, "per_class": found}


def precision_recall(scores: Tensor, truth: Tensor, names: tuple[str, ...]) -> dict[str, dict[str, list[float | None]]]:
    """Measures the curve of precision and recall of every class that occurs, in at most 101 points.

    A point has the recall, the precision, and the score from which on an image is found to show the class; the first, of recall
    0, finds none, and its precision is 1 by convention. With at most 100 images of the class, the points have the average
    precision: ``sum((recall[i] - recall[i - 1]) * precision[i])``.

    Args:
        scores: float64 [N, K] in [0, 1].
        truth: 1, 0 or -1 (not known) [N, K].
        names: of the K classes.

    Returns:
        ``recall``, ``precision`` and ``threshold`` (None of the first point) of each class that an image shows, by its name.
    """
    from torchmetrics.functional.classification import binary_precision_recall_curve

    curves = {}
    for at, name in enumerate(names):
        if not (truth[:, at] == 1).any():
            continue
        falling = binary_precision_recall_curve(scores[:, at], truth[:, at], ignore_index=-1)
        precision, recall, threshold = (part.flip(0).double() for part in falling)
        levels = torch.arange(LEVELS + 1, dtype=torch.float64) / LEVELS
        kept = torch.searchsorted(recall, levels - 1e-6).unique().tolist()  # recalls are of single precision
        curves[name] = {
            "recall": _short(recall[kept].tolist()),
            "precision": _short(precision[kept].tolist()),
            "threshold": _short([float(threshold[at - 1]) if at else None for at in kept]),
        }
    return curves


def _short(values: list[Any]) -> list[float | None]:
    return [None if value is None else round(value, 6) for value in values]
