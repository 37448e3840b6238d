"""What every step is given, and how a step is taken up and left."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.data import ClassTable, Dataset, Item, Skip
from advcam.errors import RunError
from advcam.machine import Machine, settled
from advcam.models.classifiers import Backbone, own_classifier, saved_classifier
from advcam.models.weights import fill, load_state
from advcam.progress import Reporter
from advcam.store import RunFolder, StoredMaps, load_maps, read_json, write_json, write_text

MapSource = Callable[[Sequence[Item]], Iterator[tuple[Item, StoredMaps]]]
"""Pictures -> each with its maps, in any order."""


@dataclass(frozen=True)
class Context:
    """One run: its folder, its data, what it may use of the machine, and where it reports."""

    run: RunFolder
    data: Dataset
    seed: int
    machine: Machine
    reporter: Reporter

    @contextmanager
    def step(self, name: str, settings: dict[str, Any], needs: str | None = None) -> Iterator[bool]:
        """Takes up a step; gives False where it is done already. Time is added up over resumptions. Of several processes the
        first does so for all. ``needs`` is the step that it is applied to, where that is another than usual.

        Raises:
            RunError: made with other settings, or an earlier step is not done.
        """
        todo = self.machine.once(lambda: self.run.begin(name, settings, needs))
        start, done = time.monotonic(), False
        try:
            yield todo
            done = True
        finally:
            if todo and self.machine.first and self.run.root.is_dir():
                self.run.end(name, time.monotonic() - start, done)
        self.reporter.say(f"{name}: {'done' if todo else 'was done already'}")

    def precision(self, step: str, asked: str) -> str:
        """The precision that a step computes in; ``auto`` is what the step was begun with, where it was, on any machine."""
        begun = self.run.settings(step).get("precision") if asked == "auto" else None
        if self.run.done(step) and (begun or asked) != "auto":
            return str(begun or asked)  # nothing is computed, so nothing is to be said
        if begun and begun != settled("auto", self.machine.torch_device()):
            self.reporter.say(f"{step}: goes on in {begun}, as it was begun")
        return settled(begun or asked, self.machine.torch_device())


def save_data(run: RunFolder, data: Dataset) -> None:
    """Keeps the data set as it was read, so that later steps need neither labels file nor a second look."""
    classes = data.classes.record()
    run.name_classes(classes)
    parts = {"train": data.train, "eval": data.eval}
    write_json(
        run.root / "data.json",
        {
            "classes": classes,
            **{
                name: [{"id": i.id, "path": i.path, "labels": i.labels, "size": i.size} for i in items]
                for name, items in parts.items()
            },
            "skipped": [{"image": s.image, "reason": s.reason} for s in data.skipped],
        },
    )


def load_data(run: RunFolder) -> Dataset:
    """What :func:`save_data` kept.

    Raises:
        RunError: the run was stopped before its pictures had been looked at.
    """
    path = run.root / "data.json"
    if not path.is_file():
        raise RunError(
            f"{run.root}: its pictures were not looked at yet; give `advcam run` with the same --images and --labels again"
        )
    kept = read_json(path)
    classes = ClassTable.from_record(kept["classes"])
    train, scored = (
        tuple(Item(i["id"], Path(i["path"]), tuple(i["labels"]), (i["size"][0], i["size"][1])) for i in kept[name])
        for name in ("train", "eval")
    )
    return Dataset(classes, train, scored, tuple(Skip(s["image"], s["reason"]) for s in kept["skipped"]))


def list_skips(path: Path, skips: Sequence[Skip]) -> None:
    """Lists what was left out as CSV ``image,reason``; with nothing to list, no file stays."""
    if not skips:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("image", "reason"), *((s.image, s.reason) for s in skips)])
    write_text(path, text.getvalue())


def stored_maps(context: Context, plain: bool) -> MapSource:
    """The maps that the climb wrote, one picture at a time."""
    return lambda items: ((item, load_maps(context.run.maps(item.id, plain=plain))) for item in items)


def trained_elsewhere(context: Context) -> bool:
    """Whether the run's classifier was given to it, trained before."""
    return bool(context.run.settings("classify").get("classifier"))


def trained_classifier(context: Context) -> tuple[Any, dict[str, Any]]:
    """The classifier that the classify step left, in eval mode, and its record."""
    record = read_json(context.run.folder("classify") / "model.json")
    backbone, path = Backbone.from_record(record["backbone"]), context.run.classifier()
    if record["own"]:
        model = own_classifier(record["own"])
        fill(model, load_state(path), str(path))  # what was measured, whatever has become of the user's files
    else:
        model = saved_classifier(backbone, len(record["classes"]), path)
    return model.eval().to(context.machine.torch_device()), record
