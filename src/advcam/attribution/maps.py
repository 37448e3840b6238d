"""Class activation maps of features and a linear head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """The linear head of a classifier: logits ``y = weight @ mean over cells of f + bias``.

    Args:
        weight: [K, D], one row a class.
        bias: [K].
    """

    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]


def class_activation_map(
    features: Float[Tensor, "c v d h w"], head: Head, target: Int[Tensor, " c"]
) -> Float[Tensor, "c v h w"]:
    """The class activation map of every climb's target class, one for each view.

    ``CAM_c = ReLU( sum_d w_c[d] f_d )`` (Zhou et al., CVPR 2016; AdvCAM equation 1), not normalised.
    """
    return torch.einsum("cvdhw,cd->cvhw", features, head.weight[target]).relu()


def gradient_scale(features: Float[Tensor, "c v d h w"], head: Head, target: Int[Tensor, " c"]) -> Float[Tensor, "c v 1 1"]:
    """By what the published code's maps differ from :func:`class_activation_map`.

    It weights channel d by the sum over cells of the gradient of ``sum ReLU(z_c)``, divided by the number of positive
    entries in the whole gradient tensor, which for a linear head is ``w_c[d] N_v / (K+ (N_0 + N_1))``: N_v the cells
    of view v with z_c > 0, K+ the channels with w_c > 0. A constant for the gradient; 0 where no cell is positive.
    """
    weight = head.weight[target]
    with torch.no_grad():
        cells = (torch.einsum("cvdhw,cd->cvhw", features, weight) > 0).sum((2, 3))  # N_v
        entries = (weight > 0).sum(1, keepdim=True) * cells.sum(1, keepdim=True)  # K+ (N_0 + N_1)
        return (cells / entries.clamp_min(1))[:, :, None, None].to(features.dtype)
