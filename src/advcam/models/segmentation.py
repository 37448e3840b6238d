"""Segmentation networks of segmentation-models-pytorch on any timm encoder."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from advcam.errors import NetworkError, SettingsError, known

from .classifiers import Backbone
from .weights import State, fill

NETWORKS = {"deeplabv3plus": smp.DeepLabV3Plus}
STRIDE = 32  # inputs are padded to a multiple of it, which every encoder takes


def segmentation_network(name: str, backbone: Backbone, classes: int) -> nn.Module:
    """A network with ``classes`` outputs, background included, on an untrained timm encoder.

    Raises:
        SettingsError: an unknown network, or an encoder that smp cannot use in it.
    """
    if name not in NETWORKS:
        raise SettingsError(f"no segmentation network is called {name!r}; {known(name, NETWORKS)}")
    options: dict[str, Any] = backbone.options
    try:
        network: nn.Module = NETWORKS[name](
            encoder_name=f"tu-{backbone.name}",
            encoder_weights=None,
            classes=classes,
            encoder_output_stride=16,
            **options,
        )
        return network
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            f"segmentation-models-pytorch cannot put {backbone.name!r} into {name} ({error}); choose another --backbone"
        ) from None


def start_encoder(network: nn.Module, state: State, source: str) -> None:
    """Gives the network's encoder the weights of a classifier on the same backbone.

    Raises:
        NetworkError: the classifier is another network.
    """
    encoder = getattr(network, "encoder", None)
    body = getattr(encoder, "model", None)
    if not isinstance(body, nn.Module):
        raise NetworkError(f"{type(network).__name__} has no timm encoder to start from {source}")
    known_as = {name.replace(".", "_"): value for name, value in state.items()}  # timm flattens stages.0 to stages_0 here
    fill(body, {name: known_as[flat] for name in body.state_dict() if (flat := name.replace(".", "_")) in known_as}, source)
