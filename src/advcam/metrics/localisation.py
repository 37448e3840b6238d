"""Weakly supervised object localisation: boxes from maps, and the average precision of pixels.

MaxBoxAcc and PxAP of Choe et al., *Evaluating Weakly Supervised Object Localization Methods Right*, CVPR 2020 (arXiv
2001.07437), MaxBoxAccV2 of its TPAMI version (arXiv 2007.04178); equal to their code, clovaai/wsolevaluation, in every
convention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_number, expect_tensor

from .boxes import MAP_THRESHOLDS, box_overlaps, check_map, check_thresholds

BOX_IOUS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Best:
    """The highest value over thresholds, and the first threshold that gives it.

    The threshold is chosen with ground truth; say so where the value is reported.

    Args:
        value: a share of maps, in [0, 1].
        threshold: share of a map's maximum, in [0, 1).

    Source: Choe et al., CVPR 2020: MaxBoxAcc takes the best threshold.

    Example:
        >>> hits = torch.tensor([[1, 2]])
        >>> BoxCounts((0.0, 0.5), (0.5,), largest=hits, every=hits, maps=4).max_box_acc()
        Best(value=0.5, threshold=0.5)
    """

    value: float
    threshold: float


@dataclass(frozen=True)
class BoxCounts:
    """The number of maps that give a correct box, by IoU and threshold; the counts of several maps add.

    Args:
        thresholds: T shares of a map's maximum, in [0, 1).
        ious: I overlaps, in (0, 1], from which a box is correct.
        largest: int64 [I, T], maps whose box of the largest contour is correct.
        every: int64 [I, T], maps with a correct box among those of all contours.
        maps: number of maps.

    Source: Choe et al., CVPR 2020 (arXiv 2001.07437), and its TPAMI version (arXiv 2007.04178); clovaai/wsolevaluation,
    ``BoxEvaluator``.

    Example:
        >>> hits = torch.tensor([[1, 0], [0, 0]])
        >>> counts = BoxCounts((0.0, 0.5), (0.5, 0.7), largest=hits, every=hits, maps=1)
        >>> (counts + counts.missed()).max_box_acc_v2()[0]
        0.25
    """

    thresholds: tuple[float, ...]
    ious: tuple[float, ...]
    largest: Int[Tensor, "i t"]
    every: Int[Tensor, "i t"]
    maps: int

    def __add__(self, other: BoxCounts) -> BoxCounts:
        if (self.thresholds, self.ious) != (other.thresholds, other.ious):
            raise InputError(
                f"counts at {len(self.thresholds)} thresholds and overlaps {self.ious} cannot be added to those at"
                f" {len(other.thresholds)} and {other.ious}: count all maps at the same ones"
            )
        largest, every = self.largest + other.largest, self.every + other.every
        return BoxCounts(self.thresholds, self.ious, largest, every, self.maps + other.maps)

    def missed(self) -> BoxCounts:
        """As many maps, none of them correct: for top-1 localisation, where the classifier's prediction is wrong.

        Returns:
            Counts of 0.
        """
        none = torch.zeros_like(self.largest)
        return BoxCounts(self.thresholds, self.ious, none, none, self.maps)

    def max_box_acc(self, iou: float = 0.5) -> Best:
        """MaxBoxAcc: the highest share, over thresholds, of maps whose box of the largest contour is correct.

        Args:
            iou: one of ``ious``.

        Returns:
            The share, in [0, 1], and its threshold.

        Raises:
            InputError: an overlap that was not counted.
        """
        iou = expect_number(iou, "iou")
        if iou not in self.ious:
            raise InputError(f"boxes were counted at the IoUs {self.ious}, not at {iou}; give it to box_counts as one of ious")
        return self._best(self.largest[self.ious.index(iou)])

    def max_box_acc_v2(self) -> tuple[float, dict[float, Best]]:
        """MaxBoxAccV2: the mean over ``ious`` of the highest share, over thresholds, of maps with a correct box of any contour.

        Returns:
            The mean, in [0, 1]; and for each IoU the share and its threshold.
        """
        found = {iou: self._best(hits) for iou, hits in zip(self.ious, self.every, strict=True)}
        return sum(best.value for best in found.values()) / len(found), found

    def _best(self, hits: Int[Tensor, " t"]) -> Best:
        at = int(hits.argmax())
        return Best(int(hits[at]) / self.maps, self.thresholds[at])


@dataclass(frozen=True)
class PixelCounts:
    """The number of pixels of an object and of the rest, by the value of the map; the counts of several maps add.

    Args:
        thresholds: T values in [0, 1), ascending. Bin t < T reaches from threshold t up to the next (or to 1); bin T holds 1
            itself.
        positive: int64 [T + 1], pixels of the object.
        negative: int64 [T + 1], other pixels, ignored ones left out.

    Source: Choe et al., CVPR 2020 (arXiv 2001.07437); clovaai/wsolevaluation, ``MaskEvaluator``.

    Example:
        >>> counts = PixelCounts((0.0, 0.5), positive=torch.tensor([1, 2, 1]), negative=torch.tensor([4, 1, 0]))
        >>> round((counts + counts).average_precision(), 3)
        0.736
    """

    thresholds: tuple[float, ...]
    positive: Int[Tensor, " bins"]
    negative: Int[Tensor, " bins"]

    def __add__(self, other: PixelCounts) -> PixelCounts:
        if self.thresholds != other.thresholds:
            raise InputError(
                f"counts at {len(self.thresholds)} thresholds cannot be added to those at {len(other.thresholds)}: count all"
                " maps at the same ones"
            )
        return PixelCounts(self.thresholds, self.positive + other.positive, self.negative + other.negative)

    def average_precision(self) -> float:
        """PxAP: ``sum over t of precision(t) (recall(t) - recall(t + 1))``.

        Returns:
            In [0, 1]; NaN where no pixel is positive.
        """
        hit, wrong = (counts.flip(0).cumsum(0).double() for counts in (self.positive, self.negative))
        gained = self.positive.flip(0) / hit[-1]
        return float((hit / (hit + wrong).clamp(min=1) * gained).sum())


def min_max(maps: Float[Tensor, "*n y x"]) -> Float[Tensor, "*n y x"]:
    """Scale each map to [0, 1]: ``(m - min m) / max(m - min m)``.

    Args:
        maps: float [..., H, W].

    Returns:
        [..., H, W] in [0, 1]; zeros where a map is constant or has NaN or infinity.

    Raises:
        InputError: maps that are no floats [..., H, W].

    Source: clovaai/wsolevaluation, ``inference.normalize_scoremap``.

    Example:
        >>> min_max(torch.tensor([[[1.0, 3.0, 2.0]], [[4.0, 4.0, 4.0]]])).tolist()
        [[[0.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]]]
    """
    expect_tensor(maps, "maps")
    if maps.ndim < 2 or not (maps.shape[-1] and maps.shape[-2]):
        raise InputError(f"maps {tuple(maps.shape)}: expected [..., H, W] of at least one pixel")
    raised = maps - maps.amin((-2, -1), keepdim=True)
    peak = raised.amax((-2, -1), keepdim=True)
    return torch.where((peak > 0) & peak.isfinite(), raised / peak, torch.zeros_like(maps))


def box_counts(
    score_map: Float[Tensor, "y x"],
    boxes: Integer[Tensor, "g 4"],
    thresholds: Sequence[float] = MAP_THRESHOLDS,
    ious: Sequence[float] = BOX_IOUS,
) -> BoxCounts:
    """Count for one map at which thresholds its boxes are correct, ``IoU >= iou``; see :func:`box_overlaps` for the boxes.

    Args:
        score_map: float [H, W] in [0, 1], of one class of one image.
        boxes: integers [G, 4], at least one true box, x0, y0, x1, y1 in pixels of the map; any of them may be met.
        thresholds: T shares of the map's maximum, ascending from 0, below 1.
        ious: I overlaps, in (0, 1].

    Returns:
        Counts of 0 and 1 of this map.

    Raises:
        InputError: as :func:`box_overlaps`, or overlaps outside (0, 1].

    Source: Choe et al., CVPR 2020 (arXiv 2001.07437); clovaai/wsolevaluation, ``BoxEvaluator``.

    Example:
        >>> score_map = torch.tensor([[1.0, 1.0, 0.4, 0.4, 0.0, 0.0], [1.0, 1.0, 0.4, 0.4, 0.0, 0.0]])
        >>> found = box_counts(score_map, torch.tensor([[0, 0, 4, 1]]), (0.0, 0.4, 0.9))
        >>> found.every.tolist(), found.max_box_acc()
        ([[1, 1, 1], [1, 1, 1], [1, 0, 0]], Best(value=1.0, threshold=0.0))
    """
    ious = tuple(expect_list(ious, "ious"))
    for each in ious:
        expect_number(each, "an IoU")
    if not ious or not all(0 < least <= 1 for least in ious):
        raise InputError(f"ious {tuple(ious)}: expected overlaps above 0, up to 1")
    thresholds = check_thresholds(thresholds)
    largest, every = box_overlaps(score_map, boxes, thresholds)
    ious = tuple(map(float, ious))
    least = torch.tensor(ious, dtype=torch.float64, device=largest.device)[:, None]
    return BoxCounts(tuple(thresholds), tuple(ious), (largest >= least).long(), (every >= least).long(), 1)


def pixel_counts(
    score_map: Float[Tensor, "y x"],
    truth: Bool[Tensor, "y x"],
    ignore: Bool[Tensor, "y x"] | None = None,
    thresholds: Sequence[float] = MAP_THRESHOLDS,
) -> PixelCounts:
    """Count the pixels of one map, on the object and beside it, by the value of the map.

    Args:
        score_map: float [H, W] in [0, 1], of one class of one image.
        truth: bool [H, W], pixels of the class.
        ignore: bool [H, W], pixels that do not count.
        thresholds: T values, ascending from 0, below 1.

    Returns:
        The counts of this map.

    Raises:
        InputError: a map outside [0, 1] or with NaN, masks of another size or that are not boolean, thresholds out of order.

    Source: Choe et al., CVPR 2020 (arXiv 2001.07437); clovaai/wsolevaluation, ``MaskEvaluator``.

    Example:
        >>> truth = torch.tensor([[True, False, True, False]])
        >>> found = pixel_counts(torch.tensor([[0.9, 0.6, 0.3, 0.0]]), truth, thresholds=(0.0, 0.25, 0.5, 0.75))
        >>> found.positive.tolist(), found.negative.tolist(), round(found.average_precision(), 3)  # 1/2 * 1 + 1/2 * 2/3
        ([0, 1, 0, 1, 0], [1, 0, 1, 0, 0], 0.833)
    """
    check_map(score_map)
    thresholds = check_thresholds(thresholds)
    for name, mask in (("truth", truth), ("ignore", ignore)):
        if mask is not None or name == "truth":
            expect_tensor(mask, name, "numbers or booleans", beside=score_map)
        if mask is not None and (mask.shape != score_map.shape or mask.dtype != torch.bool):
            raise InputError(f"{name} {tuple(mask.shape)} of {mask.dtype}: expected booleans {tuple(score_map.shape)}")
    counted = torch.ones_like(truth) if ignore is None else ~ignore
    edges = torch.tensor([*thresholds, 1.0], dtype=torch.float64, device=score_map.device)
    bins = torch.bucketize(score_map.double(), edges, right=True) - 1
    positive, negative = (torch.bincount(bins[side & counted], minlength=len(edges)) for side in (truth, ~truth))
    return PixelCounts(tuple(thresholds), positive, negative)
