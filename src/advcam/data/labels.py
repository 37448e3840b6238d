"""Classes, and which of them images show, do not show, or may show."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.errors import DataError, known
from advcam.limits import IGNORE

OTHERS = "?"
"""Among a row's unknown classes: all that it does not name."""

NONE = frozenset({"background", "_background_", "none"})
"""Labels that, alone and in any case, mean that an image shows none of the classes."""

LONG = 200
"""Characters: a longer name is not compared with others to find what was meant."""


@dataclass(frozen=True)
class ClassTable:
    """The classes, in the order of a classifier's outputs.

    Args:
        ids: the id of each in masks, 1 to 254; 0 is background, 255 is ignored.
        names: the name of each.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, others: int) -> NDArray[np.uint8]:
        """[256]: the output position of each mask id, background first; ``others`` for ids not in the list."""
        table: NDArray[np.uint8] = np.full(256, others, dtype=np.uint8)
        table[[0, *self.ids, IGNORE]] = [*range(len(self) + 1), IGNORE]
        return table

    def record(self) -> list[Any]:
        """Plain data, for a file; :meth:`from_record` reads it."""
        return [{"id": i, "name": name} for i, name in zip(self.ids, self.names, strict=True)]

    @cached_property
    def named(self) -> dict[str, int]:
        """The output position of each class by its name, and by its id where no class is called so."""
        return {str(i): at for at, i in enumerate(self.ids)} | {name: at for at, name in enumerate(self.names)}

    @classmethod
    def from_record(cls, record: Sequence[Any]) -> ClassTable:
        """The classes that :meth:`record` described."""
        return cls(tuple(c["id"] for c in record), tuple(c["name"] for c in record))


@dataclass(frozen=True)
class Row:
    """One image of a source of labels.

    Args:
        name: of the image.
        labels: names or ids of the classes that it shows.
        where: the place in the source, for messages.
        unknown: those that it may show; :data:`OTHERS` among them means all that it does not name.
        others: names that the image may have instead, where a tool knows it by an address; the first that exists counts.
    """

    name: str
    labels: tuple[str, ...]
    where: str
    unknown: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a reader found in a source of labels.

    Args:
        form: what it was read as.
        rows: one for each image.
        classes: the source's own; None: those that the rows name.
        unusable: rows that could not be used: the image, and the reason with its place.
        doubts: classes that look wrong, and why.
        notes: what else a user should know.
    """

    form: str
    rows: list[Row]
    classes: ClassTable | None = None
    unusable: tuple[tuple[str, str], ...] = ()
    doubts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def normal(name: str) -> str:
    """A name in the form that is compared: stripped and NFC-normalised (macOS decomposes file names)."""
    return unicodedata.normalize("NFC", name.strip())


def unique(path: object, rows: list[Row]) -> list[Row]:
    """The rows of a source, checked to have unique names.

    Raises:
        DataError: no row, or an image given twice.
    """
    if not rows:
        raise DataError(f"{path}: the labels file names no image")
    seen: dict[str, str] = {}
    for row in rows:
        if row.name in seen:
            raise _twice(row, seen[row.name])
        seen[row.name] = row.where
    return rows


def united(rows: list[Row], boxes: bool = False) -> list[Row]:
    """One row for each image, where a table has one row for each label, or for each box.

    Args:
        rows: of the table.
        boxes: whether each row is a box, so that one without a class adds nothing.

    Raises:
        DataError: an image in several rows that differ, in a table whose rows have several labels or none.
    """
    named: dict[str, list[Row]] = {}
    for row in rows:
        named.setdefault(row.name, []).append(row)
    each = all(len(row.labels) + len(row.unknown) < 2 for row in rows)
    for first, *others in named.values():
        for row in others:
            single = each and (row.labels or row.unknown) and (first.labels or first.unknown)
            same = {*row.labels} == {*first.labels} and {*row.unknown} == {*first.unknown}
            if not (boxes or single or same):
                raise _twice(row, first.where)
    return [one if not others else _joined([one, *others]) for one, *others in named.values()]


def _joined(rows: list[Row]) -> Row:
    labels = tuple(dict.fromkeys(label for row in rows for label in row.labels))
    unknown = dict.fromkeys(label for row in rows for label in row.unknown if label not in labels)
    return replace(rows[0], labels=labels, unknown=tuple(unknown))


def _twice(row: Row, where: str) -> DataError:
    already = f"{row.where}: image {row.name!r} was already given at {where}"
    return DataError(f"{already}; put its labels in one row, separated by ';', or write one row for each label")


def joined_names(names: Iterable[str]) -> list[str]:
    """The names that consist of other names joined by a comma, bar, slash or blanks: several labels read as one."""
    every = set(names)
    return [name for name in sorted(every) if len(parts := re.split(r"[,|/;\s]+", name)) > 1 and set(parts) <= every - {name}]


def without_background(rows: list[Row], classes: ClassTable | None) -> tuple[list[Row], int]:
    """The rows with a sole label such as ``background`` taken as no label, unless a class is called so; and their number."""
    names = {name.lower() for name in classes.names} if classes else set()
    empty = [len(row.labels) == 1 and row.labels[0].lower() in NONE - names for row in rows]
    return [replace(row, labels=()) if none else row for row, none in zip(rows, empty, strict=True)], sum(empty)


def classes_of(rows: list[Row]) -> ClassTable:
    """The classes that the rows name; see :func:`numbered`.

    Raises:
        DataError: no class at all, or more than 254.
    """
    names = {label for row in rows for label in (*row.labels, *row.unknown)} - {OTHERS}
    if not names:
        raise DataError(f"{rows[0].where}: no image has a label; expected class names separated by ';' in the column labels")
    return numbered(names)


def numbered(names: Iterable[str]) -> ClassTable:
    """Classes numbered from 1 in sorted order, by number where all names are numbers.

    Raises:
        DataError: more than 254.
    """
    names = set(names)
    ordered = sorted(names, key=int) if all(n.isdecimal() and len(n) < 19 for n in names) else sorted(names)
    if len(ordered) >= IGNORE:
        raise DataError(f"{len(ordered)} classes; 8-bit masks hold at most 254")
    return ClassTable(tuple(range(1, len(ordered) + 1)), tuple(ordered))


def class_indices(row: Row, classes: ClassTable) -> tuple[int, ...]:
    """The classes that a row's image shows, as positions in the class table; labels are names or ids.

    Raises:
        DataError: an unknown label.
    """
    return _positions(row.labels, row.where, classes)


def unknown_indices(row: Row, classes: ClassTable) -> tuple[int, ...]:
    """The classes that a row's image may show, as positions in the class table.

    Raises:
        DataError: an unknown label.
    """
    if not row.unknown:
        return ()
    named = tuple(label for label in row.unknown if label != OTHERS)
    found = _positions(named, row.where, classes) if len(named) == len(row.unknown) else range(len(classes))
    return tuple(sorted({*found} - {*class_indices(row, classes)}))


def _positions(labels: tuple[str, ...], where: str, classes: ClassTable) -> tuple[int, ...]:
    for label in labels:
        if label not in classes.named:
            raise DataError(f"{where}: no class is called {label[:LONG]!r}; {_meant(label, classes.names)}")
    return tuple(sorted({classes.named[label] for label in labels}))


def _meant(label: str, names: tuple[str, ...]) -> str:
    names = tuple(name for name in names if len(name) < LONG)
    if len(label) < LONG and label in joined_names([*names, label]):
        return "labels are separated by ';'"
    return known(label[:LONG], names)
