"""Marks cells of a CSV file as text if a spreadsheet would run them as formulas."""

from __future__ import annotations

import math
import re

_MARKED = re.compile(r"'+[=+\-@\t\r\n]")


def as_text(cell: object) -> str:
    """Returns a cell's text, with an apostrophe in front if it begins like a formula, as spreadsheets mark text.

    Numbers stay numbers. :func:`as_read` is the inverse.

    Example:
        >>> as_text("=SUM(A1)"), as_text(-0.5), as_text("cat")
        ("'=SUM(A1)", '-0.5', 'cat')
    """
    text = str(cell)
    begins = text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") or _MARKED.match(text)
    return f"'{text}" if begins and not _is_number(text) else text


def as_read(cell: str) -> str:
    """Returns the text of a cell that :func:`as_text` wrote.

    Example:
        >>> as_read("'=SUM(A1)"), as_read("'tis")
        ('=SUM(A1)', "'tis")
    """
    return cell[1:] if _MARKED.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text == text.strip()
    except ValueError:
        return False
