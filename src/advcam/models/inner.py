"""A network from one of its inner layers on: what a climb of features needs, without what comes before it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from advcam.errors import AdvcamError, NetworkError, known

from .find import is_no_map, on_probe, same
from .forward import checked_forward, evaluating, remembered
from .layout import Layout, layout
from .network import Network, at_least_32
from .trace import Call, Trace, first_of, hooked, with_first

Candidate = tuple[Call, Layout]

_found: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


@dataclass(frozen=True)
class Inner:
    """An inner layer of a network, through whose features all logits see the image.

    Args:
        name: of the module whose output they are.
        nth: which call of that module.
        layout: how they lie on the grid.
        before: the modules that end before it, outermost and in order, and last the layer itself.
    """

    name: str
    nth: int
    layout: Layout
    before: tuple[str, ...]


def find_inner(network: Network, images: Float[Tensor, "n b y x"], layer: str | None = None) -> Inner:
    """The layer at which a climb of features starts: the end of the last but one stage.

    Networks of timm say where their stages end (``feature_info``). Of any other it is the last activation on the grid before
    the coarsest that lies on every path from image to logits, for example ``layer3`` of a ResNet of stride 32.

    Args:
        network: the network.
        images: representative images.
        layer: name of the module to start at; None finds it.

    Raises:
        NetworkError: no such layer, it does not lie on every path from image to logits or not on a grid, it is not before the
            layer of the map, or the network cannot be run from it.
    """
    kept = remembered(_found, network.model)
    key = layer, network.layer, network.side, network.nth
    if key not in kept:
        kept[key] = on_probe(network.model, images, lambda probe: _look(network, probe, layer))
    found: Inner = kept[key]
    return found


def split_at(
    network: Network, inner: Inner, images: Float[Tensor, "n b y x"]
) -> tuple[Float[Tensor, "n d h w"], Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """The features of images at an inner layer, and the rest of the network as a function of any number of such features.

    The rest is the whole model whose modules before the layer, and the layer, give what is already known instead of running.

    Args:
        network: the network, or its fused copy.
        inner: the layer.
        images: images of one size.

    Returns:
        [N, D, h, w], features without gradient, and the function: [M, D, h, w] to what ``network`` returns.
    """
    given = _recorded(network, inner, images)
    features = at_least_32(inner.layout.to_grid(first_of(given[-1]), (images.shape[2], images.shape[3])))
    alone, known = images[:1].clone(), [_of_each(output, len(images), 1) for output in given]
    form = torch.channels_last if network.channels_last else torch.contiguous_format

    def rest(moved: Float[Tensor, "m d h w"]) -> tuple[Tensor, Tensor]:
        count = len(moved)
        *before, last = (_of_each(output, 1, count) for output in known)
        own = inner.layout.back(moved.contiguous(memory_format=form), first_of(last))
        left = [*before, with_first(last, own)]

        def known_or_run(run: Callable[..., Any], *args: Any, **named: Any) -> Any:
            return left.pop(0) if left else run(*args, **named)

        with evaluating(network.owner or network.model, network.draws), _instead(network.model, inner.before, known_or_run):
            return network(alone.expand(count, -1, -1, -1))

    return features, rest


def _of_each(output: Any, images: int, count: int) -> Any:
    """What a module returned for some images as for ``count`` images like the first; what is not of images as it is."""

    def of_tensor(value: Any) -> Any:
        of_images = isinstance(value, Tensor) and value.ndim and len(value) == images
        return (value[:1].clone() if count == 1 else value[:1].expand(count, *value.shape[1:])) if of_images else value

    return tree_map(of_tensor, output)


class _ReachedError(AdvcamError):
    """Ends a forward pass at the inner layer."""


def _recorded(network: Network, inner: Inner, images: Tensor) -> list[Any]:
    """What the modules of ``inner.before`` returned for the images."""
    seen: list[Any] = []
    inside = False

    def run_and_keep(run: Callable[..., Any], *args: Any, **named: Any) -> Any:
        nonlocal inside
        if inside:
            return run(*args, **named)
        inside = True
        try:
            seen.append(run(*args, **named))
        finally:
            inside = False
        if len(seen) == len(inner.before):
            raise _ReachedError(inner.name)
        return seen[-1]

    model = network.model
    form = torch.channels_last if network.channels_last else torch.contiguous_format
    bfloat16 = torch.autocast(images.device.type, torch.bfloat16, enabled=network.precision == "bfloat16")
    with (
        evaluating(network.owner or model, network.draws), evaluating(model, network.draws), torch.no_grad(), bfloat16,
        _instead(model, inner.before, run_and_keep), contextlib.suppress(_ReachedError),
    ):  # fmt: skip
        checked_forward(model, images.contiguous(memory_format=form))
    if len(seen) != len(inner.before):
        raise NetworkError(f"layer {inner.name!r} did not run: which layers the model runs depends on the image")
    return seen


@contextlib.contextmanager
def _instead(model: nn.Module, names: tuple[str, ...], does: Callable[..., Any]) -> Iterator[None]:
    """Inside, in this thread, ``does(forward, *inputs)`` is what the modules return."""
    mine = threading.get_ident()
    own: dict[nn.Module, Any] = {}

    def replaced(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: does(run, *args, **named) if threading.get_ident() == mine else run(*args, **named)

    try:
        for module in {model.get_submodule(name): None for name in names}:
            own[module] = vars(module).get("forward")
            module.forward = replaced(module.forward)  # type: ignore[method-assign]
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward  # type: ignore[method-assign]


def _look(network: Network, image: Tensor, layer: str | None) -> Inner:
    model = network.model
    named = dict(model.named_modules())
    if layer is not None and layer not in named:
        raise NetworkError(f"the model has no layer {layer!r}; {known(layer, [name for name in named if name])}")
    trace, size = Trace(model, image), (image.shape[2], image.shape[3])
    candidates = _candidates(network, trace, named, size)
    call, lies = _named(candidates, layer) if layer else _last_but_one(network, trace, candidates, size)
    inner = Inner(call.name, call.nth, lies, _before(model, image, call))
    try:
        sound = _is_sound(network.at("float32"), inner, image)
    except NetworkError:
        sound = False
    if not sound:
        raise NetworkError(
            f"{type(model).__name__} cannot be run from the output of layer {call.name!r} on: climb its pixels"
            " (space=pixels), or name another layer"
        )
    return inner


def _map(network: Network, trace: Trace) -> int:
    """Where the activation that is the map stands among the calls."""
    place = network.layer, network.side, network.nth
    return next((at for at, call in enumerate(trace.calls) if (call.name, call.side, call.nth) == place), len(trace.calls) - 1)


def _candidates(network: Network, trace: Trace, named: dict[str, nn.Module], size: tuple[int, int]) -> list[Candidate]:
    """The outputs before the map that lie on a grid and on every path from image to logits, in order."""
    found = []
    for call in trace.calls[: _map(network, trace)]:
        if call.side != "output" or call.changed or not call.name or is_no_map(named[call.name], call):
            continue
        lies = layout(call.value.shape, size)
        if lies is not None and lies.kind != "tokens" and trace.is_cut(call):
            found.append((call, lies))
    return found


def _named(candidates: list[Candidate], layer: str) -> Candidate:
    for call, lies in reversed(candidates):
        if call.name == layer:
            return call, lies
    names = list(dict.fromkeys(call.name for call, _ in candidates))
    raise NetworkError(
        f"no climb can start at layer {layer!r}: its output has to be a feature map, to lie on every path from image to"
        f" logits, and to come before the layer of the class activation map; {known(layer, names)}"
    )


def _last_but_one(network: Network, trace: Trace, candidates: list[Candidate], size: tuple[int, int]) -> Candidate:
    def cells(call: Call, lies: Layout) -> int:
        found: int = lies.to_grid(call.value, size)[0, 0].numel()
        return found

    info = getattr(network.model, "feature_info", None)
    stages = [one.get("module") for one in info if isinstance(one, dict)] if isinstance(info, list) else []
    of_stage = [one for one in candidates if one[0].name in stages[-2:-1]]
    if of_stage:
        return of_stage[-1]
    of_map = cells(trace.calls[_map(network, trace)], network.layout)
    finer = {cells(*one): one for one in candidates if cells(*one) > of_map}
    if not finer:
        raise NetworkError(
            f"{type(network.model).__name__} has no layer of a finer grid than its map through which all logits see the"
            " image, so no features to climb: climb its pixels (space=pixels, or another preset), or name a layer"
        )
    return finer[min(finer)]


def _before(model: nn.Module, image: Tensor, call: Call) -> tuple[str, ...]:
    """The modules that end before the call does, outermost and in order, and last its own."""
    ended: list[list[str]] = [[]]  # by every call that has not ended yet
    calls: Counter[str] = Counter()
    found: tuple[str, ...] = ()

    def begin(_: Any) -> None:
        ended.append([])

    def end(name: str, _: Any) -> None:
        nonlocal found
        ended.pop()
        ended[-1].append(name)
        if (name, calls[name]) == (call.name, call.nth):
            found = tuple(name for names in ended for name in names)
        calls[name] += 1

    hooks = []
    for name, module in model.named_modules():
        hooks += [hooked(module, "input", begin), hooked(module, "output", partial(end, name))]
    try:
        with evaluating(model), torch.no_grad():
            checked_forward(model, image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_sound(network: Network, inner: Inner, image: Tensor) -> bool:
    """Whether the rest of two images' features gives what the network gives for the images, in another order and number too."""
    images = torch.cat([image, image.flip(3)])
    rows = torch.tensor([0, 1] if network.mixes else [1, 0, 1])
    features, rest = split_at(network, inner, images)
    pairs = zip(rest(features[rows]), network(images), strict=True)
    return all(a.shape[1:] == b.shape[1:] and same(a, b[rows], 1e-3) for a, b in pairs)
