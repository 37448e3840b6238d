"""Labels in small files beside the images of an archive, as webdataset has them: ``ID.cls``, ``ID.json``, ``ID.txt``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from advcam.errors import DataError

from .columns import LABELS, is_objects, labelled, objects
from .labels import Found
from .names import by_id
from .places import Place
from .tables import key, object_table
from .yolo import SHAPE

MOST = 2**20
"""Most bytes of such a file."""


def read_beside(folder: Place, files: Sequence[tuple[str, Place]]) -> Found | None:
    """The labels beside the images of an archive or of a folder of archives; None where there are none.

    The first kind counts that any image has: ``.cls``, ``.json`` that says labels, ``.txt``. An image without one is left out.

    Args:
        folder: the archive or the folder.
        files: what it holds; see :func:`~.places.files_below`.

    Raises:
        DataError: a file that is no label, or no image with one.
    """
    there = dict(files)
    images = by_id(folder, files)
    for suffix, read in ((".cls", _text), (".json", _json), (".txt", _text)):
        beside = {name: at for name in images if (at := there.get(name + suffix)) is not None}
        found = _found(folder, suffix, beside, read) if beside else None
        if found:
            left = len(images) - len(beside)
            return replace(found, notes=(f"{left} images without one are left out",) if left else ())
    return None


def _found(folder: Place, suffix: str, beside: dict[str, Place], read: Callable[[str], Any]) -> Found | None:
    entries, unusable = list[tuple[str, Any]](), list[tuple[str, str]]()
    for name, at in beside.items():
        try:
            entries.append((str(at), {"image": name, **read(_content(at))}))
        except DataError as error:
            unusable.append((name, f"{at}: {error}"))
    table = object_table(str(folder), "webdataset", entries, unusable)
    reader = labelled if table.column(LABELS) else objects if is_objects(table) else None
    if reader is None:
        return None
    return replace(reader(table), form=f"webdataset, {suffix} beside the images")


def _content(at: Place) -> str:
    try:
        data = at.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from None
    if len(data) > MOST:
        raise DataError(f"has more than {MOST} bytes, which no label has")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("is not UTF-8") from None


def _text(text: str) -> dict[str, Any]:
    if SHAPE.match(text.strip()):
        raise DataError("looks like YOLO's boxes; unpack the archive and give its folder with data.yaml")
    return {"labels": [name for line in text.splitlines() for name in line.split(";")]}


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON ({' '.join(str(error).split()):.80})") from None
    if type(value) in (str, int, list):
        return {"labels": value}
    if not isinstance(value, dict):
        raise DataError("expected an object with labels")
    names = {key(name): name for name in reversed(value)}
    label = next((names[name] for name in ("cls", *LABELS) if name in names), None)
    if label is not None:
        return {"labels": value[label]}
    return {"objects": value[names["objects"]]} if "objects" in names else {}
