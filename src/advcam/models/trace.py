"""One traced forward pass: every activation that depends on the image, and which lie on every path to the logits."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from .forward import evaluating, logits_of

Edge = tuple[Node, int]


@dataclass(frozen=True)
class Call:
    """A tensor that went into or came out of a module.

    Args:
        name: of the module; "" is the model itself.
        side: ``input`` or ``output``.
        nth: which call of that module it was, from 0.
        value: the tensor; changed in place later on where ``changed``.
        edge: its place in the autograd graph.
        version: of the tensor at that moment.
    """

    name: str
    side: str
    nth: int
    value: Tensor
    edge: Edge
    version: int

    @property
    def changed(self) -> bool:
        """Whether the tensor was written to afterwards."""
        return self.value._version != self.version


class Trace:
    """All module inputs and outputs of one forward pass.

    Args:
        model: the model.
        image: [1, C, H, W].

    Raises:
        NetworkError: the model returns no logits.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        with (
            evaluating(model, draws=False),
            torch.enable_grad(),
            _watched(model) as calls,
        ):  # the caller restores the random state
            pixels = image.detach().clone().requires_grad_().clone()
            self.logits = logits_of(model(pixels))
        self.calls: list[Call] = calls
        self._model, self._image = model, image
        self._pixels = pixels
        self._paths = _paths(self.logits.grad_fn, pixels.grad_fn)

    @property
    def depends(self) -> bool:
        """Whether the logits depend on the pixels at all."""
        return self._paths.total > 0

    def is_image(self, call: Call) -> bool:
        """Whether the tensor is the image itself."""
        return call.edge[0] is self._pixels.grad_fn

    def is_cut(self, call: Call) -> bool:
        """Whether every path from the image to the logits passes through this tensor, which is not the image itself."""
        return self.are_cut([call])

    def are_cut(self, calls: Sequence[Call]) -> bool:
        """Whether every path from the image to the logits passes through one of the tensors, none of them the image."""
        paths = self._paths
        through = sum(paths.above.get(c.edge, 0) * paths.below.get(c.edge[0], 0) for c in calls)
        return through == paths.total and not any(self.is_image(c) for c in calls)

    def uses(self, call: Call) -> int:
        """How many operations use the tensor on the way to the logits."""
        return self._paths.uses[call.edge]

    @property
    def is_flat(self) -> bool:
        """Whether no logit changes with any pixel."""
        gradient = self.gradient(self._pixels)
        return gradient is None or not gradient.any()

    def gradient(self, value: Tensor) -> Tensor | None:
        """The gradient of a fixed mixture of the logits with respect to a tensor; None where they do not depend on it."""
        mixture = self.logits @ torch.linspace(1, 2, self.logits.shape[1], dtype=self.logits.dtype, device=self.logits.device)
        (gradient,) = torch.autograd.grad(mixture.sum(), value, retain_graph=True, allow_unused=True)
        return gradient

    def again(
        self, place: Sequence[Call], change: Callable[[Tensor], Tensor], others: Sequence[Call]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Runs the same image again, without gradient, with the input or output of one module changed.

        Args:
            place: the calls of one module on one side.
            change: of the tensor, at each call.
            others: calls to record.

        Returns:
            The logits, and the tensors of the others; None for one that did not occur.
        """
        seen: list[Tensor | None] = [None] * len(others)

        def swap(values: Any) -> Any:
            return with_first(values, change(first_of(values)))

        def keep(at: int, values: Any) -> None:
            value = first_of(values)
            seen[at] = value.clone() if isinstance(value, Tensor) else None

        does: list[tuple[Call, Callable[[Any], Any]]] = [
            (place[0], swap),
            *((call, partial(keep, at)) for at, call in enumerate(others)),
        ]
        hooks: list[RemovableHandle] = []
        try:
            hooks.extend(hooked(self._model.get_submodule(call.name), call.side, act) for call, act in does)
            with evaluating(self._model, draws=False), torch.no_grad():
                return logits_of(self._model(self._image.clone())), seen
        finally:
            for hook in hooks:
                hook.remove()


def hooked(module: nn.Module, side: str, does: Callable[[Any], Any]) -> RemovableHandle:
    """Calls a function on the input or output of a module, in this thread only; what it returns, unless None, replaces that."""
    mine = threading.get_ident()

    def here(values: Any) -> Any:
        return does(values) if threading.get_ident() == mine else None

    if side == "input":
        return module.register_forward_pre_hook(lambda _module, inputs: here(inputs))
    return module.register_forward_hook(lambda _module, _inputs, output: here(output))


def first_of(values: Any) -> Any:
    """The tensor of a module's input or output: itself, or the first of a tuple."""
    return values[0] if isinstance(values, tuple) and values else values


def with_first(values: Any, new: Tensor) -> Any:
    """The same value with its tensor replaced; a named tuple stays one."""
    if not isinstance(values, tuple):
        return new
    rest = (new, *values[1:])
    return type(values)(*rest) if hasattr(values, "_fields") else rest


@dataclass(frozen=True)
class _Paths:
    """Numbers of paths in the graph: a tensor is a cut if the paths above it times those below it are all paths."""

    total: int
    above: dict[Edge, int]
    below: dict[Node, int]
    uses: Counter[Edge]


def _paths(top: Node | None, bottom: Node | None) -> _Paths:
    """Counts the paths from the logits (top) down to the pixels (bottom)."""
    above: Counter[Edge] = Counter()
    uses: Counter[Edge] = Counter()
    below: dict[Node, int] = {}
    if top is None or bottom is None:
        return _Paths(0, above, below, uses)
    order = _consumers_first(top)
    for node in reversed(order):
        below[node] = 1 if node is bottom else sum(below[n] for n, _ in _inputs(node))
    reaching: Counter[Node] = Counter({top: 1})
    above[top, 0] = 1
    for node in order:
        for edge in _inputs(node):
            above[edge] += reaching[node]
            reaching[edge[0]] += reaching[node]
            uses[edge] += 1
    return _Paths(below[top], above, below, uses)


def _inputs(node: Node) -> list[Edge]:
    return [(n, at) for n, at in node.next_functions if n is not None]


def _consumers_first(top: Node) -> list[Node]:
    """Every node below ``top``, each before its inputs."""
    done: dict[Node, bool] = {}
    order: list[Node] = []
    stack = [(top, False)]
    while stack:
        node, left = stack.pop()
        if left:
            order.append(node)
        elif node not in done:
            done[node] = True
            stack.append((node, True))
            stack.extend((n, False) for n, _ in _inputs(node) if n not in done)
    return order[::-1]


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[Call]]:
    """Records every module input and output that depends on the pixels, in order."""
    calls: list[Call] = []
    counts: Counter[str] = Counter()

    def note(name: str, side: str, value: object) -> None:
        value = first_of(value)
        if isinstance(value, Tensor) and value.grad_fn is not None:
            calls.append(Call(name, side, counts[name], value, (value.grad_fn, value.output_nr), value._version))
        if side == "output":
            counts[name] += 1

    hooks: list[RemovableHandle] = []
    try:
        for name, module in model.named_modules():
            hooks.extend(hooked(module, side, partial(note, name, side)) for side in ("input", "output"))
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
