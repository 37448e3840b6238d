"""Opening every image of a data set once, in threads and within a limit of pixels in memory."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from advcam.errors import ImageError
from advcam.limits import MAX_PIXELS_AT_ONCE
from advcam.process import usable_cores

from .images import AS_IT_IS, bytes_of, look_at, pixels_of
from .items import Item, Skip
from .places import Address, Place
from .reading import Reading
from .remote import is_remote

T = TypeVar("T")
R = TypeVar("R")

REMOTE = 16
"""Images of a remote store that are read at once: most of the time is waiting."""

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


def _is_remote(path: Place) -> bool:
    return isinstance(path, Address) and is_remote(path.within)


@contextmanager
def at_once(path: Place) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterable[R]]]:
    """A ``map`` over images of which this is one: several at once where they are remote, one after the other elsewhere."""
    if not _is_remote(path):
        yield map
        return
    with ThreadPoolExecutor(max_workers=REMOTE) as pool:
        yield pool.map


def open_all(
    named: list[tuple[str, Place, tuple[int, ...]]], track: Track, reading: Reading = AS_IT_IS
) -> tuple[dict[str, Item], list[Skip], list[Skip]]:
    """Opens every image; returns the usable ones, skips for those that cannot be read, and warnings about the others.

    A range of values that is asked for as ``auto`` or ``data`` is found, and is that of all items; so are ``all`` bands, of
    which all images must have as many as most.
    """

    def look(entry: tuple[str, Place, tuple[int, ...]]) -> tuple[Item | Skip, Skip | None]:
        key, path, labels = entry
        try:
            data = None if isinstance(path, Path) else bytes_of(path)  # of a local file the header says enough
            with room.taken(pixels_of(path if isinstance(path, Path) else io.BytesIO(data or b""))):
                seen = look_at(path, reading, data)
        except ImageError as error:
            return Skip(key, str(error)), None
        samples.extend([seen.sample] if seen.sample else [])
        bands[key] = seen.bands
        return Item(key, path, labels, seen.size, seen.content), Skip(key, f"{path}: {seen.doubt}") if seen.doubt else None

    samples: list[tuple[NDArray[np.float64], float]] = []
    bands: dict[str, int] = {}
    room = _Room(MAX_PIXELS_AT_ONCE)
    remote = bool(named) and _is_remote(named[0][1])
    with ThreadPoolExecutor(max_workers=REMOTE if remote else min(4, usable_cores())) as pool:
        looked = list(track(pool.map(look, named), len(named), "look at the images"))
    found = reading.of([values for values, _ in samples], max((white for _, white in samples), default=255.0))
    good = {item.id: item for item, _ in looked if isinstance(item, Item)}
    skipped = [skip for skip, _ in looked if isinstance(skip, Skip)]
    if reading.bands == "all" and good:
        most = Counter(sorted(bands.values())).most_common(1)[0][0]
        found = found.counted(most)
        odd = [item for item in good.values() if bands[item.id] != most]
        skipped += [Skip(item.id, f"{item.path}: has {bands[item.id]} bands, most images have {most}") for item in odd]
        good = {name: item for name, item in good.items() if bands[name] == most}
    good = {name: replace(item, reading=found) for name, item in good.items()}
    return good, skipped, [doubt for _, doubt in looked if doubt]
