"""DeepLab-v2: the sum of dilated branches, and the maximum over several scales."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from advcam.errors import SettingsError

from .classifiers import Backbone
from .encoders import REFUSALS


class LastMap(nn.Module):
    """A timm network up to its last feature map [N, C, h, w].

    Inputs are zero-padded at the bottom and right to whole cells: (h, w) is their size over ``stride``, rounded up.

    Raises:
        SettingsError: a network without a feature map.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        model: Any = backbone.create(num_classes=0)
        try:
            last = model.feature_info[-1]
            self.channels, self.stride = int(last["num_chs"]), int(last["reduction"])
            model.prune_intermediate_layers(1, prune_head=True)
        except (AttributeError, *REFUSALS) as error:
            raise SettingsError(
                f"{backbone.name!r} does not return its last feature map ({error}); choose another --backbone"
            ) from None
        self.model = model

    def forward(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n c h w"]:
        """The map, after the network's final norm if it has one."""
        height, width = images.shape[2:]
        whole = F.pad(images, (0, -width % self.stride, 0, -height % self.stride))
        maps: list[Tensor] = self.model.forward_intermediates(
            whole, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps[-1]


class DeepLabV2(nn.Module):
    """DeepLab-v2 on any timm backbone that has a last feature map f.

    ``S(x) = sum_r conv3x3_r(f(x))`` over the dilation rates r; at the scales s, ``S_s(x) = S(resize(x, s))`` and
    ``M(x) = max_s S_s(x)``, element by element on the grid of the first scale, the input's own size.

    Source: Chen et al., TPAMI 2018 (arXiv 1606.00915), on ResNet-101 at output stride 8; each branch one convolution with
    bias, drawn from N(0, 0.01^2), no dropout, as in kazuto1011/deeplab-pytorch, ``libs/models/deeplabv2.py`` and ``msc.py``.

    Args:
        backbone: a timm network, not yet filled. Its ``output_stride`` is not used.
        classes: L, background included.
        output_stride: pixels per cell of f; a backbone that cannot change it (VGG, DenseNet, a transformer) keeps its own.
        rates: dilation of each branch, in cells.
        scales: of the input; the first is 1.

    Raises:
        SettingsError: a backbone without a feature map; invalid rates or scales.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        output_stride: int = 8,
        rates: tuple[int, ...] = (6, 12, 18, 24),
        scales: tuple[float, ...] = (1.0, 0.75, 0.5),
    ) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise SettingsError(f"DeepLab-v2 needs dilation rates of at least 1, such as (6, 12, 18, 24); got {rates}")
        if not scales or scales[0] != 1 or min(scales) <= 0:
            raise SettingsError(f"DeepLab-v2 needs scales above 0 that start with 1, such as (1, 0.75, 0.5); got {scales}")
        self.scales = scales
        self.encoder = LastMap(replace(backbone, output_stride=output_stride))
        self.branches = nn.ModuleList(nn.Conv2d(self.encoder.channels, classes, 3, padding=r, dilation=r) for r in rates)
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]

    def single(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n l h w"]:
        """S: the logits of one scale on its own grid."""
        cells = self.encoder(images)
        return torch.stack([branch(cells) for branch in self.branches]).sum(0)

    def forward(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n l y x"] | tuple[Float[Tensor, "n l _ _"], ...]:
        """In eval mode M, resized to the images' size; in training mode every S_s on its own grid, and M on the first's."""
        height, width = images.shape[2:]
        each = [
            self.single(images if s == 1 else _resized(images, (max(1, int(height * s)), max(1, int(width * s)))))
            for s in self.scales
        ]
        rows, columns = each[0].shape[2:]
        strongest = torch.stack([_resized(logits, (rows, columns)) for logits in each]).amax(0)
        if self.training:
            return (*each, strongest)
        stride = self.encoder.stride
        return _resized(strongest, (rows * stride, columns * stride))[:, :, :height, :width]


def _resized(maps: Float[Tensor, "n c _ _"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    return maps if maps.shape[2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
