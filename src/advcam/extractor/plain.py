"""The plain class activation map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor, nn

from .advcam import AdvCAM
from .inputs import Targets
from .maps import Maps


@overload
def cam(model: nn.Module, images: Tensor, targets: Targets = None, **options: Any) -> Maps: ...
@overload
def cam(model: nn.Module, images: Sequence[Tensor], targets: Targets = None, **options: Any) -> list[Maps]: ...
def cam(model: nn.Module, images: Any, targets: Targets = None, **options: Any) -> Any:
    """The plain class activation map ``ReLU(sum_d w_c[d] f_d)``: equal to :class:`AdvCAM` with one step.

    Args:
        model: any module that returns logits [N, K], as for :class:`AdvCAM`.
        images: float [N, C, H, W], normalised as the model expects; or a list of [C, H, W] of several sizes.
        targets: class ids of each image, a 0/1 tensor [N, K], or None, as for :class:`AdvCAM`.
        options: ``preset``, ``layer``, ``max_pixels`` and settings, as for :class:`AdvCAM`; ``precision`` is float32 by
            default.

    Returns:
        The maps of all (image, class) pairs; for a list of images, a list with the maps of each image.

    Source: Zhou et al., CVPR 2016; AdvCAM equation 1. Not normalised, so that maps can be added: ours.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        >>> cam(net, torch.ones(1, 3, 32, 32), [[2]]).maps.shape
        torch.Size([1, 15, 15])
    """
    return AdvCAM(model, **({"precision": "float32"} | options | {"steps": 1}))(images, targets)
