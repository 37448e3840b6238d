"""Whether a network returns probabilities instead of logits, found by changing activations and watching the outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .forward import evaluating
from .trace import Call, Trace

_SLACK = 1e-4  # for rounding
_MOVED = 1e-3  # an output that changed by less did not change

# Changes to an activation: an output linear in it leaves [0, 1] under one of these, a squashed output under none.
_CHANGES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda value: -value,
    *(lambda value, factor=factor: factor * value for factor in (1e3, -1e3, 1e6, -1e6)),
    *(lambda value, seed=seed: _noise(value, seed) for seed in range(4)),
    *(lambda value, seed=seed: 1e3 * _noise(value, seed) for seed in range(4, 8)),
)


def probabilities(trace: Trace, named: dict[str, nn.Module]) -> str | None:
    """What squashes the outputs into [0, 1], ``softmax`` or ``sigmoid``; None where nothing does.

    Only outputs within [0, 1] are examined: an activation on every path to them is negated, scaled up and replaced by noise,
    then the last activation after it that left [0, 1] by that, until there is none. Logits leave [0, 1] at the latest when they
    themselves are changed. Probabilities never do, whatever their formula and even where they saturate; but they change, or are
    1, unlike the logits of a head with zero weights.
    """
    if _leaves(trace.logits) or bool(trace.logits.isnan().any()):
        return None
    places = _places(trace, named)
    at = max((n for n, place in enumerate(places) if _leaves(place[-1].value)), default=0)
    answers, done = [trace.logits.detach()], -1
    while at != done:
        done = at
        for change in _CHANGES:
            try:
                logits, seen = trace.again(places[done], change, [place[-1] for place in places[at + 1 :]])
            except Exception:  # a foreign head may fail on such values, which proves nothing
                continue
            if _leaves(logits):
                return None
            answers.append(logits)
            at += max((n + 1 for n, value in enumerate(seen) if value is not None and _leaves(value)), default=0)
    if all(_sum_to_one(answer) for answer in answers):
        return "softmax"
    moved = max(float((answer - answers[0]).abs().nan_to_num(0).max()) for answer in answers)
    return "sigmoid" if moved > _MOVED or bool((answers[0] == 1).any()) else None


def _places(trace: Trace, named: dict[str, nn.Module]) -> list[list[Call]]:
    """The image and, in order, the inputs and outputs of modules that lie on every path to the logits.

    The output of a module that squashes (into any range) is left out: scaled up, it would take values that it never has.
    """
    calls: dict[tuple[str, str], list[Call]] = {}
    for call in trace.calls[1:]:
        calls[call.name, call.side] = [*calls.pop((call.name, call.side), []), call]
    squashed = {
        call.edge for (name, side), own in calls.items() for call in own if side == "output" and _squashes(named, calls, call)
    }
    places = [own for own in calls.values() if trace.are_cut(own) and not squashed & {call.edge for call in own}]
    return [trace.calls[:1], *places]


def _squashes(named: dict[str, nn.Module], calls: dict[tuple[str, str], list[Call]], call: Call) -> bool:
    """Whether the output of a module without parameters stops growing when its input is scaled up."""
    module = named[call.name]
    taken = [c for c in calls.get((call.name, "input"), []) if c.nth == call.nth]
    if not taken or any(True for _ in module.parameters()):
        return False
    try:
        with evaluating(module, draws=False), torch.no_grad():
            small, large = (module(factor * taken[0].value.detach()) for factor in (1e3, 1e6))
            return bool(large.abs().max() <= 1.01 * small.abs().max())
    except Exception:  # it takes more than one tensor, or returns something else
        return False


def _leaves(values: Tensor) -> bool:
    """Whether any value, NaN aside, lies outside of [0, 1]."""
    numbers = values.detach().float()
    return bool(((numbers < -_SLACK) | (numbers > 1 + _SLACK)).any())


def _sum_to_one(values: Tensor) -> bool:
    totals = values.detach().float().sum(1)
    return bool((totals.isnan() | ((totals - 1).abs() < 1e-3)).all())


def _noise(value: Tensor, seed: int) -> Tensor:
    """Gaussian noise of the tensor's shape and magnitude, the same at every call."""
    drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)).to(value)
    size = float(value.detach().float().square().mean().sqrt())
    return drawn * (size if 0 < size < float("inf") else 1.0)
