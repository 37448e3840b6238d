"""Segmentation networks of segmentation-models-pytorch on any timm encoder."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from advcam.errors import SettingsError, known

from .classifiers import Backbone
from .encoders import REFUSALS

NETWORKS = {"deeplabv3plus": smp.DeepLabV3Plus}


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
    except REFUSALS as error:
        raise SettingsError(
            f"segmentation-models-pytorch cannot put {backbone.name!r} into {name} ({error}); choose another --backbone"
        ) from None
