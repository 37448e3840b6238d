"""The name of a module in its model, which is what :class:`advcam.AdvCAM` takes."""

from __future__ import annotations

from torch import nn

from advcam.errors import InputError
from advcam.models import describe_value, unwrap


def layer_name(model: nn.Module, layer: object) -> str:
    """Returns the name of a module in the unwrapped model, as :class:`advcam.AdvCAM` takes it.

    Args:
        model: the model.
        layer: one of its modules, the same object.

    Raises:
        InputError: it is not a module, the whole model, or not a module of this model.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU()))
        >>> layer_name(net, net[1][0])
        '1.0'
    """
    own = unwrap(model)
    parts = ", ".join(name for name, _ in own.named_children()) or "none"
    if not isinstance(layer, nn.Module):
        raise InputError(
            f"a layer must be a module of the model, e.g. model.layer4[-1]; got {describe_value(layer)}."
            f" The model's parts: {parts}"
        )
    if layer is own or layer is model:
        raise InputError(
            f"the layer is the whole model: give the module inside it whose output is the feature map. Its parts: {parts}"
        )
    for name, module in own.named_modules():
        if module is layer:
            return str(name)
    raise InputError(
        f"the layer, a {type(layer).__name__}, is not a module of this {type(own).__name__} (from a copy, or replaced since?):"
        f" take it from the model that is given. Its parts: {parts}"
    )
