"""Labels of images in the rows of tables: data sets that ``datasets`` has saved, and Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from advcam.errors import DataError
from advcam.limits import MAX_CLASSES

from .archives import archive, is_table
from .columns import flagged, labelled, objects
from .labels import NONE, ClassTable, Found, numbered
from .names import by_id
from .places import Address, Place
from .rows import Column, Rows
from .tables import key, object_table


def read_set(folder: Place, files: Sequence[tuple[str, Place]]) -> Found | None:
    """The labels of all tables of a folder, or of one; None where there is no table.

    Args:
        folder: the folder or table.
        files: what it holds; see :func:`~.places.files_below`.

    Raises:
        DataError: a table has no column of labels, or another one than the first, or no row has a label.
    """
    packed = [(name, path) for name, path in files if isinstance(path, Address) and path.below and is_table(path.within)]
    if not packed:
        return None
    images = {name: path for name, path in by_id(folder, packed).items() if isinstance(path, Address)}
    opened = {within: archive(within) for within in dict.fromkeys(path.within for path in images.values())}
    tables = {within: held for within, held in opened.items() if isinstance(held, Rows)}
    columns = {within: held.labels() for within, held in tables.items()}
    first, *others = ([column.name for column in _listed(some)] for some in columns.values())
    if other := next((other for other in others if other != first), None):
        raise DataError(f"{folder}: its tables have different columns of labels, {first} and {other}")
    classes = {column.names for some in columns.values() for column in _listed(some)}
    if len(classes) > 1 and isinstance(next(iter(columns.values())), Column):
        raise DataError(f"{folder}: its tables have different names of classes; read them one by one")
    return _found(folder, images, tables, columns, first, classes.pop() if len(classes) == 1 else ())


def _listed(columns: Column | list[Column]) -> list[Column]:
    return [columns] if isinstance(columns, Column) else columns


def _found(
    folder: Place,
    images: dict[str, Address],
    tables: dict[str, Rows],
    columns: dict[str, Column | list[Column]],
    names: list[str],
    classes: tuple[str, ...],
) -> Found:
    left = 0

    def entries() -> Iterator[tuple[str, Any]]:
        nonlocal left
        for name, path in images.items():
            of, at = columns[path.within], tables[path.within].names[path.below]
            if isinstance(of, Column) and of.values[at] is None:
                left += 1
                continue
            told = "objects" if isinstance(of, Column) and key(of.name) == "objects" and not classes else "labels"
            cells = {told: of.values[at]} if isinstance(of, Column) else {one.name: one.values[at] for one in of}
            yield f"{path.within} (row {at})", {"image": name, **cells}

    given = object_table(str(folder), "Hugging Face data set", entries(), [])
    if not given.rows:
        raise DataError(f"{folder}: no row has a label in the column {names[0]!r} (-1 means that the class is not known)")
    single = isinstance(next(iter(columns.values())), Column)
    in_objects = single and key(names[0]) == "objects" and not classes
    found = objects(given) if in_objects else labelled(given) if single else flagged(given)
    if not single:
        return found
    notes = (*found.notes, *((f"{left} rows without a label are left out",) if left else ()))
    return replace(found, form=f"Hugging Face data set, column {names[0]}", classes=_own(classes, found), notes=notes)


def _own(names: tuple[str, ...], found: Found) -> ClassTable | None:
    """The table's classes in its order, without ``background`` where that always stands alone."""
    if not names:
        return None
    beside = {label for row in found.rows if len(row.labels) > 1 for label in row.labels}
    kept = [name for name in names if name.lower() not in NONE or name in beside]
    if len({*kept}) < len(kept) or len(kept) > MAX_CLASSES:
        return numbered({label for row in found.rows for label in row.labels})
    return ClassTable(tuple(range(1, len(kept) + 1)), tuple(kept))
