"""Rasterises COCO's regions: polygons and run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.errors import DataError
from advcam.limits import IGNORE, MAX_PIXELS

from .coco import CocoImage, number_of, shown

AT_ONCE = 2**24  # pairs of a row and an edge that are processed at once
FAR = 1e7  # pixels: larger coordinates are invalid


@dataclass(frozen=True)
class Drawn:
    """The mask of an image's regions.

    Args:
        ids: class ids [H, W], 0 background, 255 unknown; None if every pixel is unknown.
        faults: what was wrong with regions, and what was done about it.
    """

    ids: NDArray[np.uint8] | None
    faults: tuple[str, ...]


def draw(image: CocoImage, ids: Mapping[int, int] | None = None) -> Drawn:
    """The regions of an image as a mask; smaller regions are drawn over larger ones.

    Where a region cannot be drawn, the pixels of its box that no other region covers become 255; without a box, all pixels
    that no region covers.

    Args:
        image: with its regions.
        ids: the id in the mask of each category; None is the category's own.

    Raises:
        DataError: an image of unknown size, or too large.
    """
    if min(image.size) < 1:
        raise DataError(f"{image.name}: the annotation file does not say its height and width")
    if image.size[0] * image.size[1] > MAX_PIXELS:
        raise DataError(f"{image.name}: {image.size[1]}x{image.size[0]} is more than {MAX_PIXELS / 1e6:.0f} megapixels")
    faults: list[str] = []
    boxes, places = list[Box](), list[tuple[float, int, NDArray[np.uint8]]]()
    for made in image.regions:
        try:
            place, odd = region(made.segmentation, image.size)
        except DataError as error:
            box = box_of(made.box, image.size)
            boxes.append(box or (slice(None), slice(None)))
            only = ", only a box, whose pixels become 255" if box else " and no box: what no other region covers becomes 255"
            faults.append(f"annotation {made.id}: {error}{only}")
        else:
            faults += [f"annotation {made.id}: {fault}" for fault in odd]
            value = made.category if ids is None else ids[made.category]
            drawn = float(place.sum())
            area = made.area if 0 < made.area <= place.size else drawn  # else the stated area is impossible
            places.append((area, value, np.packbits(place)))  # an eighth of the memory
    mask: NDArray[np.uint8] = np.zeros(image.size, dtype=np.uint8)
    for _, value, packed in sorted(places, key=lambda entry: -entry[0]):
        mask[np.unpackbits(packed, count=mask.size).reshape(mask.shape).astype(bool)] = value
    for box in boxes:
        mask[box][mask[box] == 0] = IGNORE
    return Drawn(mask if (mask != IGNORE).any() else None, tuple(faults))


Box = tuple[slice, slice]


def box_of(box: Any, size: tuple[int, int]) -> Box | None:
    """The pixels that a box [x, y, width, height] touches; None if it is not a box, or touches none."""
    if not isinstance(box, (list, tuple)) or len(box) != 4 or None in (numbers := [number_of(side) for side in box]):
        return None
    x, y, width, height = (float(side or 0) for side in numbers)
    if width <= 0 or height <= 0:
        return None
    left, right = (int(min(max(edge, 0), size[1])) for edge in (np.floor(x), np.ceil(x + width)))
    top, bottom = (int(min(max(edge, 0), size[0])) for edge in (np.floor(y), np.ceil(y + height)))
    return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


def region(segmentation: Any, size: tuple[int, int]) -> tuple[NDArray[np.bool_], list[str]]:
    """A region's pixels [H, W], and what of it was left out: polygons, or run lengths as numbers or COCO's string.

    Raises:
        DataError: another form, or nothing that can be drawn.
    """
    if isinstance(segmentation, dict) and segmentation.get("counts") and "size" in segmentation:
        place = _of_runs(segmentation["counts"], segmentation["size"], size)
        if not place.any():
            raise DataError("run lengths without a pixel inside")
        return place, []
    if not isinstance(segmentation, list) or not any(segmentation):
        raise DataError("has no region" if segmentation in (None, [], [[]]) else _no_region(segmentation))
    place, faults = np.zeros(size, dtype=bool), list[str]()
    for at, polygon in enumerate(segmentation, 1):
        try:
            place |= _of_polygon(polygon, size)
        except DataError as error:
            faults.append(f"polygon {at} of {len(segmentation)} is left out: {error}")
    if len(faults) == len(segmentation):
        raise DataError(faults[0].partition(": ")[2])
    return place, faults


def _no_region(segmentation: Any) -> str:
    what = "run lengths under counts and size" if isinstance(segmentation, dict) else "polygons or run lengths"
    return f"has no region (expected {what}, got {shown(segmentation)})"


def _of_polygon(polygon: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise DataError("a polygon is x, y of three points or more")
    numbers = [number_of(value) for value in polygon]
    odd = next((value for value, number in zip(polygon, numbers, strict=True) if number is None or abs(number) > FAR), None)
    if odd is not None or None in numbers:
        raise DataError(f"a polygon is numbers, got {shown(odd)}")
    place = inside(np.asarray(numbers, dtype=float).reshape(-1, 2), size)
    if not place.any():
        raise DataError("a polygon without area, or outside the image")
    return place


def _of_runs(counts: Any, there: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    sides = [number_of(side) for side in there] if isinstance(there, (list, tuple)) else []
    if sides != list(size):
        raise DataError(f"expected run lengths of (height, width) {size}, got {shown(there)}")
    if isinstance(counts, str):
        return from_runs(runs(counts), size)
    numbers = [number_of(count) for count in counts] if isinstance(counts, list) else [None]
    if any(number is None or number != int(number) for number in numbers):
        raise DataError(f"run lengths are whole numbers, got {shown(counts)}")
    return from_runs([int(number or 0) for number in numbers], size)


def inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels [H, W] whose centres lie in a polygon of points (x, y), by the even-odd rule."""
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    left, top = np.floor(points.min(0)).clip(0, size[::-1]).astype(int)
    right, bottom = np.ceil(points.max(0)).clip(0, size[::-1]).astype(int)
    rows = np.arange(top, bottom) + 0.5
    crossed = np.zeros((bottom - top, right - left + 1), dtype=np.int32)
    at_once = max(1, AT_ONCE // max(1, len(rows)))
    for some in (slice(start, start + at_once) for start in range(0, len(points), at_once)):
        row, edge = np.nonzero((y0[some] <= rows[:, None]) != (y1[some] <= rows[:, None]))
        share = (rows[row] - y0[some][edge]) / (y1[some] - y0[some])[edge]
        first = np.ceil(x0[some][edge] + share * (x1[some] - x0[some])[edge] - 0.5).clip(left, right).astype(int)
        np.add.at(crossed, (row, first - left), 1)
    place = np.zeros(size, dtype=bool)
    place[top:bottom, left:right] = crossed.cumsum(1)[:, :-1] & 1
    return place


def from_runs(counts: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Run lengths as pixels [H, W]: outside, inside, outside, ..., down the columns.

    Raises:
        DataError: they do not add up to the image's pixels.
    """
    pixels = size[0] * size[1]
    odd = next((count for count in counts if not 0 <= count <= pixels), None)
    if odd is not None:
        raise DataError(f"run lengths are 0 to {pixels}, got {shown(odd)}")
    if sum(counts) != pixels:
        raise DataError(f"run lengths must add up to {size[0]} x {size[1]} pixels, got {shown(sum(counts))}")
    lengths = np.asarray(counts, dtype=np.int64)
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(size[1], size[0]).T


def runs(text: str) -> list[int]:
    """Decodes COCO's string of run lengths: five bits a character, lowest first, a sixth bit for continuation; from the fourth
    length on, differences to the length two before.

    Raises:
        DataError: a character that COCO does not use, or a truncated string.
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
            if shift > 60:
                raise DataError("a run length larger than any image")
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("the string of run lengths is truncated")
    return counts
