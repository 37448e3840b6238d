"""Weakly supervised object localisation: boxes from maps, and the average precision of pixels.

MaxBoxAcc and PxAP of Choe et al., *Evaluating Weakly Supervised Object Localization Methods Right*, CVPR 2020 (arXiv
2001.07437), MaxBoxAccV2 of its TPAMI version (arXiv 2007.04178); equal to their code, clovaai/wsolevaluation, in every
convention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_number, expect_tensor

from .regions import HEAD, TAIL, Forest, forest, regions

MAP_THRESHOLDS = tuple(i * 0.001 for i in range(1000))
BOX_IOUS = (0.3, 0.5, 0.7)
WHITE = 255
"""The highest of the 256 levels that a map is rounded down to."""


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


def mask_boxes(mask: Bool[Tensor, "y x"]) -> Int[Tensor, "g 4"]:
    """The box of each 8-connected region of a mask: ``x0, y0, min(x1 + 1, W - 1), min(y1 + 1, H - 1)``.

    The end is one pixel after the last, as in :func:`box_overlaps`, so a map equal to the mask has an IoU of 1.

    Args:
        mask: bool [H, W].

    Returns:
        int64 [G, 4], x0, y0, x1, y1 in pixels, in reading order of the regions; [0, 4] for an empty mask.

    Raises:
        InputError: no mask [H, W] of booleans.

    Source: ours; clovaai/wsolevaluation reads true boxes from files.

    Example:
        >>> mask_boxes(torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]).bool()).tolist()
        [[0, 0, 2, 2], [3, 0, 3, 2]]
    """
    expect_tensor(mask, "mask", "booleans", "H W")
    if not mask.any():
        return torch.zeros(0, 4, dtype=torch.long, device=mask.device)
    level = mask.long()
    found = regions(forest(level.double(), level, diagonal=True), level)
    return _boxes(found.box[found.first.argsort()], mask.shape)


def box_overlaps(
    score_map: Float[Tensor, "y x"], boxes: Integer[Tensor, "g 4"], thresholds: Sequence[float] = MAP_THRESHOLDS
) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """The IoU of a map's boxes with the true boxes, at every threshold.

    The map is rounded down to 256 levels, ``v = floor(255 m)``, and cut at ``v > floor(t max v)``. Contours are the outer
    borders of 8-connected regions, and the borders of the 4-connected holes in them, whose box is one pixel wider on each side.
    A box is ``x0, y0, min(x1 + 1, W - 1), min(y1 + 1, H - 1)``, and its sides count ``x1 - x0 + 1`` pixels; it is 0, 0, 0, 0
    where no pixel exceeds the threshold. The largest contour has the largest area within the line through its pixels' centres;
    among equal ones it is the one whose first pixel is last in reading order.

    Args:
        score_map: float [H, W] in [0, 1].
        boxes: integers [G, 4], at least one true box, x0, y0, x1, y1 in pixels of the map.
        thresholds: T shares of the map's maximum, ascending from 0, below 1.

    Returns:
        float64 [T] in [0, 1] each: the IoU of the largest contour's box with the true box that it overlaps most, and the
        highest IoU of any contour's box with any true box.

    Raises:
        InputError: a map outside [0, 1] or with NaN, no box, boxes that are not in the map, thresholds out of order.

    Source: clovaai/wsolevaluation, ``compute_bboxes_from_scoremaps``, ``calculate_multiple_iou``; all thresholds at once is
    ours.

    Example:
        >>> score_map = torch.tensor([[1.0, 1.0, 0.0, 0.4, 0.4], [1.0, 1.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.0, 0.0, 0.0]])
        >>> largest, every = box_overlaps(score_map, torch.tensor([[3, 0, 4, 2]]), (0.0, 0.5))
        >>> [round(iou, 2) for iou in largest.tolist()], [round(iou, 2) for iou in every.tolist()]
        ([1.0, 0.0], [1.0, 0.0])
    """
    _check_map(score_map)
    thresholds = _check_thresholds(thresholds)
    _check_boxes(boxes, score_map)
    values, truth = score_map.double(), boxes.long()
    level = (values * WHITE).long()
    top = int(level.max())
    cut = (torch.tensor(list(thresholds), dtype=torch.float64) * top).long().to(level.device)
    if not top:
        nothing = _iou(truth.new_zeros(1, 4), truth).repeat(len(cut))
        return nothing, nothing
    dark = F.pad(WHITE - level, (1, 1, 1, 1), value=WHITE + 1)  # inverted, in a margin of the highest level
    basins = forest(F.pad(-values, (1, 1, 1, 1), value=1), dark, diagonal=False, ground=0)
    filled = WHITE - basins.connected(0, dark)[1:-1, 1:-1].clamp(max=WHITE)
    bright = regions(forest(values, level, diagonal=True), level)
    solid = regions(
        forest(torch.maximum(values * WHITE, filled.double()), filled, diagonal=True), filled, _corners_of_area(filled)
    )
    score = solid.weight * level.numel() + solid.first
    largest = score == score.new_zeros(top).scatter_reduce_(0, solid.threshold, score, "amax")[solid.threshold]
    hole_at, holes = _holes(basins, dark, top)

    def highest(threshold: Tensor, box: Tensor) -> Tensor:
        found: Tensor = values.new_zeros(top).scatter_reduce_(0, threshold, _iou(_boxes(box, level.shape), truth), "amax")
        return found

    every = torch.maximum(highest(bright.threshold, bright.box), highest(hole_at, holes))
    return highest(solid.threshold[largest], solid.box[largest])[cut], every[cut]


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
    thresholds = _check_thresholds(thresholds)
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
    _check_map(score_map)
    thresholds = _check_thresholds(thresholds)
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


def _holes(basins: Forest, dark: Int[Tensor, "v u"], top: int) -> tuple[Int[Tensor, " m"], Int[Tensor, "m 4"]]:
    """Thresholds and boxes (one pixel wider on each side) of the holes of a map with a margin of 1."""
    found = regions(basins, dark)
    threshold = WHITE - 1 - found.threshold
    inside = (found.peak != basins.peaks[basins.hill[0]]) & (threshold < top)
    return threshold[inside], found.box[inside] + found.box.new_tensor([-2, -2, 0, 0])


def _corners_of_area(level: Int[Tensor, "y x"]) -> Int[Tensor, "y x"]:
    """Weights that add up, over a region without holes, to twice the area within the line through its border pixels' centres.

    Of the square between four pixels, the line leaves the whole inside where all four are in the region, a half where three
    are. So the region gains a half with the third pixel and a half with the fourth: the two lowest.
    """
    weight = torch.zeros_like(level)
    corners = [(up, left) for up in (HEAD, TAIL) for left in (HEAD, TAIL)]
    levels = [level[corner].to(torch.uint8) for corner in corners]
    lower = [torch.zeros_like(each) for each in levels]  # the number of the other three that are lower
    for i in range(4):
        for j in range(i):
            below = (levels[i] < levels[j]).to(torch.uint8)
            lower[j] += below
            lower[i] += 1 - below
    for corner, count in zip(corners, lower, strict=True):
        weight[corner] += count < 2
    return weight


def _boxes(pixels: Int[Tensor, "m 4"], size: tuple[int, ...]) -> Int[Tensor, "m 4"]:
    """Boxes of contours by the rule of the published code: the end is one pixel after the last, but within the map."""
    end = torch.minimum(pixels[:, 2:] + 1, pixels.new_tensor([size[1] - 1, size[0] - 1]))
    return torch.cat([pixels[:, :2], end], 1)


def _iou(boxes: Int[Tensor, "m 4"], truth: Int[Tensor, "g 4"]) -> Float[Tensor, " m"]:
    """The IoU of each box with the true one that it overlaps most."""
    area = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    best = torch.zeros(len(boxes), dtype=torch.float64, device=boxes.device)
    for true in truth:
        sides = torch.minimum(boxes[:, 2:], true[2:]) - torch.maximum(boxes[:, :2], true[:2]) + 1
        both = sides.clamp(min=0).prod(1)
        best = torch.maximum(best, both.double() / (area + (true[2:] - true[:2] + 1).prod() - both))
    return best


def _check_map(score_map: Tensor) -> None:
    expect_tensor(score_map, "score_map", "numbers or booleans")
    if score_map.ndim != 2 or not score_map.numel() or not score_map.is_floating_point():
        raise InputError(f"score_map {tuple(score_map.shape)} of {score_map.dtype}: expected numbers in [0, 1], [H, W]")
    low, high = float(score_map.min()), float(score_map.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"score_map holds {low:g} to {high:g}: expected [0, 1]; min_max brings it there")


def _check_thresholds(thresholds: Sequence[float]) -> list[float]:
    given = [expect_number(t, "a threshold") for t in expect_list(thresholds, "thresholds")]
    if not given or given != sorted(given) or given[0] != 0 or not given[-1] < 1:
        shown = f"{len(given)} from {given[0]} to {given[-1]}" if given else "none"
        raise InputError(f"thresholds must be ascending from 0, below 1; got {shown}")
    return given


def _check_boxes(boxes: Tensor, beside: Tensor) -> None:
    size = beside.shape
    expect_tensor(boxes, "boxes", "numbers or booleans", beside=beside)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or boxes.is_floating_point() or boxes.dtype == torch.bool:
        raise InputError(f"boxes {tuple(boxes.shape)} of {boxes.dtype}: expected at least one, integers [g, 4]: x0, y0, x1, y1")
    last = boxes.new_tensor([size[1] - 1, size[0] - 1])
    wrong = ((boxes[:, :2] < 0) | (boxes[:, :2] > boxes[:, 2:]) | (boxes[:, 2:] > last)).any(1)
    if wrong.any():
        raise InputError(
            f"box {boxes[wrong][0].tolist()}: expected 0 <= x0 <= x1 <= {size[1] - 1} and 0 <= y0 <= y1 <= {size[0] - 1},"
            " pixels of the map; scale it to the map's size"
        )
