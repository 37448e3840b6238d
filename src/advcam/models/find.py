"""Finds the last feature map and the head of any classifier, from the values of one forward pass and not from names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter

from advcam.errors import AdvcamError, InputError, NetworkError, known, out_of_memory

from .forward import REMEDY, describe_error, evaluating, random_state, remembered, unwrap
from .layout import Layout, layout
from .network import Network
from .probabilities import probabilities
from .trace import Call, Trace

# Pixels: enough for several cells in the feature map of any common network, few enough to trace all layers cheaply.
LEAST_SIDE, MOST_SIDE = 128, 256
_POOLING = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # whose input may be the map
# These pass on another layer's map, a pooled one, or a projection inside an attention block: never the feature map itself.
_NOT_A_MAP = (nn.Identity, nn.Dropout, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.Flatten, nn.Linear)

Seen = TypeVar("Seen")

_NOBODY = nn.Identity()
# The networks found so far, by requested layer, valid while the model's signature is the same.
_found: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def find(model: nn.Module, images: Float[Tensor, "n b y x"], layer: str | None = None) -> Network:
    """The last spatial activation that lies on every path from image to logits, with what follows it as the head.

    The logits must depend on its cells; of tokens, on at least half of them. After the last block of a transformer with a class
    token they depend on that token alone, so the block before is taken. Tokens are put back on the grid. If the head is a mean
    over cells and one linear or 1x1 module, that module is the head, and class weights need no gradient.

    The result is cached as long as modules, hooks, patched forwards and tensors stay the same (writing through a tensor's
    ``.data`` goes unnoticed).

    Args:
        model: any module that returns logits [N, K], or an object with ``.logits``; wrappers are taken off.
        images: representative images; the first is run through the network, resized to 128 to 256 pixels a side unless the
            network accepts its own size only.
        layer: name of the module whose output to take; None finds it.

    Raises:
        NetworkError: no such map, ``layer`` does not exist or the logits do not depend on it, the model fails, is quantised,
            or returns probabilities.
        InputError: images on another device or of another type than the model, or too little memory for one.
    """
    model = unwrap(model)
    names = [name for name, _ in model.named_modules() if name]
    if layer is not None and layer not in names:
        raise NetworkError(f"the model has no layer {layer!r}; {known(layer, names)}")
    if getattr(model, "num_classes", None) == 0 and isinstance(model.get_classifier(), nn.Identity):  # type: ignore[operator]
        raise NetworkError(f"{type(model).__name__} has no head (num_classes=0), so no scores to climb: create it with classes")
    check_fits(model, images)
    _check_takes_gradient(model)
    kept = remembered(_found, model)
    if layer not in kept:
        kept[layer] = dataclasses.replace(_look(model, images, layer), model=_NOBODY)  # or the model would never be freed
    found: Network = kept[layer]
    return dataclasses.replace(found, model=model)


def _look(model: nn.Module, images: Tensor, layer: str | None) -> Network:
    """The network traced on an image of a suitable size."""

    def look(probe: Tensor) -> Network:
        before = random_state(model)
        network = _seen(model, probe, layer)
        return dataclasses.replace(
            network,
            channels_last=_takes_channels_last(network, probe),
            mixes=any(isinstance(m, _BatchNorm) and m.running_mean is None for m in model.modules()),
            draws=random_state(model) != before,
        )

    return on_probe(model, images, look)


def on_probe(model: nn.Module, images: Float[Tensor, "n b y x"], look: Callable[[Tensor], Seen]) -> Seen:
    """What ``look`` returns for an image of 128 to 256 pixels a side or, if it fails on that, for the first image as it is.

    The model is in eval mode meanwhile.

    Raises:
        NetworkError: it fails on both.
        InputError: too little memory.
    """
    size = [min(max(side, LEAST_SIDE), MOST_SIDE) for side in images.shape[-2:]]
    probes = [images[:1]]
    if list(images.shape[-2:]) != size:
        probes.insert(0, F.interpolate(images[:1].detach(), size=size, mode="bilinear", align_corners=False))
    failed: list[Exception] = []
    for probe in probes:
        try:
            with evaluating(model):
                return look(probe)
        except Exception as error:  # a foreign network may raise anything on a size that it was not made for
            failed.append(error)
    try:
        raise _as_ours(failed[-1], model, images) from failed[-1]
    finally:
        failed.clear()  # their tracebacks hold the image's activations


def _takes_channels_last(network: Network, image: Tensor) -> bool:
    """False where the model's forward needs contiguous tensors (a ``view`` before its head)."""
    try:
        network(image.repeat(2, 1, 1, 1))  # ``view`` works on a single image in either format
    except (RuntimeError, AdvcamError):
        return False
    return True


def _as_ours(error: Exception, model: nn.Module, images: Tensor) -> Exception:
    if isinstance(error, AdvcamError):
        return error
    if out_of_memory(error):
        return InputError(
            f"not enough memory to run {type(model).__name__} on one image: give smaller images, another device, or a"
            " smaller network"
        )
    return NetworkError(
        f"{type(model).__name__} fails on an image {tuple(images[:1].shape)}: {describe_error(error)}. {REMEDY}"
    )


def _check_takes_gradient(model: nn.Module) -> None:
    quantised = [name or "itself" for name, module in model.named_modules() if ".quantized" in type(module).__module__]
    if quantised:
        raise NetworkError(
            f"{type(model).__name__} has quantised modules, such as {quantised[0]!r}, which have no gradient to climb:"
            " give the float model that it was made from"
        )


def check_fits(model: nn.Module, images: Tensor) -> None:
    """Checks that images and model are on one device and of one type.

    Raises:
        InputError: they are not.
        NetworkError: the model's parameters have no values yet.
    """
    empty = [name for name, p in model.named_parameters() if isinstance(p, UninitializedParameter) or p.is_meta]
    if empty:
        raise NetworkError(
            f"parameter {empty[0]!r} of {type(model).__name__} has no values yet (a lazy module, or the meta device): call the"
            " model once on images if it is lazy, or load its weights with load_state_dict(..., assign=True)"
        )
    parameters = [p for p in model.parameters() if p.is_floating_point()]
    devices = {p.device for p in parameters}
    if parameters and images.device not in devices:
        where = parameters[0].device
        raise InputError(
            f"images are on {images.device}, the model is on {where}: move one of them, e.g. images.to({str(where)!r})"
        )
    dtypes = {p.dtype for p in parameters}
    if parameters and images.dtype not in dtypes:
        wanted = parameters[0].dtype
        raise InputError(
            f"images are {images.dtype}, the model computes in {wanted}: convert one of them, e.g. images.to({wanted})"
        )


def _seen(model: nn.Module, image: Tensor, layer: str | None) -> Network:
    """The network as traced on one image."""
    trace = Trace(model, image)
    named = dict(model.named_modules())
    size = (image.shape[2], image.shape[3])
    if not trace.depends:
        raise NetworkError(
            f"the logits of {type(model).__name__} do not depend on the pixels in a differentiable way (is there a detach or"
            " no_grad in its forward?), so there is no gradient to climb"
        )
    head, taken, calls = _linear_head(trace, named)
    if by := probabilities(trace, named):
        what = "not negative, sum 1" if by == "softmax" else "in [0, 1] for any features"
        raise NetworkError(
            f"{type(model).__name__} returns probabilities ({what}): expected logits. Remove the {by} at its end:"
            " where it saturates there is no gradient to climb"
        )
    found = _last_map(trace, calls, size, layer, named)
    if found is None:
        raise NetworkError(_nothing_found(model, trace, layer, size, named))
    call, lies = found
    grid = lies.to_grid(call.value, size)
    pooled = taken is not None and grid.shape[1] == taken.shape[1] and same(grid.mean((2, 3)), taken)
    pooled = pooled and not call.changed  # else it is the mean of what was written into the layer's output later
    return Network(
        model, call.name, call.side, call.nth, lies, trace.logits.shape[1], head if pooled else None,
        _foldable(trace, named, call),
    )  # fmt: skip


def _last_map(
    trace: Trace, calls: list[Call], size: tuple[int, int], layer: str | None, named: dict[str, nn.Module]
) -> tuple[Call, Layout] | None:
    """The last call (of the layer) whose tensor is a feature map; where several modules return one tensor, the outermost."""
    cells = _cells_of_maps(calls, named, size)
    last: tuple[Call, Layout] | None = None
    for call in reversed(calls):
        lies = layout(call.value.shape, size, cells)
        if layer is not None:
            lies = lies or (Layout("channels first") if call.value.ndim == 4 and call.value[0, 0].numel() > 1 else None)
            eligible = (call.name, call.side) == (layer, "output")
        else:
            eligible = not (is_no_map(named[call.name], call) or call.changed) and trace.is_cut(call)
        if not eligible or lies is None or call.value.shape[0] != 1:
            continue
        if last is not None and call.edge != last[0].edge:
            break
        if layer is None and call.side == "input" and lies.to_grid(call.value, size)[0, 0].numel() not in cells:
            continue  # pooled to another grid by a function call
        if last is None and not _matters(trace, call, lies, size, layer):
            continue
        if last is None or (last[0].side == "input" and call.side == "output"):
            last = call, lies
    return last


def is_no_map(module: nn.Module, call: Call) -> bool:
    """Whether a module only passes on or pools a map, or projects inside an attention block."""
    return isinstance(module, _NOT_A_MAP) or (isinstance(module, _POOLING) and call.side == "output")


def _cells_of_maps(calls: list[Call], named: dict[str, nn.Module], size: tuple[int, int]) -> set[int]:
    """The numbers of cells of the feature maps that modules return, except pooled ones."""
    given = (c.value for c in calls if c.side == "output" and not isinstance(named[c.name], (*_POOLING, *_NOT_A_MAP)))
    laid = ((value, layout(value.shape, size)) for value in given if value.ndim == 4)
    return {lies.to_grid(value, size)[0, 0].numel() for value, lies in laid if lies}


def _matters(trace: Trace, call: Call, lies: Layout, size: tuple[int, int], layer: str | None) -> bool:
    """Whether the logits depend on at least half of the tokens, or on any cell of another map or of a requested layer."""
    gradient = trace.gradient(call.value)
    if gradient is None:
        return False
    reached = (lies.to_grid(gradient, size) != 0).any(1).float().mean()
    return bool(reached >= 0.5 or (reached > 0 and (layer is not None or lies.kind != "tokens")))


def _nothing_found(
    model: nn.Module, trace: Trace, layer: str | None, size: tuple[int, int], named: dict[str, nn.Module]
) -> str:
    if layer is not None:
        return _no_map_of(trace, layer, size, named)
    spatial = [c for c in trace.calls if layout(c.value.shape, size) is not None and not trace.is_image(c)]
    if not spatial:
        return (
            f"{type(model).__name__} has no spatial features: no layer's activation lies on a grid of more than one cell"
            f" (image {size[0]}x{size[1]}). Expected a convolutional network or a transformer over patches"
        )
    if trace.is_flat:
        return (
            f"the logits of {type(model).__name__} do not change with the pixels: their gradient is zero everywhere. Is its"
            " head untrained, with weights of zero?"
        )
    advised = _advised(trace, size, named)
    return (
        f"{type(model).__name__} has no single layer that lies on every path from image to logits (it has several"
        f" branches): name one with layer={f', e.g. {advised!r}' if advised else ''}"
    )


def _no_map_of(trace: Trace, layer: str, size: tuple[int, int], named: dict[str, nn.Module]) -> str:
    """Why the requested layer has no feature map, and a layer that has one."""
    advised = _advised(trace, size, named)
    example = f", e.g. {advised!r}" if advised else ""
    shapes = [tuple(c.value.shape) for c in trace.calls if (c.name, c.side) == (layer, "output")]
    if not shapes:
        return f"layer {layer!r} returns no tensor that the logits depend on; name one whose output is a feature map{example}"
    if len(shapes[-1]) == 4 and shapes[-1][2] * shapes[-1][3] == 1:
        return (
            f"the output of layer {layer!r} is {shapes[-1]}, a single cell, so there is no map: name a layer before the"
            f" pooling{example}"
        )
    if layout(torch.Size(shapes[-1]), size) is None and len(shapes[-1]) != 4:
        return (
            f"the output of layer {layer!r} is {shapes[-1]}: expected a feature map [N, D, h, w], [N, h, w, D] or tokens"
            f" [N, h w, D] on the grid of a {size[0]}x{size[1]} image{example}"
        )
    return (
        f"the logits do not depend on the output of layer {layer!r}: name an earlier layer{example} (after the last block of a"
        " transformer with a class token, only that token counts), or none, to have one found"
    )


def _advised(trace: Trace, size: tuple[int, int], named: dict[str, nn.Module]) -> str | None:
    """The last layer whose output is a map of several cells that the logits depend on."""
    seen = [c for c in trace.calls if c.side == "output" and c.name and layout(c.value.shape, size) is not None]
    maps = [c for c in seen if not is_no_map(named[c.name], c)]
    names = dict.fromkeys(c.name for c in reversed(maps))
    return next((name for name in names if _last_map(trace, trace.calls, size, name, named)), None)


def _linear_head(trace: Trace, named: dict[str, nn.Module]) -> tuple[str | None, Tensor | None, list[Call]]:
    """The last linear or 1x1 module whose output is the logits, its input [1, D], and the calls before it.

    Of a 1x1 module before the pooling, output and input are averaged over cells.
    """
    calls = trace.calls
    for at in range(len(calls) - 1, -1, -1):
        call = calls[at]
        if call.side != "output" or not _is_linear(named[call.name]) or call.changed:
            continue
        out = _flat(call.value)
        if out.shape == trace.logits.shape and same(out, trace.logits):
            taken = [c for c in calls[:at] if (c.name, c.side, c.nth) == (call.name, "input", call.nth)]
            if taken and not taken[-1].changed and _alone(named[call.name], _flat(taken[-1].value), out):
                return call.name, _flat(taken[-1].value), calls[:at]
    return None, None, calls


def _alone(module: nn.Module, taken: Tensor, out: Tensor) -> bool:
    """Whether weight and bias alone explain the module's output (to a few per cent), with no hook or override involved."""
    weight, bias = module.weight.detach().float(), module.bias  # type: ignore[union-attr, operator]
    made = F.linear(taken.detach().float(), weight.flatten(1), None if bias is None else bias.detach().float())  # type: ignore[union-attr, operator]
    return same(made, out, 2e-2)


def _foldable(trace: Trace, named: dict[str, nn.Module], chosen: Call) -> tuple[tuple[str, str], ...]:
    """Pairs of a convolution and the BatchNorm that is the only user of its output, each called once."""
    calls = {side: [c for c in trace.calls if c.side == side] for side in ("input", "output")}
    times = {name: sum(c.name == name for c in calls["output"]) for name in named}
    made = {c.edge: c for c in calls["output"] if type(named[c.name]) is nn.Conv2d}
    pairs = []
    for call in calls["input"]:
        norm, conv = named[call.name], made.get(call.edge)
        if conv is None or not _is_batch_norm(norm) or times[call.name] != 1 or times[conv.name] != 1:
            continue
        shared = trace.uses(conv) != 1 or conv.changed or chosen.edge == conv.edge
        if not shared:
            pairs.append((conv.name, call.name))
    return tuple(pairs)


def _is_batch_norm(module: nn.Module) -> bool:
    """PyTorch's BatchNorm or timm's with an activation: both only normalise by running statistics."""
    kept = isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
    return kept and (type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d")


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _flat(value: Tensor) -> Tensor:
    return value.mean((2, 3)) if value.ndim == 4 else value


def same(a: Tensor, b: Tensor, share: float = 1e-4) -> bool:
    """Whether two tensors differ by rounding alone: by a share of the second's largest magnitude, or .1 % of a value."""
    a, b = a.detach().float(), b.detach().float()
    near = share * float(b.nan_to_num(0, 0, 0).abs().max()) + 1e-12
    return torch.allclose(a, b, rtol=1e-3, atol=near, equal_nan=True)
