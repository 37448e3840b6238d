"""Work shared out in units: in this process, over the processes of ``torchrun``, or over the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from advcam.runtime import Runtime

from .work import Open, Row, Unit, Work, attempt, reading

__all__ = ["Open", "Row", "Unit", "Work", "attempt", "reading", "rows"]


def rows(units: Sequence[Unit], work: Open, runtime: Runtime, folder: Path | None, here: Work | None = None) -> Iterator[Row]:
    """Yields a row for every wanted image, in any order, when it is made; of several processes, each those of its share.

    Args:
        units: what is computed together.
        work: picklable; called once in every process that works, gives what is called with units.
        runtime: the engine, its address and limits.
        folder: what is written to: all machines must have it; None where files are written to an address.
        here: what ``work`` gives, where this process has it already.

    Raises:
        SettingsError: the cluster cannot be used.
        RunError: the processes of the cluster die whatever they are given.
        AdvcamError: what was called with a unit raised it; not an ImageError, which becomes a row.
    """
    if not units:
        return
    if runtime.engine == "ray":
        from .cluster import rows_of_cluster

        yield from rows_of_cluster(units, work, runtime, folder)
        return
    mine = runtime.share(list(units))
    made = (here or work()) if mine else None
    for unit in mine:
        assert made is not None
        yield from attempt(made, unit)
