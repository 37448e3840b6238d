"""Labels from labelling tools: Label Studio's exports, and CVAT's XML for images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from advcam.errors import DataError

from .columns import LABELS, clean, image_column, rows_of
from .labels import Found, Row, normal, unique
from .tables import Table, is_image, key, object_table, short

if TYPE_CHECKING:
    from .places import Place

STUDIO = frozenset({"annotator", "annotation_id", "lead_time", "created_at", "updated_at"})
"""Columns of Label Studio's exports beside the labels."""

CHOICE = ("choice", "choices", *LABELS)
"""Usual names of Label Studio's questions; others are found by their answers."""

DEPTH = 12
"""Folders of an address, from its end, in which an image is looked for."""


def is_tasks(value: Any) -> bool:
    """Whether JSON is Label Studio's list of tasks."""
    some = value[0] if isinstance(value, list) and value else None
    return isinstance(some, dict) and "data" in some and bool({"annotations", "completions"} & some.keys())


def is_studio(table: Table) -> bool:
    """Whether a table is Label Studio's CSV or JSON-MIN."""
    keys = {key(name) for name in table.header}
    return len(STUDIO & keys) > 1 or "choice" in keys


def studio_tasks(path: Place, tasks: Sequence[Any]) -> Found:
    """Label Studio's JSON: the choices and the regions' labels of each task's annotations. A task without one is left out.

    Raises:
        DataError: no task with an annotation and an image.
    """
    entries, left = list[tuple[str, Any]](), 0
    unusable: list[tuple[str, str]] = []
    for at, task in enumerate(tasks, 1):
        where = f"{path} (task {at})"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            unusable.append(("", f"{where}: expected a task with data and annotations, got {short(task)}"))
            continue
        done = task.get("annotations", task.get("completions"))
        done = [one for one in done if isinstance(one, dict) and not one.get("was_cancelled")] if isinstance(done, list) else []
        entries += [(where, {"image": _image_of(task["data"]), "choice": one.get("result")}) for one in done]
        left += not done
    if not entries:
        raise DataError(unusable[0][1] if unusable else f"{path}: none of its {left} tasks has an annotation")
    table = object_table(str(path), "JSON", entries, unusable)
    notes = (f"{left} tasks without an annotation are left out",) if left else ()
    found = studio_table(table)
    return replace(found, form="Label Studio, JSON", notes=(*notes, *found.notes))


def studio_table(table: Table) -> Found:
    """Label Studio's CSV or JSON-MIN, one row for each annotation. A class on which annotations of an image differ is not
    known.

    Raises:
        DataError: no column of images or of answers, or no usable row.
    """
    image = image_column(table)
    answers = _answers(table, image)
    if image is None or not answers:
        there = ", ".join(repr(name[:40]) for name in table.header[:12])
        raise DataError(
            f"{table.place}: looks like an export of Label Studio, but which column holds the images and which the choices does"
            f" not show; it has {there}. Rename them 'image' and 'choice'"
        )
    rows, unusable = rows_of(table, image, lambda cells: (_chosen(cells, answers), ()), addresses)
    named: dict[str, list[Row]] = {}
    for row in rows:
        named.setdefault(row.name, []).append(row)
    agreed = [_agreed(same) for same in named.values()]
    differ = sum(bool(row.unknown) for row in agreed)
    notes = (f"annotations differ on {differ} images, and classes that not all name are not known",) if differ else ()
    form = "Label Studio, CSV" if table.form == "CSV" else "Label Studio, JSON-MIN"
    return Found(form + table.told, agreed, unusable=unusable, notes=notes)


def _agreed(rows: list[Row]) -> Row:
    every = dict.fromkeys(label for row in rows for label in row.labels)
    labels = tuple(label for label in every if all(label in row.labels for row in rows))
    return replace(rows[0], labels=labels, unknown=tuple(label for label in every if label not in labels))


def addresses(address: str) -> list[str]:
    """The names that an image may have whose address in a tool this is: ends of its path, the longest first, each also without
    what an upload puts before the file's name.

    Example:
        >>> addresses("/data/upload/1/0a1b2c3d-a.jpg")[-2:]
        ['0a1b2c3d-a.jpg', 'a.jpg']
    """
    path = re.sub(r"^\w+://[^/]*", "", address)
    path = path.partition("?d=")[2] or path.partition("?")[0]
    parts = [part for part in re.split(r"[/\\]+", unquote(path)) if part][-DEPTH:] or [address]
    names = []
    for at in range(len(parts)):
        *folders, last = parts[at:]
        names += ["/".join([*folders, name]) for name in dict.fromkeys((last, re.sub(r"^[0-9a-f]{8}-(?=.)", "", last)))]
    return names


def _image_of(data: dict[str, Any]) -> Any:
    """The address of a task's image: under ``image``, or the first that is one by its suffix."""
    found = (value for value in data.values() if isinstance(value, str) and is_image(addresses(value)[-1]))
    return data["image"] if isinstance(data.get("image"), str) else next(found, None)


def _answers(table: Table, image: str | None) -> list[str]:
    """The columns of answers: those with usual names, those that hold JSON of labels, or the only one left."""
    usual = [name for name in table.header if key(name) in CHOICE and name != image]
    left = [name for name in table.header if key(name) not in {*STUDIO, "id"} and name != image]
    shown = [name for name in left if any(isinstance(_value(cells.get(name)), (dict, list)) for _, cells in table.rows)]
    return usual or shown or (left if len(left) == 1 else [])


def _value(cell: Any) -> Any:
    """The value of a cell, which in a CSV may be JSON."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(("{", "[")):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _chosen(cells: dict[str, Any], answers: Iterable[str]) -> tuple[str, ...]:
    """The classes that an annotation names."""
    names = (clean(name) for answer in answers for name in _labels(_value(cells.get(answer))))
    return tuple(dict.fromkeys(name for name in names if name))


def _labels(value: Any) -> Iterator[str]:
    """The classes in an answer: text, ``{"choices": [...]}``, or regions such as ``{"rectanglelabels": [...]}``."""
    for part in value if isinstance(value, list) else [value]:
        if type(part) in (str, int):
            yield str(part)
        elif isinstance(part, dict):
            held = part["value"] if isinstance(part.get("value"), dict) else part  # of a result, or the value itself
            for name, found in held.items():
                if name in ("choices", "taxonomy") or name.endswith("labels"):
                    yield from (_last(one) for one in (found if isinstance(found, list) else [found]))


def _last(label: Any) -> str:
    """A label; of a taxonomy, the end of its path."""
    label = label[-1] if isinstance(label, list) and label else label
    if type(label) not in (str, int):
        raise DataError(f"expected names of classes, got {short(label)}")
    return str(label)


def cvat(path: Place, root: Element) -> Found:
    """CVAT's XML for images: the labels of an image's tags and shapes.

    Raises:
        DataError: an image without a name or given twice, or a video's tracks.
    """
    images = root.findall("image")
    if not images:
        video = root.find("track") is not None
        remedy = "this is CVAT's XML for videos; export 'CVAT for images'" if video else "expected CVAT's <image> in it"
        raise DataError(f"{path}: names no image; {remedy}")
    rows, unusable = list[Row](), list[tuple[str, str]]()
    for at, image in enumerate(images, 1):
        name = normal(image.get("name", ""))
        if name:
            labels = dict.fromkeys(label for part in image if (label := normal(part.get("label", ""))))
            rows.append(Row(name, tuple(labels), f"{path} (image {name!r})"))
        else:
            unusable.append(("", f"{path}: image {at} of {len(images)} has no name"))
    if not rows:
        raise DataError(unusable[0][1])
    return Found("CVAT for images", unique(path, rows), unusable=tuple(unusable))
