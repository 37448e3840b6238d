"""The boxes of a map and of a mask, and how far they overlap, in every convention of clovaai/wsolevaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_number, expect_tensor

from .regions import HEAD, TAIL, Forest, forest, regions

MAP_THRESHOLDS = tuple(i * 0.001 for i in range(1000))
WHITE = 255
"""The highest of the 256 levels that a map is rounded down to."""


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
    check_map(score_map)
    thresholds = check_thresholds(thresholds)
    _check_boxes(boxes, score_map)
    values, truth = score_map.double(), boxes.long()
    level = (values * WHITE).long()
    top = int(level.max())
    cut = (torch.tensor(list(thresholds), dtype=torch.float64) * top).long().to(level.device)
    if not top:
        nothing = _iou(truth.new_zeros(1, 4), truth).repeat(len(cut))
        return nothing, nothing
    dark = F.pad(WHITE - level, (1, 1, 1, 1), value=WHITE + 1)  # upside down, and the outside around it highest of all
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


def _holes(basins: Forest, dark: Int[Tensor, "v u"], top: int) -> tuple[Int[Tensor, " m"], Int[Tensor, "m 4"]]:
    """Thresholds below the highest level and boxes of holes, with the pixels around them; of a map with a margin of 1."""
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
    lower = [torch.zeros_like(each) for each in levels]  # of the other three
    for i in range(4):
        for j in range(i):
            below = (levels[i] < levels[j]).to(torch.uint8)
            lower[j] += below
            lower[i] += 1 - below
    for corner, count in zip(corners, lower, strict=True):
        weight[corner] += count < 2
    return weight


def _boxes(pixels: Int[Tensor, "m 4"], size: tuple[int, ...]) -> Int[Tensor, "m 4"]:
    """Boxes as the reference makes them of contours: the end is behind the last pixel, but within the map."""
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


def check_map(score_map: Tensor) -> None:
    """Raises where a map is none in [0, 1], [H, W]."""
    expect_tensor(score_map, "score_map", "numbers or booleans")
    if score_map.ndim != 2 or not score_map.numel() or not score_map.is_floating_point():
        raise InputError(f"score_map {tuple(score_map.shape)} of {score_map.dtype}: expected numbers in [0, 1], [H, W]")
    low, high = float(score_map.min()), float(score_map.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"score_map holds {low:g} to {high:g}: expected [0, 1]; min_max brings it there")


def check_thresholds(thresholds: Sequence[float]) -> list[float]:
    """The thresholds as numbers; raises where they do not ascend from 0, below 1."""
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
