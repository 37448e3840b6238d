"""Progress bars with time left, and short lines beside them; rich draws. Where nobody looks, a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

EVERY = 20.0
"""Seconds between two lines where output is no terminal."""


class Reporter:
    """Tells a person how far it is.

    Args:
        quiet: nothing but errors and the last line.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    @contextmanager
    def bar(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """A bar on the screen; call what it gives with the number of items that were finished.

        Where output is no terminal: a line every :data:`EVERY` seconds, and one at the end.
        """
        if not self.console.is_terminal:
            with self._lines(what, total, done) as advance:
                yield advance
            return
        columns = (
            TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(what, total=total, completed=done)
            yield lambda count: progress.advance(task, count)

    @contextmanager
    def _lines(self, what: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
        """The same as lines for a log, which come even while a single item takes long."""
        start, begun, over = time.monotonic(), done, threading.Event()

        def tell() -> None:
            seconds = time.monotonic() - start
            left = f", {_clock(seconds / (done - begun) * (total - done))} left" if begun < done < total else ""
            self.say(f"{what}: {done} of {total} in {_clock(seconds)}{left}")

        def now_and_then() -> None:
            while not over.wait(EVERY):
                tell()

        def advance(count: int) -> None:
            nonlocal done
            done += count

        teller = threading.Thread(target=now_and_then, daemon=True)
        if not self.quiet:
            teller.start()
        try:
            yield advance
        finally:
            over.set()
            if teller.ident is not None:
                teller.join()
            tell()

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items, with a bar on the screen while they are worked on."""
        with self.bar(what, total) as advance:
            for item in items:
                yield item
                advance(1)

    def say(self, line: str) -> None:
        """One line."""
        self.console.print(line, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """One line that is said even when quiet."""
        print(f"advcam: warning: {line}", file=sys.stderr)


def _clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
