"""What a run may use of the machine; never part of what a result is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch

from advcam.errors import SettingsError


@dataclass(frozen=True)
class Machine:
    """Device and limits.

    Args:
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), ``cpu``, ``cuda`` or ``mps``.
        workers: processes that read pictures while a network trains; 0 reads in the training process.
        max_pixels: most pixels in one forward pass of a climb; bounds memory. None leaves it to the climb.

    Raises:
        SettingsError: a device that is not there.
    """

    device: str = "auto"
    workers: int = field(default_factory=lambda: min(2, (os.cpu_count() or 1) - 1))
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device not in ("auto", *there):
            raise SettingsError(f"--device is one of auto, {', '.join(there)}; got {self.device!r}")
        if self.device != "auto" and not there[self.device]:
            raise SettingsError(
                f"--device {self.device}: there is none here; use {', '.join(d for d, on in there.items() if on)}"
            )
        if self.workers < 0 or (self.max_pixels is not None and self.max_pixels < 1):
            raise SettingsError(
                f"workers must be at least 0 and max_pixels at least 1; got {self.workers} and {self.max_pixels}"
            )

    def torch_device(self) -> torch.device:
        """The device itself."""
        if self.device != "auto":
            return torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
