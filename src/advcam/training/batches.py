"""The batches of a training, read ahead by a thread or by worker processes, whose errors are raised here."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from advcam.data import Views
from advcam.data.ahead import ahead
from advcam.errors import AdvcamError
from advcam.progress import Reporter

SHARED_MEMORY = Path("/dev/shm")
"""Shared memory, through which workers pass batches; 64 MB in Docker by default."""

AHEAD = 3
"""Batches of each worker in shared memory at once: two prefetched and one in use."""


def usable_workers(wanted: int, views: Views, batch: int, reporter: Reporter) -> int:
    """The number of workers: as many as wanted, or none where their batches do not fit into shared memory."""
    if not wanted or not SHARED_MEMORY.is_dir():
        return wanted
    try:
        shown = views[0]
    except (AdvcamError, RuntimeError, MemoryError):  # raised again when training reads the images
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
    """The batches of each step, in parts; errors of the workers are raised here.

    Args:
        views: what is trained on.
        order: positions of the views.
        batch: views in a part.
        parts: of a step.
        workers: processes that read; 0: a thread of this process does, or this thread where views do not bear that.
    """
    ordered = _WithErrors(views, order)
    if workers:
        own = torch.Generator()  # else the loader would draw from the network's
        loader = DataLoader(ordered, batch, num_workers=workers, collate_fn=ordered.collate, generator=own)
        return _together(_started(loader), parts)
    # A fork would make this process copy each page that it writes to from then on.
    starts = range(0, len(order), batch)
    if not views.aside:
        return _together((ordered.batch(first, batch) for first in starts), parts)
    return _together((found for _, found in ahead(starts, lambda first: ordered.batch(first, batch))), parts)


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """Starts the loader with SIGINT blocked in its workers, so that only this process handles Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # workers started now inherit the mask
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _together(loader: Iterable[Any], parts: int) -> Iterator[list[Any]]:
    """Groups the batches of each step; raises errors of workers."""
    taken: list[Any] = []
    for batch in loader:
        if isinstance(batch, AdvcamError):
            raise batch
        taken.append(batch)
        if len(taken) == parts:
            yield taken
            taken = []


class _WithErrors(Dataset[Any]):
    """Views in an order. An AdvcamError is returned as a value, so that it leaves a worker without its traceback."""

    def __init__(self, views: Views, order: list[int]) -> None:
        self.views, self.order = views, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> Any:
        try:
            return self.views[self.order[at]]
        except AdvcamError as error:
            return error

    def batch(self, first: int, count: int) -> Any:
        """A batch of views that follow one another."""
        return self.collate([self[at] for at in range(first, min(first + count, len(self)))])

    @staticmethod
    def collate(views: list[Any]) -> Any:
        """A batch, or the first error among its views."""
        return next((view for view in views if isinstance(view, AdvcamError)), None) or default_collate(views)
