"""A network from one of its inner layers on: what a climb of features needs, without what comes before it."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from advcam.errors import NetworkError, known, out_of_memory

from .find import is_no_map, on_probe, same
from .forward import checked_forward, describe_error, evaluating, remembered, renew
from .layout import Layout, layout
from .network import Network, at_least_32
from .trace import Call, Trace, first_of, hooked, with_first

Candidate = tuple[Call, Layout]
Rest = Callable[[Float[Tensor, "m d h w"]], tuple[Tensor, Tensor]]

_found: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


@dataclass(frozen=True)
class Inner:
    """An inner layer of a network, through whose features all logits see the image.

    Args:
        name: of the module whose output they are.
        nth: which call of that module.
        layout: how they lie on the grid.
        before: the modules that end before it, outermost and in order, and last the layer itself.
        of_images: for each of these, which of the tensors that it returns have a row for each image.
    """

    name: str
    nth: int
    layout: Layout
    before: tuple[str, ...]
    of_images: tuple[tuple[bool, ...], ...] = ()


def find_inner(network: Network, images: Float[Tensor, "n b y x"], layer: str | None = None) -> Inner:
    """The layer at which a climb of features starts: where the network says so, the end of its last but one stage.

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
        kept[key] = on_probe(network.model, images, lambda probe: _look(network.at("float32"), probe, layer))
    found: Inner = kept[key]
    return found


def inner_or_none(network: Network, images: Float[Tensor, "n b y x"]) -> Inner | None:
    """The layer at which a climb of features starts; None where the network has none, or cannot be run from it.

    Args:
        network: the network.
        images: representative images.

    Raises:
        NetworkError: there is not enough memory to find out.
    """
    kept = remembered(_found, network.model)
    key = "auto", None, network.layer, network.side, network.nth
    if key not in kept:
        try:
            kept[key] = find_inner(network, images)
        except NetworkError as error:
            if error.__cause__ and out_of_memory(error.__cause__):  # which says nothing of the network
                raise
            kept[key] = None
    found: Inner | None = kept[key]
    return found


def has_inner(copy: Network, inner: Inner, network: Network) -> bool:
    """Whether a fused copy of a network has the layer, and the modules before it, with the outputs of the network's own."""
    names = {name for name, _ in copy.model.named_modules()}
    return names.issuperset(inner.before) and (copy is network or inner.name not in {conv for conv, _ in network.foldable})


def split_at(network: Network, inner: Inner, images: Float[Tensor, "n b y x"]) -> tuple[Float[Tensor, "n d h w"], Rest]:
    """The features of images at an inner layer, and the rest of the network as a function of any number of such features.

    The rest is the whole model whose modules before the layer, and the layer, give what is already known instead of running.
    Nothing behind the layer should depend on it: where the function is given the features themselves, it looks whether the
    logits are those of the images. In 16 bits, whose rounding would hide a difference, they are compared with those of the same
    images with these features, and these loosely with the network's own.

    Args:
        network: the network, or its fused copy.
        inner: the layer.
        images: images of one size.

    Returns:
        [N, D, h, w], features without gradient, and the function: [M, D, h, w] to what ``network`` returns.

    Raises:
        NetworkError: the network fails, or the layer did not run; by the function too: the rest does not give what the network
            gives.
    """
    outputs, whole = _recorded(network, inner, images)
    features = at_least_32(inner.layout.to_grid(first_of(outputs[-1]), (images.shape[2], images.shape[3]))).detach()
    known_of_one = [_rows(*pair, 1) for pair in zip(outputs, inner.of_images, strict=True)]
    one, form = images[:1].clone(), torch.channels_last if network.channels_last else torch.contiguous_format

    def after(known: Sequence[Any], moved: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """What the network returns for images of which it is given what comes before, and the features."""
        *before, last = known
        left = [*before, with_first(last, inner.layout.back(moved.contiguous(memory_format=form), first_of(last)))]

        def known_or_run(run: Callable[..., Any], *args: Any, **named: Any) -> Any:
            return left.pop(0) if left else run(*args, **named)

        with evaluating(network.owner or network.model, network.draws), _instead(network.model, inner.before, known_or_run):
            return network(given)

    in_16_bits = network.precision != "float32" or whole.dtype.itemsize < 4

    def agree(logits: Tensor, with_these: Tensor | None) -> bool:
        if with_these is None:
            return same(logits, whole)
        return same(logits, with_these) and same(with_these, whole, 0.1)  # photographs: up to .007 by rounding

    def rest(moved: Float[Tensor, "m d h w"]) -> tuple[Tensor, Tensor]:
        known = [_rows(*pair, len(moved)) for pair in zip(known_of_one, inner.of_images, strict=True)]
        unmoved = moved.data_ptr() == features.data_ptr() and len(moved) == len(features) and not network.draws
        with_these = after(outputs, moved, images)[1].detach() if unmoved and in_16_bits else None
        found = after(known, moved, one.expand(len(moved), -1, -1, -1))
        if unmoved and not agree(found[1], with_these):
            raise NetworkError(
                f"{type(network.model).__name__} gives other logits from the output of its layer {inner.name!r} than from the"
                " images, on which what follows depends in another way too: climb its pixels (space=pixels)"
            )
        return found

    return features, rest


def _rows(output: Any, of_images: Sequence[bool], count: int) -> Any:
    """What a module returned, with ``count`` rows like the first in each tensor that has a row for each image."""
    leaves, form = tree_flatten(output)
    changed = [
        (leaf[:1].clone() if count == 1 else leaf[:1].expand(count, *leaf.shape[1:])) if follows else leaf
        for leaf, follows in zip(leaves, of_images, strict=True)
    ]
    return tree_unflatten(changed, form)


def _recorded(network: Network, inner: Inner, images: Tensor) -> tuple[list[Any], Tensor]:
    """What the modules of ``inner.before`` returned for the images, and the logits."""
    seen: list[Any] = []
    inside = False

    def run_and_keep(run: Callable[..., Any], *args: Any, **named: Any) -> Any:
        nonlocal inside
        if inside or len(seen) == len(inner.before):
            return run(*args, **named)
        inside = True
        try:
            seen.append(run(*args, **named))
        finally:
            inside = False
        return seen[-1]

    model = network.owner or network.model
    with evaluating(model, network.draws), torch.no_grad(), _instead(network.model, inner.before, run_and_keep):
        _, logits = network(images)
    if len(seen) != len(inner.before):
        renew(model)
        raise NetworkError(
            f"layer {inner.name!r} did not run: the model runs other layers than when it was traced. Call again to trace it"
            " anew; where the layers depend on the image, climb its pixels (space=pixels)"
        )
    return seen, logits.detach()


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
            vars(module).pop("forward", None)
            if forward is not None:
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
        return _tried(network, inner, image)
    except Exception as error:  # a foreign model may fail in any way
        raise NetworkError(
            f"{type(model).__name__} cannot be run from the output of layer {call.name!r} on: climb its pixels (space=pixels),"
            f" or name another layer ({describe_error(error)})"
        ) from error


def _tried(network: Network, inner: Inner, image: Tensor) -> Inner:
    """The layer, with what has a row for each image, after the rest has been run on two images and a gradient taken."""
    several = [torch.cat([image, *(image.flip(3) * factor for factor in factors)]) for factors in ((0.5,), (0.5, 0.0))]
    two, three = (_recorded(network, inner, images)[0] for images in several)
    of_images = tuple(tuple(map(_follows, tree_flatten(a)[0], tree_flatten(b)[0])) for a, b in zip(two, three, strict=True))
    inner = dataclasses.replace(inner, of_images=of_images)
    features, rest = split_at(network, inner, several[0])
    with torch.enable_grad():
        logits = rest(features)[1].detach()  # compared with those of the images
        rows = [0, 1] if network.mixes else [1, 0, 1]
        again = rest(moved := features[rows].requires_grad_())[1]
        torch.autograd.grad(again.sum(), moved)
    if not (network.draws or same(again.detach(), logits[rows], 1e-3)):
        raise NetworkError("features in another order and number have other logits")
    return inner


def _follows(two: Any, three: Any) -> bool:
    """Whether a value of two and of three images has a row for each."""
    return isinstance(two, Tensor) and two.ndim > 0 and (len(two), len(three)) == (2, 3)


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

    of_stage = [one for one in candidates if one[0].name in _stages(network)[-2:-1]]
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


def _stages(network: Network) -> list[str]:
    """The modules at which timm says that stages end, of the outermost of its networks that has the layer of the map."""
    for name, module in network.model.named_modules():
        info, begin = getattr(module, "feature_info", None), f"{name}." if name else ""
        if isinstance(info, list) and f"{network.layer}.".startswith(begin):
            return [f"{begin}{one['module']}" for one in info if isinstance(one, dict) and "module" in one]
    return []


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
    try:
        for name, module in model.named_modules():
            hooks += [hooked(module, "input", begin), hooked(module, "output", partial(end, name))]
        with evaluating(model), torch.no_grad():
            checked_forward(model, image)
    finally:
        for hook in hooks:
            hook.remove()
    return found
