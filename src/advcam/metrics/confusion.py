"""Confusion counts: count, add, divide once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError


def confusion(
    prediction: Integer[Tensor, "*size"], truth: Integer[Tensor, "*size"], classes: int, ignore: int = 255
) -> Int[Tensor, "l l"]:
    """Pixel counts [L, L], row = truth, column = prediction; add them over images.

    Args:
        prediction: class positions 0 to L - 1, 0 is background.
        truth: the same, and ``ignore`` where the pixel does not count.
        classes: L, background included.
        ignore: the truth's value to leave out.

    Raises:
        InputError: sizes differ, or a value outside 0 to L - 1.

    Example:
        >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 255]), 2).tolist()
        [[1, 1], [0, 0]]
    """
    if prediction.shape != truth.shape:
        raise InputError(f"prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} must be of one size")
    counted = truth != ignore
    t, p = truth[counted].long(), prediction[counted].long()
    for name, values in (("truth", t), ("prediction", p)):
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= classes):
            raise InputError(
                f"{name} holds {int(values.min())} to {int(values.max())}; expected 0 to {classes - 1}, or {ignore}"
            )
    return torch.bincount(t * classes + p, minlength=classes * classes).view(classes, classes)


def iou(counts: Integer[Tensor, "*n l l"]) -> Float[Tensor, "*n l"]:
    """``TP / (TP + FP + FN)`` of every class, NaN for one absent from both."""
    counts = counts.double()
    hit = counts.diagonal(dim1=-2, dim2=-1)
    return hit / (counts.sum(-1) + counts.sum(-2) - hit)


def mean_iou(counts: Integer[Tensor, "*n l l"]) -> Float[Tensor, "*n"]:
    """Mean over classes, background included, of :func:`iou`; classes absent from both are left out."""
    return iou(counts).nanmean(-1)


def noise(counts: Integer[Tensor, "*n l l"]) -> Float[Tensor, "*n"]:
    """Share of background pixels among those predicted as foreground; NaN where nothing was."""
    counts = counts.double()
    return counts[..., 0, 1:].sum(-1) / counts[..., 1:].sum((-2, -1))
