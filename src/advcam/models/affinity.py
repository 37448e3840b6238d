"""The networks of IRN (class boundaries and displacements) and PSA (affinities)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from advcam.attribution import strided_size

from .classifiers import Backbone
from .encoders import Encoder, on_grid


class BoundaryNet(Encoder):
    """IRN: class boundaries and displacements to the centre of the pixel's object, at stride 4, on a timm backbone.

    Boundary branch: features of every stride through 1x1 convolutions to 32 channels, fused by another. Displacement branch,
    top down: features coarser than stride 4 are resized to one grid and fused, then fused with the finer ones; at inference the
    running mean of the training is subtracted, so that displacements are zero on average.

    Source: Ahn, Cho, Kwak, CVPR 2019 (arXiv 1904.05044), section 4; widths as in jiwoon-ahn/irn, ``net/resnet50_irn.py``.
    """

    stride = 4

    def __init__(self, backbone: Backbone, frozen: bool = True) -> None:
        super().__init__(backbone, frozen)
        self.boundary = nn.ModuleList(_reduce(c, 32, groups=4) for c in self.channels)
        self.fuse_boundary = nn.Conv2d(32 * len(self.channels), 1, 1)
        widths = [min(256, 64 * 2**depth) for depth in range(len(self.channels))]
        self.displacement = nn.ModuleList(_reduce(c, w) for c, w in zip(self.channels, widths, strict=True))
        self.coarse = [at for at, stride in enumerate(self.strides) if stride > self.stride]
        self.fine = [at for at, stride in enumerate(self.strides) if stride <= self.stride]
        self.fuse_coarse = _reduce(sum(widths[at] for at in self.coarse), 256)
        fused = _reduce(256 + sum(widths[at] for at in self.fine), 256)
        self.fuse_displacement = nn.Sequential(fused, nn.Conv2d(256, 2, 1, bias=False))
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n 3 h w"]:
        """The logit of a boundary, and the displacement (dy, dx) in cells, of every cell at stride 4."""
        features, size = self.features(images), (images.shape[2], images.shape[3])

        def branched(at: int, branch: nn.ModuleList, stride: int) -> Tensor:
            resized: Tensor = on_grid(branch[at](features[at]), size, stride)
            return resized

        depths = range(len(features))
        edge = self.fuse_boundary(torch.cat([branched(at, self.boundary, self.stride) for at in depths], 1))
        step = min(self.strides[at] for at in self.coarse)
        coarse = self.fuse_coarse(torch.cat([branched(at, self.displacement, step) for at in self.coarse], 1))
        coarse = F.interpolate(coarse, size=strided_size(size, self.stride), mode="bilinear", align_corners=False)
        fine = [branched(at, self.displacement, self.stride) for at in self.fine]
        displacement = self.fuse_displacement(torch.cat([*fine, coarse], 1))
        if self.training:
            self.mean.lerp_(displacement.detach().float().mean((0, 2, 3)), 0.1)
        else:
            displacement = displacement - self.mean[:, None, None]
        return torch.cat([edge, displacement], 1)


class AffinityNet(Encoder):
    """PSA: features at stride 8 whose distance gives the affinity of two cells.

    The last three features are reduced to 64, 128 and 256 channels, concatenated and mixed by a 1x1 convolution.

    Source: Ahn & Kwak, CVPR 2018 (arXiv 1803.10464), section 3.2; jiwoon-ahn/psa, ``network/resnet38_aff.py``.
    """

    stride = 8

    def __init__(self, backbone: Backbone, frozen: bool = True) -> None:
        super().__init__(backbone, frozen)
        widths = (64, 128, 256)[-len(self.channels) :]
        self.reduce = nn.ModuleList(nn.Conv2d(c, w, 1, bias=False) for c, w in zip(self.channels[-3:], widths, strict=True))
        self.mix = nn.Conv2d(sum(widths), sum(widths), 1, bias=False)

    def forward(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n d h w"]:
        """The features f of every cell at stride 8; the affinity of two cells is ``exp(-mean_d |f_i - f_j|)``."""
        size = (images.shape[2], images.shape[3])
        deep = self.features(images)[-len(self.reduce) :]
        reduced = [on_grid(F.elu(layer(f)), size, self.stride) for layer, f in zip(self.reduce, deep, strict=True)]
        return F.elu(self.mix(torch.cat(reduced, 1)))


def _reduce(channels: int, width: int, groups: int = 16) -> nn.Sequential:
    groups = min(groups, width // 8)
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(groups, width), nn.ReLU())
