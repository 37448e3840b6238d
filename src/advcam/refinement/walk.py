"""Random walks that spread maps over an image, between cells of one class: by boundaries (IRN) or by features (PSA)."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_number, expect_tensor, expect_whole
from advcam.limits import MAX_LOG2_STEPS, MAX_PAIRS

from .paths import Cell, offsets, pair_affinity

TAIL = 1e-6  # probability of the coin-toss walks that are left out
CLOSED = 1e-12  # affinities below this count as 0


@torch.no_grad()
def random_walk(
    maps: Float[Tensor, "k h w"], boundary: Float[Tensor, "1 h w"], radius: int = 5, beta: float = 10, log2_steps: int = 8
) -> Float[Tensor, "k h w"]:
    """Spread maps over an image by a random walk that boundaries stop (IRN).

    ``vec(maps * (1 - boundary)) T^(2^log2_steps)`` with ``T_ij = a_ij^beta / sum_i a_ij^beta`` and ``a_ij`` = 1 - the maximum
    of the boundary on the straight path from i to j, 1 for i = j. Not differentiable. T is sparse; see :func:`.walk.walk`.

    Args:
        maps: float [k, h, w], at least 0.
        boundary: float [1, h, w] in [0, 1], 1 where classes meet.
        radius: of the neighbourhood, in cells (``dy^2 + dx^2 < radius^2``), at least 2; limited to the size of the grid.
        beta: power of the affinity, above 0; the higher, the rarer are steps over weak boundaries.
        log2_steps: logarithm of the number of steps, to base 2.

    Returns:
        [k, h, w], at least 0, within the range of ``maps``.

    Raises:
        InputError: no maps, sizes that differ, values out of range, a setting that cannot work, or more than 2^26 pairs of
            neighbours.

    Source: Ahn, Cho & Kwak, CVPR 2019, equations 9-10; that T^n is a sum of Chebyshev polynomials (Carne, 1985) is ours.

    Example:
        >>> maps, boundary = torch.zeros(1, 1, 6), torch.zeros(1, 1, 6)
        >>> maps[..., 0], boundary[..., 3] = 1, 1  # only the first cell is activated; a boundary in the middle
        >>> [round(value, 2) for value in random_walk(maps, boundary).flatten().tolist()]
        [0.33, 0.33, 0.33, 0.0, 0.0, 0.0]
    """
    beta, radius = _check(maps, boundary, "boundary", beta, radius)
    if len(boundary) != 1 or not bool(((boundary >= 0) & (boundary <= 1)).all()):
        raise InputError(
            f"a boundary of {len(boundary)} channels, {float(boundary.min()):.3g} to {float(boundary.max()):.3g}: expected one "
            "channel in [0, 1]; if these are logits, apply sigmoid first"
        )
    boundary = boundary.float()
    reach = max(dy for dy, _ in offsets(radius))
    closed = F.pad(boundary, (reach, reach, 0, reach), value=1)  # no walk leaves the grid
    return walk(maps.float() * (1 - boundary), pair_affinity(closed, radius)[0] ** beta, radius, log2_steps).to(maps.dtype)


@torch.no_grad()
def feature_walk(
    maps: Float[Tensor, "k h w"], features: Float[Tensor, "d h w"], radius: int = 5, beta: float = 8, log2_steps: int = 8
) -> Float[Tensor, "k h w"]:
    """Spread maps over an image by a random walk between cells of similar features (PSA).

    As :func:`random_walk`, with ``a_ij = exp(-mean_d |f_i - f_j|)``, and without the factor ``1 - boundary`` of the maps.

    Args:
        maps: float [k, h, w], at least 0.
        features: float [d, h, w], of AffinityNet.
        radius: of the neighbourhood, in cells (``dy^2 + dx^2 < radius^2``), at least 2; limited to the size of the grid.
        beta: power of the affinity, above 0.
        log2_steps: logarithm of the number of steps, to base 2.

    Returns:
        [k, h, w], at least 0, within the range of ``maps``.

    Raises:
        InputError: no maps, sizes that differ, values that are not numbers, a setting that cannot work, or more than 2^26 pairs
            of neighbours.

    Source: Ahn & Kwak, CVPR 2018, equations 8-9; that T^n is a sum of Chebyshev polynomials (Carne, 1985) is ours.

    Example:
        >>> maps, features = torch.zeros(1, 1, 4), torch.tensor([[[0.0, 0.0, 9.0, 9.0]]])
        >>> maps[..., 0] = 1
        >>> [round(value, 2) for value in feature_walk(maps, features).flatten().tolist()]
        [0.5, 0.5, 0.0, 0.0]
    """
    beta, radius = _check(maps, features, "features", beta, radius)
    height, width = maps.shape[1:]
    features = features.float()
    affinity = features.new_zeros(len(offsets(radius)), height, width)
    for pairs, offset in zip(affinity, offsets(radius), strict=True):
        here, there = _overlap(height, width, offset)
        pairs[here] = (-beta * (features[:, *here] - features[:, *there]).abs().mean(0)).exp()
    return walk(maps, affinity, radius, log2_steps)


@torch.no_grad()
def walk(
    maps: Float[Tensor, "k h w"], affinity: Float[Tensor, "p h w"], radius: int, log2_steps: int = 8
) -> Float[Tensor, "k h w"]:
    """``x T^n``, n = 2^log2_steps, for the transition matrix T of any affinity, by about 5 sqrt(n) sparse products.

    ``x T^n = sum_k P(|S_n| = k) x Q_k(T)``, with Q_k the k-th Chebyshev polynomial and S_n the position after n steps of +1 or
    -1 by coin toss, hardly ever beyond ``5 sqrt(n)`` (Carne, 1985). For 256 steps that is 78 products, within 1e-6. In float64,
    because the rounding errors of float32 grow with the steps, in a plain walk too.

    Args:
        maps: x, float [k, h, w].
        affinity: float [P, h, w], of every cell and its neighbour at each of :func:`offsets`; pairs that leave the grid are not
            read.
        radius: of those offsets, in cells.
        log2_steps: logarithm of the number of steps, to base 2.

    Returns:
        [k, h, w], within the range of ``maps`` where that is not negative.

    Raises:
        InputError: another number of affinities than of offsets, or of steps that cannot be.
    """
    expect_tensor(maps, "maps", shape="k h w")
    expect_tensor(affinity, "affinity", shape="p h w", beside=maps)
    log2_steps = expect_whole(log2_steps, "log2_steps")
    if not 0 <= log2_steps <= MAX_LOG2_STEPS:
        raise InputError(
            f"log2_steps {log2_steps}: expected 0 to {MAX_LOG2_STEPS}; the walk takes 2^log2_steps steps (8 is usual)"
        )
    if affinity.shape != (len(offsets(radius)), *maps.shape[1:]):
        raise InputError(
            f"affinity {tuple(affinity.shape)}: expected {(len(offsets(radius)), *maps.shape[1:])} for this radius"
        )
    device = torch.device("cpu") if maps.device.type == "mps" else maps.device  # no float64, no sparse matrices on MPS
    transition = _transition(affinity.to(device), radius)
    before = now = maps.to(device).double().flatten(1).T.contiguous()  # [cells, k]
    weights = _coin_tosses(2**log2_steps)
    total = weights[0] * now
    for k, weight in enumerate(weights[1:]):
        before, now = now, torch.addmm(before, transition, now, beta=-1 if k else 0, alpha=2 if k else 1)
        total.add_(now, alpha=weight)
    return total.clamp(min=0).T.reshape(maps.shape).to(maps)


def _transition(affinity: Float[Tensor, "p h w"], radius: int) -> Tensor:
    """The transition matrix, transposed: sparse [cells, cells], rows sum to 1; built in CSR order."""
    _, height, width = affinity.shape
    half = dict(zip(offsets(radius), affinity, strict=True))
    around = sorted([*half, (0, 0), *((-dy, -dx) for dy, dx in half)])
    values = affinity.new_zeros(len(around), height, width, dtype=torch.float64)
    for row, (dy, dx) in zip(values, around, strict=True):
        here, there = _overlap(height, width, (dy, dx))
        if (dy, dx) == (0, 0):
            row.fill_(1)
        elif (dy, dx) in half:
            row[here] = half[dy, dx][here]
        else:  # the same pair, seen from its other end
            row[here] = half[-dy, -dx][there]
    values[values < CLOSED] = 0
    values /= values.sum(0)
    values = values.flatten(1).T.contiguous()
    steps = torch.tensor([dy * width + dx for dy, dx in around], dtype=torch.int32, device=values.device)
    columns = torch.arange(len(values), dtype=torch.int32, device=values.device)[:, None] + steps
    present = values > 0
    ends = F.pad(present.sum(1).cumsum(0), (1, 0)).int()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # "in beta state", for years
        return torch.sparse_csr_tensor(ends, columns[present], values[present], [len(values)] * 2, check_invariants=False)


def _overlap(height: int, width: int, offset: Cell) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The cells that have a neighbour at this offset on the grid, and these neighbours; both empty if it is too far."""

    def ends(size: int, step: int) -> tuple[slice, slice]:
        first, last = max(-step, 0), max(min(size, size - step), max(-step, 0))
        return slice(first, last), slice(first + step, last + step)

    (top, below), (left, right) = ends(height, offset[0]), ends(width, offset[1])
    return (top, left), (below, right)


@lru_cache
def _coin_tosses(n: int) -> tuple[float, ...]:
    """``P(|S_n| = k) = 2 C(n, (n + k) / 2) / 2^n`` (k = 0: half of it), for k = 0, 1, ... until less than ``TAIL`` is left."""
    chances, covered = [0.0] * (n % 2), 0.0
    for k in range(n % 2, n + 1, 2):
        log_chance = math.lgamma(n + 1) - math.lgamma((n + k) / 2 + 1) - math.lgamma((n - k) / 2 + 1) - n * math.log(2)
        chances += [math.exp(log_chance) * (2 if k else 1), 0.0]
        covered += chances[-2]
        if covered > 1 - TAIL:
            break
    return tuple(chance / covered for chance in chances[:-1])


def _check(maps: Tensor, field: Tensor, name: str, beta: float, radius: int) -> tuple[float, int]:
    """Check the arguments of a walk; return beta, and the radius limited to the grid.

    Raises:
        InputError: maps that are empty, negative or not finite, a field that is not on their grid or not finite, a beta that is
            not above 0, more pairs than fit in memory.
    """
    expect_tensor(maps, "maps", "numbers or booleans")
    expect_tensor(field, name, beside=maps)
    beta, radius = expect_number(beta, "beta"), expect_whole(radius, "radius")
    if maps.ndim != 3 or not maps.numel() or not maps.is_floating_point():
        raise InputError(
            f"maps {tuple(maps.shape)} of {maps.dtype}: expected float [k, h, w] with at least one map; "
            "an image without a class needs no walk"
        )
    if field.ndim != 3 or not len(field) or field.shape[1:] != maps.shape[1:]:
        size, other = (" x ".join(map(str, x.shape[1:])) for x in (maps, field))
        raise InputError(
            f"the maps are {size} cells and the {name} {other}: expected both [k, h, w], of one size; "
            f"if their strides differ, resize the maps to the grid of the {name} (torch.nn.functional.interpolate)"
        )
    for what, values in (("maps", maps), (name, field)):
        if not bool(values.float().isfinite().all()):
            raise InputError(f"the {what} hold NaN or infinity, expected finite numbers; check the network that made them")
    if bool((maps < 0).any()):
        raise InputError(f"the maps hold {float(maps.min()):.3g}, expected no negative values: apply relu first")
    if beta <= 0:
        raise InputError(f"beta {beta:g}: expected a power above 0 (8 and 10 are usual)")
    height, width = maps.shape[1:]
    radius = min(radius, max(2, 2 + math.isqrt((height - 1) ** 2 + (width - 1) ** 2)))  # a larger one adds no pair
    if (pairs := math.pi / 2 * radius**2 * height * width) > MAX_PAIRS:
        raise InputError(
            f"radius {radius} on {height} x {width} cells makes {pairs:,.0f} pairs of neighbours: expected at most"
            f" {MAX_PAIRS:,}; take a smaller radius (5 and 10 are usual) or smaller maps"
        )
    return beta, radius
