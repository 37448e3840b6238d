"""What every command takes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advcam.data import Place
from advcam.progress import Reporter
from advcam.runtime import Runtime


@dataclass(frozen=True)
class Session:
    """What a command takes besides its config.

    Args:
        runtime: device and limits.
        reporter: shows progress.
        seed: seed of everything random.
    """

    runtime: Runtime
    reporter: Reporter
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command.

    Args:
        done: the last line of output: what was made, and where.
        lines: lines before it.
        skipped: number of items left out.
        listed: the file that lists them with reasons.
        what: what to call such items.
    """

    done: str
    lines: Sequence[str] = ()
    skipped: int = 0
    listed: Place = Path()
    what: str = "left out"
