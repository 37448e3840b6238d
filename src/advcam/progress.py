"""Progress bars with the remaining time, drawn by rich, and short messages.

Without a terminal, a line comes at intervals; in a notebook, each bar is one output that changes in place.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

EVERY = 20.0
"""Seconds between two lines if the output is not a terminal."""
OFTEN = 1.0
"""Seconds between two changes of a bar in a notebook."""
KERNEL = "JPY_PARENT_PID"
"""Variable that programs inherit from a notebook's kernel, which shows no bars of theirs although it says it is a terminal."""

Show = Callable[[str, int, int], None]
"""Shows a line of progress, with how many are done of how many."""


class Reporter:
    """Shows progress and messages on standard error.

    Args:
        quiet: show only errors, warnings and the last line.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        drawn = None if _is_terminal() else False  # not even with FORCE_COLOR, which kernels and build servers set
        self.console = Console(stderr=True, quiet=quiet, highlight=False, force_jupyter=False, force_terminal=drawn)

    @contextmanager
    def bar(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Shows a progress bar; yields a function to call with the number of items just finished.

        If the output is not a terminal, prints a line every :data:`EVERY` seconds and one at the end.
        """
        if not self.console.is_terminal:
            notebook = not self.quiet and _is_notebook()
            with self._lines(what, total, done, _in_place(), OFTEN) if notebook else self._lines(what, total, done) as advance:
                yield advance
            return
        columns = (
            TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), _Pace(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(what, total=total, completed=done)
            yield lambda count: progress.advance(task, count)

    @contextmanager
    def _lines(
        self, what: str, total: int, done: int, show: Show | None = None, every: float = EVERY
    ) -> Iterator[Callable[[int], None]]:
        """Shows the same progress as lines, those of a log if ``show`` is None, even while a single item takes long."""
        start, begun, over = time.monotonic(), done, threading.Event()

        def tell() -> None:
            seconds = time.monotonic() - start
            pace = f", {_pace((done - begun) / seconds)}" if done > begun and seconds else ""
            left = f", {_clock(seconds / (done - begun) * (total - done))} left" if begun < done < total else ""
            line = f"{what}: {done} of {total} in {_clock(seconds)}{pace}{left}"
            if show:
                show(line, done, total)
            else:
                self.say(line)

        def now_and_then() -> None:
            while not over.wait(every):
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


@dataclass
class Waited:
    """How long a loop waited for what it works on: decoding, resizing, the disk.

    Args:
        seconds: waited so far.
        whole: seconds that the loops have taken so far, waiting included.
    """

    seconds: float = 0.0
    whole: float = 0.0

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the items, and adds up the time that each took to come."""
        source, start = iter(items), time.perf_counter()
        before = self.whole
        while True:
            asked = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                now = time.perf_counter()
                self.seconds += now - asked
                self.whole = before + now - start
            yield item

    def line(self, what: str, images: int) -> str:
        """Says how many images were taken a second, and which share of the time was spent waiting for them."""
        return f"{what}: {_pace(images / self.whole)}; {self.share()}"

    def share(self) -> str:
        """Says which share of the time was spent waiting."""
        return f"waited for images {100 * self.seconds / self.whole:.0f} % of the time"


class _Pace(ProgressColumn):
    """How many are done a second, as of late."""

    def render(self, task: Task) -> Text:
        return Text(_pace(task.speed) if task.speed else "")


def _pace(rate: float) -> str:
    return f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each"


def _is_terminal() -> bool:
    """Whether bars can be drawn on standard error."""
    try:
        return sys.stderr.isatty() and KERNEL not in os.environ
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _is_notebook() -> bool:
    """Whether a notebook shows what this process displays."""
    return "IPython" in sys.modules and Console(file=sys.stderr).is_jupyter


def _in_place() -> Show:
    """Returns a function that shows progress in one output of a notebook's cell, in place of what it showed before."""
    from IPython.display import display

    form = Markup('<progress value="{}" max="{}" style="vertical-align: middle"></progress> {}')
    handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(line: str, done: int, total: int) -> None:
        shown = {"text/plain": line, "text/html": form.format(done, max(1, total), line)}
        handle.update(shown, raw=True)

    return show


def _clock(seconds: float) -> str:
    """Formats seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
