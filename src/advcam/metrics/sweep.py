"""MIoU and noise at every background threshold, in one pass over the pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from advcam.drawn import Drawing, drawing
from advcam.errors import InputError
from advcam.expect import describe, expect, expect_list, expect_number, expect_tensor, expect_whole
from advcam.limits import IGNORE, MAX_COUNTS

from .confusion import differs, iou, mean_iou, noise

THRESHOLDS = tuple(round(0.01 * i, 2) for i in range(100))
Sample = tuple[Tensor, Sequence[int], Tensor]


@dataclass(frozen=True)
class SweepResult:
    """MIoU, noise and IoU at every background threshold.

    Args:
        thresholds: T background thresholds, in the unit of the maps.
        mean_iou: float64 [T] in [0, 1].
        noise: float64 [T] in [0, 1], the share of background among predicted foreground.
        iou: float64 [T, L] in [0, 1], for each class, background first; NaN for one absent from both truth and prediction.

    Source: IRN's ``eval_cam.py`` (mIoU); AdvCAM paper, section 5 (noise).

    Example:
        >>> result = SweepResult((0.1, 0.2), torch.tensor([0.4, 0.5]), torch.tensor([0.3, 0.2]), torch.zeros(2, 2))
        >>> result.thresholds[result.best]
        0.2
    """

    thresholds: tuple[float, ...]
    mean_iou: Float[Tensor, " t"]
    noise: Float[Tensor, " t"]
    iou: Float[Tensor, "t l"]

    @property
    def best(self) -> int:
        """Position of the threshold with the highest mIoU; chosen with ground truth, so say so beside the number."""
        return int(self.mean_iou.nan_to_num(-1).argmax())

    def plot(self) -> Drawing:
        """Draw mIoU and noise against the background threshold.

        Returns:
            A chart that a notebook shows; ``save("sweep.svg")`` or ``save("sweep.html")`` writes it.
        """
        return drawing(self)

    def _repr_html_(self) -> str:
        return self.plot()._repr_html_()


@dataclass(frozen=True)
class SweepCounts:
    """Confusion counts at every background threshold; the counts of several images add.

    Args:
        thresholds: T background thresholds, in the unit of the maps.
        counts: int64 [T, L, L], number of pixels by true class (row) and predicted class (column), background first.

    Source: ours; one histogram for all thresholds, checked against one threshold at a time.

    Example:
        >>> counts = SweepCounts((0.5,), torch.tensor([[[2, 1], [0, 1]]]))
        >>> (counts + counts).result().noise.tolist()
        [0.5]
    """

    thresholds: tuple[float, ...]
    counts: Int[Tensor, "t l l"]

    def __add__(self, other: SweepCounts) -> SweepCounts:
        if self.thresholds != other.thresholds or self.counts.shape != other.counts.shape:
            raise InputError(
                f"counts {tuple(self.counts.shape)} cannot be added to {tuple(other.counts.shape)}, or the thresholds differ:"
                " count all images with the same thresholds and classes"
            )
        return SweepCounts(self.thresholds, self.counts + other.counts)

    def result(self) -> SweepResult:
        """Compute mIoU, noise and IoU of these counts.

        Returns:
            The numbers at every threshold.
        """
        return SweepResult(self.thresholds, mean_iou(self.counts), noise(self.counts), iou(self.counts))

    def plot(self) -> Drawing:
        """Draw mIoU and noise of these counts against the background threshold.

        Returns:
            A chart, see :meth:`SweepResult.plot`.
        """
        return self.result().plot()

    def _repr_html_(self) -> str:
        return self.plot()._repr_html_()


def sweep_counts(
    maps: Float[Tensor, "k y x"],
    classes: Sequence[int],
    truth: Integer[Tensor, "y x"],
    num_classes: int,
    thresholds: Sequence[float] = THRESHOLDS,
    ignore: int = IGNORE,
) -> SweepCounts:
    """Count the pixels of one image at every background threshold t: ``argmax [t | maps]`` against the true mask.

    A pixel is its strongest class where that map exceeds t, background elsewhere. One histogram of the strongest value, for
    each predicted and true class, therefore holds the counts at all thresholds, as sums from above.

    Args:
        maps: float [k, H, W] in [0, 1], of the classes that the image has.
        classes: the k class positions, 1 to L - 1.
        truth: integers [H, W], 0 to L - 1, and ``ignore``.
        num_classes: L, background included.
        thresholds: T background thresholds, ascending, in the unit of the maps.
        ignore: the value of ignored pixels in ``truth``.

    Returns:
        The counts of this image.

    Raises:
        InputError: sizes that differ, maps that are not finite, a class, a true value or a setting out of range.

    Source: IRN's ``eval_cam.py``; all thresholds from one histogram: ours, checked against one threshold at a time.

    Example:
        >>> maps, truth = torch.tensor([[[0.9, 0.4, 0.1]]]), torch.tensor([[1, 1, 0]])
        >>> sweep_counts(maps, [1], truth, num_classes=2, thresholds=(0.2, 0.5)).counts.tolist()
        [[[1, 0], [0, 2]], [[1, 0], [1, 1]]]
    """
    expect_tensor(maps, "maps", "float", finite=True)
    expect_tensor(truth, "truth", "whole numbers or booleans", beside=maps)
    num_classes, ignore = expect_whole(num_classes, "num_classes", 1), expect_whole(ignore, "ignore")
    classes = [expect_whole(c, "a class") for c in expect_list(classes, "classes")]
    thresholds = [expect_number(t, "a threshold") for t in expect_list(thresholds, "thresholds")]
    if maps.ndim != 3 or maps.shape[1:] != truth.shape or len(maps) != len(classes):
        raise InputError(f"maps {tuple(maps.shape)} do not fit {len(classes)} classes and a truth of {tuple(truth.shape)}")
    if any(not 1 <= c < num_classes for c in classes):
        raise InputError(f"classes are positions 1 to {num_classes - 1}, got {list(classes)}")
    if not thresholds or thresholds != sorted(thresholds):
        raise InputError(f"thresholds must be ascending, got {tuple(thresholds[:12])}")
    if (cells := (len(thresholds) + 1) * num_classes**2) > MAX_COUNTS:
        raise InputError(
            f"{num_classes:,} classes at {len(thresholds):,} thresholds make {cells:,} counts: expected at most {MAX_COUNTS:,}"
        )
    edges = torch.tensor(thresholds, dtype=maps.dtype, device=maps.device)
    t, bins = len(edges), len(edges) + 1
    counted = differs(truth, ignore)
    true = truth[counted].long()
    strange = true[(true < 0) | (true >= num_classes)]
    if len(strange):
        raise InputError(f"the truth holds class {int(strange[0])}; expected 0 to {num_classes - 1}, or {ignore}")
    total = torch.bincount(true, minlength=num_classes)
    counts = torch.zeros(t, num_classes, num_classes, dtype=torch.long, device=maps.device)
    if len(maps):
        value, row = maps[:, counted].max(0)
        predicted = torch.tensor(list(classes), device=maps.device)[row]
        exceeded = torch.bucketize(value, edges)  # the number of thresholds below the value
        cell = (exceeded * num_classes + true) * num_classes + predicted
        histogram = torch.bincount(cell, minlength=bins * num_classes**2).view(bins, num_classes, num_classes)
        counts = histogram.flip(0).cumsum(0).flip(0)[1:]
    counts[:, :, 0] = total - counts.sum(2)
    return SweepCounts(tuple(thresholds), counts)


def sweep(
    samples: Iterable[Sample], num_classes: int, thresholds: Sequence[float] = THRESHOLDS, ignore: int = IGNORE
) -> SweepResult:
    """Compute mIoU, noise and IoU of maps against true masks at every background threshold, in one pass over the images.

    Args:
        samples: for each image a tuple of maps, float [k, H, W] in [0, 1]; their k class positions, 1 to L - 1; and the true
            mask, integers [H, W], 0 to L - 1 and ``ignore``.
        num_classes: L, background included.
        thresholds: T background thresholds, ascending, in the unit of the maps.
        ignore: the value of ignored pixels in the true masks.

    Returns:
        The numbers at every threshold; ``best`` is the position of the highest mIoU.

    Raises:
        InputError: no sample, or one that does not fit.

    Source: IRN's ``eval_cam.py`` (mIoU); AdvCAM paper, section 5 (noise).

    Example:
        >>> maps, truth = torch.tensor([[[0.9, 0.4, 0.1]]]), torch.tensor([[1, 1, 0]])
        >>> found = sweep([(maps, [1], truth)], num_classes=2, thresholds=(0.0, 0.2, 0.5))
        >>> [round(v, 2) for v in found.mean_iou.tolist()], found.thresholds[found.best]
        ([0.33, 1.0, 0.5], 0.2)
    """
    total: SweepCounts | None = None
    try:
        samples = iter(samples)
    except Exception:  # an object that is not iterable may raise anything
        raise InputError(f"samples {describe(samples)}: expected a list, or any iterable, of (maps, classes, truth)") from None
    for sample in samples:
        expect(sample, (tuple, list), "samples as (maps, classes, truth) each")
        if len(sample) != 3:
            raise InputError(f"expected samples as (maps, classes, truth) each, got {len(sample)} parts")
        counts = sweep_counts(*sample, num_classes, thresholds, ignore)
        total = counts if total is None else total + counts
    if total is None:
        raise InputError("no samples: expected at least one (maps, classes, truth)")
    return total.result()
