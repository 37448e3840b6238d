"""What is needed next, prepared while what came before is used: reading and decoding beside a network's work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Sequence[T], prepare: Callable[[T], R], depth: int = 1) -> Iterator[tuple[T, R]]:
    """Yield each item with what is prepared of it, in order, and prepare the next ones in a thread meanwhile.

    An error of ``prepare`` is raised at the turn of its item. The thread ends with the iteration, also where an error ends it
    or the consumer closes the iterator; what it is preparing then is waited for, and the rest is not begun.

    Args:
        items: what to prepare.
        prepare: called in the other thread, for one item at a time.
        depth: how many items are prepared ahead of the one in use, at least 1: no more than ``depth`` + 1 are held at a time.

    Yields:
        Pairs of an item and what was prepared.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = deque(thread.submit(prepare, item) for item in items[:depth])

        def pair(at: int) -> tuple[T, R]:
            taken = coming.popleft().result()
            coming.extend(thread.submit(prepare, item) for item in items[at + depth : at + depth + 1])
            return items[at], taken

        try:
            for at in range(len(items)):
                yield pair(at)
        finally:
            thread.shutdown(cancel_futures=True)
