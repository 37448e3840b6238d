"""YOLO's segmentation data set: a text file of polygons for each image, and ``data.yaml``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from advcam.data import Drawn
from advcam.errors import DataError, ImageError

from .drawing import RegionError, polygon
from .files import Folder, Held, held
from .masks import Add, Found, Losses, Masked, Names, Place, Size, Wishes, places
from .outlines import drawn, outlines

SPLITS = ("train", "val", "valid", "test")
MAX_YAML_BYTES = 2**20


@contextmanager
def write(out: Path, wishes: Wishes, losses: Losses) -> Iterator[Add]:
    """Writes ``data.yaml``, ``labels/train/ID.txt`` and copies of the images; images for scoring go to ``val``."""
    folder, named, splits, changed = Folder(out, "--to yolo"), wishes.names.written(), set[str](), 0
    numbers = {number: at for at, number in enumerate(named)}

    def add(masked: Masked) -> None:
        nonlocal changed
        split = "val" if masked.scored else "train"
        if wishes.copy_images:
            folder.copy(f"images/{split}/{masked.file}", masked.path)
        splits.add(split)
        lines = []
        height, width = masked.ids.shape
        for number, _, place in places(masked, named, losses):
            shapes = outlines(place, wishes.tolerance)
            again = np.zeros_like(place)
            for points in shapes:
                share = [f"{value:.8g}" for value in (points / (width, height)).ravel()]
                lines.append(" ".join([str(numbers[number]), *share]) + "\n")
                again |= drawn([np.asarray(share, dtype=np.float64).reshape(-1, 2) * (width, height)], masked.ids.shape)
            changed += int((again != place).sum())
        folder.text(f"labels/{split}/{masked.id}.txt", "".join(lines))

    with folder:
        yield add
        losses.changed = changed
        about: dict[str, Any] = {"train": "images/train", "val": f"images/{'val' if 'val' in splits else 'train'}"}
        about |= {"names": dict(enumerate(named.values()))}
        folder.text("data.yaml", _yaml().safe_dump(about, allow_unicode=True, sort_keys=False))


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads a folder or zip archive with ``data.yaml`` and ``labels``; smaller polygons lie on top.

    Raises:
        DataError: no such folder, no table of names, or a class that we do not have.
    """
    with held(source) as files:
        classes = _classes(files)
        texts = {name: found[1] for name in sorted(files.names) if (found := re.fullmatch(r"(?:.+?/)??labels/(.+)\.txt", name))}
        if not texts:
            raise DataError(f"{source}: expected labels/ID.txt, a file of polygons for each image; there is none")
        for name, below in texts.items():
            first, _, rest = below.partition("/")
            named = (below, rest) if first in SPLITS and rest else (below,)
            yield Found(named, _drawer(files, name, classes, names))


def _drawer(files: Held, name: str, classes: dict[int, str], names: Names) -> Any:
    def drawer(size: Size) -> Drawn:
        faults, regions = list[str](), list[tuple[int, int, Any]]()
        for at, line in enumerate(files.text(name).splitlines(), 1):
            if line.strip():
                where = f"{files.where(name)}:{at}"
                number = _number(line, where)
                if number not in classes:
                    raise DataError(f"{where}: is of class {number}, which data.yaml does not name")
                try:
                    place = _place(line, size, where)
                except RegionError as fault:
                    faults.append(str(fault))
                else:
                    regions.append((int(place.sum()), names.id_of(classes[number], where), np.packbits(place)))
                    if len(regions) * (place.size // 8) > 2**31:
                        raise ImageError(f"{where}: more regions than fit into memory")
        ids = np.zeros(size, dtype=np.uint8)
        for _, value, packed in sorted(regions, key=lambda region: -region[0]):
            ids[np.unpackbits(packed, count=ids.size).reshape(size).astype(bool)] = value
        return Drawn(ids, tuple(faults))

    return drawer


def _yaml() -> Any:
    return importlib.import_module("yaml")


def _number(line: str, where: str) -> int:
    word = line.split(maxsplit=1)[0]
    if not re.fullmatch(r"\d{1,6}", word):
        raise ImageError(f"{where}: expected the number of a class and a polygon, got {line[:40]!r}")
    return int(word)


def _place(line: str, size: Size, where: str) -> Place:
    words = line.split()[1:]
    if len(words) == 4:
        raise RegionError(f"{where}: is a box, not a polygon: export the data set for segmentation")
    try:
        values = np.asarray(words, dtype=np.float64)
    except ValueError:
        values = np.zeros(1)
    if len(values) % 2 or len(values) < 6:
        raise RegionError(f"{where}: expected x y of three points or more, as shares of width and height")
    return polygon(values.reshape(-1, 2) * (size[1], size[0]), size, where)


def _classes(files: Held) -> dict[int, str]:
    """The names of the class numbers, from ``data.yaml``.

    Raises:
        DataError: it is missing, or has no names.
    """
    there = [PurePosixPath(name) for name in files.names if name.endswith((".yaml", ".yml"))]
    path = str(min(there, key=lambda name: (name.name != "data.yaml", len(name.parts), name), default=""))
    if not there:
        raise DataError(f"{files.path}: there is no data.yaml with the names of the classes")
    try:
        names = _yaml().safe_load(files.take(path, MAX_YAML_BYTES))["names"]
        pairs = dict(enumerate(names)) if isinstance(names, list) else names
        found = {int(number): str(name) for number, name in pairs.items() if isinstance(name, (str, int))}
    except DataError:
        raise
    except Exception as error:  # yaml raises anything on a damaged file, such as RecursionError or ValueError
        raise DataError(f"{files.where(path)}: expected names: with a number and a name each ({error!s:.80})") from None
    if not found:
        raise DataError(f"{files.where(path)}: expected names: with a number and a name each")
    return found
