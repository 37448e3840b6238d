"""Pairs of neighbouring cells, the straight path between the two, and the affinity along it (IRN)."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from advcam.errors import InputError
from advcam.limits import MAX_RADIUS

Cell = tuple[int, int]


@lru_cache
def line(dy: int, dx: int) -> tuple[Cell, ...]:
    """The cells (y, x) of the path from (0, 0) to (dy, dx), both ends included.

    Those of the bounding box whose centre is nearer than 1 to the line: ``(dy x - dx y)^2 / (dy^2 + dx^2) < 1``.

    Example:
        >>> line(1, -2)
        ((0, -2), (0, -1), (0, 0), (1, -2), (1, -1), (1, 0))
    """
    rows, columns = range(min(dy, 0), max(dy, 0) + 1), range(min(dx, 0), max(dx, 0) + 1)
    length = max(dy * dy + dx * dx, 1)
    return tuple((y, x) for y in rows for x in columns if (dy * x - dx * y) ** 2 < length)


@lru_cache
def offsets(radius: int) -> tuple[Cell, ...]:
    """The (dy, dx) from a cell to its neighbours within ``dy^2 + dx^2 < radius^2``, each pair of cells once; short paths first.

    Half of the disc is enough: to the right in the same row, everything in the rows below.

    Raises:
        InputError: a radius below 2, which holds no pair.

    Example:
        >>> offsets(2)
        ((0, 1), (1, 0), (1, -1), (1, 1))
    """
    if not 2 <= radius <= MAX_RADIUS:
        what = "holds no pair of cells" if radius < 2 else "has more pairs than fit in memory"
        raise InputError(f"radius {radius} {what}: expected a whole number from 2 to {MAX_RADIUS} (5 and 10 are usual)")
    half = [(y, x) for y in range(radius) for x in range(1 - radius, radius) if (y > 0 or x > 0) and y * y + x * x < radius**2]
    return tuple(sorted(half, key=lambda offset: len(line(*offset))))


def window(x: Shaped[Tensor, "*n h w"], radius: int, offset: Cell = (0, 0)) -> Shaped[Tensor, "*n y x"]:
    """The neighbours at one offset, as a view, of all cells whose neighbours at all :func:`offsets` lie on the grid.

    These cells are rows 0 to h - radius and columns radius - 1 to w - radius.

    Raises:
        InputError: the grid has no such cell.
    """
    (dy, dx), reach = offset, radius - 1
    height, width = x.shape[-2] - reach, x.shape[-1] - 2 * reach
    if height < 1 or width < 1:
        raise InputError(
            f"a grid of {x.shape[-2]} x {x.shape[-1]} cells has no pairs within radius {radius}: expected at least "
            f"{radius} x {2 * radius - 1}; take a larger crop or a smaller radius"
        )
    return x[..., dy : dy + height, reach + dx : reach + dx + width]


def neighbours(x: Shaped[Tensor, "*n h w"], radius: int) -> Shaped[Tensor, "*n p y x"]:
    """:func:`window` at each of the P :func:`offsets`, in their order."""
    return torch.stack([window(x, radius, offset) for offset in offsets(radius)], -3)


def pair_affinity(boundary: Float[Tensor, "n h w"], radius: int) -> Float[Tensor, "n p y x"]:
    """The affinity of neighbouring cells: ``a_ij = 1 - max of the boundary on the path from i to j``.

    Differentiable: the cell of largest *rank* on each path is found first, then its value is looked up.

    Args:
        boundary: [n, h, w] in [0, 1].
        radius: of the neighbourhood; its P :func:`offsets`.

    Returns:
        [n, P, y, x] in [0, 1], for the cells that have all neighbours on the grid (see :func:`window`).

    Raises:
        InputError: a radius below 2, or a grid too small for it.

    Example:
        >>> boundary = torch.tensor([[[0.0, 0.9, 0.2], [0.1, 0.3, 0.0]]])
        >>> [round(a, 1) for a in pair_affinity(boundary, 2).flatten().tolist()]  # right, below, lower left, lower right
        [0.1, 0.1, 0.1, 0.1]
    """
    values, order = boundary.flatten(1).sort(1)
    ranks = order.argsort(1).int().view(boundary.shape)
    highest = torch.stack([_largest(ranks, radius, line(*offset)) for offset in offsets(radius)], 1)
    return 1 - values.gather(1, highest.flatten(1).long()).view(highest.shape)


def _largest(x: Shaped[Tensor, "n h w"], radius: int, path: tuple[Cell, ...]) -> Shaped[Tensor, "n y x"]:
    """The maximum over the cells of a path, from every cell that has all neighbours."""
    largest = window(x, radius, path[0]).clone()
    for cell in path[1:]:
        torch.maximum(largest, window(x, radius, cell), out=largest)
    return largest
