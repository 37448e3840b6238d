"""Whether a network returns probabilities instead of logits: seen from what its outputs do, not by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .trace import Call, Trace

_SLACK = 1e-4  # of rounding
_MOVED = 1e-3  # by less an output did not change

# What is done to a tensor on its way: a linear function of it leaves [0, 1] at the first or second, a squashed one at none.
_CHANGES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda value: -value,
    lambda value: 1e3 * value,
    lambda value: -1e3 * value,
    *(lambda value, seed=seed: _noise(value, seed) for seed in range(4)),
    *(lambda value, seed=seed: 1e3 * _noise(value, seed) for seed in range(4, 8)),
)


def probabilities(trace: Trace) -> str | None:
    """What squashes the outputs into [0, 1], ``softmax`` or ``sigmoid``; None where nothing does.

    Only outputs that lie in [0, 1] already are looked at further. The last tensor that they depend on and that does not lie
    there itself is turned round, enlarged and replaced by noise. Logits leave [0, 1] by that. Probabilities stay in it, by
    whatever formula they are made, also where they are saturated; and they move, where logits of a head with weights of zero
    do not.
    """
    if not _within(trace.logits):
        return None
    place, answers = _place(trace), [trace.logits.detach()]
    for change in _CHANGES:
        try:
            answers.append(trace.again(place, change))
        except Exception:  # whatever another's head makes of it: it shows nothing
            continue
        if not _within(answers[-1]):
            return None
    if all(_sum_to_one(answer) for answer in answers):
        return "softmax"
    moved = max(float((answer - answers[0]).abs().nan_to_num(0).max()) for answer in answers)
    return "sigmoid" if moved > _MOVED else None


def _place(trace: Trace) -> Call:
    """The last tensor that is not squashed yet and that all the logits know passes through; if there is none, the image."""
    cuts = [call for call in trace.calls if trace.is_cut(call) and not _within(call.value)]
    return (cuts or trace.calls)[-1 if cuts else 0]


def _within(values: Tensor) -> bool:
    """Whether all that are numbers lie in [0, 1]."""
    numbers = values.detach()[~values.detach().isnan()].float()
    return bool(numbers.numel() and ((numbers >= -_SLACK) & (numbers <= 1 + _SLACK)).all())


def _sum_to_one(values: Tensor) -> bool:
    totals = values.detach().float().sum(1)
    return bool((totals.isnan() | ((totals - 1).abs() < 1e-3)).all())


def _noise(value: Tensor, seed: int) -> Tensor:
    """Normal numbers of the tensor's own size and magnitude, the same at every call."""
    drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)).to(value)
    size = float(value.detach().float().square().mean().sqrt())
    return drawn * (size if 0 < size < float("inf") else 1.0)
