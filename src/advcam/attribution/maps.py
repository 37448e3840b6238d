"""Class activation maps of features f and the gradient g of the head, by six methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """A linear head behind global average pooling: logits ``y = weight @ mean over cells of f + bias``.

    Args:
        weight: [K, D], one row for each class.
        bias: [K].

    Source: Zhou et al., CVPR 2016; AdvCAM equation 1.

    Example:
        >>> head = Head(weight=torch.tensor([[1.0, 2.0]]), bias=torch.zeros(1))
        >>> head.gradient(torch.zeros(1, 1, 2, 1, 2), torch.tensor([0])).tolist()
        [[[[[0.5, 0.5]], [[1.0, 1.0]]]]]
    """

    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]

    def gradient(self, features: Float[Tensor, "c v d h w"], target: Int[Tensor, " c"]) -> Float[Tensor, "c v d h w"]:
        """The gradient of each climb's logit in the features: ``dy_c / df_d = w_c[d] / cells``, the same in every cell.

        Args:
            features: [C, V, D, h, w]; only their shape is used.
            target: int [C], 0 to K - 1: the class of each climb.

        Returns:
            [C, V, D, h, w].
        """
        cells = features.shape[3] * features.shape[4]
        return (self.weight[target] / cells)[:, None, :, None, None].expand_as(features)


def cam(f: Float[Tensor, "c v d h w"], g: Float[Tensor, "c v d h w"]) -> Float[Tensor, "c v h w"]:
    """The class activation map: ``ReLU( sum_d w_d f_d )``, ``w_d = sum over cells of g_d``.

    For a linear head behind global average pooling, w is the row of the class; for any other head the map is Grad-CAM times the
    number of cells.

    Source: Zhou et al., CVPR 2016; AdvCAM equation 1.
    """
    return torch.einsum("cvdhw,cvd->cvhw", f, g.sum((3, 4))).relu()


def grad_cam(f: Float[Tensor, "c v d h w"], g: Float[Tensor, "c v d h w"]) -> Float[Tensor, "c v h w"]:
    """Grad-CAM: ``ReLU( sum_d w_d f_d )``, ``w_d = mean over cells of g_d``.

    Source: Selvaraju et al., ICCV 2017, equations 1 and 2.
    """
    return torch.einsum("cvdhw,cvd->cvhw", f, g.mean((3, 4))).relu()


def grad_cam_plus_plus(f: Float[Tensor, "c v d h w"], g: Float[Tensor, "c v d h w"]) -> Float[Tensor, "c v h w"]:
    """Grad-CAM++: ``w_d = sum over cells of a_d ReLU(g_d)``, ``a = g^2 / (2 g^2 + g^3 sum over cells of f)``.

    a is 0 where its denominator is.

    Source: Chattopadhay et al., WACV 2018, equations 14 and 19, for an exponential of the score.
    """
    denominator = 2 * g**2 + g**3 * f.detach().sum((3, 4), keepdim=True)
    share = torch.where(denominator == 0, 0, g**2 / denominator)
    return torch.einsum("cvdhw,cvd->cvhw", f, (share * g.relu()).sum((3, 4))).relu()


def layer_cam(f: Float[Tensor, "c v d h w"], g: Float[Tensor, "c v d h w"]) -> Float[Tensor, "c v h w"]:
    """LayerCAM: ``ReLU( sum_d ReLU(g_d) f_d )`` in each cell.

    Source: Jiang et al., TIP 2021, equations 6 and 7.
    """
    return (g.relu() * f).sum(2).relu()


def hires_cam(f: Float[Tensor, "c v d h w"], g: Float[Tensor, "c v d h w"]) -> Float[Tensor, "c v h w"]:
    """HiResCAM: ``ReLU( sum_d g_d f_d )`` in each cell.

    Source: Draelos & Carin, 2020.
    """
    return (g * f).sum(2).relu()


def element_wise(f: Float[Tensor, "c v d h w"], g: Float[Tensor, "c v d h w"]) -> Float[Tensor, "c v h w"]:
    """Element-wise Grad-CAM: ``sum_d ReLU(g_d f_d)``, the positive contributions of each cell and channel.

    Source: pytorch-grad-cam, ``GradCAMElementWise``.
    """
    return (g * f).relu().sum(2)


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cam": cam,
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "layercam": layer_cam,
    "hirescam": hires_cam,
    "elementwise": element_wise,
}
"""The methods by name. Each takes features f and the head's gradient g = dy_c/df, both [C, V, D, h, w], and returns maps
[C, V, h, w], at least 0, not normalised. g is a constant: maps are differentiable in f alone."""


def gradient_scale(features: Float[Tensor, "c v d h w"], head: Head, target: Int[Tensor, " c"]) -> Float[Tensor, "c v 1 1"]:
    """The factor by which the maps of the published code differ from :func:`.maps.cam`: ``N_v / (K+ (N_0 + N_1))``.

    The published code weights channel d by the sum over cells of the gradient of ``sum ReLU(z_c)``, divided by the number of
    positive entries of the whole gradient. For a linear head that is ``w_c[d]`` times this factor, where N_v counts the cells
    of view v with z_c > 0 and K+ the channels with w_c > 0.

    Args:
        features: [C, V, D, h, w].
        head: the linear head.
        target: int [C], 0 to K - 1: the class of each climb.

    Returns:
        [C, V, 1, 1] in [0, 1], detached; 0 where no cell is positive.

    Source: jbeomlee93/AdvCAM, ``gradCAM.py``, ``generate`` with ``gap2d_pos``; the closed form is ours.

    Example:
        >>> head = Head(weight=torch.tensor([[1.0, 1.0]]), bias=torch.zeros(1))
        >>> features = torch.tensor([1.0, -1.0]).expand(1, 1, 2, 1, 2)  # one of two cells is positive
        >>> gradient_scale(features, head, torch.tensor([0])).item()
        0.5
    """
    weight = head.weight[target]
    with torch.no_grad():
        cells = (torch.einsum("cvdhw,cd->cvhw", features, weight) > 0).sum((2, 3))  # N_v
        entries = (weight > 0).sum(1, keepdim=True) * cells.sum(1, keepdim=True)  # K+ (N_0 + N_1)
        return (cells / entries.clamp_min(1))[:, :, None, None].to(features.dtype)
