"""Confusion counts, which are summed over images, and the metrics made of them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_tensor, expect_whole
from advcam.limits import IGNORE, MAX_COUNTS


def confusion(
    prediction: Integer[Tensor, "*size"], truth: Integer[Tensor, "*size"], classes: int, ignore: int = IGNORE
) -> Int[Tensor, "l l"]:
    """Count pixels by true class (row) and predicted class (column); the counts of several images add.

    Args:
        prediction: integers of any shape, class positions 0 to L - 1; 0 is background.
        truth: the same shape, 0 to L - 1, and ``ignore`` where the pixel does not count.
        classes: L, background included.
        ignore: the value of ignored pixels in ``truth``.

    Returns:
        int64 [L, L], number of pixels.

    Raises:
        InputError: sizes differ, or a value outside 0 to L - 1, or more classes than fit in memory.

    Source: IRN's ``eval_cam.py``, with 255 excluded.

    Example:
        >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 255]), 2).tolist()
        [[1, 1], [0, 0]]
    """
    expect_tensor(prediction, "prediction", "whole numbers or booleans")
    expect_tensor(truth, "truth", "whole numbers or booleans", beside=prediction)
    classes, ignore = expect_whole(classes, "classes", 1), expect_whole(ignore, "ignore")
    if classes**2 > MAX_COUNTS:
        raise InputError(f"{classes:,} classes make {classes**2:,} counts: expected at most {MAX_COUNTS:,}")
    if prediction.shape != truth.shape:
        raise InputError(f"prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} must be of one size")
    counted = differs(truth, ignore)
    t, p = truth[counted].long(), prediction[counted].long()
    for name, values in (("truth", t), ("prediction", p)):
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= classes):
            raise InputError(
                f"{name} holds {int(values.min())} to {int(values.max())}; expected 0 to {classes - 1}, or {ignore}"
            )
    return torch.bincount(t * classes + p, minlength=classes * classes).view(classes, classes)


def differs(truth: Integer[Tensor, "*size"], ignore: int) -> Bool[Tensor, "*size"]:
    """True where the truth is not ``ignore``; everywhere if its type cannot hold that value."""
    held = torch.iinfo(torch.uint8 if truth.dtype == torch.bool else truth.dtype)
    return truth != ignore if held.min <= ignore <= held.max else torch.ones_like(truth, dtype=torch.bool)


def iou(counts: Integer[Tensor, "*n l l"]) -> Float[Tensor, "*n l"]:
    """The intersection over union of every class: ``TP / (TP + FP + FN)``.

    Args:
        counts: [..., L, L], see :func:`confusion`.

    Returns:
        float64 [..., L] in [0, 1]; NaN for a class absent from both truth and prediction.

    Raises:
        InputError: counts that are no numbers [..., L, L].

    Source: IRN's ``eval_cam.py``.

    Example:
        >>> iou(torch.tensor([[2, 1, 0], [1, 0, 0], [0, 0, 0]])).tolist()
        [0.5, 0.0, nan]
    """
    counts = _square(counts)
    hit = counts.diagonal(dim1=-2, dim2=-1)
    return hit / (counts.sum(-1) + counts.sum(-2) - hit)


def mean_iou(counts: Integer[Tensor, "*n l l"]) -> Float[Tensor, "*n"]:
    """The mean over classes, background included, of :func:`iou`; classes absent from both truth and prediction are left out.

    Args:
        counts: [..., L, L], see :func:`confusion`.

    Returns:
        float64 [...] in [0, 1]; NaN where all counts are 0.

    Raises:
        InputError: counts that are no numbers [..., L, L].

    Source: IRN's ``eval_cam.py``.

    Example:
        >>> mean_iou(torch.tensor([[2, 1, 0], [1, 0, 0], [0, 0, 0]])).item()
        0.25
    """
    return iou(counts).nanmean(-1)


def noise(counts: Integer[Tensor, "*n l l"]) -> Float[Tensor, "*n"]:
    """The share of background pixels among the pixels predicted as foreground: ``sum_{l > 0} C_0l / sum_k sum_{l > 0} C_kl``.

    Args:
        counts: C, [..., L, L], see :func:`confusion`.

    Returns:
        float64 [...] in [0, 1]; NaN where nothing is predicted as foreground.

    Raises:
        InputError: counts that are no numbers [..., L, L].

    Source: AdvCAM paper, section 5.

    Example:
        >>> noise(torch.tensor([[5, 1], [2, 3]])).item()
        0.25
    """
    counts = _square(counts)
    return counts[..., 0, 1:].sum(-1) / counts[..., 1:].sum((-2, -1))


def _square(counts: Tensor) -> Float[Tensor, "*n l l"]:
    expect_tensor(counts, "counts", "numbers", finite=True)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2] or not counts.shape[-1]:
        raise InputError(f"counts {tuple(counts.shape)}: expected [..., L, L], truth by prediction, for at least one class")
    return counts.double()
