"""What every step is given, and how a step starts, resumes and ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from advcam.data import ClassTable, Dataset, Item, NetworkInput, Place, Reading, Skip, place
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
    """One run: its folder, data set, runtime and reporter.

    Args:
        run: the run folder.
        data: the data set.
        seed: seed of everything random.
        runtime: device and limits.
        reporter: shows progress.
        own: ``FILE.py:FUNCTION`` of the classifier as typed, which replaces the one in the run's record.
        mend: whether a finished step makes missing files again even if a later step has already used them.
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
        """Starts or resumes a step; yields False if it is already done and none of its files is missing.

        Time is added up over resumptions. With several processes, the first writes the record.

        Args:
            name: name of the step.
            config: its settings.
            files: the files that it writes; a finished step that lacks some is resumed.
            needs: the step that it needs, if not the usual one.
            identity: everything that changes the result, if not the config's.

        Raises:
            RunError: the step was made with other settings, or the step it needs is not done.
        """
        threads = torch.get_num_threads()
        todo = self.runtime.once(lambda: self.run.begin(name, config.record(), identity or config.identity(), needs, threads))
        if not todo and (self.mend or not self.run.built_upon(name)):
            todo = self.runtime.once(lambda: self._mending(name, files))
        begun = self.run.state()["steps"][name]["threads"]
        if todo and begun != threads:
            self.reporter.say(
                f"{name}: was started with {begun} threads and resumes with {threads}, so the last digits may differ;"
                f" OMP_NUM_THREADS={begun} avoids that"
            )
        start, ends = time.monotonic(), todo and self.runtime.first
        try:
            yield todo
        except BaseException:
            with contextlib.suppress(StoreError):  # the first error matters more
                if ends and self.run.root.is_dir():
                    self.run.end(name, time.monotonic() - start, done=False)
            raise
        if ends:
            self.run.end(name, time.monotonic() - start, done=True)
        self.reporter.say(f"{name}: {'done' if todo else 'was done already'}")

    def _mending(self, name: str, files: Iterable[Path]) -> bool:
        """Resumes a finished step if files of it are missing; returns whether it does."""
        wanted = list(files)
        gone = [path for path in wanted if not path.is_file()]
        if gone:
            self.reporter.say(
                f"{name}: {len(gone)} of its {len(wanted)} files are missing, the first {gone[0]}; makes them again"
            )
            self.run.see_no_links(self.run.folder(name))
            self.run.end(name, 0, done=False)
        return bool(gone)

    def precision(self, step: str, asked: str) -> str:
        """Resolves a step's precision; ``auto`` keeps the precision the step was started with, on any machine."""
        begun = self.run.precision(step) if asked == "auto" else None
        if self.run.done(step) and (begun or asked) != "auto":
            return str(begun or asked)  # nothing will be computed, so no warning is due
        if begun and begun != resolve_precision("auto", self.runtime.torch_device()):
            self.reporter.say(f"{step}: resumes in {begun}, in which it was started")
        return resolve_precision(begun or asked, self.runtime.torch_device())


def save_data(
    run: RunFolder, data: Dataset, labels: Place | None = None, lists: Mapping[str, Path | None] | None = None
) -> None:
    """Saves the data set as it was read, so that later steps need neither the labels file nor to check the images again.

    ``labels`` is that file, ``lists`` are the class list and the lists of images; without ``labels``, the paths that were
    saved before are kept.
    """
    path = run.root / "data.json"
    if labels:
        kept, files = str(labels.resolve()), {name: str(file.resolve()) for name, file in (lists or {}).items() if file}
    else:
        before = read_json(path, DataRecord, RESTORE)
        kept, files = before.get("labels_file", ""), before.get("files", {})
    classes = data.classes.record()
    run.name_classes(classes)
    parts = {"train": data.train, "eval": data.eval}
    write_json(
        path,
        {
            "classes": classes,
            **{name: [_without_reading(item) for item in items] for name, items in parts.items()},
            "reading": data.reading.record(),
            "skipped": [{"image": s.image, "reason": s.reason} for s in data.skipped],
            "labels_file": kept,
            "files": files,
        },
    )


def _without_reading(item: Item) -> dict[str, Any]:
    left = {"reading"} if item.unknown else {"reading", "unknown"}
    return {name: value for name, value in asdict(item).items() if name not in left} | {"path": str(item.path)}


def load_data(run: RunFolder) -> Dataset:
    """Loads what :func:`save_data` saved.

    Raises:
        RunError: the run was stopped before all its images had been read.
        StoreError: the file is damaged, or holds what no run can have.
    """
    path = run.root / "data.json"
    if not path.is_file():
        raise RunError(
            f"{run.root}: its images have not been read yet; give `advcam run` with the same --images and --labels again"
        )
    kept = read_json(path, DataRecord, RESTORE)
    classes = ClassTable.from_record(kept["classes"])
    reading, parts = Reading.from_record(kept.get("reading")), (kept["train"], kept["eval"])
    train, scored = (tuple(replace(_item(path, one, len(classes)), reading=reading) for one in part) for part in parts)
    numbers = [len({*part}) for part in (classes.ids, classes.names)]
    ids = [{item.id for item in part} for part in (train, scored)]
    if min(numbers) < len(classes) or [len(part) for part in ids] != [len(train), len(scored)] or not train:
        raise StoreError(f"{path}: names a class or an image twice, or no image to train on; {RESTORE}")
    return Dataset(classes, train, scored, tuple(Skip(s["image"], s["reason"]) for s in kept["skipped"]))


def _item(path: Path, record: ItemRecord, classes: int) -> Item:
    """Makes an image from its record in ``data.json``; refuses an id that leads out of the run folder."""
    name, parts = record["id"], record["path"].split("/") if "/" in record["path"] else Path(record["path"]).parts
    if not is_below(name) or len(parts) < 2 + name.count("/") or "\0" in record["path"]:
        raise StoreError(f"{path}: image {name!r} with path {record['path']!r} cannot be an image of a run; {RESTORE}")
    labels, unknown = record["labels"], record.get("unknown", ())
    if any(label >= classes for label in (*labels, *unknown)):
        raise StoreError(f"{path}: image {name!r} has label {max(*labels, *unknown)}, of {classes} classes; {RESTORE}")
    if {*labels} & {*unknown}:
        raise StoreError(f"{path}: image {name!r} has a label that is not known too; {RESTORE}")
    return Item(name, place(record["path"]), labels, record["size"], record["content"], unknown=unknown)


def list_skips(path: Path, skips: Sequence[Skip]) -> None:
    """Lists what was left out as CSV ``image,reason``; with nothing to list, removes the file."""
    if not skips:
        remove(path)
        return
    write_csv(path, ("image", "reason"), [(s.image, s.reason) for s in skips])


def trained_elsewhere(context: Context) -> bool:
    """Whether the run's classifier was given, not trained by the run."""
    return context.run.begun("classify") and bool(context.run.config("classify").get("classifier"))


def classifier_record(run: RunFolder) -> ClassifierRecord:
    """Reads the record of the run's classifier.

    Raises:
        StoreError: it is missing or damaged; the message says how to make it again.
    """
    return read_json(run.folder("classify") / "model.json", ClassifierRecord, redo(run, "classify"))


def redo(run: RunFolder, step: str) -> str:
    """Returns the advice for damaged files of a step, for error messages."""
    return f"`advcam {step} --run {run.root} --redo` makes it again"


def network_input(record: ClassifierRecord) -> NetworkInput:
    """Returns how images are prepared for the classifier of a record."""
    return NetworkInput(*Backbone.from_record(record.backbone).normalisation(), record.long_side)


def trained_classifier(context: Context, output_stride: int | None = None) -> tuple[Any, ClassifierRecord]:
    """Loads the run's classifier, in eval mode, and its record.

    Args:
        context: the run.
        output_stride: of a timm network, in place of that which it was trained with; its weights are the same.

    Raises:
        RunError: its files are missing or damaged; the message says how to make them again.
        NetworkError: it is code that the user has not allowed to run, see :mod:`advcam.models.own`.
    """
    record = classifier_record(context.run)
    backbone, path = Backbone.from_record(record.backbone), context.run.classifier()
    if output_stride is not None:
        backbone = replace(backbone, output_stride=output_stride)
    if context.own and not record.own:
        raise SettingsError(f"{context.run.root}: its classifier is not code; leave out --classifier {context.own}")
    own = None
    if record.own:
        own = own_classifier(context.own) if context.own else own_classifier(record.own, record.code)
    try:
        if own:
            load_weights(own, load_state(path), str(path))  # the weights that were measured, whatever the user's files hold now
        model = own or saved_classifier(backbone, len(record.classes), path)
    except NetworkError as error:
        raise RunError(f"{error}. {redo(context.run, 'classify')}") from None
    return model.eval().to(context.runtime.torch_device()), record
