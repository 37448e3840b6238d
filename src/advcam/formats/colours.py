"""Masks as colours, with ``labelmap.txt`` for their names: PASCAL VOC and CVAT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from advcam.data import Drawn
from advcam.data.voc import CLASSES
from advcam.errors import DataError, ImageError
from advcam.limits import IGNORE
from advcam.refinement.instances import connected_components
from advcam.store.masks import voc_palette

from .files import Held, png
from .masks import IGNORED, Found, Ids, Masked, Names, Size, bounds

LABELMAP = "labelmap.txt"
CLASS_FOLDER, OBJECT_FOLDER = "SegmentationClass", "SegmentationObject"

PALETTE = np.asarray(voc_palette(), dtype=np.uint8).reshape(256, 3)
"""VOC's colour of each id."""
CHANNELS = np.asarray([1 << 16, 1 << 8, 1], dtype=np.int32)


def labelmap(named: Mapping[int, str]) -> str:
    """``labelmap.txt`` of the names of ids: a name, its colour, and two columns that stay empty.

    Raises:
        DataError: a name that the file cannot hold.
    """
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    if twice := {"background"} & {*named.values()}:
        raise DataError(f"class {twice.pop()!r}: a label map has a background of its own; rename the class")
    for number, name in named.items():
        if ":" in name or name.startswith("#") or name.strip() != name or len(name.splitlines()) != 1:
            raise DataError(f"class {name!r:.60}: a label map cannot hold ':', '#' in front, or a line break; rename the class")
        lines.append(f"{name}:{','.join(map(str, PALETTE[number].tolist()))}::")
    return "\n".join(lines) + "\n"


def line_of(masked: Masked) -> str:
    """An image's line in a list of ``ImageSets``.

    Raises:
        ImageError: a name that would be a comment.
    """
    if masked.id.startswith("#"):
        raise ImageError(f"{masked.file!r}: a line that begins with '#' is a comment in a list; rename the image")
    return f"{masked.id}\n"


def objects(ids: Ids, most: int) -> tuple[Ids, dict[int, int]]:
    """Numbers the connected parts of each class, from 1; where there are more than ``most``, a class's smallest share a number.

    Returns:
        The number of each pixel [H, W], 0 outside (also of 255), and the class id of each number.
    """
    found: list[tuple[int, tuple[slice, slice], NDArray[Any], NDArray[Any]]] = []
    for value in np.setdiff1d(np.unique(ids), [0, IGNORE]).tolist():
        place = ids == value
        x, y, width, height = bounds(place)
        part = (slice(y, y + height), slice(x, x + width))
        regions = connected_components(torch.from_numpy(np.ascontiguousarray(place[part]))).numpy()
        found.append((value, part, regions, np.bincount(regions.ravel())[1:]))
    sizes = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *(sizes for *_, sizes in found)]))[::-1]
    least = int(sizes[most - len(found)]) if len(sizes) > most else 0  # parts of at most this size share a number
    numbered, classes = np.zeros(ids.shape, dtype=np.uint8), dict[int, int]()
    for value, part, regions, sizes in found:
        large = sizes > least
        first = len(classes) + 1
        numbers = np.where(large, first + np.cumsum(large) - 1, first + large.sum())
        classes |= dict.fromkeys(np.unique(numbers).tolist(), value)
        numbered[part] = np.maximum(numbered[part], np.concatenate([[0], numbers]).astype(np.uint8)[regions])
    return numbered, classes


def found_in(files: Held, root: str, names: Names) -> Iterator[Found]:
    """The masks of a folder ``SegmentationClass``, by ``labelmap.txt``, or by VOC's 20 classes where there is none.

    Raises:
        DataError: a label map that cannot be read.
    """
    table = _table(files, f"{root}{LABELMAP}") if f"{root}{LABELMAP}" in files.names else _of_voc()
    start = f"{root}{CLASS_FOLDER}/"
    for name in sorted(files.names):
        if name.startswith(start) and name.lower().endswith(".png"):
            yield Found((name[len(start) : -4],), _drawer(files, name, table, names))


@dataclass(frozen=True)
class Table:
    """The labels of colours 0xRRGGBB, and of the numbers that greyscale masks hold."""

    colours: dict[int, str]
    numbers: dict[int, str]


def _drawer(files: Held, name: str, table: Table, names: Names) -> Any:
    def drawer(size: Size) -> Drawn:
        image, where = png(files, name, size), files.where(name)
        grey = image.mode == "L"
        known, values = (table.numbers, np.asarray(image)) if grey else (table.colours, _packed(image, where))
        found, inverse = np.unique(values, return_inverse=True)
        odd = next((value for value in found.tolist() if value not in known), None)
        if odd is not None:
            what = f"number {odd}" if grey else "colour " + ",".join(str(odd >> shift & 255) for shift in (16, 8, 0))
            raise ImageError(f"{where}: holds the {what}, which {LABELMAP} does not name")
        ids = [names.id_of(known[value], where) for value in found.tolist()]
        return Drawn(np.asarray(ids, dtype=np.uint8)[inverse.reshape(size)], ())

    return drawer


def _packed(image: Image.Image, where: str) -> NDArray[Any]:
    """The colour of each pixel as one number."""
    if image.mode not in ("P", "RGB", "RGBA"):
        raise ImageError(f"{where}: expected a palette or colour PNG, got one of mode {image.mode}")
    colours = np.asarray(image.convert("RGB"))
    packed: NDArray[Any] = colours.astype(np.int32) @ CHANNELS
    return packed


def _of_voc() -> Table:
    numbers = {0: "background", **dict(zip(CLASSES.ids, CLASSES.names, strict=True)), IGNORE: IGNORED}
    return Table({int(PALETTE[number] @ CHANNELS): label for number, label in numbers.items()}, numbers)


def _table(files: Held, name: str) -> Table:
    """The labels of a label map; numbers are their places."""
    found: dict[int, str] = {}
    for at, line in enumerate(files.text(name).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        label, *rest = line.strip().rsplit(":", 3)
        parts = rest[0].split(",") if len(rest) == 3 else []
        if len(parts) != 3 or not all(part.strip().isdecimal() and len(part) < 9 and int(part) < 256 for part in parts):
            raise DataError(f"{files.where(name)}:{at}: expected name:red,green,blue:: , got {line[:60]!r}")
        red, green, blue = map(int, parts)
        colour = red << 16 | green << 8 | blue
        if found.setdefault(colour, label) != label:
            raise DataError(f"{files.where(name)}:{at}: {label!r:.40} has the colour of {found[colour]!r:.40}; give it its own")
    return Table(found, {IGNORE: IGNORED, **dict(enumerate(found.values()))})
