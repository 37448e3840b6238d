"""The colours of RGB masks, from a file."""

from __future__ import annotations

import re
from pathlib import Path

from advcam.errors import DataError
from advcam.limits import IGNORE

from .tables import csv_table, key
from .text import read_any_text

COLUMNS = {"id", "colour"}


def read_colours(path: Path) -> dict[int, int]:
    """The class id of each colour 0xRRGGBB, from a CSV ``id,colour`` with colours as ``#ff8000`` or ``255 128 0``.

    Id 0 is background, 255 is ignored; black is background where it is not in the file.

    Raises:
        DataError: missing, malformed, an id outside 0 to 255, or a colour given twice.
    """
    table = csv_table(path, read_any_text(path, "list of colours").text, lambda header: len(COLUMNS & {*map(_key, header)}))
    columns = {_key(name): name for name in table.header}
    if not columns.keys() >= COLUMNS:
        raise DataError(f"{table.place}: expected the columns id,colour, e.g. 3,#ff8000; got {', '.join(table.header)}")
    if table.unusable:
        raise DataError(table.unusable[0][1])
    found: dict[int, int] = {}
    for place, cells in table.rows:
        number, colour = (str(cells[columns[name]]).strip() for name in ("id", "colour"))
        if not (number.isdecimal() and int(number[:4]) <= IGNORE and len(number) < 4):
            raise DataError(f"{place}: an id is a whole number from 0 to 255, got {number[:20]!r}")
        packed = _packed(colour)
        if packed is None:
            raise DataError(f"{place}: expected a colour such as #ff8000 or 255 128 0, got {colour[:40]!r}")
        if found.setdefault(packed, int(number)) != int(number):
            raise DataError(f"{place}: the colour {colour} has id {found[packed]} already")
    if not found:
        raise DataError(f"{path}: names no colour")
    return found


def _key(name: str) -> str:
    return {"color": "colour", "rgb": "colour"}.get(key(name), key(name))


def _packed(colour: str) -> int | None:
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", colour):
        return int(colour.removeprefix("#"), 16)
    parts = re.findall(r"\d+", colour)
    if len(parts) != 3 or max(map(len, parts)) > 3 or max(map(int, parts)) > 255:
        return None
    red, green, blue = map(int, parts)
    return red << 16 | green << 8 | blue
