"""Units of work, the rows that come of them, and one attempt at a unit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from advcam.errors import ImageError


@dataclass(frozen=True)
class Unit:
    """Images that are computed together.

    Args:
        ids: of all images of the unit; they decide its result, whichever of them are wanted.
        wanted: those to be made now.
    """

    ids: tuple[str, ...]
    wanted: tuple[str, ...]

    @classmethod
    def single(cls, name: str) -> Unit:
        """Returns the unit of one image that is computed alone."""
        return cls((name,), (name,))

    def apart(self) -> list[Unit]:
        """Returns a unit for each wanted image, whose result is the same."""
        return [replace(self, wanted=(name,)) for name in self.wanted]


class Row(NamedTuple):
    """What became of an image.

    Args:
        id: of the image.
        error: why it could not be made now, on one line; it may be made another time.
        left_out: why it is passed over, on one line.
        seconds: that it took.
        value: a number that is wanted of it.
    """

    id: str
    error: str = ""
    left_out: str = ""
    seconds: float = 0.0
    value: float | None = None


Work = Callable[[Unit], Iterable[Row]]
"""Makes the wanted images of a unit and writes their files; gives a row for each. It raises ImageError before it writes."""

Open = Callable[[], Work]
"""Loads what the work needs."""


def attempt(work: Work, unit: Unit) -> list[Row]:
    """Makes the wanted images of a unit; where one cannot be read, the others alone, so that it is known which."""
    start = time.perf_counter()
    try:
        made = list(work(unit))
    except ImageError as error:
        if len(unit.wanted) > 1:  # halves, as each part costs as much as the whole unit
            half = len(unit.wanted) // 2
            parts = (replace(unit, wanted=wanted) for wanted in (unit.wanted[:half], unit.wanted[half:]))
            return [row for part in parts for row in attempt(work, part)]
        made = [Row(unit.wanted[0], error=" ".join(str(error).split()))]
    each = (time.perf_counter() - start) / len(unit.wanted)
    return [row._replace(seconds=each) for row in made]
