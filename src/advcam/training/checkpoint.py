"""The state of a training after each epoch, from which it resumes to the same weights."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from advcam.errors import RunError
from advcam.models.weights import State, torch_load
from advcam.store import write_bytes
from advcam.store.records import History


class Checkpoint:
    """``training.pt``: the states of model, optimizer and schedule, the history, and the best weights.

    Raises:
        RunError: the file that is there is damaged, or another network's.
    """

    def __init__(self, folder: Path, parts: dict[str, Any]) -> None:
        self.path, self.parts = folder / "training.pt", parts
        self.history: list[dict[str, Any]] = []
        self.best: State = {}
        if self.path.is_file():
            self._go_on()

    def _go_on(self) -> None:
        """Loads the file.

        Raises:
            RunError: it is damaged, or the state of another network.
        """
        remedy = f"delete {self.path} and give the same command again: this training then starts again"
        try:
            kept = torch_load(self.path)
            history = msgspec.convert(kept["history"], History)
            best = msgspec.convert(kept["best"], dict[str, Any])
            if not history:
                raise ValueError("no epoch")
        except Exception as error:  # a damaged file raises anything, such as EOFError or BadZipFile
            said = " ".join(str(error).split())[:160]
            raise RunError(f"{self.path}: damaged ({type(error).__name__}: {said}); {remedy}") from None
        try:
            for name, part in self.parts.items():
                part.load_state_dict(kept[name])
            wanted = {name: (value.shape, True) for name, value in self.parts["model"].state_dict().items()}
            if {name: (value.shape, value.is_contiguous()) for name, value in best.items()} != wanted:
                raise ValueError("its best weights are none of this network")
        except Exception as error:  # optimizers and schedules raise anything
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(f"{self.path}: the state of another network ({said}); {remedy}") from None
        # Interned, so that pickle writes the same bytes as a training that was never interrupted.
        self.history = [{sys.intern(name): value for name, value in record.items()} for record in history]
        self.best = best

    def save(self, record: dict[str, Any], best_by: str | None, model: nn.Module, write: bool) -> None:
        """Adds an epoch to the history, keeps its weights where they are the best, and writes the file."""
        score, *past = (-1.0 if best_by is None or math.isnan(r[best_by]) else r[best_by] for r in (record, *self.history))
        if score == -1.0 == max([-1.0, *past]) or score > max(past, default=-1.0):  # without a score, the last
            self.best = {n: v.detach().cpu().clone().contiguous() for n, v in model.state_dict().items()}
        self.history.append(record)
        if not write:
            return
        kept = {name: part.state_dict() for name, part in self.parts.items()}
        stream = io.BytesIO()  # torch.save to a file hides that the disk is full
        torch.save(kept | {"history": self.history, "best": self.best}, stream)
        write_bytes(self.path, stream.getbuffer())
