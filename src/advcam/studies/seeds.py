"""Seed quality with intervals: per-image pixel counts at every background threshold and T, summed and resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from advcam.attribution import ClimbSettings
from advcam.data import IGNORE, Item
from advcam.metrics import THRESHOLDS, resampled_seeds, sweep_counts

from .cache import Part
from .climbs import Climber, scored
from .sample import of_own, truth
from .study import Row, with_intervals

RULE = (
    "mIoU and noise at the background threshold, of 100, that is best for the row on this sample: chosen with its ground"
    " truth, anew in each resample; image labels given; images without a label or a mask are left out;"
    " gain: mIoU less that of the same setting's plain map (T = 1),"
    " difference: less that of the run's own climb; bootstrap over images, 95 % percentile intervals, differences paired"
)


def measure(climber: Climber, s: ClimbSettings, masks: Path, item: Item) -> Part:
    """Counts the pixels for mIoU and noise, for T = 1 to ``s.steps``, of the k classes that the image has.

    Returns:
        ``hits`` and ``predicted`` [T, thresholds, k + 1], background first, and ``true`` [L] of all classes.
    """
    classes = climber.context.data.classes
    mask = truth(masks, item, classes)
    true, mine = torch.bincount(mask[mask != IGNORE], minlength=len(classes) + 1), of_own(mask, item.labels)
    labels, hits, predicted = range(1, len(item.labels) + 1), [], []
    for maps in climber.sums(climber.image(item), item.labels, s):
        counts = sweep_counts(scored(maps, item.size), labels, mine, len(labels) + 2).counts
        hits.append(counts.diagonal(dim1=1, dim2=2)[:, :-1])
        predicted.append(counts.sum(1)[:, :-1])
    kept = {"hits": torch.stack(hits), "predicted": torch.stack(predicted), "true": true}
    return {name: value.numpy().astype(np.int32) for name, value in kept.items()}


@dataclass(frozen=True)
class Score:
    """Seed quality at the best background threshold: of the sample itself (entry 0) and of each resample.

    Args:
        mean_iou: [B].
        noise: [B], at that threshold.
        threshold: [B], the background threshold.
    """

    mean_iou: Float[Tensor, " b"]
    noise: Float[Tensor, " b"]
    threshold: Float[Tensor, " b"]

    @classmethod
    def of(cls, items: Sequence[Item], parts: Sequence[Part], t: int, outputs: int, weights: Float[Tensor, "b n"]) -> Score:
        """Computes the score of the maps at T = t.

        Args:
            items: N images.
            parts: the result of :func:`measure` for each.
            t: T, from 1.
            outputs: L, background included.
            weights: see :func:`~advcam.metrics.resampled`.
        """
        hits, predicted = (torch.zeros(len(items), len(THRESHOLDS), outputs, dtype=torch.float64) for _ in range(2))
        for row, (item, part) in enumerate(zip(items, parts, strict=True)):
            own = [0, *(label + 1 for label in item.labels)]
            hits[row, :, own] = torch.from_numpy(part["hits"][t - 1]).double()
            predicted[row, :, own] = torch.from_numpy(part["predicted"][t - 1]).double()
        true = torch.from_numpy(np.stack([part["true"] for part in parts]))
        mean_iou, noise = resampled_seeds(hits, predicted, true, weights)
        best = mean_iou.nan_to_num(-1).argmax(1, keepdim=True)
        thresholds = torch.tensor(THRESHOLDS, dtype=torch.float64)[best[:, 0]]
        return cls(mean_iou.gather(1, best)[:, 0], noise.gather(1, best)[:, 0], thresholds)

    def row(self, **against: Score) -> Row:
        """Returns columns of a table: each number with its interval, and the difference of mIoU to each of ``against``."""
        differences = {name: self.mean_iou - other.mean_iou for name, other in against.items()}
        return with_intervals(mean_iou=self.mean_iou, noise=self.noise, best_threshold=self.threshold, **differences)
