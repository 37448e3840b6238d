"""What every step is given, and how a step is taken up and left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from advcam.data import ClassTable, Dataset, Item, NetworkInput, Skip
from advcam.errors import NetworkError, RunError, SettingsError, StoreError
from advcam.models.classifiers import Backbone, saved_classifier
from advcam.models.own import own_classifier
from advcam.models.weights import load_state, load_weights
from advcam.options import Config
from advcam.progress import Reporter
from advcam.runtime import Runtime, resolve_precision
from advcam.store import RESTORE, RunFolder, read_json, remove, write_csv, write_json
from advcam.store.records import ClassifierRecord, DataRecord, ItemRecord, is_below


@dataclass(frozen=True)
class Context:
    """One run: its folder, its data, what it may use of the machine, and where it reports.

    Args:
        run: its folder.
        data: its data set.
        seed: of everything random.
        runtime: what may be used.
        reporter: shows progress.
        own: ``FILE.py:FUNCTION`` of the classifier as it was typed, in place of where the run has it.
        mend: whether a step that is done makes files again that are gone, also where a later step was made of them already.
    """

    run: RunFolder
    data: Dataset
    seed: int
    runtime: Runtime
    reporter: Reporter
    own: str | None = None
    mend: bool = True

    @contextlib.contextmanager
    def step(
        self,
        name: str,
        config: Config,
        files: Iterable[Path],
        needs: str | None = None,
        identity: dict[str, Any] | None = None,
    ) -> Iterator[bool]:
        """Takes up a step; gives False where it is done already and all its files are there. Time is added up over
        resumptions. Of several processes the first does so for all.

        Args:
            name: of the step.
            config: what it is made with.
            files: that it leaves; a step that is done and lacks some is taken up again.
            needs: the step that it is applied to, where that is another than usual.
            identity: what changes the result, where the config alone does not say.

        Raises:
            RunError: made with other settings, or an earlier step is not done.
        """
        threads = torch.get_num_threads()
        todo = self.runtime.once(lambda: self.run.begin(name, config.record(), identity or config.identity(), needs, threads))
        if not todo and (self.mend or not self.run.built_upon(name)):
            todo = self.runtime.once(lambda: self._mending(name, files))
        begun = self.run.state()["steps"][name]["threads"]
        if todo and begun != threads:
            self.reporter.say(
                f"{name}: was begun with {begun} threads and goes on with {threads}, so the last digits may differ;"
                f" OMP_NUM_THREADS={begun} keeps them"
            )
        start, ends = time.monotonic(), todo and self.runtime.first
        try:
            yield todo
        except BaseException:
            with contextlib.suppress(StoreError):  # what was raised says more
                if ends and self.run.root.is_dir():
                    self.run.end(name, time.monotonic() - start, done=False)
            raise
        if ends:
            self.run.end(name, time.monotonic() - start, done=True)
        self.reporter.say(f"{name}: {'done' if todo else 'was done already'}")

    def _mending(self, name: str, files: Iterable[Path]) -> bool:
        """Takes a step up again that is done, where files of it are gone."""
        wanted = list(files)
        gone = [path for path in wanted if not path.is_file()]
        if gone:
            self.reporter.say(
                f"{name}: {len(gone)} of its {len(wanted)} files are gone, the first {gone[0]}; it makes them again"
            )
            self.run.see_no_links(self.run.folder(name))
            self.run.end(name, 0, done=False)
        return bool(gone)

    def precision(self, step: str, asked: str) -> str:
        """The precision that a step computes in; ``auto`` is what the step was begun with, where it was, on any machine."""
        begun = self.run.precision(step) if asked == "auto" else None
        if self.run.done(step) and (begun or asked) != "auto":
            return str(begun or asked)  # nothing is computed, so nothing is to be said
        if begun and begun != resolve_precision("auto", self.runtime.torch_device()):
            self.reporter.say(f"{step}: goes on in {begun}, as it was begun")
        return resolve_precision(begun or asked, self.runtime.torch_device())


def save_data(run: RunFolder, data: Dataset) -> None:
    """Keeps the data set as it was read, so that later steps need neither labels file nor a second look."""
    classes = data.classes.record()
    run.name_classes(classes)
    parts = {"train": data.train, "eval": data.eval}
    write_json(
        run.root / "data.json",
        {
            "classes": classes,
            **{name: [asdict(item) for item in items] for name, items in parts.items()},
            "skipped": [{"image": s.image, "reason": s.reason} for s in data.skipped],
        },
    )


def load_data(run: RunFolder) -> Dataset:
    """What :func:`save_data` kept.

    Raises:
        RunError: the run was stopped before its images had been looked at.
        StoreError: a damaged file, or one that no run of this machine wrote.
    """
    path = run.root / "data.json"
    if not path.is_file():
        raise RunError(
            f"{run.root}: its images were not looked at yet; give `advcam run` with the same --images and --labels again"
        )
    kept = read_json(path, DataRecord, RESTORE)
    classes = ClassTable.from_record(kept["classes"])
    train, scored = (tuple(_item(path, one, len(classes)) for one in part) for part in (kept["train"], kept["eval"]))
    numbers = [len({*part}) for part in (classes.ids, classes.names)]
    ids = [{item.id for item in part} for part in (train, scored)]
    if min(numbers) < len(classes) or [len(part) for part in ids] != [len(train), len(scored)] or not train:
        raise StoreError(f"{path}: names a class or an image twice, or no image to train on; {RESTORE}")
    return Dataset(classes, train, scored, tuple(Skip(s["image"], s["reason"]) for s in kept["skipped"]))


def _item(path: Path, record: ItemRecord, classes: int) -> Item:
    """An image of ``data.json``, whose files can only lie where those of a run do."""
    name, file = record["id"], Path(record["path"])
    if not is_below(name) or len(file.parts) < 2 + name.count("/"):
        raise StoreError(f"{path}: image {name!r} with path {record['path']!r} is none that a run can have; {RESTORE}")
    if any(label >= classes for label in record["labels"]):
        raise StoreError(f"{path}: image {name!r} has label {max(record['labels'])}, of {classes} classes; {RESTORE}")
    return Item(name, file, record["labels"], record["size"], record["content"])


def list_skips(path: Path, skips: Sequence[Skip]) -> None:
    """Lists what was left out as CSV ``image,reason``; with nothing to list, no file stays."""
    if not skips:
        remove(path)
        return
    write_csv(path, ("image", "reason"), [(s.image, s.reason) for s in skips])


def trained_elsewhere(context: Context) -> bool:
    """Whether the run's classifier was given to it, trained before."""
    return context.run.begun("classify") and bool(context.run.config("classify").get("classifier"))


def classifier_record(run: RunFolder) -> ClassifierRecord:
    """What is known of the run's classifier.

    Raises:
        StoreError: missing or damaged; says how it is made again.
    """
    return read_json(run.folder("classify") / "model.json", ClassifierRecord, redo(run, "classify"))


def redo(run: RunFolder, step: str) -> str:
    """What to do where a step's own files are damaged, for a message."""
    return f"`advcam {step} --run {run.root} --redo` makes it anew"


def network_input(record: ClassifierRecord) -> NetworkInput:
    """How images go into the classifier of a record."""
    return NetworkInput(*Backbone.from_record(record.backbone).normalisation(), record.long_side)


def trained_classifier(context: Context) -> tuple[Any, ClassifierRecord]:
    """The classifier that the classify step left, in eval mode, and its record.

    Raises:
        RunError: its files are missing or damaged; says how they are made again.
        NetworkError: it is code that nobody here has asked to run, see :mod:`advcam.models.own`.
    """
    record = classifier_record(context.run)
    backbone, path = Backbone.from_record(record.backbone), context.run.classifier()
    if context.own and not record.own:
        raise SettingsError(f"{context.run.root}: its classifier is no code, so there is no --classifier {context.own} to run")
    own = None
    if record.own:
        own = own_classifier(context.own) if context.own else own_classifier(record.own, record.code)
    try:
        if own:
            load_weights(own, load_state(path), str(path))  # what was measured, whatever has become of the user's files
        model = own or saved_classifier(backbone, len(record.classes), path)
    except NetworkError as error:
        raise RunError(f"{error}. {redo(context.run, 'classify')}") from None
    return model.eval().to(context.runtime.torch_device()), record
