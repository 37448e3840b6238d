"""Progress bars with time left, and short lines beside them; rich draws."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


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
        """A bar on the screen; call what it gives with the number of items that were finished."""
        columns = (
            TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(what, total=total, completed=done)
            yield lambda count: progress.advance(task, count)

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
