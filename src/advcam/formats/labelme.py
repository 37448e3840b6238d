"""LabelMe's JSON, one file an image: polygons that can be edited, or masks."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from PIL import Image

from advcam.data import Drawn
from advcam.data import Place as Where
from advcam.data.tools import addresses
from advcam.errors import DataError, ImageError, StoreError
from advcam.store import read_json

from .drawing import RegionError, box, ellipse, polygon, same_size
from .files import MAX_TEXT_BYTES, Folder, decoded
from .masks import Add, Found, Losses, Masked, Names, Place, Size, Wishes, bounds, places
from .outlines import drawn, outlines

VERSION = "5.5.0"
"""The version of LabelMe whose files these are; others read them."""


class Shape(TypedDict):
    """A region: points (x, y) of a polygon, or the corners of a rectangle or mask, or centre and edge of a circle."""

    label: str
    points: list[tuple[float, float]]
    shape_type: NotRequired[str | None]
    mask: NotRequired[str | None]


class Labelled(TypedDict):
    """A file of LabelMe's."""

    shapes: list[Shape]
    imagePath: NotRequired[str | None]
    imageHeight: NotRequired[int | None]
    imageWidth: NotRequired[int | None]


@contextmanager
def write(out: Path, wishes: Wishes, losses: Losses) -> Iterator[Add]:
    """Writes ``ID.json`` for each image, which says where the image is, relative to itself."""
    folder, named, changed = Folder(out, "--to labelme"), wishes.names.written(), 0
    polygons = wishes.shapes != "masks"

    def add(masked: Masked) -> None:
        nonlocal changed
        shapes = list[dict[str, Any]]()
        for _, name, place in places(masked, named, losses):
            if polygons:
                found = outlines(place, wishes.tolerance)
                changed += int((drawn(found, place.shape) != place).sum())
                shapes += [_shape(name, "polygon", points.tolist(), None) for points in found]
            else:
                shapes.append(_mask_shape(name, place))
        height, width = masked.ids.shape
        place_of = out / f"{masked.id}.json"
        about = {
            "version": VERSION, "flags": {}, "shapes": shapes, "imagePath": _relative(masked.path, place_of.parent),
            "imageData": None, "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        folder.text(f"{masked.id}.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")

    with folder:
        yield add
        losses.changed = changed if polygons else None


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads a folder of JSON files, or one file; later shapes lie on top.

    A file is the image's of its own path below the folder; else of the name that it says.

    Raises:
        DataError: no such folder or file, or none in it.
    """
    files = [source] if source.is_file() else sorted(source.rglob("*.json"))
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise DataError(f"{source}: expected a folder of LabelMe's JSON files, or one of them; there is none")
    for path in files:
        own = path.name if path == source else path.relative_to(source).as_posix()
        try:
            if path.stat().st_size > MAX_TEXT_BYTES:
                raise StoreError(f"{path}: has more than {MAX_TEXT_BYTES} bytes; save it without image data")
            made = read_json(path, Labelled, "export it again", "not a file of LabelMe's")
        except StoreError as error:
            yield Found((own.removesuffix(".json"),), _refuser(str(error)))
            continue
        yield Found((own.removesuffix(".json"), *addresses(made.get("imagePath") or "")), _drawer(path, made, names))


def _refuser(message: str) -> Any:
    def refuser(_size: Size) -> Drawn:
        raise ImageError(message)

    return refuser


def _drawer(path: Path, made: Labelled, names: Names) -> Any:
    def drawer(size: Size) -> Drawn:
        said = made.get("imageHeight") or size[0], made.get("imageWidth") or size[1]
        same_size(said, size, str(path))
        ids, faults = np.zeros(size, dtype=np.uint8), list[str]()
        for at, shape in enumerate(made["shapes"], 1):
            where = f"{path}: shape {at}"
            value = names.id_of(shape["label"], where)
            try:
                ids[_place(shape, size, where)] = value
            except RegionError as fault:
                faults.append(str(fault))
        return Drawn(ids, tuple(faults))

    return drawer


def _place(shape: Shape, size: Size, where: str) -> Place:
    points, kind = shape["points"], shape.get("shape_type") or "polygon"
    if kind == "polygon":
        return polygon(points, size, where)
    if kind in ("rectangle", "circle", "mask") and len(points) == 2:
        (x0, y0), (x1, y1) = points
        if kind == "rectangle":
            return box(x0, y0, x1, y1, size, where)
        if kind == "circle":
            radius = math.hypot(x1 - x0, y1 - y0) if all(map(math.isfinite, (x0, y0, x1, y1))) else 0.0
            return ellipse(x0, y0, radius, radius, size, where)
        return _of_mask(shape.get("mask") or "", x0, y0, x1, y1, size, where)
    raise RegionError(f"{where}: is a {kind[:20]} of {len(points)} points, which has no area")


def _of_mask(text: str, x0: float, y0: float, x1: float, y1: float, size: Size, where: str) -> Place:
    """A mask: a PNG of the pixels between two corners, both included."""
    if not all(number == int(number) for number in (x0, y0, x1, y1) if math.isfinite(number)):
        raise RegionError(f"{where}: the corners of a mask are whole numbers")
    corners = [x0, y0, x1, y1]
    if not (0 <= x0 <= x1 < size[1] and 0 <= y0 <= y1 < size[0]):
        raise RegionError(f"{where}: a mask between the corners {corners} does not fit into the image")
    left, top, right, bottom = map(int, corners)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RegionError(f"{where}: its mask is not base64") from None
    place = np.zeros(size, dtype=bool)
    try:
        crop = decoded(data, (bottom + 1 - top, right + 1 - left), where).convert("L")
    except ImageError as error:
        raise RegionError(str(error)) from None
    place[top : bottom + 1, left : right + 1] = np.asarray(crop)
    if not place.any():
        raise RegionError(f"{where}: covers no pixel of the image")
    return place


def _mask_shape(name: str, place: Place) -> dict[str, Any]:
    x, y, width, height = bounds(place)
    stream = io.BytesIO()
    Image.fromarray(place[y : y + height, x : x + width]).convert("L").save(stream, "PNG", optimize=True)
    corners = [[x, y], [x + width - 1, y + height - 1]]
    return _shape(name, "mask", corners, base64.b64encode(stream.getvalue()).decode("ascii"))


def _shape(name: str, kind: str, points: list[Any], mask: str | None) -> dict[str, Any]:
    return {
        "label": name, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}, "mask": mask,
    }  # fmt: skip


def _relative(path: Where, folder: Path) -> str:
    """The path of an image from a folder; the whole path where there is no way."""
    if not isinstance(path, Path):
        return str(path)
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return str(path.resolve())
