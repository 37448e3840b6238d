"""The losses of IRN and PSA, which teach a network which neighbouring cells belong to one class."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from advcam.errors import InputError
from advcam.expect import expect_tensor, expect_whole
from advcam.limits import IGNORE

from .paths import neighbours, offsets, pair_affinity, window

EPSILON = 1e-5


class IrnLoss(NamedTuple):
    """The five parts of IRN's loss; each is the mean over its pairs, 0 where there is none.

    Args:
        bg_pos: at least 0, ``-log a`` over pairs of background.
        fg_pos: at least 0, ``-log a`` over pairs of one foreground class.
        neg: at least 0, ``-log(1 - a)`` over pairs of two classes.
        dp_fg: at least 0, in cells: error of the displacements over pairs of one foreground class.
        dp_bg: at least 0, in cells: difference of the displacements over pairs of background.
    """

    bg_pos: Float[Tensor, ""]
    fg_pos: Float[Tensor, ""]
    neg: Float[Tensor, ""]
    dp_fg: Float[Tensor, ""]
    dp_bg: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """``((bg_pos + fg_pos) / 2 + neg) / 2 + (dp_fg + dp_bg) / 2``."""
        return ((self.bg_pos + self.fg_pos) / 2 + self.neg) / 2 + (self.dp_fg + self.dp_bg) / 2


class PsaLoss(NamedTuple):
    """The three parts of PSA's loss; each is the mean over its pairs, 0 where there is none.

    Args:
        bg: at least 0, ``-log a`` over pairs of background.
        fg: at least 0, ``-log a`` over pairs of one foreground class.
        neg: at least 0, ``-log(1 - a)`` over pairs of two classes.
    """

    bg: Float[Tensor, ""]
    fg: Float[Tensor, ""]
    neg: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """``bg / 4 + fg / 4 + neg / 2``."""
        return self.bg / 4 + self.fg / 4 + self.neg / 2


def irn_loss(
    boundary_logits: Float[Tensor, "n 1 h w"],
    displacement: Float[Tensor, "n 2 h w"],
    labels: Integer[Tensor, "n h w"],
    radius: int = 10,
) -> IrnLoss:
    """The loss that teaches IRN class boundaries, and displacements towards the centre of each object.

    For pairs (i, j) within the radius, with a = 1 - the maximum of the boundary on the straight path between them: ``-log a``
    where the labels agree (background and foreground apart), ``-log(1 - a)`` where they differ. Displacements D of one
    foreground class point at the same place, ``|D_i - D_j - (j - i)|``; those of background are equal, ``|D_i - D_j|``.

    Args:
        boundary_logits: [N, 1, h, w], before the sigmoid.
        displacement: [N, 2, h, w], (dy, dx) in cells.
        labels: integers [N, h, w], 0 background, 255 unknown (its pairs are left out).
        radius: of the neighbourhood, in cells.

    Returns:
        The five parts and their ``total``, scalars of at least 0.

    Raises:
        InputError: shapes that do not fit, labels that are no ids, a grid too small for the radius.

    Source: Ahn, Cho & Kwak, CVPR 2019, equations 2-6; parts averaged over their pairs, eps 1e-5.

    Example:
        >>> labels, no_displacement = torch.tensor([[[0, 0, 0, 7, 7, 7]] * 4]), torch.zeros(1, 2, 4, 6)
        >>> boundary = torch.tensor([-9.0, -9, 9, 9, -9, -9]).expand(1, 1, 4, 6)  # where the labels change
        >>> loss = irn_loss(boundary, no_displacement, labels, radius=2)
        >>> [round(float(part), 2) for part in (loss.neg, loss.dp_fg, loss.dp_bg)]
        [0.0, 0.71, 0.0]
    """
    radius = _check(labels, radius, boundary_logits=(boundary_logits, 1), displacement=(displacement, 2))
    background, foreground, different = _groups(labels, radius)
    affinity = pair_affinity(boundary_logits[:, 0].sigmoid(), radius)
    alike = -(affinity + EPSILON).log()
    apart = window(displacement, radius)[:, :, None] - neighbours(displacement, radius)  # [n, 2, P, y, x]
    expected = torch.tensor(offsets(radius), dtype=apart.dtype, device=apart.device).T[:, :, None, None]
    return IrnLoss(
        _mean(alike, background),
        _mean(alike, foreground),
        _mean(-(1 + EPSILON - affinity).log(), different),
        _mean((apart - expected).abs().mean(1), foreground),
        _mean(apart.abs().mean(1), background),
    )


def psa_loss(features: Float[Tensor, "n d h w"], labels: Integer[Tensor, "n h w"], radius: int = 5) -> PsaLoss:
    """The loss that teaches PSA's AffinityNet features that are similar within a class and differ between classes.

    With ``a = exp(-mean_d |f_i - f_j|)`` for pairs within the radius: ``-log a`` where the labels agree (background and
    foreground apart), ``-log(1 - a)`` where they differ.

    Args:
        features: [N, D, h, w], of AffinityNet.
        labels: integers [N, h, w], 0 background, 255 unknown (its pairs are left out).
        radius: of the neighbourhood, in cells.

    Returns:
        The three parts and their ``total``, scalars of at least 0.

    Raises:
        InputError: shapes that do not fit, labels that are no ids, a grid too small for the radius.

    Source: Ahn & Kwak, CVPR 2018, equations 4-7.

    Example:
        >>> labels = torch.tensor([[[0, 0, 7, 7]] * 3])
        >>> features = [labels[:, None].float(), torch.zeros(1, 1, 3, 4)]  # the classes apart; all equal
        >>> [round(float(psa_loss(f, labels, radius=2).total), 2) for f in features]
        [0.0, 5.76]
    """
    radius = _check(labels, radius, features=(features, None))
    background, foreground, different = _groups(labels, radius)
    features = features.clone() if features.is_inference() else features  # backward cannot save inference tensors
    here = window(features, radius)
    distances = [  # checkpointed: the differences take d times the memory of their mean, so backward recomputes them
        checkpoint(_distance, here, window(features, radius, offset), use_reentrant=False, preserve_rng_state=False)
        for offset in offsets(radius)
    ]
    distance = torch.stack(distances, 1)
    affinity = (-distance).exp()
    alike = -(affinity + EPSILON).log()
    return PsaLoss(_mean(alike, background), _mean(alike, foreground), _mean(-(1 + EPSILON - affinity).log(), different))


def _distance(one: Float[Tensor, "n d y x"], other: Float[Tensor, "n d y x"]) -> Float[Tensor, "n y x"]:
    return (one - other).abs().mean(1)


def _groups(labels: Integer[Tensor, "n h w"], radius: int) -> tuple[Bool[Tensor, "n p y x"], ...]:
    """Pairs of background, pairs of one foreground class, pairs of two classes."""
    here, there = window(labels, radius)[:, None], neighbours(labels, radius)
    known = (here != IGNORE) & (there != IGNORE)
    same = known & (here == there)
    return same & (here == 0), same & (here != 0), known & (here != there)


def _mean(loss: Float[Tensor, "n p y x"], group: Bool[Tensor, "n p y x"]) -> Float[Tensor, ""]:
    """The mean over the pairs of a group; 0 if it is empty."""
    return (loss * group).sum() / group.sum().clamp(min=1)


def _check(labels: Tensor, radius: int, **fields: tuple[Tensor, int | None]) -> int:
    """Check the arguments of a loss; return the radius as an int.

    Raises:
        InputError: labels that are no ids, fields that are not on their grid, or of another number of channels.
    """
    expect_tensor(labels, "labels", "whole numbers", "n h w")
    for name, (field, channels) in fields.items():
        expect_tensor(field, name, beside=labels)
        n, h, w = labels.shape
        if field.ndim != 4 or field.shape != (n, channels or field.shape[1], h, w) or not field.shape[1]:
            raise InputError(
                f"{name} {tuple(field.shape)} and labels {tuple(labels.shape)} do not fit: "
                f"expected [n, {channels or 'd'}, h, w] and [n, h, w]; bring the labels to its grid (nearest neighbour)"
            )
    if labels.numel() and int(labels.min()) < 0:
        raise InputError(f"labels hold {int(labels.min())}: expected 0 for background, class ids, and {IGNORE} for unknown")
    return expect_whole(radius, "radius")
