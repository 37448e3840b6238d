"""The pipeline: starts or resumes the run of a data set, checks its steps in advance, and runs them in order."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from advcam import preflight
from advcam.data import (
    Address,
    Place,
    ReadingConfig,
    Skip,
    hard_classes,
    holds_images,
    images_of,
    listed,
    load,
    place,
    read_as,
    said,
    source_files,
)
from advcam.errors import DataError, RunError, SettingsError, StoreError
from advcam.limits import MAX_SEED
from advcam.options import Config, option
from advcam.progress import Reporter
from advcam.report import ReportConfig, write_card, write_report
from advcam.runtime import Runtime
from advcam.stages import classify, evaluate
from advcam.stages.context import Context, list_skips, load_data, save_data, trained_elsewhere
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.moved import moved
from advcam.stages.sharing import names_left_out
from advcam.stages.start import trained_start
from advcam.stages.table import ORDER, STEPS, open_run
from advcam.stages.truth import corrected_mask
from advcam.store import RunFolder, digest, read_json
from advcam.store.records import About, DataRecord, Metrics
from advcam.training import accelerate

LIBRARIES = ("advcam", "torch", "timm", "segmentation-models-pytorch", "accelerate", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class DataConfig(ReadingConfig):
    """Paths of the data set; see :func:`advcam.data.load`."""

    images: Place | None = option(
        None, "folder of images, zip, tar, shards-{000..009}.tar, data set of Hugging Face, or address such as"
        " s3://bucket/photos; none: those of the labels", flag="images", common=True, file=True, make=place,
    )  # fmt: skip
    labels: Place = option(
        help="CSV, JSON, a folder for each class, VOC, COCO, Roboflow, YOLO, webdataset, a data set of Hugging Face, or an"
        " export of Label Studio or CVAT", flag="labels", common=True, file=True, make=place,
    )  # fmt: skip
    classes: Path | None = option(
        None,
        "CSV id,name: the ids that masks use; none: VOC's, COCO's, or from 1, sorted",
        flag="classes",
        common=True,
        file=True,
    )
    train_list: Path | None = option(
        None, "images to train on, one a line; none: all not scored on", flag="train-list", common=True, file=True
    )
    eval_list: Path | None = option(
        None, "images to score on and predict, one a line", flag="eval-list", common=True, file=True
    )


def start(root: Path, data: DataConfig, seed: int, runtime: Runtime, reporter: Reporter, given: bool = False) -> Context:
    """Starts a run on a data set, or resumes it, even if its images have moved; each image is read once.

    Args:
        root: the run's folder.
        data: where the data set is.
        seed: seed of everything random.
        runtime: device and limits.
        reporter: shows progress.
        given: whether the classifier is given, so that none is trained.

    Raises:
        DataError: the data set cannot be used.
        RunError: the folder holds something else.
    """
    images = images_of(data.images, data.labels).resolve()  # valid from any working folder
    about: About = {
        "images": str(images),
        "labels": _content(data.labels),
        "classes": _content(data.classes),
        "train_list": _content(data.train_list),
        "eval_list": _content(data.eval_list),
        "eval_name": data.eval_list.name if data.eval_list else None,
        "seed": seed,
    }
    if data.reading != ReadingConfig().reading:
        about["reading"] = data.reading.record()
    if not 0 <= seed <= MAX_SEED:
        raise SettingsError(f"--seed must be from 0 to {MAX_SEED}, got {seed}")
    known = None
    if (root / "run.json").is_file():
        begun = open_run(root)
        old = begun.state()["about"]
        same = begun.begun("classify") and {**old, "images": about["images"]} == about  # except for the images' folder
        known = RunFolder.create(root, ORDER, old if same else about, _versions())
    if known and known.begun("classify"):
        context = moved(Context(known, load_data(known), seed, runtime, reporter), images)
        return _announced(context, trained_elsewhere(context))
    loaded = load(images, data.labels, data.classes, data.train_list, data.eval_list, reporter.track, data.reading)
    preflight.check_names(root, loaded)
    run = known or RunFolder.create(root, ORDER, about, _versions())
    lists = {"classes": data.classes, "train_list": data.train_list, "eval_list": data.eval_list}
    save_data(run, loaded, data.labels, lists)
    list_skips(root / "skipped.csv", loaded.skipped)
    list_skips(root / "doubts.csv", loaded.doubts)
    if loaded.doubts:
        first = f"{loaded.doubts[0].reason} ({loaded.doubts[0].image})"
        more = f"; {len(loaded.doubts)} such doubts are listed in {root / 'doubts.csv'}" if len(loaded.doubts) > 1 else ""
        reporter.warn(first + more)
    return _announced(Context(run, loaded, seed, runtime, reporter), given)


def _warn_of_other_labels(context: Context) -> None:
    """Warns where the labels file has changed since the run read it: a classifier trained anew learns the old labels."""
    kept = read_json(context.run.root / "data.json", DataRecord).get("labels_file")
    now = _content(place(kept)) if kept else None
    if now is not None and now != context.run.state()["about"]["labels"]:
        context.reporter.warn(
            f"{kept}: has changed since this run read it, and a run keeps its labels; for the new ones start another run:"
            " `advcam run ... --out ANOTHER`"
        )


def _content(path: Place | None) -> str | None:
    """Returns a hash of a file's contents, or of the files of a folder of labels; the name does not matter."""
    if path is None or not (path.exists() or holds_images(path)):
        return None
    found = [_digest(file) for file in source_files(path)]
    if not found:  # a folder for each class, whose labels are in the names, or an archive
        with contextlib.suppress(DataError):  # said where the labels are read
            found = said(path)
    return found[0] if not holds_images(path) else digest(found)


def _read(file: Address) -> bytes:
    """Returns the bytes of a remote file of labels, or one in an archive."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}); check the path") from None


def _digest(file: Place) -> str:
    """Returns ``digest`` of a file's bytes in hexadecimal, read in chunks since annotation files are large."""
    made = hashlib.sha256(b'"')
    with file.open("rb") if isinstance(file, Path) else io.BytesIO(_read(file)) as stream:
        while part := stream.read(2**20):
            made.update(part.hex().encode())
    made.update(b'"')
    return made.hexdigest()[:16]


def _announced(context: Context, given: bool) -> Context:
    """Reports the number of images and the classes, so that a misspelt class shows now, not hours later."""
    data = context.data
    for line in read_as(data):
        context.reporter.say(line)
    purpose = "to make masks of (the classifier is given)" if given else "to train on"
    without = f", {len(data.unlabelled)} others in the folder without a label" if data.unlabelled else ""
    context.reporter.say(
        f"{len(data.train)} images {purpose}, {len(data.eval)} to score on{without}, {len(data.skipped)} things left out;"
        f" classes: {', '.join(data.classes.names)}"
    )
    if not isinstance(window := data.reading.window, str):
        context.reporter.say(f"values {window[0]:g} to {window[1]:g} are read as black to white (--range changes it)")
    for line in hard_classes(data) if not given else ():
        context.reporter.say(line)
    return context


def reopen(
    root: Path,
    seed: int | None,
    runtime: Runtime,
    reporter: Reporter,
    images: Place | None = None,
    own: str | None = None,
) -> Context:
    """Opens an existing run.

    Args:
        root: the run's folder.
        seed: must be the run's seed; None accepts any.
        runtime: device and limits.
        reporter: shows progress.
        images: the folder of its images now, if they have moved.
        own: ``FILE.py:FUNCTION`` of its classifier, if it was typed.

    Raises:
        RunError: not a run, a seed other than the run's, or images that are not the run's.
    """
    run = open_run(root)
    made_with = run.state()["about"]["seed"]
    if seed is not None and seed != made_with:
        raise RunError(f"{root}: was started with --seed {made_with}, got --seed {seed}; a run has one seed, use another --out")
    context = Context(run, load_data(run), made_with, runtime, reporter, own)
    return moved(context, images) if images else context


def plan(context: Context, configs: Mapping[str, Config], given: Mapping[str, Iterable[str]]) -> None:
    """Records the settings of steps, so that their own verbs start from them.

    Args:
        context: the run.
        configs: config of each step, by name.
        given: names of the settings that were typed, by step.
    """
    for step, config in configs.items():
        context.run.plan(step, config.record(), given.get(step, ()))


def run_all(context: Context, configs: Mapping[str, Config], before: Callable[[str], None] = lambda _step: None) -> Path:
    """Runs every step in order that is not done yet, writes the report and returns its path.

    Args:
        context: the run.
        configs: config of each step, by name; other steps use their defaults, or are skipped if optional.
        before: called with the name of each step before it runs.

    Raises:
        AdvcamError: a step failed; finished work is kept.
    """
    context = replace(context, mend=False)
    steps: dict[str, Any] = {
        name: (configs.get(name) or step.config()) for name, step in STEPS.items() if name in configs or not step.optional
    }
    left = [name for name in steps if not context.run.done(name)]
    if left:
        preflight.check_images(context)
        accelerate(context.runtime)
        start = classify.planned_start(context, steps["classify"]) if "classify" in left else trained_start(context)
        for name in left:
            STEPS[name].preflight(context, steps[name], start)
    else:
        preflight.warn_of_missing(context)
    for name, config in steps.items():
        before(name)
        STEPS[name].run(context, config)
    for name in steps:
        write_card(context.run, context.data, name)
    return write_report(context.run, context.data, reporter=context.reporter)


def left_out(context: Context, steps: Iterable[str]) -> dict[Path, int]:
    """Returns the lists of what a run and its steps have left out, now or before, and how many images or names each has."""
    counts = {context.run.root: len(context.data.skipped)}
    counts |= {context.run.folder(step): len(names_left_out(context.run, step)) for step in steps}
    return {folder / "skipped.csv": count for folder, count in counts.items() if count}


def run_step(context: Context, step: str, config: Any, given: Iterable[str], redo: bool) -> list[Skip]:
    """Checks a step before anything is deleted, then runs it; returns the images left out.

    Args:
        context: the run.
        step: name of the step.
        config: its settings.
        given: names of the settings that were typed.
        redo: first delete the step and every step that depends on it.

    Raises:
        AdvcamError: the step failed; finished work is kept.
    """
    runtime, run = context.runtime, context.run
    if redo or not run.done(step):
        runtime.once(lambda: preflight.check_images(context))
        before = run.need(step, getattr(config, "needs", None))
        start = trained_start(context) if before else classify.planned_start(context, config)
        STEPS[step].preflight(context, config, start)
        accelerate(runtime)
    if redo:
        if step == "classify":
            _warn_of_other_labels(context)
        gone = runtime.once(lambda: run.drop(step))
        after = " and the report; `advcam run` with its --images and --labels makes all again" if gone else "nothing"
        context.reporter.say(f"dropped: {', '.join(gone)}{after}")
    runtime.once(lambda: run.plan(step, config.record(), given))
    skipped = STEPS[step].run(context, config)
    runtime.once(lambda: write_card(run, context.data, step))
    return skipped


def score(context: Context, config: EvaluateConfig) -> list[Skip]:
    """Scores a run against ground truth and rewrites its report; returns the images left out.

    Args:
        context: the run.
        config: paths of the ground truth.

    Raises:
        DataError: no ground truth, or a list with none of the run's images.
        RunError: nothing to score.
    """
    name = context.run.state()["about"]["eval_name"] or "all images of the run"
    scored, unknown = context, list[Skip]()
    if config.list:
        items, unknown = listed(config.list, context.data.items)
        scored, name = replace(context, data=replace(context.data, eval=tuple(items))), config.list.name
    known = _scored_split(context.run.root / "metrics.json")
    if known and not known.startswith(f"{name}, "):
        context.reporter.say(f"evaluate: replaces the numbers of {known}")
    skipped = unknown + evaluate.run(scored, config, name)
    list_skips(context.run.root / "skipped-evaluate.csv", skipped)
    metrics: dict[str, Any] = dict(read_json(context.run.root / "metrics.json", Metrics))
    for what, found in metrics.items():
        if "mean_iou" in found:
            at = f", threshold {found['threshold']:.2f}" if "threshold" in found else ""
            there, every = sum(v == v and v is not None for v in found["per_class"].values()), len(found["per_class"])
            of = f" of the {there} of {every} classes that occur" if there < every else ""
            ends = found.get("interval")
            between = f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else ""
            contours = f", boundary IoU {_percent(found['boundary']['mean_iou'])}" if "boundary" in found else ""
            numbers = f"mIoU {_percent(found['mean_iou'])}{between}{of}{contours}, noise {_percent(found['noise'])}{at}"
            context.reporter.say(f"{what}: {numbers} ({found['rule']})")
        if what == "confidence":
            finds = found["finds_bad_masks"]
            bad = "" if finds is None else f"; its scores find masks below IoU .5 with an area under the curve of {finds:.2f}"
            context.reporter.say(f"{what}: calibration error {_percent(found['calibration_error'])}{bad}")
        if what == "localisation":
            each = "; ".join(f"{name} {_places(found[name])}" for name in ("plain", "advcam") if name in found)
            context.reporter.say(f"{what}: {each} (thresholds chosen with the ground truth of this split; image labels given)")
        if what == "instances":
            at_each = ", ".join(f"{_percent(v['mean'])} at IoU {at}" for at, v in found["average_precision"].items())
            context.reporter.say(f"{what}: average precision {at_each} ({found['rule']})")
    for step in STEPS:
        write_card(context.run, context.data, step)
    shown = ReportConfig(masks=config.masks, mask_colours=config.mask_colours)
    if config.corrected:
        shown = ReportConfig(masks=corrected_mask(context.run, "").parent)
    write_report(context.run, context.data, shown, context.reporter)
    return skipped


def _scored_split(path: Path) -> str:
    """Returns what the numbers in a run's metrics.json are of; empty where it has none, or is damaged and will be replaced."""
    try:
        return str(read_json(path, Metrics)["ground_truth"]["split"])
    except (StoreError, LookupError):
        return ""


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _places(found: dict[str, Any]) -> str:
    box, box_v2, top1 = (found[name] for name in ("max_box_acc", "max_box_acc_v2", "top1"))
    numbers = f"MaxBoxAcc {_percent(box['value'])}, V2 {_percent(box_v2['value'])}, PxAP {_percent(found['pxap'])}"
    return numbers + (f", top-1 {_percent(top1['value'])}" if top1 else "")


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
