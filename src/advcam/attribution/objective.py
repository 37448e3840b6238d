"""What a climb raises: the target's score, less the other classes', less the penalty on what is discriminative."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .maps import Head


def relu_scores(features: Float[Tensor, "c v d h w"], head: Head) -> Float[Tensor, "c k"]:
    """``y_k = sum over views of mean over cells of ReLU(w_k . f)``: the score of the published code."""
    return torch.einsum("cvdhw,kd->cvkhw", features, head.weight).relu().mean((3, 4)).sum(1)


def suppressed(scores: Float[Tensor, "c k"], target: Int[Tensor, " c"], weight: float) -> Float[Tensor, " c"]:
    """``y_c - weight * sum_{k != c} y_k`` (AdvCAM equation 5)."""
    own = scores.gather(1, target[:, None])[:, 0]
    return own - weight * (scores.sum(1) - own)


def discriminative(maps: Float[Tensor, "c h w"], threshold: float) -> Float[Tensor, "c h w"]:
    """``M = 1( CAM / max CAM > tau )``, recomputed each step and constant for the gradient; 0 for an empty map."""
    maps = maps.detach()
    return (maps > threshold * maps.amax((1, 2), keepdim=True)).to(maps.dtype)


def penalty(
    maps: Float[Tensor, "c h w"], first: Float[Tensor, "c h w"], threshold: float, reduction: str, views: int
) -> Float[Tensor, " c"]:
    """``|| M * |CAM(x) - CAM(x^0)| ||_1`` (AdvCAM equation 6) of maps added over views.

    A ``sum`` over cells and views, as published, or the ``mean``, in which lambda means the same with and without mirror.
    """
    change = (maps - first).abs() * discriminative(maps, threshold)
    return change.sum((1, 2)) if reduction == "sum" else change.mean((1, 2)) / views
