"""What a climb raises: the target's score, less the other classes', less the penalty on what is discriminative."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .maps import Head, cam


def relu_scores(features: Float[Tensor, "c v d h w"], head: Head) -> Float[Tensor, "c k"]:
    """``y_k = sum over views of mean over cells of ReLU(w_k . f)``: the score of the published code."""
    return torch.einsum("cvdhw,kd->cvkhw", features, head.weight).relu().mean((3, 4)).sum(1)


def suppressed(scores: Float[Tensor, "c k"], target: Int[Tensor, " c"], weight: float) -> Float[Tensor, " c"]:
    """``y_c - weight * sum_{k != c} y_k`` (AdvCAM equation 5)."""
    own = scores.gather(1, target[:, None])[:, 0]
    return own - weight * (scores.sum(1) - own)


def discriminative(maps: Float[Tensor, "c h w"], tau: float) -> Float[Tensor, "c h w"]:
    """``M = 1( CAM / max CAM > tau )``, recomputed each step and constant for the gradient; 0 for an empty map."""
    maps = maps.detach()
    return (maps > tau * maps.amax((1, 2), keepdim=True)).to(maps.dtype)


def penalty(
    maps: Float[Tensor, "c h w"], first: Float[Tensor, "c h w"], tau: float, unit: Float[Tensor, " c"] | None = None
) -> Float[Tensor, " c"]:
    """``|| M * |CAM(x) - CAM(x^0)| ||_1`` (AdvCAM equation 6).

    The sum over cells, as published; with a unit, relative to the first map: ``unit * sum(M |change|) / sum(first)``.

    Args:
        maps: the step's.
        first: of the first step.
        tau: share of the map's maximum above which a cell is discriminative.
        unit: of each climb's score; see :func:`unit_of`.
    """
    change = ((maps - first).abs() * discriminative(maps, tau)).sum((1, 2))
    return change if unit is None else unit * change / first.sum((1, 2)).clamp_min(1e-12)


def unit_of(features: Float[Tensor, "c v d h w"], gradient: Float[Tensor, "c v d h w"]) -> Float[Tensor, " c"]:
    """How much of the score the positive cells make up: the mean over cells and views of the class activation map.

    Behind a pooled linear head ``y_c = mean(w_c . f) + b_c``, so a penalty in this unit takes from the score just what
    discriminative cells add to it.
    """
    return cam(features, gradient).detach().mean((1, 2, 3))
