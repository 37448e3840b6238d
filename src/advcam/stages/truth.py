"""Reads ground-truth masks, and checks that they can be the ground truth of a run's images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcam.cells import as_read
from advcam.data import IGNORE, ClassTable, Item, Skip, read_colours
from advcam.errors import DataError, RunError, StoreError
from advcam.progress import Reporter
from advcam.store import Colours, RunFolder, load_mask, mask_file, only_value

KINDS = {
    "unknown": "hold ids of no class, which count as background",
    "ignored": "hold 255, which is ignored, and no pixel of a class that the image's labels name",
    "absent": "hold no pixel of a class that the image's labels name",
    "lacking": "lack some of the classes that the image's labels name",
    "unnamed": "hold a class that the image's labels do not name",
}
"""Kinds of doubtful masks, as worded in totals."""


@dataclass(frozen=True)
class Truth:
    """Masks made by hand, of the forms that :func:`advcam.store.load_mask` reads.

    Args:
        folder: with a file for each image, see :func:`advcam.store.mask_file`.
        colours: the id of each colour of RGB masks; None: VOC's.
        white: the id that 255 stands for, where masks say 0 and 255 of the run's only class; None: 255 is ignored.
        ours: whether advcam wrote the masks, so that 255 is ignored in any case.
    """

    folder: Path
    colours: Colours | None = None
    white: int | None = None
    ours: bool = False

    def __call__(self, item: Item) -> NDArray[np.uint8]:
        """Returns the class ids [H, W] of an image.

        Raises:
            StoreError: the mask is missing, damaged, or differs in size from the image.
        """
        ids = load_mask(mask_file(self.folder, item.id), item.size, self.colours)
        return ids if self.white is None else np.where(ids == IGNORE, np.uint8(self.white), ids)

    def knowing(self, held: set[int], classes: ClassTable) -> Truth:
        """Returns the same masks with 255 as the object, if there is one class and all masks hold 0 and 255 alone."""
        of_object = held == {0, IGNORE} and len(classes) == 1 and not self.ours
        return replace(self, white=classes.ids[0]) if of_object else self


def truth_of(folder: Path, colours: Path | None) -> Truth:
    """Returns the masks of a folder; ``colours`` is a CSV id,colour of RGB masks.

    Raises:
        DataError: the file of colours cannot be used.
    """
    return Truth(folder, read_colours(colours) if colours else None)


@dataclass(frozen=True)
class Corrected:
    """The masks of a run that a person has looked at, ``RUN/corrected/masks/ID.png``.

    Args:
        folder: with the masks.
        known: images whose mask was accepted or mended.
        rejected: images whose mask was rejected: theirs is 255 throughout, so that nothing is learnt from it.
        drawn: ids of those that were looked at in random order, by the explorer's log.
    """

    folder: Path
    known: tuple[Item, ...]
    rejected: tuple[Item, ...]
    drawn: frozenset[str]

    @property
    def chosen(self) -> str:
        """How the images were chosen, for whoever reads a number that was measured on them."""
        ids = {item.id for item in self.known + self.rejected}
        return "drawn at random" if ids <= self.drawn else "not drawn at random, so it is of these images only"

    def representative(self) -> Corrected:
        """Returns those that were looked at in random order, if there are two; else all."""
        drawn = replace(self, known=self._drawn(self.known), rejected=self._drawn(self.rejected))
        return drawn if len(drawn.known) > 1 else self

    def _drawn(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        return tuple(item for item in items if item.id in self.drawn)


def corrected_mask(run: RunFolder, name: str) -> Path:
    """Returns the path of an image's corrected mask."""
    return run.root / "corrected" / "masks" / f"{name}.png"


def corrected_masks(run: RunFolder, items: Sequence[Item]) -> Corrected:
    """Returns the masks of these images that a person has looked at.

    Raises:
        StoreError: a mask, or the log of the explorer, is damaged.
    """
    root = run.root / "corrected"
    found = Corrected(root / "masks", (), (), _drawn_at_random(root / "log.csv"))
    there = [item for item in items if corrected_mask(run, item.id).is_file()]
    rejected = {item.id for item in there if only_value([corrected_mask(run, item.id)]) == IGNORE}
    known = tuple(item for item in there if item.id not in rejected)
    return replace(found, known=known, rejected=tuple(item for item in there if item.id in rejected))


def need_corrected(run: RunFolder, items: Sequence[Item]) -> Corrected:
    """Returns the corrected masks of a run, of which there must be one.

    Raises:
        RunError: there is none.
        StoreError: as for :func:`corrected_masks`.
    """
    found = corrected_masks(run, items)
    if not found.known:
        raise RunError(f"{found.folder}: holds no corrected mask; `advcam explore --run {run.root}` makes them")
    return found


def decisions(run: RunFolder) -> dict[str, str]:
    """Returns what was last decided in the explorer about each image, by id: ``accept``, ``fix``, ``reject`` or ``withdraw``.

    Raises:
        StoreError: the log is damaged.
    """
    return {name: action for name, action, _ in _logged(run.root / "corrected" / "log.csv")}


def _drawn_at_random(log: Path) -> frozenset[str]:
    """Returns the ids of the images that first came up in random order."""
    first: dict[str, str] = {}
    for name, action, order in _logged(log):
        if action != "withdraw":
            first.setdefault(name, order)
    return frozenset(name for name, order in first.items() if order == "random")


def _logged(log: Path) -> list[tuple[str, str, str]]:
    """Returns image, action and order of every decision in the explorer's log, in order of time; none without a log."""
    try:
        with log.open(encoding="utf-8", newline="") as file:
            rows = [(as_read(row["image"]), row.get("action"), row.get("order") or "") for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{log}: cannot be read ({error}); restore it, or delete it: the masks are kept") from None
    return [(name, action, order) for name, action, order in rows if action in ("accept", "fix", "reject", "withdraw")]


@dataclass
class TruthCheck:
    """Checks the ground truth of images one by one, and collects doubts.

    Args:
        truth: the masks.
        classes: classes of the run.
    """

    truth: Truth
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
        if unnamed := there - named - {self.classes.ids[at] for at in item.unknown}:
            self._doubt(item, "unnamed", f"holds {self._names(unnamed)}, which its labels do not name")

    def must_be_truth(self) -> None:
        """Checks that the masks can be ground truth.

        Raises:
            DataError: no mask of an image with labels holds a pixel of its classes.
        """
        if not self._labelled or self._shown:
            return
        held = set(np.flatnonzero(self.pixels).tolist())
        there = (
            f"{self.truth.folder}: no mask of {self._labelled} labelled images holds a pixel of a class that its image's labels"
        )
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
        self.found[kind].append(Skip(item.id, f"{mask_file(self.truth.folder, item.id)}: {reason}"))

    def _names(self, ids: set[int]) -> str:
        names = dict(zip(self.classes.ids, self.classes.names, strict=True))
        return ", ".join(repr(names[i]) for i in sorted(ids))


def _listed(ids: set[int]) -> str:
    """Formats at most eight of the ids."""
    ordered = sorted(ids)
    return ", ".join(map(str, ordered[:8])) + (", ..." if len(ordered) > 8 else "")


def look_at_truth(
    truth: Truth, items: Sequence[Item], classes: ClassTable, reporter: Reporter
) -> tuple[TruthCheck, list[Item], list[Skip]]:
    """Checks the ground truth of images before anything is scored.

    Masks of 0 and 255 of a run's only class are taken as masks of that class, and this is said; the check then has such masks.

    Returns:
        The check, the images with a usable mask, and the others with the reason.

    Raises:
        DataError: there is no such folder, or none of the images has a mask.
    """
    if not truth.folder.is_dir():
        raise DataError(f"{truth.folder}: there is no such folder of ground-truth masks; check --masks")
    check, there, missing = TruthCheck(truth, classes), list[Item](), list[Skip]()
    for item in reporter.track(items, len(items), "check the masks"):
        try:
            check.look(item, truth(item))
        except StoreError as error:
            missing.append(Skip(item.id, str(error)))
        else:
            there.append(item)
    if not there:
        raise DataError(f"{truth.folder}: no ground-truth mask for any of {len(items)} images; the first: {missing[0].reason}")
    known = truth.knowing(set(np.flatnonzero(check.pixels).tolist()), classes)
    if known != truth:
        reporter.say(f"{truth.folder}: masks of 0 and 255 alone; 255 is read as {classes.names[0]}, the only class")
        return look_at_truth(known, items, classes, Reporter(quiet=True))
    return check, there, missing
