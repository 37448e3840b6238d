"""COCO's regions, polygons and run lengths, as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.errors import DataError

from .coco import CocoImage


def draw(image: CocoImage) -> NDArray[np.uint8]:
    """The categories' ids [H, W] of a picture; of two regions that overlap the smaller lies on top.

    Args:
        image: with its regions.

    Raises:
        DataError: a picture of unknown size, or a region that cannot be drawn.
    """
    if min(image.size) < 1:
        raise DataError(f"{image.name}: the annotation file does not say its height and width")
    mask = np.zeros(image.size, dtype=np.uint8)
    for made in sorted(image.regions, key=lambda region: -region.area):
        try:
            mask[region(made.segmentation, image.size)] = made.category
        except DataError as error:
            raise DataError(f"{image.name}: annotation {made.id}: {error}") from None
    return mask


def region(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a region is, [H, W]: polygons (any of them), or run lengths, as numbers or in COCO's string.

    Raises:
        DataError: neither of these, or run lengths of another size.
    """
    if isinstance(segmentation, dict) and {"counts", "size"} <= segmentation.keys():
        counts, there = segmentation["counts"], tuple(segmentation["size"])
        if there != size:
            raise DataError(f"expected run lengths of (height, width) {size}, got {there}")
        return from_runs(runs(counts) if isinstance(counts, str) else counts, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError(f"expected polygons or run lengths, got {type(segmentation).__name__}")
    place = np.zeros(size, dtype=bool)
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError("a polygon is x, y of three points or more")
        place |= inside(np.asarray(polygon, dtype=float).reshape(-1, 2), size)
    return place


def inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie in a polygon of points (x, y), [H, W]: an odd number of its edges is left of them."""
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    left, top = np.floor(points.min(0)).clip(0, size[::-1]).astype(int)
    right, bottom = np.ceil(points.max(0)).clip(0, size[::-1]).astype(int)
    rows = np.arange(top, bottom) + 0.5
    row, edge = np.nonzero((y0 <= rows[:, None]) != (y1 <= rows[:, None]))
    share = (rows[row] - y0[edge]) / (y1[edge] - y0[edge])
    first = np.ceil(x0[edge] + share * (x1[edge] - x0[edge]) - 0.5).clip(left, right).astype(int)
    crossed = np.zeros((bottom - top, right - left + 1), dtype=np.int32)
    np.add.at(crossed, (row, first - left), 1)
    place = np.zeros(size, dtype=bool)
    place[top:bottom, left:right] = crossed.cumsum(1)[:, :-1] & 1
    return place


def from_runs(counts: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Run lengths as pixels [H, W]: outside, inside, outside, ..., down the columns.

    Raises:
        DataError: they do not add up to the picture.
    """
    lengths = np.asarray(counts, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise DataError(f"run lengths must add up to {size[0]} x {size[1]} pixels, got {lengths.sum()}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size[1], size[0]).T


def runs(text: str) -> list[int]:
    """The run lengths in COCO's string: five bits a character, the lowest first, a sixth for "more follow"; from the fourth
    length on the difference to the one two before.

    Raises:
        DataError: a character that COCO does not use, or a string that breaks off.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise DataError(f"{character!r} is no character of COCO's run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("the string of run lengths breaks off")
    return counts
