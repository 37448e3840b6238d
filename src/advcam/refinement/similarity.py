"""A random walk with restart between cells of similar features: maps spread over whole objects without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_number, expect_size, expect_tensor
from advcam.limits import MAX_COMPARED_CELLS, MAX_VALUE

TOLERANCE = 1e-4
"""Residual, relative to the right-hand side, at which the linear system counts as solved."""
MOST_ITERATIONS = 1000


@torch.no_grad()
def similarity_walk(
    maps: Float[Tensor, "k h w"],
    features: Float[Tensor, "d h w"],
    temperature: float = 0.1,
    restart: float = 0.02,
    reach: float = 0.3,
) -> Float[Tensor, "k h w"]:
    """Spread maps to cells of similar features, by a random walk that returns to where it began with probability c each step.

    ``y = c (I - (1 - c) T)^-1 x``, ``T_ij = W_ij / sum_j W_ij``,
    ``W_ij = exp( (cos(f_i, f_j) - 1) / tau - |p_i - p_j|^2 / (2 sigma^2) )``

    y is the mean of the map over the cells where walks from i restart. It also minimises
    ``(1 - c) / 2 sum_ij W_ij (y_i - y_j)^2 + c sum_i d_i (y_i - x_i)^2``, with d_i the row sums of W: similar cells get similar
    values, near those of the map. The system is solved by conjugate gradients, in some 20 products with the dense W.

    Args:
        maps: x, float [k, h, w].
        features: f, float [d, h, w], of the same grid; :func:`on_one_grid` makes them of a network's features.
        temperature: tau, above 0: by how much less similar cells must be to count e times less.
        restart: c, above 0, at most 1, which leaves the maps as they are.
        reach: sigma, as a share of the longer side of the grid, above 0.

    Returns:
        y, [k, h, w], within the range of ``maps`` but for rounding errors. A constant map stays as it is.

    Raises:
        InputError: maps and features of different grids, a grid of one cell or of more than 10,000, values that are not finite,
            settings out of range, features that are the same in every cell.

    Source: random walk with restart (Pan et al., KDD 2004), the quadratic form as in Zhou et al., NIPS 2004; that it walks over
        the features of a classifier, and the values of tau, c and sigma, are ours (``benchmarks/quality.md``).

    Example:
        >>> features = torch.tensor([[[1.0, 1.0, 1.0, -1.0, -1.0, -1.0]]])  # two halves
        >>> maps = torch.zeros(1, 1, 6)
        >>> maps[..., 0] = 1  # one cell of the left half is activated
        >>> [round(value, 1) for value in similarity_walk(maps, features, reach=1).flatten().tolist()]
        [0.3, 0.3, 0.3, 0.0, 0.0, 0.0]
    """
    expect_tensor(maps, "maps", "float", "k h w", finite=True)
    expect_tensor(features, "features", "float", "d h w", finite=True, beside=maps)
    temperature = expect_number(temperature, "temperature", 1e-3)
    restart = expect_number(restart, "restart", 1e-4, 1)
    reach = expect_number(reach, "reach", 1e-3)
    height, width = maps.shape[1:]
    if features.shape[1:] != maps.shape[1:] or not len(features):
        raise InputError(
            f"the maps are {height} x {width} cells and the features {tuple(features.shape)}: expected [d, h, w] on the same"
            f" grid; on_one_grid([features], {(height, width)}) resizes them"
        )
    if not 1 < height * width <= MAX_COMPARED_CELLS:
        raise InputError(
            f"maps of {height} x {width} cells: expected 2 to {MAX_COMPARED_CELLS:,}; each is compared with every other, so"
            " resize the maps and the features to a coarser grid, and the result back"
        )
    if max(float(values.abs().max()) for values in (maps, features) if values.numel()) > MAX_VALUE:
        raise InputError(f"maps or features beyond {MAX_VALUE:g}: divide them by their maximum")
    unit = F.normalize(features.float().flatten(1), dim=0)
    if bool((unit - unit[:, :1]).abs().max() < 1e-6):
        raise InputError(
            "the features are the same in every cell, so the walk would even out the maps: give features of another layer or"
            " network, or leave the maps of this image as they are"
        )
    weights = (unit.T @ unit).sub_(1).div_(temperature)  # [cells, cells]
    at = _places(height, width, maps.device) / (reach * max(height, width))
    weights = weights.sub_(torch.cdist(at, at).square_().div_(2)).exp_()
    degree = weights.sum(1, keepdim=True)
    x = maps.float().flatten(1).T
    # divided by the roots of the degrees the matrix is symmetric: (I - (1 - c) D^-1/2 W D^-1/2) u = c D^1/2 x, y = D^-1/2 u
    root = degree.sqrt()
    u = _conjugate_gradients(lambda v: v - (1 - restart) * (weights @ (v / root)) / root, restart * root * x, root * x)
    return (u / root).T.reshape(maps.shape).to(maps.dtype)


def on_one_grid(levels: Sequence[Float[Tensor, "d _ _"]], size: tuple[int, int]) -> Float[Tensor, "d h w"]:
    """Bring features to one grid and join them: a cosine of the result is the mean of the levels' cosines.

    Each level is resized to the grid, its mean over cells is subtracted, and its cells are scaled to length 1 / sqrt(levels).
    Without the mean, which all cells share, cosines are spread over [-1, 1].

    Args:
        levels: float tensors [d, h, w], each on its own grid: features of a layer, or the image's colours.
        size: (h, w) of the result; coarser levels are resized bilinearly, finer ones averaged.

    Returns:
        [sum of d, h, w], with cells of length 1; a cell where a level is as its mean has zeros there.

    Raises:
        InputError: no level, one that is empty or not finite, an invalid size.

    Source: ours.

    Example:
        >>> on_one_grid([torch.rand(3, 64, 64), torch.rand(32, 8, 8)], (16, 16)).shape
        torch.Size([35, 16, 16])
    """
    height, width = expect_size(size)
    given = expect_list(levels, "levels")
    if not given:
        raise InputError("no levels: expected at least one [d, h, w]")
    parts = []
    for level in given:
        expect_tensor(level, "a level", "float", "d h w", finite=True, beside=given[0])
        if 0 in level.shape:
            raise InputError(f"a level of shape {tuple(level.shape)}: expected at least one channel and cell")
        mode = "area" if level.shape[1] >= height and level.shape[2] >= width else "bilinear"
        on_grid = F.interpolate(level[None].float(), size=(height, width), mode=mode)[0]
        parts.append(F.normalize(on_grid - on_grid.mean((1, 2), keepdim=True), dim=0))
    return torch.cat(parts) / len(parts) ** 0.5


def _places(height: int, width: int, device: torch.device) -> Float[Tensor, "n 2"]:
    """Row and column of every cell."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows.flatten(), columns.flatten()], 1).float().to(device)


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Float[Tensor, "n k"], start: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """Solve ``A u = right`` for a symmetric positive definite A, given as its product with vectors; all columns at once.

    Source: Hestenes & Stiefel, 1952.
    """
    u, residual = start.clone(), right - product(start)
    direction, left = residual.clone(), residual.square().sum(0)
    enough = TOLERANCE**2 * right.square().sum(0)
    for _ in range(MOST_ITERATIONS):
        if bool((left <= enough).all()):
            break
        moved = product(direction)
        step = left / (direction * moved).sum(0).clamp_min(torch.finfo(left.dtype).tiny)
        u, residual = u + step * direction, residual - step * moved
        before, left = left, residual.square().sum(0)
        direction = residual + left / before.clamp_min(torch.finfo(left.dtype).tiny) * direction
    return u
