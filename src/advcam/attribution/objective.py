"""The objective of a climb: the target's score, minus the other classes' scores, minus the penalty on discriminative cells."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .maps import Head, cam


def relu_scores(features: Float[Tensor, "c v d h w"], head: Head) -> Float[Tensor, "c k"]:
    """The score of the published code: ``y_k = sum over views of mean over cells of ReLU(w_k . f)``."""
    return torch.einsum("cvdhw,kd->cvkhw", features, head.weight).relu().mean((3, 4)).sum(1)


def suppressed(scores: Float[Tensor, "c k"], target: Int[Tensor, " c"], weight: float) -> Float[Tensor, " c"]:
    """``y_c - weight * sum_{k != c} y_k`` (AdvCAM equation 5)."""
    own = scores.gather(1, target[:, None])[:, 0]
    return own - weight * (scores.sum(1) - own)


def discriminative(maps: Float[Tensor, "c h w"], tau: float) -> Float[Tensor, "c h w"]:
    """``M = 1( CAM / max CAM > tau )``, recomputed at each step and detached; 0 for an empty map."""
    maps = maps.detach()
    return (maps > tau * maps.amax((1, 2), keepdim=True)).to(maps.dtype)


def penalty(
    maps: Float[Tensor, "c h w"], first: Float[Tensor, "c h w"], tau: float, unit: Float[Tensor, " c"] | None = None
) -> Float[Tensor, " c"]:
    """``|| M * |CAM(x) - CAM(x^0)| ||_1`` (AdvCAM equation 6).

    The sum over cells, as published. With ``unit``, relative to the first map: the sum times ``unit / sum(CAM(x^0))``.

    Args:
        maps: [C, h, w], ``CAM(x)``, of the current step.
        first: [C, h, w], ``CAM(x^0)``, of the first step.
        tau: share of the map's maximum above which a cell is discriminative, in [0, 1].
        unit: [C], the unit of each climb's score, see :func:`unit_of`; None gives the sum.

    Returns:
        [C], at least 0.
    """
    change = ((maps - first).abs() * discriminative(maps, tau)).sum((1, 2))
    return change if unit is None else unit * change / first.sum((1, 2)).clamp_min(1e-12)


def unit_of(features: Float[Tensor, "c v d h w"], gradient: Float[Tensor, "c v d h w"]) -> Float[Tensor, " c"]:
    """The unit of a climb's score: the mean over cells and views of the class activation map.

    For a linear head behind global average pooling ``y_c = mean(w_c . f) + b_c``, so a penalty in this unit takes from the
    score what discriminative cells add to it.
    """
    return cam(features, gradient).detach().mean((1, 2, 3))
