"""A timm backbone as an encoder: features at several strides, initialised from a classifier's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from advcam.attribution import strided_size
from advcam.errors import NetworkError, SettingsError

from .classifiers import Backbone
from .weights import State, adapted, load_state, load_weights, without_prefix

STRIDE = 32
"""Inputs are padded to a multiple of it, which every encoder takes."""

REFUSALS = (TypeError, ValueError, LookupError, AttributeError, OSError, RuntimeError, AssertionError, NotImplementedError)
"""What timm and segmentation-models-pytorch raise where a backbone does not support the arguments."""


def multiscale(backbone: Backbone, output_stride: int) -> Any:
    """A backbone that returns features at several strides; one that cannot change its output stride keeps its own.

    Raises:
        SettingsError: a backbone without such features.
    """
    name, options = f"tu-{backbone.name}", backbone.options | backbone.input_channels("in_channels")
    try:
        try:
            return get_encoder(name, weights=None, output_stride=output_stride, **options)
        except REFUSALS:  # this network cannot change its stride
            return get_encoder(name, weights=None, **options)
    except REFUSALS as error:
        raise SettingsError(
            f"{backbone.name!r} has no features at several strides ({error}); choose another --backbone"
        ) from None


class Encoder(nn.Module):
    """Features of a backbone at strides of about 2, 4, 8, 16 and 16, frozen or trained.

    A backbone that cannot change its stride keeps its own; one that starts at stride 4 gives four features.

    Args:
        backbone: a timm network, not yet filled; see :func:`start`.
        frozen: its weights and BatchNorm statistics are not trained.

    Raises:
        SettingsError: a backbone without features at several strides.
    """

    def __init__(self, backbone: Backbone, frozen: bool = True) -> None:
        super().__init__()
        self.frozen = frozen
        self.encoder = multiscale(backbone, 16)
        backbone.spaced(self.encoder)
        self.encoder.requires_grad_(not frozen)
        info = self.encoder.model.feature_info
        kept = [(c, r) for c, r in zip(info.channels(), info.reduction(), strict=True) if r > 1]
        self.channels, self.strides = (tuple(values) for values in zip(*kept, strict=True))

    def train(self, mode: bool = True) -> Encoder:
        """Keeps a frozen encoder in eval mode."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def features(self, images: Float[Tensor, "n b y x"]) -> list[Float[Tensor, "n _ _ _"]]:
        """The features at each stride, finest first; images are padded to multiples of 32."""
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return [feature for feature in self.encoder(padded)[1:] if feature.shape[1]]


def on_grid(feature: Float[Tensor, "n c _ _"], size: tuple[int, int], stride: int) -> Float[Tensor, "n c h w"]:
    """Features of padded images resized to a stride (bilinear), without the padding."""
    padded = [-(-side // STRIDE) * STRIDE // stride for side in size]
    height, width = strided_size(size, stride)
    if feature.shape[2:] != tuple(padded):
        feature = F.interpolate(feature, size=padded, mode="bilinear", align_corners=False)
    return feature[:, :, :height, :width]


def start(network: nn.Module, backbone: Backbone, classifier: State | None, weights: str | None, from_scratch: bool) -> None:
    """Initialises the encoder from the run's classifier or, where that is the user's own network, the backbone's weights.

    Args:
        network: has an ``encoder`` of segmentation-models-pytorch.
        backbone: that of the encoder.
        classifier: the weights of the run's classifier; None where it is another network.
        weights: file of the backbone's weights; None takes timm's.
        from_scratch: keep the random initialisation where there is no ``classifier`` and no ``weights``.

    Raises:
        NetworkError: weights that do not fit, or a hub that cannot be reached.
    """
    if classifier is not None:
        start_encoder(network, classifier, "the classifier")
    elif weights:
        start_encoder(network, adapted(load_state(Path(weights)), network, backbone.channels), weights)
    elif not from_scratch:
        start_encoder(network, backbone.create(pretrained=True).state_dict(), f"timm's {backbone.name}")


def start_encoder(network: nn.Module, state: State, source: str) -> None:
    """Loads the weights of a classifier on the same backbone into the network's encoder.

    Raises:
        NetworkError: the classifier is another network.
    """
    encoder = getattr(network, "encoder", None)
    body = getattr(encoder, "model", None)
    if not isinstance(body, nn.Module):
        raise NetworkError(f"{type(network).__name__} has no timm encoder to start from {source}")
    state = without_prefix(state, body.state_dict(), source, _flat)
    known_as = {_flat(name): value for name, value in state.items()}
    found = {name: known_as[_flat(name)] for name in body.state_dict() if _flat(name) in known_as}
    load_weights(body, found or state, source)


def _flat(name: str) -> str:
    return name.replace(".", "_")  # as timm flattens stages.0 to stages_0 here
