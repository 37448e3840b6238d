"""What a person corrects in a run, in ``RUN/corrected``: masks, drafts of masks, image labels, and a log."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.cells import as_read
from advcam.data import ClassTable, Item
from advcam.errors import RunError, StoreError
from advcam.stages.truth import corrected_mask
from advcam.store import RunFolder, csv_text, load_mask, remove, save_mask, write_csv
from advcam.store.atomic import refused
from advcam.store.lock import lock

DECISIONS = ("accept", "fix", "reject", "withdraw")
"""What can be decided about a mask: it is right, it was mended, it is wrong, or nothing after all."""
COLUMNS = ("time", "who", "image", "action", "order", "seconds", "pixels", "labels")
"""Of the log: in which order the image came up, how long it was looked at, how many pixels differ from the run's mask."""
WAIT = 10.0
"""Seconds to wait for another process that writes corrections of the same run."""
STATES = ("present", "absent", "not sure")
"""What can be said of a class of an image."""


class ChangedError(RunError):
    """Another page has saved the same image meanwhile."""


@dataclass(frozen=True)
class Entry:
    """A line of the log, without its time and who wrote it.

    Args:
        image: its id.
        action: of :data:`DECISIONS`, or ``labels``.
        order: in which order the image came up, such as ``random``.
        seconds: for which it was looked at.
        pixels: number of pixels that differ from the run's mask.
        labels: what is said of the classes now, as in a labels file.
    """

    image: str
    action: str
    order: str = ""
    seconds: float = 0.0
    pixels: int = 0
    labels: str = ""


class Corrections:
    """The corrections of one run; every change is checked against the version that it was made from.

    Args:
        run: the run.
        classes: of the run.
        who: name of the person, for the log.
    """

    def __init__(self, run: RunFolder, classes: ClassTable, who: str) -> None:
        self.run, self.classes, self.who = run, classes, who
        self.root = run.root / "corrected"
        self._read: tuple[tuple[int, int], list[dict[str, str]]] = ((0, 0), [])

    def mask(self, name: str) -> Path:
        """Returns the path of an image's corrected mask."""
        return corrected_mask(self.run, name)

    def draft(self, name: str) -> Path:
        """Returns the path of an image's mask as far as it has been mended."""
        return self.root / "drafts" / f"{name}.png"

    def version(self, name: str) -> str:
        """Returns a hash of what is kept of an image; another one means that it was changed meanwhile."""
        made = hashlib.blake2b(digest_size=8)
        for path in (self.mask(name), self.draft(name)):
            with contextlib.suppress(FileNotFoundError):
                made.update(b"+" + path.read_bytes())
            made.update(b"|")
        return made.hexdigest()

    def keep(self, name: str, ids: NDArray[np.uint8], was: str) -> str:
        """Saves a draft; returns the new version.

        Args:
            name: id of the image.
            ids: its mask so far.
            was: the version that it was made from.

        Raises:
            ChangedError: what is kept has another version.
            StoreError: the draft cannot be written.
        """
        with self._locked():
            self._same(name, was)
            self._see(self.draft(name))
            save_mask(self.draft(name), ids)
            return self.version(name)

    def discard(self, name: str, was: str) -> str:
        """Removes a draft; returns the new version.

        Raises:
            ChangedError: what is kept has another version.
            StoreError: the draft cannot be removed.
        """
        with self._locked():
            self._same(name, was)
            self._see(self.draft(name))
            remove(self.draft(name))
            return self.version(name)

    def decide(self, entry: Entry, ids: NDArray[np.uint8] | None, was: str) -> str:
        """Saves a decision, with the mask if there is one, and removes the draft; returns the new version.

        The log and the mask are written both or not at all.

        Args:
            entry: what was decided.
            ids: the mask, 255 throughout for a rejected one; None removes the mask.
            was: the version that the decision was made from.

        Raises:
            ChangedError: what is kept has another version.
            StoreError: the mask or the log cannot be written.
        """
        name = entry.image
        with self._locked():
            self._same(name, was)
            self._see(self.mask(name))
            with self._logged(entry):
                if ids is None:
                    remove(self.mask(name))
                else:
                    save_mask(self.mask(name), ids)
            with contextlib.suppress(StoreError):  # what matters is saved; an older draft would be shown again, not lost
                remove(self.draft(name))
            return self.version(name)

    def log(self) -> list[dict[str, str]]:
        """Returns the lines of the log, each a dict by column.

        Raises:
            StoreError: it is damaged.
        """
        path = self.root / "log.csv"
        try:
            about = path.stat()
            key = (about.st_mtime_ns, about.st_size)
            if key != self._read[0]:
                rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
                self._read = (key, [row | {"image": as_read(row["image"])} for row in rows])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, csv.Error, KeyError, TypeError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); restore it, or delete it: the masks are kept") from None
        return self._read[1]

    def decided(self) -> dict[str, dict[str, str]]:
        """Returns the last decision about each image, by id, without those that were withdrawn.

        Raises:
            StoreError: the log is damaged.
        """
        last = {row["image"]: row for row in self.log() if row.get("action") in DECISIONS}
        return {name: row for name, row in last.items() if row["action"] != "withdraw"}

    # Image labels.

    def labels(self, item: Item) -> dict[int, str]:
        """Returns what is said of each class of an image, by class id: one of :data:`STATES`.

        Raises:
            StoreError: the corrected labels are damaged.
        """
        return self._labels({item.id: item})[item.id]

    def relabel(self, items: Mapping[str, Item], name: str, now: Mapping[int, str], was: Mapping[int, str]) -> None:
        """Corrects the labels of an image: writes ``labels.csv``, all labels of the run, and ``classes.csv``.

        Args:
            items: all images of the run, by id.
            name: id of the image.
            now: one of :data:`STATES` for each class id.
            was: what they were corrected from.

        Raises:
            ChangedError: the labels were changed meanwhile.
            RunError: a class whose name cannot stand in a file of labels.
            StoreError: the files cannot be written.
        """
        if odd := [one for one in self.classes.names if one.startswith("?")]:
            raise RunError(f"a file of labels cannot name the class {odd[0]!r}, as ? marks what is not known; rename it")
        with self._locked():
            every = self._labels(items)
            if every[name] != dict(was):
                raise ChangedError(
                    f"{name}: its labels were changed on another page meanwhile; they are shown now as saved there"
                )
            every[name] = dict(now)
            self._see(self.root / "labels.csv")
            with self._logged(Entry(name, "labels", labels=self._cell(now))):
                pairs = zip(self.classes.ids, self.classes.names, strict=True)
                write_csv(self.root / "classes.csv", ("id", "name"), list(pairs))
                rows = [(one, self._cell(states)) for one, states in every.items()]
                write_csv(self.root / "labels.csv", ("image", "labels"), rows)

    def _labels(self, items: Mapping[str, Item]) -> dict[str, dict[int, str]]:
        read = self._read_labels()
        return {name: self._states(item, read.get(name)) for name, item in items.items()}

    def _states(self, item: Item, cell: str | None) -> dict[int, str]:
        """Returns the states that a cell of ``labels.csv`` says; without one those of the run."""
        ids, names = self.classes.ids, self.classes.names
        if cell is None:
            shown, unsure = {ids[at] for at in item.labels}, {ids[at] for at in item.unknown}
        else:
            words = json.loads(cell) if cell.startswith("[") else cell.split(";")
            by_name = dict(zip(names, ids, strict=True))
            shown = {by_name[word] for word in words if word in by_name}
            unsure = {by_name[word[1:]] for word in words if word[:1] == "?" and word[1:] in by_name}
        return {i: "present" if i in shown else "not sure" if i in unsure else "absent" for i in ids}

    def _cell(self, states: Mapping[int, str]) -> str:
        """Returns the labels of an image as a cell; as a JSON list where a name holds what separates names."""
        mark = {"present": "", "not sure": "?"}
        words = [
            mark[states[i]] + name for i, name in zip(self.classes.ids, self.classes.names, strict=True) if states[i] in mark
        ]
        plain = not any(";" in name or name.startswith("[") for name in self.classes.names)
        return ";".join(words) if plain else json.dumps(words, ensure_ascii=False)

    def _read_labels(self) -> dict[str, str]:
        path = self.root / "labels.csv"
        try:
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
            return {as_read(row["image"]): as_read(row["labels"]) for row in rows}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, csv.Error, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); restore it, or delete it") from None

    # Safety.

    def _same(self, name: str, was: str) -> None:
        if self.version(name) != was:
            raise ChangedError(
                f"{name}: its mask was saved on another page, or by another program, since this page opened it; nothing was"
                " overwritten"
            )

    def _see(self, path: Path) -> None:
        """Refuses to write through links."""
        for one in (path, *path.parents):
            if one.is_symlink():
                raise RunError(f"{one}: is a link, through which nothing is written inside a run; replace it with a folder")
            if one == self.root:
                return

    @contextlib.contextmanager
    def _logged(self, entry: Entry) -> Iterator[None]:
        """Appends a line to the log; takes it back if the block fails."""
        path = self.root / "log.csv"
        self._see(path)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row: Sequence[Any] = (
            when, self.who, entry.image, entry.action, entry.order, f"{entry.seconds:.1f}", entry.pixels, entry.labels,
        )  # fmt: skip
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o666)
        except OSError as error:
            raise refused(path, error) from error
        try:
            size = os.fstat(handle).st_size
            text = csv_text(COLUMNS, [row])
            text = text if size == 0 else text.split("\n", 1)[1]
            with contextlib.ExitStack() as undo:
                undo.callback(_shorten, handle, size)
                _write(handle, text.encode())
                yield
                undo.pop_all()
        except OSError as error:
            raise refused(path, error) from error
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Waits until no other page or process changes the corrections of this run."""
        path = self.root / ".lock"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._see(path)
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise refused(path, error) from error
        try:
            until = time.monotonic() + WAIT
            while not lock(handle):
                if time.monotonic() > until:
                    raise RunError(
                        f"{path}: another process has been writing corrections for {WAIT:.0f} s; try again, or stop it"
                    )
                time.sleep(0.02)
            yield
        finally:
            os.close(handle)


def read_mask(path: Path, item: Item) -> NDArray[np.uint8]:
    """Returns a mask in the size of its image, of the form in which the page keeps it.

    Raises:
        StoreError: it is missing, damaged, or of another size.
    """
    return np.ascontiguousarray(load_mask(path, item.size), dtype=np.uint8)


def _shorten(handle: int, size: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(handle, size)


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]
    os.fsync(handle)
