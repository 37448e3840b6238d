"""What a later step's map counts for in the sum: no cell outgrows the others, and where the climb pushed weighs more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .views import add_views


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
