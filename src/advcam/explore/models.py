"""The classifiers that the page climbs with; each is opened when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from advcam.models.classifiers import PretrainedClassifier


@dataclass
class Model:
    """A classifier.

    Args:
        name: as ``--model`` takes it: ``timm:NAME``, ``FILE.py:FUNCTION``, or a run folder.
        load: opens it.
        device: to compute on.
        flags: further words of a command that opens it in the same way, such as ``--weights FILE``.
        code: Python that makes ``model``, ``mean``, ``std`` and ``size``.
    """

    name: str
    load: Callable[[], PretrainedClassifier]
    device: torch.device
    flags: tuple[str, ...] = ()
    code: str = ""
    _ready: PretrainedClassifier | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ready(self) -> PretrainedClassifier:
        """Returns the classifier on its device; the first call opens it.

        Raises:
            AdvcamError: it cannot be opened.
        """
        with self._lock:
            if self._ready is None:
                made = self.load()
                made.model.to(self.device)
                self._ready = made
            return self._ready

    def class_id(self, position: int) -> int:
        """Returns the id that a command takes of an output."""
        ids = self.ready().ids
        return ids[position] if ids else position
