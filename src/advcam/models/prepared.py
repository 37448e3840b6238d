"""The same network, faster: for a climb, which runs it many times with nothing but the pixels changing."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .lending import lent
from .network import Network


def prepared(network: Network) -> Network:
    """A copy of the network with BatchNorm folded into convolutions and weights laid out as the arithmetic wants them.

    The copy shares with the model every tensor that it does not change, and the model itself is not touched. Logits and
    features are the same but for rounding. A model that cannot be copied is used as it is.
    """
    with lent(network.model):  # another thread's hooks are no part of the model
        model = _structure(network.model)
    if model is None:
        return network
    for conv, norm in network.foldable:
        in_front, behind = model.get_submodule(conv).eval(), model.get_submodule(norm).eval()
        _put(model, conv, fuse_conv_bn_eval(in_front, behind))  # type: ignore[type-var, arg-type]
        _put(model, norm, nn.Sequential(*behind.children()))  # timm's BatchNorm holds its dropout and activation
    for module in model.modules():
        if type(module) is nn.Conv2d or type(module) is nn.Linear:
            weight = module.weight.detach()
            if network.precision == "bfloat16" and weight.dtype == torch.float32 and weight.device.type == "cpu":
                weight = weight.bfloat16()  # once, where autocast would do it in every pass
            if weight.ndim == 4:
                weight = weight.contiguous(memory_format=torch.channels_last)
            module.weight = nn.Parameter(weight, requires_grad=False)
    return dataclasses.replace(network, model=model, foldable=())


def _structure(model: nn.Module) -> nn.Module | None:
    """A copy of the modules that shares all tensors; None where something in them cannot be copied."""
    shared: dict[int, object] = {}
    for module in model.modules():
        for held in (vars(module), module._parameters, module._buffers):
            shared |= {id(value): value for value in held.values() if isinstance(value, Tensor)}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    try:
        return copy.deepcopy(model, shared)
    except Exception:  # locks, open files, generators: whatever another's module may hold
        return None


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
