"""A faster copy of a network for the climb, which runs it many times while only the pixels change."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .forward import evaluating, remembered
from .network import Network

# Whether a model's copy agreed with it, by precision and layer, valid while the model's signature is the same.
_sound: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def fused(network: Network, image: Float[Tensor, "1 b y x"]) -> Network:
    """A copy of the network with BatchNorm folded into convolutions and weights in the fastest memory format.

    The copy shares all unchanged tensors with the model, which is not touched. It is compared with the model once, on an image:
    where logits and features differ by more than rounding (hooks or functions that refer to the original), or where the model
    cannot be copied, the model itself is used.

    Args:
        network: the network.
        image: a representative image.
    """
    kept = remembered(_sound, network.model)
    key = (network.precision, network.layer)
    if not network.channels_last or kept.get(key) is False:
        return network
    fast = _copy(network)
    if key not in kept:
        kept[key] = fast is not None and _agree(network, fast, image)
    return fast if fast is not None and kept[key] else network


def _agree(network: Network, fast: Network, image: Tensor) -> bool:
    """Whether both return the same features and logits for an image."""
    try:
        mine, theirs = fast(image), network(image)
    except Exception:  # a copy of a foreign model may fail in any way
        return False
    near = 1e-3 if network.precision == "float32" else 0.1
    pairs = [(a.detach(), b.detach()) for a, b in zip(mine, theirs, strict=True)]
    return all(bool((a - b).abs().max() <= near * b.abs().max()) or not bool(b.isfinite().all()) for a, b in pairs)


def _copy(network: Network) -> Network | None:
    with evaluating(network.model):  # else hooks of another thread would be copied too
        model = _structure(network.model)
    if model is None:
        return None
    for conv, norm in network.foldable:
        before, after = model.get_submodule(conv).eval(), model.get_submodule(norm).eval()
        if _as_made(before) and _as_made(after):
            _put(model, conv, fuse_conv_bn_eval(before, after))  # type: ignore[type-var, arg-type]
            _put(model, norm, nn.Sequential(*after.children()))  # timm's BatchNorm holds its dropout and activation
    for name, module in list(model.named_modules()):
        if not _as_made(module):
            continue
        if _is_stem(module):
            _put(model, name, module := Stem(module))  # type: ignore[arg-type]
        if type(module) is Stem or type(module) is nn.Conv2d or type(module) is nn.Linear:
            weight = module.weight.detach()
            if network.precision == "bfloat16" and weight.dtype == torch.float32 and weight.device.type == "cpu":
                weight = weight.bfloat16()  # once; autocast would convert it in every pass
            if weight.ndim == 4:
                weight = weight.contiguous(memory_format=torch.channels_last)
            module.weight = nn.Parameter(weight, requires_grad=False)
    return dataclasses.replace(network, model=model, owner=network.model, foldable=())


def _as_made(module: nn.Module) -> bool:
    """Whether the module has no hooks and a plain weight (no weight norm, no pruning)."""
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return not hooked and ("weight" in module._parameters or not hasattr(module, "weight"))


class Stem(nn.Module):
    """A convolution of stride 2 as one of stride 1 over 2 x 2 blocks of pixels: the same sums, in another order.

    On a CPU the gradient of a network's first convolution with respect to the pixels takes less than half the time this way.

    Args:
        conv: square odd kernel, stride 2, zero padding.

    Example:
        >>> conv, x = nn.Conv2d(3, 8, 7, 2, 3), torch.rand(1, 3, 9, 10)
        >>> torch.allclose(Stem(conv)(x), conv(x), atol=1e-6)
        True
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = F.pad(conv.weight.detach(), (0, 1, 0, 1))
        out, channels, side = weight.shape[0], weight.shape[1], weight.shape[2] // 2
        blocks = (
            weight.reshape(out, channels, side, 2, side, 2).permute(0, 1, 3, 5, 2, 4).reshape(out, 4 * channels, side, side)
        )
        self.weight = nn.Parameter(blocks.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = conv.bias
        self.padding, self.kernel = int(conv.padding[0]), int(conv.kernel_size[0])

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, O, H', W'] as the convolution gives it."""
        outputs = [(length + 2 * self.padding - self.kernel) // 2 + 1 for length in x.shape[2:]]
        after = [2 * n + self.kernel - 1 - length - self.padding for n, length in zip(outputs, x.shape[2:], strict=True)]
        padded = F.pad(x, (self.padding, after[1], self.padding, after[0]))
        blocks = F.pixel_unshuffle(padded, 2).contiguous(memory_format=torch.channels_last)
        return F.conv2d(blocks, self.weight, self.bias)


def _is_stem(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.in_channels <= 4
        and (module.stride, module.dilation, module.groups, module.padding_mode) == ((2, 2), (1, 1), 1, "zeros")
        and module.kernel_size[0] == module.kernel_size[1]
        and module.kernel_size[0] % 2 == 1
        and not isinstance(module.padding, str)
        and module.padding[0] == module.padding[1]
        and module.weight.device.type == "cpu"
    )


def _structure(model: nn.Module) -> nn.Module | None:
    """A copy of the modules that shares all tensors; None where something in them cannot be copied."""
    shared: dict[int, object] = {}
    for module in model.modules():
        for held in (vars(module), module._parameters, module._buffers):
            shared |= {id(value): value for value in held.values() if isinstance(value, Tensor)}
        shared |= {id(hook): hook for hooks in (module._forward_hooks, module._forward_pre_hooks) for hook in hooks.values()}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    try:
        copied = copy.deepcopy(model, shared)
    except Exception:  # a foreign module may hold locks, open files, generators
        return None
    return None if set(copied.modules()) & set(model.modules()) else copied


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
