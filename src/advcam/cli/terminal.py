"""What the command line says, and where: whatever becomes of the terminal, work that was done stays done."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from typing import Any


def print_any_name() -> None:
    """Lets names be printed that the terminal has no signs for."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, stream: Any = None) -> None:
    """Prints a line; that nobody reads it any more, as behind ``| head``, undoes nothing that was done."""
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Unread:
    """Standard error, where nobody reading it any more, as behind ``| head``, undoes nothing."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes what somebody may read."""
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the last: it was closed from the start
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As of the stream."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.stream.flush()


def only_our_warnings() -> None:
    """Other libraries' warnings are not for the person at the terminal; ours are, each once, on a line."""
    from advcam.errors import AdvcamWarning

    said = set[str]()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if speaks() and str(message) not in said:
            said.add(str(message))
            say(f"advcam: warning: {message}", sys.stderr)

    warnings.simplefilter("ignore")
    warnings.filterwarnings("always", category=AdvcamWarning)
    warnings.showwarning = show
    logging.disable(logging.WARNING)


def speaks() -> bool:
    """Whether this process, of several, is the one that a person reads."""
    from advcam.runtime import is_distributed

    return not is_distributed() or os.environ["RANK"] == "0"
