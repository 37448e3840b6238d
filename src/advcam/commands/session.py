"""What every command is given, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advcam.progress import Reporter
from advcam.runtime import Runtime


@dataclass(frozen=True)
class Session:
    """What a command is given beside its config.

    Args:
        runtime: device and limits.
        reporter: shows progress.
        seed: of everything random.
    """

    runtime: Runtime
    reporter: Reporter
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a command made.

    Args:
        done: the last line: what was made, and where.
        lines: to be said before it.
        skipped: how many items were left out.
        listed: the file that lists them with reasons.
        what: such items are called.
    """

    done: str
    lines: Sequence[str] = ()
    skipped: int = 0
    listed: Path = Path()
    what: str = "left out"
