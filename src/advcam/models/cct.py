"""The network of CCT: an encoder, a main decoder, and auxiliary decoders for perturbed features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from advcam import consistency
from advcam.errors import InputError, SettingsError, known

from .classifiers import Backbone
from .encoders import STRIDE, multiscale, on_grid

Perturbation = Callable[[Tensor, Tensor, nn.Module], Tensor]

PERTURBATIONS: dict[str, Perturbation] = {
    "feature_dropout": lambda z, prediction, decoder: consistency.feature_dropout(z),
    "feature_noise": lambda z, prediction, decoder: consistency.feature_noise(z),
    "spatial_dropout": lambda z, prediction, decoder: consistency.spatial_dropout(z),
    "guided_cutout": lambda z, prediction, decoder: consistency.guided_cutout(z, prediction),
    "context_mask": lambda z, prediction, decoder: consistency.context_mask(z, prediction),
    "object_mask": lambda z, prediction, decoder: consistency.object_mask(z, prediction),
    "virtual_adversarial": lambda z, prediction, decoder: consistency.virtual_adversarial(z, decoder),
}
"""The input of each kind of auxiliary decoder, from z, the main decoder's argmax and the decoder itself."""

AUXILIARY = {
    "feature_dropout": 6,
    "feature_noise": 6,
    "spatial_dropout": 6,
    "guided_cutout": 6,
    "context_mask": 2,
    "object_mask": 2,
    "virtual_adversarial": 2,
}
"""The number of auxiliary decoders of each kind."""


class CCT(nn.Module):
    """Cross-consistency training: auxiliary decoders learn to predict from a perturbed z what the main decoder predicts from z.

    z: the last features of the backbone and their pyramid pooling. A decoder: 1x1 convolution to the classes, then as often as
    the stride needs 1x1 convolution, ReLU and PixelShuffle x2; so logits are never negative, as published. A backbone that
    cannot change its stride keeps its own. What the published code trains at a tenth of the rate is ``encoder``.

    Source: Ouali, Hudelot & Tami, CVPR 2020 (arXiv 2003.09005); yassouali/CCT, ``models/``.

    Args:
        backbone: a timm network, not yet filled; see :func:`.encoders.start`.
        classes: outputs, background included.
        output_stride: pixels per cell of z, where the backbone can have it.
        auxiliary: number of auxiliary decoders of each kind; empty trains the main decoder alone.

    Raises:
        SettingsError: a backbone without features at several strides, an unknown kind of auxiliary decoder.
    """

    def __init__(
        self, backbone: Backbone, classes: int, output_stride: int = 8, auxiliary: Mapping[str, int] = AUXILIARY
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise SettingsError(f"output_stride is 8, 16 or 32 pixels a cell, got {output_stride}")
        for kind in auxiliary:
            if kind not in PERTURBATIONS:
                raise SettingsError(f"no auxiliary decoder is called {kind!r}; {known(kind, PERTURBATIONS)}")
        self.encoder = multiscale(backbone, output_stride)
        info = self.encoder.model.feature_info
        self.stride: int = info.reduction()[-1]
        self.pyramid = PyramidPooling(info.channels()[-1])
        self.decoder = _decoder(self.pyramid.width, classes, self.stride)
        self.kinds = [kind for kind, count in auxiliary.items() for _ in range(count)]
        self.auxiliary = nn.ModuleList(_decoder(self.pyramid.width, classes, self.stride) for _ in self.kinds)

    def encode(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n c h w"]:
        """z, on the images' grid at the stride.

        Raises:
            InputError: a single image in training.
        """
        size = (images.shape[2], images.shape[3])
        padded = F.pad(images, (0, -size[1] % STRIDE, 0, -size[0] % STRIDE))
        z: Tensor = self.pyramid(on_grid(self.encoder(padded)[-1], size, self.stride))
        return z

    def decode(self, z: Float[Tensor, "n c h w"], size: tuple[int, int]) -> Float[Tensor, "n k y x"]:
        """The main decoder's logits, for images of size (H, W)."""
        return _cropped(self.decoder(z), size)

    def forward(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n k y x"]:
        """The main decoder's logits, of images of any size."""
        return self.decode(self.encode(images), (images.shape[2], images.shape[3]))

    def auxiliaries(self, z: Float[Tensor, "n c h w"], main_logits: Float[Tensor, "n k y x"]) -> list[Float[Tensor, "n k y x"]]:
        """The logits of each auxiliary decoder for its own perturbation of z, in the order of ``auxiliary``.

        The gradient flows to z through its perturbations and not to ``main_logits``, which only locate the objects (exactly on
        z's cells where the sides are multiples of the stride).
        """
        prediction, size = main_logits.detach().argmax(1), (main_logits.shape[2], main_logits.shape[3])
        return [
            _cropped(decoder(PERTURBATIONS[kind](z, prediction, decoder)), size)
            for kind, decoder in zip(self.kinds, self.auxiliary, strict=True)
        ]


class PyramidPooling(nn.Module):
    """Features beside their means over 1, 2, 3 and 6 bins a side, each reduced to a quarter of the channels; mixed.

    Source: Zhao et al., CVPR 2017 (arXiv 1612.01105); widths as in yassouali/CCT, ``models/encoder.py``.
    """

    bins = (1, 2, 3, 6)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels // len(self.bins)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(b), _convolution(channels, self.width)) for b in self.bins
        )
        self.mix = _convolution(channels + len(self.bins) * self.width, self.width, 3)

    def forward(self, features: Float[Tensor, "n d h w"]) -> Float[Tensor, "n c h w"]:
        """The mixed features, on the same grid.

        Raises:
            InputError: a single image in training.
        """
        if any(m.training for m in self.modules() if isinstance(m, nn.BatchNorm2d)) and len(features) == 1:
            raise InputError(
                "a single image in training: BatchNorm needs two to have a variance over one bin; "
                "give batches of at least 2 (drop_last), or freeze BatchNorm"
            )
        pooled = [
            F.interpolate(stage(features), size=features.shape[2:], mode="bilinear", align_corners=False)
            for stage in self.stages
        ]
        mixed: Tensor = self.mix(torch.cat([features, *pooled], 1))
        return mixed


class Shuffle(nn.Sequential):
    """1x1 convolution, ReLU and PixelShuffle x2, that starts as nearest-neighbour enlargement: ICNR.

    Source: Shi et al., CVPR 2016 (arXiv 1609.05158); Aitken et al. (arXiv 1707.02937).
    """

    def __init__(self, channels: int) -> None:
        convolution = nn.Conv2d(channels, 4 * channels, 1)
        one = nn.init.kaiming_normal_(torch.empty(channels, channels, 1, 1))
        convolution.weight.data.copy_(one.repeat_interleave(4, 0))  # the four pixels of a cell start alike
        super().__init__(convolution, nn.ReLU(), nn.PixelShuffle(2))


def _decoder(width: int, classes: int, stride: int) -> nn.Sequential:
    first = nn.Conv2d(width, classes, 1, bias=False)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
    return nn.Sequential(first, *(Shuffle(classes) for _ in range(stride.bit_length() - 1)))


def _convolution(channels: int, width: int, kernel: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


def _cropped(logits: Float[Tensor, "n k _ _"], size: tuple[int, int]) -> Float[Tensor, "n k y x"]:
    return logits[:, :, : size[0], : size[1]]
