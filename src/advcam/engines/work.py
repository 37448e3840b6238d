"""Units of work, the rows that come of them, and one attempt at a unit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

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
        value: what else is wanted of it.
        waited: how many of these seconds were spent :func:`reading`; None where the work does not say.
    """

    id: str
    error: str = ""
    left_out: str = ""
    seconds: float = 0.0
    value: Any = None
    waited: float | None = None


Work = Callable[[Unit], Iterable[Row]]
"""Makes the wanted images of a unit and writes their files; gives a row for each. It raises ImageError before it writes."""

Open = Callable[[], Work]
"""Loads what the work needs."""


class _Clock(threading.local):
    waited: float | None = None


_clock = _Clock()


@contextmanager
def reading() -> Iterator[None]:
    """Counts the time of a block as waiting for images, in the rows of the unit that is being made."""
    start = time.perf_counter()
    try:
        yield
    finally:
        _clock.waited = (_clock.waited or 0.0) + time.perf_counter() - start


def attempt(work: Work, unit: Unit) -> list[Row]:
    """Makes the wanted images of a unit; where one cannot be read, the others alone, so that it is known which."""
    start, _clock.waited = time.perf_counter(), None
    try:
        made = list(work(unit))
    except ImageError as error:
        if len(unit.wanted) > 1:  # halves, as each part costs as much as the whole unit
            half = len(unit.wanted) // 2
            parts = (replace(unit, wanted=wanted) for wanted in (unit.wanted[:half], unit.wanted[half:]))
            return [row for part in parts for row in attempt(work, part)]
        made = [Row(unit.wanted[0], error=" ".join(str(error).split()))]
    each, waited = (time.perf_counter() - start) / len(unit.wanted), _clock.waited
    share = None if waited is None else waited / len(unit.wanted)
    return [row._replace(seconds=each, waited=share) for row in made]
