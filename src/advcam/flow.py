"""The whole way: a data set becomes a run, and every step of it is taken in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from advcam import preflight
from advcam.data import Item, SceneSettings, Skip, listed, load, source_files, write_dataset
from advcam.errors import RunError, SettingsError
from advcam.limits import MAX_SEED
from advcam.models.classifiers import Backbone
from advcam.progress import Reporter
from advcam.report import write_card, write_report
from advcam.runtime import Runtime
from advcam.stages import classify, climb, evaluate, refine, segment
from advcam.stages.classify import ClassifyConfig
from advcam.stages.climb import ClimbConfig
from advcam.stages.context import (
    Context,
    list_skips,
    load_data,
    save_data,
    trained_elsewhere,
)
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.moved import moved
from advcam.stages.refine import RefineConfig
from advcam.stages.segment import SegmentConfig
from advcam.store import RunFolder, StoredMaps, digest, read_json
from advcam.store.records import About, Metrics
from advcam.training import accelerate

LIBRARIES = ("advcam", "torch", "timm", "segmentation-models-pytorch", "accelerate", "numpy", "pillow")


@dataclass(frozen=True)
class DataConfig:
    """Where the data set is; see :func:`advcam.data.load`."""

    images: Path
    labels: Path
    classes: Path | None = None
    train_list: Path | None = None
    eval_list: Path | None = None


@dataclass(frozen=True)
class Steps:
    """The settings of every step."""

    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    climb: ClimbConfig = field(default_factory=ClimbConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)


def start(root: Path, data: DataConfig, seed: int, runtime: Runtime, reporter: Reporter, given: bool = False) -> Context:
    """A new run of a data set, or the same one taken up again, also where its images have moved; they are looked at once.

    Args:
        root: the run's folder.
        data: where the data set is.
        seed: of everything random.
        machine: what to run on.
        reporter: shows progress.
        given: whether the classifier is given, so that nothing is trained before the climb.

    Raises:
        DataError: a data set that cannot be used.
        RunError: the folder holds something else.
    """
    data = replace(data, images=data.images.resolve())  # holds from any folder
    about: About = {
        "images": str(data.images),
        "labels": _content(data.labels),
        "classes": _content(data.classes),
        "train_list": _content(data.train_list),
        "eval_list": _content(data.eval_list),
        "eval_name": data.eval_list.name if data.eval_list else None,
        "seed": seed,
    }
    if not 0 <= seed <= MAX_SEED:
        raise SettingsError(f"--seed must be from 0 to {MAX_SEED}, got {seed}")
    known = None
    if (root / "run.json").is_file():
        begun = RunFolder.open(root)
        old = begun.state()["about"]
        same = begun.begun("classify") and {**old, "images": about["images"]} == about  # but for where the images are
        known = RunFolder.create(root, old if same else about, _versions())
    if known and known.begun("classify"):
        context = moved(Context(known, load_data(known), seed, runtime, reporter), data.images)
        return _announced(context, trained_elsewhere(context))
    loaded = load(data.images, data.labels, data.classes, data.train_list, data.eval_list, reporter.track)
    preflight.see_names(root, loaded)
    run = known or RunFolder.create(root, about, _versions())
    save_data(run, loaded)
    list_skips(root / "skipped.csv", loaded.skipped)
    list_skips(root / "doubts.csv", loaded.doubts)
    if loaded.doubts:
        first = f"{loaded.doubts[0].reason} ({loaded.doubts[0].image})"
        more = f"; {len(loaded.doubts)} such doubts are listed in {root / 'doubts.csv'}" if len(loaded.doubts) > 1 else ""
        reporter.warn(first + more)
    return _announced(Context(run, loaded, seed, runtime, reporter), given)


def _content(path: Path | None) -> str | None:
    """What a file holds, or the files of a VOC or COCO folder, as a hash: a run depends on it, not on the name."""
    if path is None or not path.exists():
        return None
    found = [_digest(file) for file in source_files(path)]
    return found[0] if path.is_file() else digest(found)


def _digest(file: Path) -> str:
    """``digest`` of a file's bytes in hexadecimal, without holding them: annotation files are large."""
    made = hashlib.sha256(b'"')
    with file.open("rb") as stream:
        while part := stream.read(2**20):
            made.update(part.hex().encode())
    made.update(b'"')
    return made.hexdigest()[:16]


def _announced(context: Context, given: bool) -> Context:
    """Says what there is to work on: a class that a typing error made shows here, not after hours."""
    data = context.data
    purpose = "to make masks of (the classifier is given)" if given else "to train on"
    without = f", {len(data.unlabelled)} others in the folder without a label" if data.unlabelled else ""
    context.reporter.say(
        f"{len(data.train)} images {purpose}, {len(data.eval)} to score on{without}, {len(data.skipped)} things left out;"
        f" classes: {', '.join(data.classes.names)}"
    )
    return context


def reopen(
    root: Path,
    seed: int | None,
    runtime: Runtime,
    reporter: Reporter,
    images: Path | None = None,
    own: str | None = None,
) -> Context:
    """A run that was started before.

    Args:
        root: the run's folder.
        seed: None is the run's.
        machine: what to run on.
        reporter: shows progress.
        images: where its images are now, if they have moved.
        own: ``FILE.py:FUNCTION`` of its classifier, where that was typed.

    Raises:
        RunError: no run, another seed than it was started with, or images that are not the run's.
    """
    run = RunFolder.open(root)
    made_with = run.state()["about"]["seed"]
    if seed is not None and seed != made_with:
        raise RunError(
            f"{root}: was started with --seed {made_with}, got --seed {seed}; a seed is a whole run's, use another --out"
        )
    context = Context(run, load_data(run), made_with, runtime, reporter, own)
    return moved(context, images) if images else context


def run_all(context: Context, steps: Steps) -> Path:
    """Every step in order, then the report; what is done already is not done again. Returns the report's path.

    Raises:
        AdvcamError: any step's; what is done is kept.
    """
    context = replace(context, mend=False)
    if not context.run.done("segment"):
        preflight.need_images(context)
    if not context.run.done("segment"):
        accelerate(context.runtime)
    if not context.run.done("classify"):
        preflight.try_classifier(context, steps.classify)
        preflight.try_network(context, steps.classify, steps.refine, steps.segment)
    classify.run(context, steps.classify)
    climb.run(context, steps.climb)
    make_masks(context, steps.refine)
    segment.run(context, steps.segment)
    write_card(context.run, context.data, "segment")
    return write_report(context.run, context.data)


def make_masks(context: Context, config: RefineConfig) -> None:
    """The refine step, on the climb's files; where the climb kept none, climbing again as maps are needed.

    Raises:
        AdvcamError: as :func:`advcam.stages.refine.run`.
    """
    climbing = climb.recorded(context.run) or ClimbConfig()

    def source(items: Sequence[Item]) -> Iterator[tuple[Item, StoredMaps]]:
        for item, maps, plain in climb.climbed(context, climbing, items):
            yield item, plain if config.maps == "plain" else maps

    refine.run(context, config, None if climbing.keep else source)


def score(context: Context, masks: Path, instances: Path | None = None, only: Path | None = None) -> list[Skip]:
    """Compares a run with ground truth and writes its report anew; returns what was left out.

    Args:
        context: the run.
        masks: ground truth.
        instances: ground truth of objects.
        only: a list of the run's images to score, instead of those for scoring.

    Raises:
        DataError: no ground truth, or a list that names none of the run's images.
        RunError: nothing to score.
    """
    name = context.run.state()["about"]["eval_name"] or "all images of the run"
    scored, unknown = context, list[Skip]()
    if only:
        items, unknown = listed(only, context.data.items)
        scored, name = replace(context, data=replace(context.data, eval=tuple(items))), only.name
    skipped = unknown + evaluate.run(scored, EvaluateConfig(masks, name, instances))
    list_skips(context.run.root / "skipped-evaluate.csv", skipped)
    metrics: dict[str, Any] = dict(read_json(context.run.root / "metrics.json", Metrics))
    for what, found in metrics.items():
        if "mean_iou" in found:
            at = f", threshold {found['threshold']:.2f}" if "threshold" in found else ""
            numbers = f"mIoU {_percent(found['mean_iou'])}, noise {_percent(found['noise'])}{at}"
            context.reporter.say(f"{what}: {numbers} ({found['rule']})")
        if what == "localisation":
            each = "; ".join(f"{name} {_places(found[name])}" for name in ("plain", "advcam") if name in found)
            context.reporter.say(f"{what}: {each} (thresholds chosen with the ground truth of this split; image labels given)")
        if what == "instances":
            at_each = ", ".join(f"{_percent(v['mean'])} at IoU {at}" for at, v in found["average_precision"].items())
            context.reporter.say(f"{what}: average precision {at_each} ({found['rule']})")
    for step in ("segment", "semi"):
        if context.run.done(step):
            write_card(context.run, context.data, step)
    write_report(context.run, context.data)
    return skipped


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _places(found: dict[str, Any]) -> str:
    box, box_v2, top1 = (found[name] for name in ("max_box_acc", "max_box_acc_v2", "top1"))
    numbers = f"MaxBoxAcc {_percent(box['value'])}, V2 {_percent(box_v2['value'])}, PxAP {_percent(found['pxap'])}"
    return numbers + (f", top-1 {_percent(top1['value'])}" if top1 else "")


def demo(out: Path, seed: int, runtime: Runtime, reporter: Reporter, train: int = 600, scored: int = 150) -> Path:
    """The main job on generated scenes: makes them, takes every step, scores, reports. Returns the report's path.

    The classifier is a very small timm network from scratch; the climb's settings are stated here because they are not
    the default's: longer steps, restrained, their maps summed as they are.
    """
    data = out / "data"
    if not (data / "eval.txt").is_file():
        write_dataset(data, train, scored, seed, SceneSettings(), reporter.track)
    context = start(
        out / "run",
        DataConfig(data / "images", data / "labels.csv", data / "classes.csv", data / "train.txt", data / "eval.txt"),
        seed, runtime, reporter,
    )  # fmt: skip
    backbone = Backbone("test_resnet", output_stride=8)
    steps = Steps(
        ClassifyConfig(
            backbone,
            from_scratch=True,
            epochs=20,
            batch=32,
            lr=3e-3,
            weight_decay=1e-2,
            crop=128,
            scales=(1.0, 1.0),
        ),
        ClimbConfig(changes={"steps": 12, "step_size": 0.02, "restrain": 3.0, "ceiling": None, "emphasis": "none"}),
        RefineConfig(),
        SegmentConfig(epochs=8, batch=16, lr=1e-3, head_lr=2e-3, crop=128, scales=(1.0, 1.0)),
    )
    report = run_all(context, steps)
    score(context, data / "masks")
    return report


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
