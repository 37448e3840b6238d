"""How the maps of later steps enter the sum: capped relative to the first map, and weighted by the pixel gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .settings import ClimbSettings
from .views import add_views

if TYPE_CHECKING:
    from .climb import Step


def pressure(gradient: Float[Tensor, "c v 3 y x"], grid: tuple[int, int]) -> Float[Tensor, "c h w"]:
    """The mean magnitude of the pixel gradient in each cell: ``mean over its pixels of sum over channels of |dL/dx|``.

    Summed over views, then divided by its mean over cells; 1 everywhere for a gradient of zero. Ours: a class activation map
    has the resolution of the last layer's receptive fields, the pixel gradient that of the first.

    Args:
        gradient: [C, V, 3, H, W], of each climb's objective in its pixels.
        grid: (h, w) of the map.

    Returns:
        [C, h, w], at least 0, with mean 1.
    """
    pushed = add_views(F.adaptive_avg_pool2d(gradient.abs().sum(2), grid))
    mean = pushed.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, pushed / mean.clamp_min(torch.finfo(mean.dtype).tiny), 1)


def counted(steps: Iterator[Step], s: ClimbSettings) -> Iterator[Step]:
    """Yield the steps of a climb with the later maps capped and weighted, ready to be summed.

    ``min(CAM(x^t), ceiling peak) * P / mean(P)`` for t > 0, with ``P = sum_{s<t} pressure_s`` and peak the maximum of the first
    map that is not empty. The map of step 0 stays as it is, and so do all maps without ``ceiling`` and ``emphasis``.

    Args:
        steps: the steps of :func:`climb`.
        s: the settings ``ceiling`` and ``emphasis`` apply.

    Yields:
        The same steps with ``maps`` replaced.

    Source: ours, on in preset ``default``. Measured on 60 tuning photographs (SOURCES.md, "Preset default is ours"): mIoU 64.6
    with both rules, 56.3 with neither.

    Example:
        >>> from advcam.attribution import Step, settings
        >>> maps, pixels = torch.tensor([[[4.0, 0.5]]]), torch.zeros(1, 1, 3, 1, 2)
        >>> steps = [Step(maps, torch.zeros(1, 1), pixels, None) for _ in range(2)]
        >>> [step.maps.flatten().tolist() for step in counted(iter(steps), settings(ceiling=0.25))]
        [[4.0, 0.5], [1.0, 0.5]]
    """
    peak, pushed = None, None
    for t, step in enumerate(steps):
        own = step.maps.amax((1, 2))
        peak = own if peak is None else torch.where(peak > 0, peak, own)
        yield replace(step, maps=emphasised(step.maps, peak, pushed, s.ceiling)) if t else step
        if s.emphasis == "gradient" and step.pressure is not None:
            pushed = step.pressure + (0 if pushed is None else pushed)


def emphasised(
    maps: Float[Tensor, "c h w"],
    peak: Float[Tensor, " c"],
    pushed: Float[Tensor, "c h w"] | None,
    ceiling: float | None,
) -> Float[Tensor, "c h w"]:
    """``min(CAM(x^t), ceiling peak) * P / mean(P)``, ``P = sum_{s<t} pressure_s``.

    Args:
        maps: [C, h, w], of a step t > 0.
        peak: [C], the maximum of the first map that is not empty, usually that of step 0.
        pushed: [C, h, w], P, the sum of the pressures of the steps before; None weights all cells equally.
        ceiling: share of ``peak`` that maps are capped at; None leaves them.

    Returns:
        [C, h, w], at least 0.
    """
    if ceiling is not None:
        maps = torch.minimum(maps, ceiling * peak[:, None, None])
    return maps if pushed is None else maps * pushed / pushed.mean((1, 2), keepdim=True)
