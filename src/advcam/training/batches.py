"""The batches of a training: read in processes of their own, errors among them raised here."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate

from advcam.data import Views
from advcam.errors import AdvcamError
from advcam.progress import Reporter

SHARED_MEMORY = Path("/dev/shm")
"""Where processes leave batches for one another; Docker gives it 64 MB."""

AHEAD = 3
"""Batches of each worker that lie there at once: two that it prepares, and one that is taken."""


def usable_workers(wanted: int, views: Views, batch: int, reporter: Reporter) -> int:
    """So many processes as are wanted, or none where shared memory has no room for the batches that they would leave there."""
    if not wanted or not SHARED_MEMORY.is_dir():
        return wanted
    try:
        shown = views[0]
    except (AdvcamError, RuntimeError, MemoryError):  # said where the images are read in earnest
        return wanted
    values = [value for part in shown for value in (part.values() if isinstance(part, dict) else [part])]
    each = batch * sum(value.nbytes for value in values)
    needed, free = AHEAD * wanted * each, shutil.disk_usage(SHARED_MEMORY).free
    if needed <= free:
        return wanted
    reporter.say(
        f"images are read in the training process: {wanted} workers need {needed / 2**20:.0f} MB of shared memory,"
        f" {SHARED_MEMORY} has {free / 2**20:.0f} MB free (docker run --shm-size=1g gives more)"
    )
    return 0


def step_batches(views: Views, order: list[int], batch: int, parts: int, workers: int) -> Iterator[list[Any]]:
    """The batches of one step after the other, so many together; an error of ours is raised.

    Args:
        views: what is trained on.
        order: the positions that are taken.
        batch: views in a part.
        parts: of a step.
        workers: processes that read; 0 reads in this one.
    """
    ordered = _WithErrors(views, order)
    return _together(_started(DataLoader(ordered, batch, num_workers=workers, collate_fn=ordered.collate)), parts)


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches; the processes that read them leave Ctrl-C, which a terminal sends to all, to this one."""
    if not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is started now keeps it blocked
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _together(loader: Iterable[Any], parts: int) -> Iterator[list[Any]]:
    """The batches that belong to one step, together; an error is raised."""
    taken: list[Any] = []
    for batch in loader:
        if isinstance(batch, AdvcamError):
            raise batch
        taken.append(batch)
        if len(taken) == parts:
            yield taken
            taken = []


class _WithErrors(Dataset[Any]):
    """Views in an order. An error of ours comes out of a worker process as itself, not as a worker's traceback."""

    def __init__(self, views: Views, order: list[int]) -> None:
        self.views, self.order = views, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> Any:
        try:
            return self.views[self.order[at]]
        except AdvcamError as error:
            return error

    @staticmethod
    def collate(views: list[Any]) -> Any:
        """A batch, or the first error among its views."""
        return next((view for view in views if isinstance(view, AdvcamError)), None) or default_collate(views)
