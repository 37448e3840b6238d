"""Output of the command line; a closed or limited terminal never makes a command fail."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from typing import Any


def print_any_name() -> None:
    """Escapes characters that the terminal cannot print, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, stream: Any = None) -> None:
    """Prints a line; does not fail if the reader is gone, as after ``| head``."""
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Unread:
    """Standard error that does not fail if its reader is gone, as after ``| head``."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes text, ignoring a closed stream."""
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the last: it was closed from the start
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, ignoring a closed one."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.stream.flush()


def only_our_warnings() -> None:
    """Silences other libraries' warnings; prints ours once each, on one line."""
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
    """Whether this process prints: with several, only the first does."""
    from advcam.runtime import is_distributed

    return not is_distributed() or os.environ["RANK"] == "0"
