"""What a run may use of the machine; never part of what a result is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from advcam.errors import AdvcamError, SettingsError

T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """Device and limits.

    Args:
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), ``cpu``, ``cuda`` or ``mps``.
        workers: processes that read pictures while a network trains; 0 reads in the training process.
        max_pixels: most pixels in one forward pass of a climb; bounds memory. None leaves it to the climb.
        accumulate: parts that a training batch is taken in, one after the other; bounds memory.
        tensorboard: write TensorBoard logs of trainings.

    Raises:
        SettingsError: a device that is not there.
    """

    device: str = "auto"
    workers: int = field(default_factory=lambda: min(2, (os.cpu_count() or 1) - 1))
    max_pixels: int | None = None
    accumulate: int = 1
    tensorboard: bool = False

    def __post_init__(self) -> None:
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device not in ("auto", *there):
            raise SettingsError(f"--device is one of auto, {', '.join(there)}; got {self.device!r}")
        if self.device != "auto" and not there[self.device]:
            raise SettingsError(
                f"--device {self.device}: there is none here; use {', '.join(d for d, on in there.items() if on)}"
            )
        if self.workers < 0 or (self.max_pixels is not None and self.max_pixels < 1) or self.accumulate < 1:
            raise SettingsError(
                "workers must be at least 0, max_pixels and accumulate at least 1; got"
                f" {self.workers}, {self.max_pixels} and {self.accumulate}"
            )

    def torch_device(self) -> torch.device:
        """The device itself."""
        if several() and self.device != "cpu":
            return torch.device(_state(self).device)
        if self.device != "auto":
            return torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    @property
    def first(self) -> bool:
        """Whether this is the first of the processes, the one that writes; with one process it is."""
        return not several() or bool(_state(self).is_main_process)

    def share(self, items: list[T]) -> list[T]:
        """This process's share of the items: every n-th of n processes."""
        return items[_state(self).process_index :: _state(self).num_processes] if several() else items

    def wait(self) -> None:
        """Waits until all processes have come here."""
        if several():
            _state(self).wait_for_everyone()

    def leave(self) -> None:
        """Parts from the other processes when all have come here: one that ends while another still speaks aborts that one."""
        if several():
            self.wait()
            torch.distributed.destroy_process_group()

    def once(self, call: Callable[[], T]) -> T:
        """What a call gives in the first process, given to all; an error of ours is raised in all."""
        if not several():
            return call()
        from accelerate.utils import broadcast_object_list

        _state(self)  # processes meet here first
        answer: list[Any] = [None]
        if self.first:
            try:
                answer = [call()]
            except AdvcamError as error:
                answer = [error]
        broadcast_object_list(answer)
        if isinstance(answer[0], AdvcamError):
            raise answer[0]
        given: T = answer[0]
        return given


def several() -> bool:
    """Whether ``accelerate launch`` or ``torchrun`` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    said = str(error).lower()
    words = ("not enough memory", "out of memory", "allocate memory")  # the last: torch on a CPU under Linux
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in said for word in words)


def _state(machine: Machine) -> Any:
    from accelerate import PartialState

    return PartialState(cpu=machine.device == "cpu" or not torch.cuda.is_available())
