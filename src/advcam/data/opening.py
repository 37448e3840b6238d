"""Opening every image of a data set once, in threads and within a limit of pixels in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.errors import ImageError
from advcam.limits import MAX_PIXELS_AT_ONCE
from advcam.process import usable_cores

from .images import AS_IT_IS, look_at, pixels_of
from .items import Item, Skip
from .reading import Reading

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


class _Room:
    """A limit on the pixels decoded at once; a larger image is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self.pixels = self.free = pixels
        self.changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        pixels = min(pixels, self.pixels)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


def open_all(
    named: list[tuple[str, Path, tuple[int, ...]]], track: Track, reading: Reading = AS_IT_IS
) -> tuple[dict[str, Item], list[Skip], list[Skip]]:
    """Opens every image; returns the usable ones, skips for those that cannot be read, and warnings about the others.

    A range of values that is asked for as ``auto`` or ``data`` is found, and is that of all items.
    """

    def look(entry: tuple[str, Path, tuple[int, ...]]) -> tuple[Item | Skip, Skip | None]:
        key, path, labels = entry
        try:
            with room.taken(pixels_of(path)):
                seen = look_at(path, reading)
        except ImageError as error:
            return Skip(key, str(error)), None
        samples.extend([seen.sample] if seen.sample else [])
        return Item(key, path, labels, seen.size, seen.content), Skip(key, f"{path}: {seen.doubt}") if seen.doubt else None

    samples: list[tuple[NDArray[np.float64], float]] = []

    room = _Room(MAX_PIXELS_AT_ONCE)
    with ThreadPoolExecutor(max_workers=min(4, usable_cores())) as pool:
        looked = list(track(pool.map(look, named), len(named), "look at the images"))
    found = reading.of([values for values, _ in samples], max((white for _, white in samples), default=255.0))
    good = {item.id: replace(item, reading=found) for item, _ in looked if isinstance(item, Item)}
    return good, [skip for skip, _ in looked if isinstance(skip, Skip)], [doubt for _, doubt in looked if doubt]
