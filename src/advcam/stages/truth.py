"""Reads ground-truth masks, and checks that they can be the ground truth of a run's images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcam.data import IGNORE, ClassTable, Item, Skip
from advcam.errors import DataError, StoreError
from advcam.progress import Reporter
from advcam.store import load_mask

KINDS = {
    "unknown": "hold ids of no class, which count as background",
    "ignored": "hold 255, which is ignored, and no pixel of a class that the image's labels name",
    "absent": "hold no pixel of a class that the image's labels name",
    "lacking": "lack some of the classes that the image's labels name",
    "unnamed": "hold a class that the image's labels do not name",
}
"""Kinds of doubtful masks, as worded in totals."""


def read_truth(folder: Path, item: Item) -> NDArray[np.uint8]:
    """Reads the ground truth of an image, class ids [H, W].

    Raises:
        StoreError: the mask is missing, damaged, or differs in size from the image.
    """
    return load_mask(folder / f"{item.id}.png", item.size)


@dataclass
class TruthCheck:
    """Checks the ground truth of images one by one, and collects doubts.

    Args:
        folder: folder of the masks ID.png.
        classes: classes of the run.
    """

    folder: Path
    classes: ClassTable
    masks: int = 0
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE + 1, dtype=np.int64))
    found: dict[str, list[Skip]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    _labelled: int = 0
    _shown: int = 0

    @property
    def doubts(self) -> list[Skip]:
        """The doubts about the masks checked so far, one line each."""
        return [doubt for doubts in self.found.values() for doubt in doubts]

    def look(self, item: Item, ids: NDArray[np.uint8]) -> None:
        """Checks one image's class ids [H, W]."""
        count = np.bincount(ids.ravel(), minlength=IGNORE + 1)
        self.masks += 1
        self.pixels += count
        held = set(np.flatnonzero(count).tolist())
        named, there = {self.classes.ids[at] for at in item.labels}, held & set(self.classes.ids)
        unknown = held - there - {0, IGNORE}
        self._labelled += bool(named)
        self._shown += bool(named & there)
        if unknown:
            self._doubt(item, "unknown", f"holds ids of no class: {_listed(unknown)}; they count as background")
        if named and not named & there:
            if IGNORE in held:
                share = f"{count[IGNORE] / ids.size:.1%} of it is 255, which is ignored: is that the object?"
                self._doubt(item, "ignored", f"holds no pixel of {self._names(named)}, which its labels name; {share}")
            else:
                self._doubt(item, "absent", f"holds no pixel of {self._names(named)}, which its labels name")
        elif named - there:
            self._doubt(item, "lacking", f"lacks {self._names(named - there)}, which its labels name")
        if there - named:
            self._doubt(item, "unnamed", f"holds {self._names(there - named)}, which its labels do not name")

    def must_be_truth(self) -> None:
        """Checks that the masks can be ground truth.

        Raises:
            DataError: no mask of an image with labels holds a pixel of its classes.
        """
        if not self._labelled or self._shown:
            return
        held = set(np.flatnonzero(self.pixels).tolist())
        there = f"{self.folder}: no mask of {self._labelled} labelled images holds a pixel of a class that its image's labels"
        ours = ", ".join(f"{i} {name}" for i, name in zip(self.classes.ids, self.classes.names, strict=True))
        if held == {0, IGNORE}:
            what = f"they hold only 0 and 255. Is 255 the object? Then replace it by the class's id, of {ours}"
        elif held - {0, IGNORE, *self.classes.ids}:
            what = (
                f"they hold {_listed(held)}, the run's classes are {ours}. Write these ids into the masks, or start a run whose"
                " --classes FILE (CSV id,name) has the ids of the masks"
            )
        else:
            what = f"they hold {_listed(held)}, the run's classes are {ours}. Are these the masks of these images?"
        raise DataError(f"{there} name, so there is nothing to compare with: {what}")

    def totals(self) -> list[str]:
        """Returns a line for each kind of doubt: the number of masks, and the first."""
        strange = set(np.flatnonzero(self.pixels).tolist()) - {0, IGNORE, *self.classes.ids}
        ids = {
            "unknown": f": {_listed(strange)} (classes: {_listed({*self.classes.ids})}; --classes FILE says the ids of classes)"
        }
        return [
            f"{len(doubts)} of {self.masks} ground-truth masks {KINDS[kind]}{ids.get(kind, '')} (the first: {doubts[0].image})"
            for kind, doubts in self.found.items()
            if doubts
        ]

    def record(self) -> dict[str, int]:
        """Returns the number of masks checked and, by kind, of doubtful ones, as plain data."""
        return {"masks": self.masks} | {kind: len(doubts) for kind, doubts in self.found.items()}

    def _doubt(self, item: Item, kind: str, reason: str) -> None:
        self.found[kind].append(Skip(item.id, f"{self.folder / item.id}.png: {reason}"))

    def _names(self, ids: set[int]) -> str:
        names = dict(zip(self.classes.ids, self.classes.names, strict=True))
        return ", ".join(repr(names[i]) for i in sorted(ids))


def _listed(ids: set[int]) -> str:
    """Formats at most eight of the ids."""
    ordered = sorted(ids)
    return ", ".join(map(str, ordered[:8])) + (", ..." if len(ordered) > 8 else "")


def look_at_truth(
    folder: Path, items: Sequence[Item], classes: ClassTable, reporter: Reporter
) -> tuple[TruthCheck, list[Item], list[Skip]]:
    """Checks the ground truth of images before anything is scored.

    Returns:
        The check, the images with a usable mask, and the others with the reason.

    Raises:
        DataError: there is no such folder, or none of the images has a mask.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of ground-truth masks; check --masks")
    check, there, missing = TruthCheck(folder, classes), list[Item](), list[Skip]()
    for item in reporter.track(items, len(items), "check the masks"):
        try:
            check.look(item, read_truth(folder, item))
        except StoreError as error:
            missing.append(Skip(item.id, str(error)))
        else:
            there.append(item)
    if not there:
        raise DataError(f"{folder}: no ground-truth mask for any of {len(items)} images; the first: {missing[0].reason}")
    return check, there, missing
