"""Draws regions with labels, as other tools list them, into a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from advcam.data.regions import inside
from advcam.errors import DataError, ImageError

from .masks import Place, Size

MAX_POINTS = 2_000_000
"""Most points of a polygon: no outline in an image has more."""
FAR = 1e7
"""Pixels from the image beyond which a point is no point of it."""


class RegionError(DataError):
    """A region that cannot be drawn; the others of its image are."""


def polygon(points: Any, size: Size, where: str) -> Place:
    """The pixels [H, W] of a polygon of points (x, y).

    Raises:
        RegionError: not at least three pairs of finite numbers, or a polygon without a pixel.
    """
    if len(points) > MAX_POINTS:
        raise RegionError(f"{where}: has {len(points)} points, more than {MAX_POINTS}")
    try:
        pairs = np.asarray(points, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        pairs = np.zeros(0)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) < 3 or not (np.abs(pairs) < FAR).all():
        raise RegionError(f"{where}: expected three points x, y or more, in pixels")
    return _some(inside(pairs, size), where)


def box(x0: float, y0: float, x1: float, y1: float, size: Size, where: str) -> Place:
    """The pixels [H, W] whose centres lie in a box.

    Raises:
        RegionError: no finite numbers, or a box without a pixel.
    """
    return polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], size, where)


def ellipse(x: float, y: float, across: float, down: float, size: Size, where: str) -> Place:
    """The pixels [H, W] whose centres lie in an upright ellipse around (x, y).

    Raises:
        RegionError: as :func:`box`.
    """
    if not all(abs(number) < FAR for number in (x, y, across, down)) or min(across, down) <= 0:
        raise RegionError(f"{where}: expected a centre and radii above 0")
    rows, columns = (np.arange(side) + 0.5 for side in size)
    return _some(((columns[None] - x) / across) ** 2 + ((rows[:, None] - y) / down) ** 2 <= 1, where)


def same_size(said: Size, size: Size, where: str) -> None:
    """Checks the size that a file says an image has.

    Raises:
        ImageError: it differs.
    """
    if said != size:
        raise ImageError(f"{where}: is {said[1]}x{said[0]} there, the image is {size[1]}x{size[0]} (another version of it?)")


def _some(place: Place, where: str) -> Place:
    if not place.any():
        raise RegionError(f"{where}: covers no pixel of the image")
    return place
