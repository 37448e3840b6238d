"""Tables: cells by column name, from CSV or from JSON objects; and class lists."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from advcam.cells import as_read
from advcam.errors import DataError
from advcam.limits import IGNORE

from .images import SUFFIXES, suffix_of
from .labels import ClassTable, normal
from .text import read_any_text

if TYPE_CHECKING:
    from .places import Place

SEPARATORS = {",": ";", ";": ",|", "\t": ";,|", "|": ";,"}
"""Separators of the cells of a CSV, detected from its header, each with those of the labels in a cell."""

TOLD = {",": "", ";": ", separated by semicolons", "\t": ", separated by tabs", "|": ", separated by |"}

STATES: dict[Any, int] = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "x", 1), 1),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", 0), 0),
    **dict.fromkeys(("", "?", "-1", "-1.0", "nan", "na", "n/a", "null", None, -1), -1),
}  # fmt: skip
"""What a cell of a column for one class says: 1 present, 0 absent, -1 not known."""

NO_CLASS = frozenset(
    {
        "", "unnamed:_0", "id", "index", "width", "height", "fold", "is_train", "is_val", "is_valid", "is_test",
        "truncated", "difficult", "occluded", "iscrowd",
    }
)  # fmt: skip
"""Columns that are no class, whatever they hold."""


@dataclass(frozen=True)
class Table:
    """Rows of cells by column name.

    Args:
        place: of the header, for messages.
        form: ``CSV``, ``JSON`` or ``JSON lines``.
        header: the columns in order.
        rows: the place of each, and its cells.
        unusable: rows that could not be read: the image, and the reason with its place.
        between: separators of the labels in a cell.
        told: what is special about the file, to be told behind its form.
    """

    place: str
    form: str
    header: tuple[str, ...]
    rows: list[tuple[str, dict[str, Any]]]
    unusable: tuple[tuple[str, str], ...] = ()
    between: str = ";"
    told: str = ""

    def column(self, names: Iterable[str]) -> str | None:
        """The first of these columns that the table has, in any case.

        Raises:
            DataError: there are several of that name.
        """
        found: dict[str, list[str]] = {}
        for name in self.header:
            found.setdefault(key(name), []).append(name)
        same = next((found[name] for name in names if name in found), [])
        if len(same) > 1:
            raise DataError(f"{self.place}: there are {len(same)} columns {same[0]!r}; keep one")
        return same[0] if same else None

    @cached_property
    def flags(self) -> dict[str, set[str]]:
        """The columns most of whose cells say yes or no, and the words that they say it with."""
        words: dict[str, set[str]] = {name: set() for name in self.header if key(name) not in NO_CLASS}
        others, said = dict.fromkeys(words, 0), dict.fromkeys(words, 0)
        for _, cells in self.rows:
            for name in cells.keys() & words.keys():
                found = state(cells[name])
                others[name] += found is None
                if found in (0, 1):
                    said[name] += 1
                    words[name].add(str(cells[name]).strip().lower())
        return {name: found for name, found in words.items() if said[name] > others[name]}

    @cached_property
    def images(self) -> str | None:
        """The first column whose cells are all names of image files; None where there is none."""
        left = dict.fromkeys(self.header) if self.rows else {}
        for _, cells in self.rows:
            left = {name: None for name in left if is_image(cells.get(name))}
        return next(iter(left), None)


def key(name: str) -> str:
    """A column's name as it is compared."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def is_image(cell: Any) -> bool:
    """Whether a cell is the name of an image file, by its suffix."""
    return isinstance(cell, str) and suffix_of(cell.strip()) in SUFFIXES


def state(cell: Any) -> int | None:
    """What a cell of a column for one class says: 1 present, 0 absent, -1 not known; None if it says something else.

    Example:
        >>> [state(cell) for cell in ("1.0", "No", " ", "?", True, None, "cat")]
        [1, 0, -1, -1, 1, -1, None]
    """
    if isinstance(cell, str):
        return STATES.get(cell.strip().lower())
    if cell is None or isinstance(cell, (int, float)):
        return STATES.get(cell) if cell == cell else -1
    return None


def short(value: Any) -> str:
    """A value as JSON for a message, shortened."""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def csv_table(
    path: Place,
    text: str,
    fits: Callable[[Sequence[str]], int],
    headless: Callable[[Sequence[str]], tuple[str, ...]] = lambda _first: (),
) -> Table:
    """The table of a CSV; a byte order mark, ``sep=;`` and blank lines before the header are passed over.

    Args:
        path: of the file, for messages.
        text: its content.
        fits: how well a header is understood, 0 not at all; the separator is the one whose header fits best.
        headless: the columns of a file whose first row this is; empty if it is a header.

    Raises:
        DataError: not CSV.
    """
    body, line, cells = _start(text, fits)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=cells, strict=True)
    rows, unusable = list[tuple[str, dict[str, Any]]](), list[tuple[str, str]]()
    try:
        first = next(reader, [])
        header, given = [*headless(first)], [normal(cell) for cell in first]
        again = [first] if header else []
        header = header or given
        while header and not header[-1]:
            header.pop()
        for row in itertools.chain(again, reader):
            if not any(cell.strip() for cell in row):
                continue
            place = f"{path}:{line + reader.line_num}"
            if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
                expected = f"expected {len(header)} cells, got {len(row)}; labels are separated by {SEPARATORS[cells][0]!r}"
                unusable.append((row[0][:80], f"{place}: {expected}"))
            else:
                rows.append((place, dict(zip(header, map(as_read, row), strict=False))))
    except csv.Error as error:
        raise DataError(f"{path}:{line + reader.line_num}: not valid CSV ({error})") from None
    told = (", without a header" if again else "") + TOLD[cells]
    return Table(f"{path}:{line + 1}", "CSV", tuple(header), rows, tuple(unusable), SEPARATORS[cells], told)


def _start(text: str, fits: Callable[[Sequence[str]], int]) -> tuple[str, int, str]:
    """A CSV from its header on, the number of lines before, and its separator."""
    blank = r"(?:[ \t]*(?:\r\n?|\n))*"
    before = re.match(rf"{blank}(?:sep=([,;\t|])[ \t]*(?:\r\n?|\n|\Z))?{blank}", text)
    start = before[0] if before else ""
    body = text[len(start) :]
    headers = {cells: _first(body, cells) for cells in SEPARATORS}
    fit = {cells: fits(header) for cells, header in headers.items()}
    best = max(fit, key=lambda cells: fit[cells])
    if not fit[best]:
        best = (before and before[1]) or max(headers, key=lambda cells: len(headers[cells]))
    return body, len(re.findall(r"\r\n?|\n", start)), best


def _first(body: str, cells: str) -> list[str]:
    try:
        return [normal(cell) for cell in next(csv.reader(io.StringIO(body, newline=""), delimiter=cells, strict=True), [])]
    except csv.Error:
        return []


def object_table(place: str, form: str, entries: Iterable[tuple[str, Any]], unusable: list[tuple[str, str]]) -> Table:
    """The table of JSON objects, whose keys are its columns.

    Args:
        place: of the whole, for messages.
        form: ``JSON`` or ``JSON lines``.
        entries: the place of each, and the object.
        unusable: those that could not be read; others are added.
    """
    header, rows = dict[str, None](), list[tuple[str, dict[str, Any]]]()
    for where, entry in entries:
        if isinstance(entry, dict):
            header.update(dict.fromkeys(entry))
            rows.append((where, entry))
        else:
            unusable.append(("", f"{where}: expected an object with an image and its labels, got {short(entry)}"))
    return Table(place, form, tuple(header), rows, tuple(unusable))


def read_classes(path: Place, text: str | None = None) -> ClassTable:
    """A class list: CSV with columns ``id,name``, the ids that masks use.

    Args:
        path: of the file.
        text: its content, if already read.

    Raises:
        DataError: malformed, an id outside 1 to 254, a duplicate id or name.
    """
    ids: dict[int, int] = {}
    names: dict[str, str] = {}
    text = read_any_text(path, "class list").text if text is None else text
    table = csv_table(path, text, lambda header: {"id", "name"} <= {key(name) for name in header})
    columns = [(name, table.column([name])) for name in ("id", "name")]
    if table.unusable:
        raise DataError(table.unusable[0][1])
    for name, there in columns:
        if there is None:
            others = ", ".join(repr(c) for c in table.header if key(c) not in ("id", "name")) or "no other"
            raise DataError(
                f"{table.place}: expected the columns id,name; there is no column {name!r}, but {others}. Rename it in the"
                " header (separator: a comma, semicolon, tab or |)"
            )
    for place, cells in table.rows:
        text, name = (cells[str(there)] for _, there in columns)
        try:
            number = int(text)
        except ValueError:
            raise DataError(f"{place}: an id is a whole number, got {text[:80]!r}") from None
        name = normal(name)
        if number == 0 and name.lower() in ("background", "bg", "_background_"):
            continue
        if not 1 <= number < IGNORE:
            raise DataError(f"{place}: id {text.strip()[:20]} is out of range; 1 to 254 (0 is background, 255 is ignored)")
        if number in ids or name in names or not name:
            raise DataError(f"{place}: id {number} or name {name!r} is empty or a duplicate")
        ids[number], names[name] = number, place
    if not ids:
        raise DataError(f"{path}: the class list names no class")
    return ClassTable(tuple(ids), tuple(names))
