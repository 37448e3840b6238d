"""Boundary IoU: whether contours lie where they should."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_number, expect_tensor, expect_whole
from advcam.limits import IGNORE, MAX_COUNTS

from .confusion import differs

RATIO = 0.02
"""Distance to a contour up to which pixels count, as a share of the image's diagonal: the published one."""
MOST_LABELS = 2**15 - 1
"""Labels are compared in 16 bits."""


def boundary_counts(
    prediction: Integer[Tensor, "*n h w"],
    truth: Integer[Tensor, "*n h w"],
    classes: int,
    ratio: float = RATIO,
    ignore: int = IGNORE,
) -> Int[Tensor, "*n 3 l"]:
    """Count each class's pixels within a distance d of its contours: in both masks, in the prediction, in the truth.

    A class's pixel counts in a mask if the square of ``2 d + 1`` pixels around it holds a pixel of another class of the same
    mask, or leaves the image: the pixels that d erosions by 3 x 3 pixels take away, ``M - erode(M, d)``, with nothing outside
    the image. Ignored pixels make no contour, in either mask, and are left out. The counts of several images add.

    Args:
        prediction: integers [..., H, W], class positions 0 to L - 1; 0 is background.
        truth: the same shape, 0 to L - 1, and ``ignore`` where the pixel does not count.
        classes: L, background included.
        ratio: d as a share of the diagonal; d is rounded to pixels, at least 1.
        ignore: the value of ignored pixels in ``truth``.

    Returns:
        int64 [..., 3, L], number of pixels.

    Raises:
        InputError: sizes differ, or a value outside 0 to L - 1, or more classes than fit in memory.

    Source: Cheng et al., CVPR 2021 (arXiv 2103.16562), equation 2, and ``mask_to_boundary`` of its code; what ignored pixels
        do is ours.

    Example:
        >>> truth = torch.zeros(9, 9, dtype=torch.long)
        >>> truth[2:7, 2:7] = 1
        >>> boundary_counts(truth, truth, 2).tolist()  # d is 1: 16 of the square's 25 pixels, and both rings around it
        [[56, 16], [56, 16], [56, 16]]
    """
    expect_tensor(prediction, "prediction", "whole numbers or booleans")
    expect_tensor(truth, "truth", "whole numbers or booleans", beside=prediction)
    classes, ignore = expect_whole(classes, "classes", 1, MOST_LABELS), expect_whole(ignore, "ignore")
    ratio = expect_number(ratio, "ratio", 0, 1)
    if prediction.shape != truth.shape or truth.ndim < 2:
        raise InputError(
            f"prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} must be of one size, [..., H, W]"
        )
    *batch, height, width = truth.shape
    images = math.prod(batch)
    if images * 3 * classes > MAX_COUNTS:
        raise InputError(f"{images:,} masks of {classes:,} classes: expected at most {MAX_COUNTS:,} counts; take fewer")
    known = differs(truth, ignore).reshape(images, height, width)
    distance = max(1, round(ratio * math.hypot(height, width)))
    labels = []
    for name, values in (("prediction", prediction), ("truth", truth)):
        mine = values.reshape(images, height, width).where(known, 0)
        if mine.numel() and (int(mine.min()) < 0 or int(mine.max()) >= classes):
            raise InputError(f"{name} holds {int(mine.min())} to {int(mine.max())}; expected 0 to {classes - 1}, or {ignore}")
        labels.append(mine.to(torch.int16))
    ours, true = labels
    at_ours, at_true = (_near_contours(one, known, distance) for one in labels)
    image = torch.arange(images, device=truth.device)[:, None, None] * classes

    def counted(values: Tensor, where: Tensor) -> Int[Tensor, "*n l"]:
        return torch.bincount((values + image)[where], minlength=images * classes).view(*batch, classes)

    both = at_ours & at_true & (ours == true)
    return torch.stack([counted(true, both), counted(ours, at_ours), counted(true, at_true)], -2)


def boundary_iou(counts: Integer[Tensor, "*n 3 l"]) -> Float[Tensor, "*n l"]:
    """The boundary IoU of every class: ``|P_d & G_d| / |P_d | G_d|``, of the pixels near contours of prediction and truth.

    Args:
        counts: [..., 3, L], see :func:`boundary_counts`.

    Returns:
        float64 [..., L] in [0, 1]; NaN for a class absent from both truth and prediction.

    Raises:
        InputError: counts that are no numbers [..., 3, L].

    Source: Cheng et al., CVPR 2021 (arXiv 2103.16562), equation 2; summed over images as IRN's ``eval_cam.py`` does.

    Example:
        >>> boundary_iou(torch.tensor([[6, 0, 0], [8, 3, 0], [10, 1, 0]])).tolist()
        [0.5, 0.0, nan]
    """
    expect_tensor(counts, "counts", "numbers", finite=True)
    if counts.ndim < 2 or counts.shape[-2] != 3:
        raise InputError(f"counts {tuple(counts.shape)}: expected [..., 3, L], as boundary_counts returns them")
    both, ours, true = counts.double().unbind(-2)
    return both / (ours + true - both)


def _near_contours(labels: Int[Tensor, "n h w"], known: Bool[Tensor, "n h w"], distance: int) -> Bool[Tensor, "n h w"]:
    """True at known pixels whose square holds two known labels, or leaves the image."""
    lowest = torch.iinfo(labels.dtype).min
    ends = torch.stack([labels, -labels]).masked_fill(~known, lowest)
    highest, negated = _greatest(_greatest(ends, distance, -1), distance, -2)
    near = highest != -negated
    for side in (near, near.transpose(-1, -2)):
        side[..., :distance] = True
        side[..., -distance:] = True
    return near & known


def _greatest(values: Int[Tensor, "*n h w"], distance: int, dim: int) -> Int[Tensor, "*n h w"]:
    """The maximum over the ``2 distance + 1`` values around each along a dimension."""
    distance = min(distance, values.shape[dim])
    pad = (distance, distance) if dim == -1 else (0, 0, distance, distance)
    values = F.pad(values, pad, value=torch.iinfo(values.dtype).min)
    wide, window = 1, 2 * distance + 1
    while wide < window:
        step = min(wide, window - wide)
        kept = values.shape[dim] - step
        values = torch.maximum(values.narrow(dim, 0, kept), values.narrow(dim, step, kept))
        wide += step
    return values
