"""How later steps' maps enter the sum: capped, and weighted by the pixel gradient and by nearness to the first map."""

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


def pressure(gradient: Float[Tensor, "c v b y x"], grid: tuple[int, int]) -> Float[Tensor, "c h w"]:
    """The mean magnitude of the pixel gradient in each cell: ``mean over its pixels of sum over channels of |dL/dx|``.

    Summed over views. Ours: a class activation map has the resolution of the last layer's receptive fields, the pixel
    gradient that of the first.

    Args:
        gradient: [C, V, B, H, W], of each climb's objective in its pixels.
        grid: (h, w) of the map.

    Returns:
        [C, h, w], at least 0.
    """
    return add_views(F.adaptive_avg_pool2d(gradient.abs().sum(2), grid))


def relative(pressure: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """The pressure divided by its mean over cells; 1 everywhere where it is zero."""
    mean = pressure.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, pressure / mean.clamp_min(torch.finfo(mean.dtype).tiny), 1)


def counted(steps: Iterator[Step], s: ClimbSettings) -> Iterator[Step]:
    """Yield the steps of a climb with the later maps capped and weighted, ready to be summed.

    ``w min(CAM(x^t), ceiling peak) * P / mean(P) * N`` for t > 0, with ``P = sum_{s<t} pressure_s / mean(pressure_s)``, peak
    the maximum of the first map that is not empty, N the :func:`nearness` to the map of step 0, and w the setting ``later``.
    That map stays as it is, and so do all maps without these settings.

    Args:
        steps: the steps of :func:`climb`.
        s: the settings ``ceiling``, ``emphasis``, ``reach`` and ``later`` apply.

    Yields:
        The same steps with ``maps`` replaced.

    Source: ours, on in preset ``default`` (``reach`` in ``multiscale`` alone). Measured on 60 tuning photographs (SOURCES.md,
        "Preset default is ours"): mIoU 64.6 with ``ceiling`` and ``emphasis``, 56.3 with neither.

    Example:
        >>> from advcam.attribution import Step, settings
        >>> maps, pixels = torch.tensor([[[4.0, 0.5]]]), torch.zeros(1, 1, 3, 1, 2)
        >>> steps = [Step(maps, torch.zeros(1, 1), pixels, None) for _ in range(2)]
        >>> [step.maps.flatten().tolist() for step in counted(iter(steps), settings(ceiling=0.25))]
        [[4.0, 0.5], [1.0, 0.5]]
    """
    peak = pushed = None
    near: Tensor | float = 1.0
    for t, step in enumerate(steps):
        own = step.maps.amax((1, 2))
        peak = own if peak is None else torch.where(peak > 0, peak, own)
        yield replace(step, maps=emphasised(step.maps, peak, pushed, s.ceiling) * near * s.later) if t else step
        if t == 0 and s.reach is not None:
            near = nearness(step.maps, s.reach)
        if s.emphasis == "gradient" and step.pressure is not None:
            pushed = relative(step.pressure) + (0 if pushed is None else pushed)


def emphasised(
    maps: Float[Tensor, "c h w"],
    peak: Float[Tensor, " c"],
    pushed: Float[Tensor, "c h w"] | None,
    ceiling: float | None,
) -> Float[Tensor, "c h w"]:
    """``min(CAM(x^t), ceiling peak) * P / mean(P)``, ``P = sum_{s<t} pressure_s / mean(pressure_s)``.

    Args:
        maps: [C, h, w], of a step t > 0.
        peak: [C], the maximum of the first map that is not empty, usually that of step 0.
        pushed: [C, h, w], P, the sum of the relative pressures of the steps before; None weights all cells equally.
        ceiling: share of ``peak`` that maps are capped at; None leaves them.

    Returns:
        [C, h, w], at least 0.
    """
    if ceiling is not None:
        maps = torch.minimum(maps, ceiling * peak[:, None, None])
    return maps if pushed is None else maps * pushed / pushed.mean((1, 2), keepdim=True)


def nearness(maps: Float[Tensor, "c h w"], reach: float) -> Float[Tensor, "c h w"]:
    """How near each cell is to what a map shows: ``sqrt(G / max G)``, ``G = K_y A K_x^T``.

    K_y and K_x average along columns and rows with the weights ``exp(-(i - j)^2 / (2 sigma^2))`` of a Gaussian, which sum to
    1 within the map; sigma is ``reach`` times its longer side. A climb also makes its class where there is none, and what it
    finds far from all that the first map shows is more often that than the rest of the object.

    Args:
        maps: [C, h, w], A, at least 0.
        reach: share of the map's longer side, above 0.

    Returns:
        [C, h, w] in [0, 1]; 1 everywhere for a map of zeros.

    Source: ours, measured in ``benchmarks/quality.md``.
    """
    sigma = reach * max(maps.shape[1:])

    def kernel(cells: int) -> Tensor:
        at = torch.arange(cells, dtype=maps.dtype, device=maps.device)
        weights: Tensor = (-((at[:, None] - at[None]) ** 2) / (2 * sigma**2)).exp()
        return weights / weights.sum(1, keepdim=True)

    blurred = kernel(maps.shape[1]) @ maps @ kernel(maps.shape[2]).T
    peak = blurred.amax((1, 2), keepdim=True)
    shares: Tensor = torch.where(peak > 0, blurred / peak.clamp_min(torch.finfo(peak.dtype).tiny), 1)
    return shares.sqrt()
