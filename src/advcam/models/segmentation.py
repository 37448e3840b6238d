"""Segmentation networks on any timm backbone: DeepLab-v2, and those of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from advcam.errors import SettingsError, known

from .classifiers import Backbone
from .deeplab import DeepLabV2
from .encoders import REFUSALS


class _PAN(smp.PAN):  # type: ignore[misc]
    """PAN halves the deepest grid three times: smaller inputs are padded to eight cells, and the output is cropped."""

    def forward(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n l y x"]:
        height, width = images.shape[2:]
        least = 8 * self.encoder.output_stride
        padded = F.pad(images, (0, max(0, least - width), 0, max(0, least - height)))
        logits: Tensor = super().forward(padded)
        return logits[:, :, :height, :width]


Builder = Callable[[Backbone, int, int], nn.Module]
"""Backbone, outputs and output stride (where there is one to choose) -> network."""


def _smp(kind: Callable[..., nn.Module], strided: bool = False) -> Builder:
    def build(backbone: Backbone, classes: int, stride: int) -> nn.Module:
        options = backbone.options | backbone.input_channels("in_channels")
        options |= {"encoder_output_stride": stride} if strided else {}
        return kind(f"tu-{backbone.name}", encoder_weights=None, classes=classes, **options)

    return build


def _pan(backbone: Backbone, classes: int, stride: int) -> nn.Module:
    build = _smp(_PAN, strided=True)
    try:
        return build(backbone, classes, stride)
    except REFUSALS:  # this network cannot change its stride
        return build(backbone, classes, 32)


def _dpt(backbone: Backbone, classes: int, stride: int) -> nn.Module:
    """DPT, which reads the backbone's class token if there is one, on a backbone without its head."""
    with torch.device("meta"):
        tokens = getattr(backbone.create(), "num_prefix_tokens", 0)
    headless = replace(backbone, options=backbone.options | {"num_classes": 0})
    network = _smp(partial(smp.DPT, decoder_readout="cat" if tokens else "ignore"))(headless, classes, stride)
    for name, parameter in network.encoder.named_parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(
            not name.startswith("model.norm.")
        )  # its output is unused, and DDP waits for the gradient of every parameter
    return network


NETWORKS: dict[str, Builder] = {
    "deeplabv2": DeepLabV2,
    "deeplabv3": _smp(smp.DeepLabV3, strided=True),
    "deeplabv3plus": _smp(smp.DeepLabV3Plus, strided=True),
    "unet": _smp(smp.Unet),
    "unetplusplus": _smp(smp.UnetPlusPlus),
    "manet": _smp(smp.MAnet),
    "linknet": _smp(smp.Linknet),
    "fpn": _smp(smp.FPN),
    "pspnet": _smp(smp.PSPNet),
    "pan": _pan,
    "upernet": _smp(smp.UPerNet),
    "segformer": _smp(smp.Segformer),
    "dpt": _dpt,
}
"""The builder of each network, by name."""

STRIDES = {"deeplabv2": (8, 16, 32), "deeplabv3": (16, 8), "deeplabv3plus": (16, 8), "pan": (16, 32)}
"""Output strides of the networks that have a choice; the first is the default."""


def segmentation_network(name: str, backbone: Backbone, classes: int, output_stride: int | None = None) -> nn.Module:
    """A network on an untrained timm encoder: images [N, C, H, W] -> logits [N, classes, H, W], H and W multiples of 32.

    In training mode ``deeplabv2`` returns a tuple of logits instead, see :class:`DeepLabV2`. Every network has an ``encoder``
    that :func:`advcam.models.encoders.start` fills. A vision transformer is built to take inputs of any size.

    Source of all but ``deeplabv2``: segmentation-models-pytorch 0.6, with its own settings.

    Args:
        name: one of ``NETWORKS``.
        backbone: of the encoder; its ``output_stride`` is not used.
        classes: outputs, background included.
        output_stride: pixels per cell of the deepest features, of the networks in ``STRIDES``; None takes the default.
            In ``deeplabv2`` and ``pan``, a backbone that cannot change its stride keeps its own.

    Raises:
        SettingsError: an unknown network or stride, or a backbone that cannot be used in it.
    """
    if name not in NETWORKS:
        raise SettingsError(f"no segmentation network is called {name!r}; {known(name, NETWORKS)}")
    strides = STRIDES.get(name, (16,))
    stride = strides[0] if output_stride is None or name not in STRIDES else output_stride
    if stride not in strides:
        raise SettingsError(f"{name} has an output stride of {' or '.join(map(str, sorted(strides)))}, got {output_stride}")
    try:
        network = NETWORKS[name](_any_size(backbone), classes, stride)
        _try(network, classes, backbone.channels)
    except SettingsError:
        raise
    except REFUSALS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(
            f"{name} cannot be built on the backbone {backbone.name!r} ({reason}); choose another --backbone or --network"
            " (vision transformers that take any input size go with deeplabv2; with dpt too, if patches are 8, 16 or 32 pixels)"
        ) from None
    return network


def _any_size(backbone: Backbone) -> Backbone:
    """The backbone, with timm's option for inputs of any size where it has one."""
    told = replace(backbone, options={"dynamic_img_size": True} | backbone.options)
    try:
        with torch.device("meta"):
            told.create()
        return told
    except REFUSALS:  # no such option: it takes any size, or a fixed one
        return backbone


def _try(network: nn.Module, classes: int, channels: int) -> None:
    """Runs one small image through a new network, so that a wrong one fails before its training."""
    with torch.no_grad():
        logits = network.eval()(torch.zeros(1, channels, 64, 96))
    network.train()
    if logits.shape != (1, classes, 64, 96):
        raise ValueError(f"an input of 64 x 96 gives an output of {' x '.join(map(str, logits.shape[2:]))}")
