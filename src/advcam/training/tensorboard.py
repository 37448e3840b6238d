"""Numbers of a training for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from advcam.errors import SettingsError


class Writer:
    """Writes to ``folder/tensorboard``; without a folder, nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.writer = None
        if folder:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise SettingsError("--tensorboard: it is not installed; `pip install tensorboard`, or leave it out") from None
            self.writer = SummaryWriter(str(folder / "tensorboard"))

    def flush(self) -> None:
        """Flushes to disk."""
        if self.writer:
            self.writer.flush()

    def numbers(self, step: int, found: dict[str, float]) -> None:
        """Adds the numbers of a step."""
        for name, value in found.items() if self.writer else ():
            self.writer.add_scalar(name, value, step)  # type: ignore[union-attr]
