"""Regions as polygons, and polygons as regions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from advcam.data.regions import inside

from .masks import Place, Size

Points = NDArray[np.float64]


def outlines(place: Place, tolerance: float = 0.0) -> list[Points]:
    """The outlines of a region as polygons of points (x, y), in pixels from the image's upper left corner.

    Each connected part is a polygon of its own. A hole is joined to the outline around it by a slit, a line that is drawn there
    and back, so that one polygon holds both. Outlines run between the centres of pixels inside and outside; drawn again by
    centres (:func:`drawn`, COCO's tools), they are the region.

    Args:
        place: the region [H, W].
        tolerance: points are left out where the outline then moves by at most so many pixels.
    """
    rows, columns = np.flatnonzero(place.any(1)), np.flatnonzero(place.any(0))
    if not rows.size:
        return []
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    padded = np.pad(place[top:bottom, left:right], 1).astype(np.float64)
    y, x = np.arange(top, bottom + 2) - 0.5, np.arange(left, right + 2) - 0.5
    lines = contour_generator(x, y, padded, name="serial", fill_type=FillType.OuterOffset)
    found = []
    for points, offsets in zip(*lines.filled(0.5, 2.0), strict=True):
        rings = [_simpler(points[begin : end - 1], tolerance) for begin, end in pairwise(offsets.tolist())]
        found.append(_with_slits(rings))
    return found


def drawn(polygons: Iterable[Points], size: Size) -> Place:
    """The pixels [H, W] whose centres lie in any of the polygons, each by the even-odd rule."""
    place = np.zeros(size, dtype=bool)
    for points in polygons:
        left, top = np.floor(points.min(0)).clip(0, size[::-1]).astype(int)
        right, bottom = np.ceil(points.max(0)).clip(0, size[::-1]).astype(int)
        place[top:bottom, left:right] |= inside(points - (left, top), (bottom - top, right - left))
    return place


def _with_slits(rings: Sequence[Points]) -> Points:
    outer, *holes = rings
    for hole in holes:
        near = int(((outer - hole[0]) ** 2).sum(1).argmin())
        outer = np.concatenate([outer[: near + 1], hole, hole[:1], outer[near:]])
    return outer


def _simpler(ring: Points, tolerance: float) -> Points:
    """A closed line without points that are at most ``tolerance`` from the line between those that stay (Douglas-Peucker)."""
    before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
    ring = ring[_cross(ring - before, after - ring) != 0]  # points on a straight line
    if tolerance <= 0 or len(ring) < 4:
        return ring
    far = int(((ring - ring[0]) ** 2).sum(1).argmax())
    keep, todo = {0, far}, [(0, far), (far, len(ring))]
    while todo:
        begin, end = todo.pop()
        if end - begin < 2:
            continue
        a, b = ring[begin], ring[end % len(ring)]
        between = ring[begin + 1 : end]
        length = np.hypot(*(b - a))
        distance = np.abs(_cross(b - a, between - a)) / length if length else np.hypot(*(between - a).T)
        most = int(distance.argmax())
        if distance[most] > tolerance:
            middle = begin + 1 + most
            keep.add(middle)
            todo += [(begin, middle), (middle, end)]
    return ring[sorted(keep)] if len(keep) > 2 else _simpler(ring, tolerance / 2)  # else nothing would be left


def _cross(a: Points, b: Points) -> NDArray[np.float64]:
    product: NDArray[np.float64] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return product
