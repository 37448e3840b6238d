"""What would fail after hours, or after something was dropped, tried at once: names, images, weights, maps, networks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from advcam.data import Dataset, Skip, content_of
from advcam.errors import DataError, NetworkError, RunError
from advcam.limits import MAX_NAME_BYTES, MAX_PATH_BYTES
from advcam.models import encoders, find
from advcam.models.classifiers import Backbone
from advcam.models.segmentation import segmentation_network
from advcam.models.weights import load_state
from advcam.stages import classify, climb, refine, segment, semi
from advcam.stages.classify import ClassifyConfig
from advcam.stages.climb import ClimbConfig
from advcam.stages.context import Context, classifier_record, list_skips, maps_of, trained_classifier
from advcam.stages.refine import RefineConfig
from advcam.stages.segment import SegmentConfig
from advcam.stages.semi import SemiConfig
from advcam.training import accelerate


def see_names(root: Path, data: Dataset) -> None:
    """Sees that every image can have files in a run folder.

    Raises:
        DataError: a name that is too long for that.
    """
    longest, names = root.resolve() / "3-refine" / "confident", {item.id for item in data.items}
    for item in data.items:
        whole = len(os.fsencode(longest / item.id)) + len(".json") > MAX_PATH_BYTES
        if whole or any(len(part.encode()) > MAX_NAME_BYTES for part in item.id.split("/")):
            raise DataError(
                f"{item.path}: the name is too long for the files of a run (most are {MAX_NAME_BYTES} bytes, and"
                f" {MAX_PATH_BYTES} with all folders); rename it"
            )
        for above in PurePosixPath(item.id).parents:
            if above.suffix in (".png", ".npz", ".json") and above.with_suffix("").as_posix() in names:
                raise DataError(
                    f"{item.path}: its files would lie in a folder {above.name}, which is a file of image"
                    f" {above.with_suffix('').as_posix()!r}; rename one"
                )


def need_images(context: Context) -> None:
    """Sees that the run's images are still there, and as they were, before anything is dropped or begun.

    Raises:
        RunError: some are gone, or have changed since the run looked at them; those are listed in changed.csv.
    """
    items, root = context.data.items, context.run.root
    gone = [item.path for item in items if not item.path.is_file()]
    if gone:
        raise RunError(
            f"{root}: {len(gone)} of its {len(items)} images are gone, the first {gone[0]}; put them back, or say where they"
            " are now: --images DIR"
        )
    changed = [
        Skip(item.id, f"{item.path}: has changed since this run looked at it")
        for item in context.reporter.track(items, len(items), "compare the images")
        if item.content is not None and content_of(item.path) != item.content
    ]
    list_skips(root / "changed.csv", changed)
    if changed:
        raise RunError(
            f"{root}: {len(changed)} of its {len(items)} images have changed since it looked at them, the first"
            f" {changed[0].image} (all are listed in {root / 'changed.csv'}); put back those that were there and give the same"
            " command again, or make another run of them as they are: advcam run ... --out ANOTHER"
        )


def try_step(context: Context, step: str, config: Any) -> None:
    """Tries at once what would else fail after a step was dropped, or after hours.

    Raises:
        AdvcamError: as the step's own.
    """
    tries: dict[str, Callable[[Context, Any], None]] = {
        "classify": try_classifier,
        "climb": try_climb,
        "refine": try_refinement,
        "segment": try_segmentation,
        "semi": try_segmentation,
    }
    tries[step](context, config)
    accelerate(context.runtime)


def try_classifier(context: Context, config: ClassifyConfig) -> None:
    """Tries at once what would else fail after the training: the classifier is built and its class activation map found.

    Raises:
        NetworkError: weights that do not fit, no class activation map, or another number of classes.
        SettingsError: a network that cannot be built.
    """
    if not (config.weights or config.classifier or config.from_scratch):
        context.reporter.say(f"{config.backbone.name}: pretrained weights come from timm's hub")
    model, classes = classify.build(config, len(context.data.classes))[0], len(context.data.classes)
    probe = torch.rand(1, 3, 128, 128)
    found = find(model, probe)
    outputs, stride = found.classes, 128 // found(probe)[0].shape[-1]
    if not config.own and stride != config.backbone.output_stride:
        context.reporter.say(
            f"{config.backbone.name} has {stride} pixels a cell, not the {config.backbone.output_stride} asked for"
        )
    if outputs != classes:
        raise NetworkError(
            f"the classifier has {outputs} outputs, the run {classes} classes ({', '.join(context.data.classes.names)}); it"
            " must have one for each, in this order; --classes FILE lists all of them where the labels do not"
        )


def try_network(context: Context, config: ClassifyConfig, refinement: RefineConfig, chosen: SegmentConfig) -> None:
    """Tries at once what would else fail at the end of hours: the segmentation network is built on the backbone and started.

    Raises:
        NetworkError: weights that do not fit, or a hub that cannot be reached.
        SettingsError: a network that cannot be built.
    """
    classes = len(context.data.classes)
    state = None if config.own else classify.build(config, classes)[0].state_dict()
    backbone = config.backbone
    if chosen.encoder:
        backbone = Backbone(chosen.encoder)
    network = segmentation_network(chosen.network, backbone, classes + 1, chosen.output_stride)
    if chosen.encoder:
        encoders.start(network, backbone, None, chosen.encoder_weights or None, False)
    else:
        encoders.start(network, backbone, state if chosen.start == "classifier" else None, config.weights, config.from_scratch)
    refine.try_network(refinement, config.backbone, state, config.weights, config.from_scratch)


def try_segmentation(context: Context, config: SegmentConfig | SemiConfig) -> None:
    """Tries at once what would else fail after a step was dropped: masks are looked at, the network is built and started.

    Raises:
        AdvcamError: as :func:`try_network`.
    """
    if isinstance(config, SegmentConfig):
        context.run.need("segment")
        segment.check(context)
        segment.build(context, config)
    else:
        context.run.need("semi", config.needs)
        semi.check(context, config)
        semi.build(context, config)


def try_climb(context: Context, config: ClimbConfig) -> None:
    """Tries at once what would else fail after the maps were dropped: the classifier is read.

    Raises:
        AdvcamError: as :func:`advcam.stages.context.trained_classifier`.
    """
    context.run.need("climb")
    trained_classifier(context)


def try_refinement(context: Context, config: RefineConfig) -> None:
    """Tries at once what would else fail after a step was dropped and images were gone through.

    Raises:
        AdvcamError: maps that are missing or damaged, or as :func:`advcam.stages.refine.try_network`.
    """
    context.run.need("refine")
    climbing = climb.recorded(context.run)
    if climbing and not climbing.keep:
        trained_classifier(context)
    for item in context.data.items if climbing and climbing.keep else ():
        maps_of(context, item, config.maps == "plain")
    made = classifier_record(context.run)
    state = None if made.own else load_state(context.run.classifier())
    refine.try_network(config, Backbone.from_record(made.backbone), state, made.weights, made.from_scratch)
