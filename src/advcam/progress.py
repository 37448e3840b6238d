"""Progress bars with the remaining time, drawn by rich, and short messages; without a terminal, a line at intervals."""

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
"""Seconds between two lines if the output is not a terminal."""


class Reporter:
    """Shows progress and messages on standard error.

    Args:
        quiet: show only errors, warnings and the last line.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    @contextmanager
    def bar(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Shows a progress bar; yields a function to call with the number of items just finished.

        If the output is not a terminal, prints a line every :data:`EVERY` seconds and one at the end.
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
        """Shows the same progress as lines of a log, even while a single item takes long."""
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
        """Yields the items and shows a progress bar."""
        with self.bar(what, total) as advance:
            for item in items:
                yield item
                advance(1)

    def say(self, line: str) -> None:
        """Prints a line."""
        self.console.print(line, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Prints a warning, even if quiet."""
        print(f"advcam: warning: {line}", file=sys.stderr)


def _clock(seconds: float) -> str:
    """Formats seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
