"""What a later step's map counts for in the sum: no cell outgrows the others, and where the climb pushed weighs more."""

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
    """How hard a step pushes the pixels of each cell: ``mean over its pixels of sum over channels of |dL/dx|``.

    Views are added, and the mean over cells is 1; a gradient of zero pushes all cells alike. Ours: a class activation map has
    the resolution of the last layer's receptive fields, the gradient in the pixels that of the first.

    Args:
        gradient: of each climb's objective in its views.
        grid: (h, w) of the map.
    """
    pushed = add_views(F.adaptive_avg_pool2d(gradient.abs().sum(2), grid))
    mean = pushed.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, pushed / mean.clamp_min(torch.finfo(mean.dtype).tiny), 1)


def counted(steps: Iterator[Step], s: ClimbSettings) -> Iterator[Step]:
    """The steps of a climb, the map of each as it counts in the sum: the first as it is, later ones :func:`emphasised`.

    Ours, on in preset ``default``; with neither ``ceiling`` nor ``emphasis`` every map counts as it is.
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
        maps: of step t > 0.
        peak: the maximum of the first map that is not empty, of step 0 as a rule.
        pushed: P, the sum of the pressures of the steps before; None counts all cells alike.
        ceiling: None for none.
    """
    if ceiling is not None:
        maps = torch.minimum(maps, ceiling * peak[:, None, None])
    return maps if pushed is None else maps * pushed / pushed.mean((1, 2), keepdim=True)
