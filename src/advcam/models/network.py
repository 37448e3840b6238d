"""Any classifier as "features and a linear head": found by value, lent and given back exactly as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from advcam.attribution import Head
from advcam.errors import NetworkError, known

PROBE_SIDE = 128  # pixels: large enough that the feature map of any common network has more than one cell


@contextlib.contextmanager
def lent(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode with no parameter asking for a gradient; exactly as before afterwards, errors included."""
    training = {module: module.training for module in model.modules()}
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in asking:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, flag in training.items():
            module.training = flag
        for parameter in asking:
            parameter.requires_grad_(True)


@dataclass(frozen=True)
class FeatureNetwork:
    """A model with its last feature map and its linear head.

    Args:
        model: returns logits [N, K].
        layer: name of the module whose output (or input) is the feature map; "" is the model itself.
        side: ``output`` or ``input`` of that module.
        head: name of the head's module.
        precision: of the network's arithmetic, ``float32`` (whatever the model has) or ``bfloat16``.
    """

    model: nn.Module
    layer: str
    side: str
    head: str
    precision: str = "float32"

    def linear(self) -> Head:
        """The head's weight [K, D] and bias [K] (zeros where it has none), without gradient."""
        module = self.model.get_submodule(self.head)
        weight = module.weight.detach().flatten(1)  # type: ignore[union-attr, operator]
        bias = module.bias.detach() if module.bias is not None else weight.new_zeros(len(weight))  # type: ignore[union-attr, operator]
        return Head(weight.float(), bias.float())

    def features(self, images: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n d h w"]:
        """The feature map of the images, float32; differentiable in the images."""
        seen: list[Tensor] = []
        module = self.model.get_submodule(self.layer)
        if self.side == "output":
            hook = module.register_forward_hook(lambda _m, _i, output: seen.append(output))
        else:
            hook = module.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
        try:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                self.model(images.contiguous(memory_format=torch.channels_last))
        finally:
            hook.remove()
        return seen[-1].float()


def find(model: nn.Module, images: Float[Tensor, "n 3 y x"], layer: str | None = None) -> FeatureNetwork:
    """Finds the last feature map and the linear head of a network that ends in global average pooling.

    By value, not by name: the head is the last linear or 1x1 module whose output is the model's own; the feature map
    is the last tensor [1, D, h, w] seen anywhere whose mean over cells goes into the head.

    Args:
        model: any module that returns logits [N, K].
        images: like those to come; the first is shown to the network once, at least 128 pixels a side.
        layer: name of the module whose output to take, instead of finding it.

    Raises:
        NetworkError: no such head or map, or ``layer`` does not exist or is not what the head pools. Says what was seen.
    """
    named = dict(model.named_modules())
    if layer is not None and layer not in named:
        raise NetworkError(f"the model has no layer {layer!r}; {known(layer, [n for n in named if n])}")
    size = [max(side, PROBE_SIDE) for side in images.shape[-2:]]
    probe = F.interpolate(images[:1].detach(), size=size, mode="bilinear", align_corners=False)

    with lent(model), torch.no_grad(), _watch(named) as calls:
        try:
            logits = model(probe)
        except Exception as error:  # whatever another's network raises
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise NetworkError(f"{type(model).__name__} fails on a picture of {tuple(probe.shape)}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        came = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(f"the model must return logits as one tensor [N, K]; it returned {came}. Wrap it in one that does")

    head, pooled = _find_head(named, calls, logits)
    maps = [call for call in calls if _is_map(call[2]) and (layer is None or call[:2] == (layer, "output"))]
    maps.sort(key=lambda call: call[1] == "output")  # a module's output is the better name for what goes into the next
    for name, side, value in reversed(maps):
        if value.shape[1] == pooled.shape[1] and _same(value.mean((2, 3)), pooled):
            return FeatureNetwork(model, name, side, head)
    what = f"the output of layer {layer!r}" if layer is not None else "no feature map"
    verb = "is not what" if layer is not None else "is averaged into what"
    raise NetworkError(
        f"{what} {verb} the head {head!r} ({named[head]}) takes: expected global average pooling and a linear or 1x1 head"
        " right behind the last feature map (ResNet, MobileNetV2, EfficientNet, RegNet, ...). Normalised, multi-layer and"
        " transformer heads are not supported yet; use such a network's pooled-linear variant"
    )


Call = tuple[str, str, Tensor]


@contextlib.contextmanager
def _watch(named: dict[str, nn.Module]) -> Iterator[list[Call]]:
    """Every tensor that goes into or comes out of a module, in order, as (module name, side, tensor)."""
    calls: list[Call] = []
    hooks = []

    def note(name: str, side: str, value: object) -> None:
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, Tensor):
            calls.append((name, side, value))

    for name, module in named.items():
        hooks.append(module.register_forward_pre_hook(lambda _m, i, name=name: note(name, "input", i)))
        hooks.append(module.register_forward_hook(lambda _m, _i, o, name=name: note(name, "output", o)))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _find_head(named: dict[str, nn.Module], calls: list[Call], logits: Tensor) -> tuple[str, Tensor]:
    """The name of the head and what it takes, [1, D] (mean over cells, for a 1x1 head in front of the pooling)."""
    for at in range(len(calls) - 1, -1, -1):
        name, side, value = calls[at]
        module = named[name]
        if side != "output" or not _is_linear(module):
            continue
        out = value.mean((2, 3)) if value.ndim == 4 else value
        if out.shape == logits.shape and _same(out, logits):
            taken = next(v for n, s, v in reversed(calls[:at]) if n == name and s == "input")
            return name, taken.mean((2, 3)) if taken.ndim == 4 else taken
    last = next((n for n, s, _ in reversed(calls) if s == "output" and n), "")
    raise NetworkError(
        f"the model's logits {tuple(logits.shape)} are not the output of a linear or 1x1 module (its last module is {last!r},"
        f" {type(named[last]).__name__}): expected global average pooling and one linear head. If a softmax or sigmoid comes"
        " behind the head, return the logits instead"
    )


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _is_map(value: Tensor) -> bool:
    return value.ndim == 4 and value.shape[2] * value.shape[3] > 1


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-4 * float(b.abs().max()) + 1e-12)
