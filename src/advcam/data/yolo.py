"""Labels from YOLO's text files: a number of a class and a box or polygon on each line."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

from advcam.errors import DataError
from advcam.limits import MAX_CLASSES

from .labels import ClassTable, Found, Row, normal
from .text import read_any_text, read_bytes, written

LISTS = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "classes.names")
"""Files with the names of the classes, beside the labels or in a folder above."""

OTHER = frozenset({"notes", "readme", "readme.dataset", "readme.roboflow", "train", "val", "valid", "test"})
"""Names of text files outside of ``labels`` that are no labels."""

SHAPE = re.compile(r"\d{1,6}(?:\s+[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?){4,}\s*", re.IGNORECASE)
"""A class and a box, or a polygon of two points or more."""

MAX_YAML_BYTES = 2**20
TRIED = 50
"""Text files of which one must look like YOLO's."""


def yolo_files(folder: Path) -> list[Path]:
    """The text files of a YOLO data set, which has a list of its classes; none for other folders."""
    if _list_of(folder) is None:
        return []
    every = ((path, path.relative_to(folder).parts) for path in sorted(folder.rglob("*.txt")))
    seen = [(path, parts) for path, parts in every if not any(part.startswith(".") for part in parts)]
    found = [(path, parts) for path, parts in seen if path.name not in LISTS]
    below = [path for path, parts in found if "labels" in parts[:-1]]
    files = below or [path for path, _ in found if path.stem.lower() not in OTHER]
    return files if _are_shapes(files) else []


def _are_shapes(files: list[Path]) -> bool:
    """Whether one of the first files that are not empty begins with a box or polygon; true where all are empty."""
    begun = [line for path in files[:TRIED] if (line := _begin(path))]
    return any(SHAPE.match(line) for line in begun) if begun else bool(files)


def _begin(path: Path) -> str:
    """The first line that is not blank; empty where there is none or it is no text."""
    try:
        with path.open("rb") as file:
            text = file.read(4096).decode("utf-8-sig", "ignore")
    except OSError:
        return ""
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def read_yolo(folder: Path, files: list[Path]) -> Found:
    """The labels of YOLO's text files, boxes and polygons alike. An empty file means none of the classes; an image without a
    file is left out, as nobody may have looked at it.

    Raises:
        DataError: the list of classes cannot be read, or no file can be used.
    """
    listed = _list_of(folder)
    names = class_names(listed) if listed else {}
    rows, unusable = list[Row](), list[tuple[str, str]]()
    base = next((above.parent for above in (folder, *folder.parents) if above.name == "labels"), folder)
    for path in files:
        key, *others = _names(path.relative_to(base))
        try:
            rows.append(Row(written(str(path), key), _labels(path, names), str(path), others=tuple(others)))
        except DataError as error:
            unusable.append((key.encode(errors="replace").decode(), str(error)))
    if not rows:
        raise DataError(unusable[0][1] if unusable else f"{folder}: no text file of YOLO's in it")
    used = {label for row in rows for label in row.labels}
    kept = {number: name for number, name in names.items() if len(names) <= MAX_CLASSES or name in used}
    if len(kept) > MAX_CLASSES:
        raise DataError(f"{listed}: {len(kept)} classes have objects; 8-bit masks hold at most {MAX_CLASSES}")
    whole = [*kept] == [*range(len(kept))] and len(kept) == len(names)
    ids = tuple(number + 1 for number in kept) if max(kept) < MAX_CLASSES else tuple(range(1, len(kept) + 1))
    notes = () if whole else (f"class numbers of {listed} that are used: {len(kept)}",)
    found = Found(f"YOLO, {len(files)} text files", rows, ClassTable(ids, tuple(kept.values())), tuple(unusable), notes=notes)
    return _one_each(found)


def _one_each(found: Found) -> Found:
    seen = dict[str, str]()
    for row in found.rows:
        if row.name in seen:
            raise DataError(f"{row.where}: image {row.name!r} was already given at {seen[row.name]}")
        seen[row.name] = row.where
    return found


def _names(below: Path) -> list[str]:
    """The names that an image may have whose text file this is: in ``images`` where that is in ``labels``, or fewer folders."""
    parts = normal(below.with_suffix("").as_posix()).split("/")
    at = max((at for at, part in enumerate(parts[:-1]) if part == "labels"), default=None)
    swapped = parts if at is None else [*parts[:at], "images", *parts[at + 1 :]]
    without = parts if at is None else [*parts[:at], *parts[at + 1 :]]
    ends = (["/".join(some[at:]) for at in range(len(some))] for some in (swapped, without))
    return list(dict.fromkeys(name for some in ends for name in some if name != "images"))


def _labels(path: Path, names: dict[int, str]) -> tuple[str, ...]:
    data = read_bytes(path, "text file of labels")
    if not data.strip():
        return ()
    found = dict[str, None]()
    for at, line in enumerate(read_any_text(path, "text file of labels").text.splitlines(), 1):
        if not line.strip():
            continue
        if not SHAPE.fullmatch(line.strip()):
            raise DataError(
                f"{path}:{at}: expected a class and x y width height, or a class and a polygon, got {line.strip():.60}"
            )
        number = int(line.split(maxsplit=1)[0])
        if number not in names:
            raise DataError(f"{path}:{at}: is of class {number}, which the list of {len(names)} classes does not name")
        found[names[number]] = None
    return tuple(found)


def _list_of(folder: Path) -> Path | None:
    """The list of classes: in the folder, in its ``labels``, or in one of two folders above."""
    near = (folder, folder / "labels", folder.parent, folder.parent.parent)
    return next((path for place in near for name in LISTS if (path := place / name).is_file()), None)


def class_names(path: Path) -> dict[int, str]:
    """The names of class numbers, from ``data.yaml`` or a list with one on each line.

    Raises:
        DataError: it has no names, or gives one twice.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        names = _of_yaml(path)
    else:
        lines = read_any_text(path, "list of classes").text.splitlines()
        names = {at: normal(line) for at, line in enumerate(lines) if line.strip()}
    count = Counter(names.values())
    odd = next((name for name, times in count.items() if not name or times > 1), None)
    if not names or odd is not None:
        said = f"{odd!r:.60} is empty or there twice" if odd is not None else "there are none"
        raise DataError(f"{path}: expected a name for each number of a class; {said}")
    return {number: written(str(path), names[number]) for number in sorted(names)}


def _of_yaml(path: Path) -> dict[int, str]:
    data = read_bytes(path, "list of classes")
    try:
        if len(data) > MAX_YAML_BYTES:
            raise ValueError(f"it has more than {MAX_YAML_BYTES} bytes")
        named: Any = importlib.import_module("yaml").safe_load(data)["names"]
        pairs = dict(enumerate(named)) if isinstance(named, list) else dict(named)
        return {
            int(number): normal(str(name)) for number, name in pairs.items() if type(name) in (str, int) and int(number) >= 0
        }
    except Exception as error:  # yaml raises anything on a damaged file, such as RecursionError or ValueError
        raise DataError(
            f"{path}: expected names: with a number and a name each ({' '.join(str(error).split()):.100})"
        ) from None
