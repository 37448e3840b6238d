"""Image-level labels and class lists from files; errors name file and line."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.cells import as_read
from advcam.errors import DataError, known
from advcam.limits import IGNORE

from .exports import of_json, of_table, of_text


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

    @classmethod
    def from_record(cls, record: Sequence[Any]) -> ClassTable:
        """The classes that :meth:`record` described."""
        return cls(tuple(c["id"] for c in record), tuple(c["name"] for c in record))


@dataclass(frozen=True)
class Row:
    """One image of a labels file, its labels, and the place in the file."""

    name: str
    labels: tuple[str, ...]
    where: str


def normal(name: str) -> str:
    """A name in the form that is compared: stripped and NFC-normalised (macOS decomposes file names)."""
    return unicodedata.normalize("NFC", name.strip())


def written(where: str, name: str) -> str:
    """A name from JSON, checked to be encodable.

    Raises:
        DataError: a lone surrogate, which JSON's escapes allow.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the name {name!a} is not valid Unicode; rename it") from None
    return name


WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""Byte order marks and their encodings, longer marks first."""


def read_text(path: Path, what: str) -> str:
    """A text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; the mark is dropped.

    Raises:
        DataError: missing, a folder, empty, or in another encoding.
    """
    try:
        data = path.read_bytes()
        text = data.decode(next((name for mark, name in WIDE if data.startswith(mark)), "utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such {what}; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: expected a {what}, got a folder") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8; save the {what} as UTF-8") from None
    if not text.strip():
        raise DataError(f"{path}: the {what} is empty")
    return text


def unique(path: Path, rows: list[Row]) -> list[Row]:
    """The rows of a labels file, checked to have unique, non-empty names.

    Raises:
        DataError: no row, a row without a name, an image given twice.
    """
    if not rows:
        raise DataError(f"{path}: the labels file names no image")
    seen: dict[str, str] = {}
    for row in rows:
        if not row.name:
            raise DataError(f"{row.where}: the image name is empty")
        if row.name in seen:
            hint = " (this looks like one row per label)" if all(len(row.labels) < 2 for row in rows) else ""
            already = f"{row.where}: image {row.name!r} was already given at {seen[row.name]}"
            raise DataError(f"{already}; put its labels in one row, separated by ';'{hint}")
        seen[row.name] = row.where
    return rows


SEPARATORS = {",": ";", ";": ",|", "\t": ";,|"}
"""Separators of the cells of a CSV, detected from its header, each with those of the labels in a cell."""


def _start(text: str, columns: tuple[str, ...]) -> tuple[str, int, str]:
    """A CSV from its header on, the number of lines before (blank, or ``sep=;`` from spreadsheets), and its separator."""
    before = re.match(r"(?:[ \t]*\r?\n)*(?:sep=([,;\t])[ \t]*\r?\n)?(?:[ \t]*\r?\n)*", text)
    start = before[0] if before else ""
    body = text[len(start) :]
    headers = {cells: [normal(cell) for cell in "".join(body.splitlines()[:1]).split(cells)] for cells in SEPARATORS}
    headers = {cells: [cell.strip('"') for cell in header] for cells, header in headers.items()}
    cells = next((cells for cells, header in headers.items() if set(columns) <= set(header)), None)
    cells = cells or (before and before[1]) or max(headers, key=lambda cells: len(headers[cells]))
    return body, start.count("\n"), cells


def _csv_table(path: Path, text: str, columns: tuple[str, ...]) -> tuple[list[tuple[int, dict[str, str]]], str]:
    """Line and cells of each row, and the separators of labels.

    Raises:
        DataError: a missing or duplicate column, a malformed row.
    """
    body, line, cells = _start(text, columns)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=cells, strict=True)
    try:
        header = [normal(cell) for cell in next(reader, [])]
        twice = next((c for c in columns if header.count(c) > 1), None)
        if twice:
            raise DataError(f"{path}:{line + 1}: there are {header.count(twice)} columns {twice!r}; keep one")
        missing = [c for c in columns if c not in header]
        if missing:
            others = ", ".join(repr(c) for c in header if c not in columns) or "no other"
            raise DataError(
                f"{path}:{line + 1}: expected the columns {','.join(columns)}; there is no column {missing[0]!r}, but {others}."
                f" {of_table(header, list(reader)) or 'Rename it in the header'} (separator: a comma, semicolon or tab)"
            )
        rows = []
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}:{line + reader.line_num}: expected {len(header)} cells, got {len(row)}; labels are separated by"
                    f" {SEPARATORS[cells][0]!r}"
                )
            rows.append((line + reader.line_num, dict(zip(header, map(as_read, row), strict=True))))
    except csv.Error as error:
        raise DataError(f"{path}:{line + reader.line_num}: not valid CSV ({error})") from None
    return rows, SEPARATORS[cells]


def csv_rows(path: Path, text: str | None = None) -> list[Row]:
    """The rows of a CSV with columns ``image,labels``: cells separated by commas and labels by ``;``; or, where the
    header is separated by semicolons or tabs, as in :data:`SEPARATORS`.

    Args:
        path: of the file.
        text: its content, if already read.

    Raises:
        DataError: missing, empty, a missing column, a malformed row.
    """
    text = read_text(path, "labels file") if text is None else text
    if seen := of_text(text):
        raise DataError(f"{path}:1: expected CSV with the columns image,labels. {seen}")
    rows, between = _csv_table(path, text, ("image", "labels"))
    return [Row(normal(cells["image"]), _split(cells["labels"], between), f"{path}:{line}") for line, cells in rows]


def _split(cell: str, between: str) -> tuple[str, ...]:
    parts = re.split(f"[{re.escape(between)}]", cell)
    return tuple(dict.fromkeys(normal(label) for label in parts if label.strip()))


def joined_names(names: Iterable[str]) -> list[str]:
    """The names that consist of other names joined by a comma, bar, slash or blanks: several labels read as one."""
    every = set(names)
    return [name for name in sorted(every) if len(parts := re.split(r"[,|/;\s]+", name)) > 1 and set(parts) <= every - {name}]


class _Doubled(list[tuple[str, Any]]):
    """A JSON object with duplicate keys, as pairs."""


def read_json_file(path: Path, what: str) -> Any:
    """Reads JSON; an object with duplicate keys becomes a list of pairs.

    Raises:
        DataError: as :func:`read_text`, or not JSON; says the line.
    """

    def kept(pairs: list[tuple[str, Any]]) -> Any:
        made = dict(pairs)
        return made if len(made) == len(pairs) else _Doubled(pairs)

    text = read_text(path, what)
    try:
        return json.loads(text, object_pairs_hook=kept)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg}). {of_text(text)}".rstrip()) from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply to be labels") from None
    except ValueError:  # more digits than Python converts
        raise DataError(f"{path}: holds a number of thousands of digits; expected ids, names and coordinates") from None


def json_rows(path: Path, value: Any) -> list[Row]:
    """The rows of a JSON object {image: [labels]}.

    Raises:
        DataError: another structure.
    """
    if not isinstance(value, (dict, _Doubled)):
        raise DataError(
            f"{path}: expected a JSON object {{image: [labels]}} or a COCO annotation file, got {type(value).__name__}."
            f" {of_json(value)}".rstrip()
        )
    rows = []
    for name, labels in value.items() if isinstance(value, dict) else value:
        plain = type(labels) is list and all(type(label) in (str, int) for label in labels)
        if not plain:
            raise DataError(f"{path}: image {name!r}: expected a list of names or ids, got {_short(labels)}")
        where = f"{path} (image {name!r})"
        found = tuple(dict.fromkeys(normal(written(where, str(label))) for label in labels if str(label).strip()))
        rows.append(Row(normal(written(str(path), name)), found, where))
    return rows


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def read_classes(path: Path, text: str | None = None) -> ClassTable:
    """A class list: CSV with columns ``id,name``, the ids that masks use.

    Args:
        path: of the file.
        text: its content, if already read.

    Raises:
        DataError: malformed, an id outside 1 to 254, a duplicate id or name.
    """
    ids: dict[int, int] = {}
    names: dict[str, int] = {}
    text = read_text(path, "class list") if text is None else text
    for line, cells in _csv_table(path, text, ("id", "name"))[0]:
        try:
            number = int(cells["id"])
        except ValueError:
            raise DataError(f"{path}:{line}: an id is a whole number, got {cells['id']!r}") from None
        name = normal(cells["name"])
        if number == 0 and name.lower() in ("background", "bg", "_background_"):
            continue
        if not 1 <= number < IGNORE:
            raise DataError(f"{path}:{line}: id {number} is out of range; 1 to 254 (0 is background, 255 is ignored)")
        if number in ids or name in names or not name:
            raise DataError(f"{path}:{line}: id {number} or name {name!r} is empty or a duplicate")
        ids[number] = names[name] = line
    if not ids:
        raise DataError(f"{path}: the class list names no class")
    return ClassTable(tuple(ids), tuple(names))


def classes_of(rows: list[Row]) -> ClassTable:
    """The classes that the rows name, numbered from 1 in sorted order (by number where all are numbers).

    Raises:
        DataError: no class at all, or more than 254.
    """
    names = {label for row in rows for label in row.labels}
    ordered = sorted(names, key=int) if all(n.isdecimal() and len(n) < 19 for n in names) else sorted(names)
    if not ordered:
        raise DataError(f"{rows[0].where}: no image has a label; expected class names separated by ';' in the column labels")
    if len(ordered) >= IGNORE:
        raise DataError(f"{len(ordered)} classes; 8-bit masks hold at most 254")
    return ClassTable(tuple(range(1, len(ordered) + 1)), tuple(ordered))


def class_indices(row: Row, classes: ClassTable) -> tuple[int, ...]:
    """The row's labels, each a name or an id, as positions in the class table.

    Raises:
        DataError: an unknown label.
    """
    positions = {str(number): at for at, number in enumerate(classes.ids)} | {name: at for at, name in enumerate(classes.names)}
    for label in row.labels:
        if label not in positions:
            several = label in joined_names([*classes.names, label])
            hint = "labels are separated by ';'" if several else known(label, classes.names)
            raise DataError(f"{row.where}: no class is called {label!r}; {hint}")
    return tuple(sorted({positions[label] for label in row.labels}))
