"""What is needed next, prepared while what came before is used: reading and decoding beside a network's work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Waiting:
    """How long a consumer has waited for what is prepared.

    Args:
        seconds: in all.
    """

    seconds: float = 0.0


def ahead(
    items: Sequence[T], prepare: Callable[[T], R], depth: int = 1, waiting: Waiting | None = None
) -> Iterator[tuple[T, R]]:
    """Yield each item with what is prepared of it, in order, and prepare the next ones in a thread meanwhile.

    An error of ``prepare`` is raised at the turn of its item. The thread ends with the iteration, also where an error ends it
    or the consumer closes the iterator; what it is preparing then is waited for, and the rest is not begun.

    Args:
        items: what to prepare.
        prepare: called in the other thread, for one item at a time.
        depth: how many items are prepared ahead of the one in use, at least 1: no more than ``depth`` + 1 are held at a time.
        waiting: adds up how long the consumer waits.

    Yields:
        Pairs of an item and what was prepared.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = deque(thread.submit(prepare, item) for item in items[:depth])

        def take() -> R:
            start = time.perf_counter()
            try:
                return coming.popleft().result()
            finally:
                if waiting is not None:
                    waiting.seconds += time.perf_counter() - start

        def pair(at: int) -> tuple[T, R]:
            taken = take()
            coming.extend(thread.submit(prepare, item) for item in items[at + depth : at + depth + 1])
            return items[at], taken

        try:
            for at in range(len(items)):
                yield pair(at)
        finally:
            thread.shutdown(cancel_futures=True)


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """Images on a device; on a CUDA device through pinned memory, so that nobody waits for the copy."""
    return images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images.to(device)
