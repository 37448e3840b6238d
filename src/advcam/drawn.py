"""How results of any room draw themselves: they ask :func:`drawing`, and :mod:`advcam.notebook`, above them, has the answers.

So neither maps nor sweeps import what draws them.
"""

from __future__ import annotations

import os
from functools import singledispatch
from typing import Any, Protocol

from advcam.errors import InputError


class Drawing(Protocol):
    """What a notebook shows where it stands at the end of a cell."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file, whose suffix says as what.

        Args:
            path: of the file.

        Raises:
            InputError: a suffix of something that it cannot be written as.
            StoreError: the file cannot be written.
        """

    def _repr_html_(self) -> str: ...


@singledispatch
def drawing(result: object, **_how: Any) -> Drawing:
    """Draws a result.

    Args:
        result: of a type that :mod:`advcam.notebook` has registered.
        _how: what the drawing of this type takes.

    Returns:
        Its drawing.

    Raises:
        InputError: nothing draws it.
    """
    raise InputError(f"a {type(result).__name__} cannot be drawn: expected maps, or a sweep")
