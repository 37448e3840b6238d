"""The semi step: trains a segmentation network on few masks made by hand and many image labels, and predicts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import nn

from advcam.data import IGNORE, UNKNOWN, Item, Normalisation, SemiViews, Skip, TrainingViews, listed, read_colours
from advcam.errors import DataError, RunError, SettingsError, StoreError
from advcam.models.cct import AUXILIARY, CCT
from advcam.models.segmentation import segmentation_network
from advcam.models.weights import load_state, load_weights
from advcam.options import option
from advcam.store import digest, load_mask, mask_file

from .context import Context, list_skips, redo
from .networks import NetworkConfig, check_batch, encoder_of, has_network, network_files, network_record, save_network, train
from .predictions import predict
from .preview import LOOK, against_masks
from .semi_objective import SemiObjective
from .sharing import without_left_out
from .start import Start
from .training_masks import Load, check_masks
from .truth import Corrected, corrected_mask, corrected_masks

MODES = ("labelled", "unlabelled", "weak")
METHODS = ("cct", "unimatch")
STARTS = ("backbone", "classifier", "segment")
UNFIT = ("deeplabv2", "dpt")
"""Networks whose encoders do not return the plain lists of features that unimatch perturbs."""


@dataclass(frozen=True, kw_only=True)
class SemiConfig(NetworkConfig):
    """How the network is trained.

    With micro-batches (``--accumulate``) the loss is their mean and CutMix mixes within each, so it differs slightly from the
    whole batch's. An epoch has as many pairs as there are training images, in every mode.
    """

    pixel_labels: str = option(
        "",
        "file that names the training images with masks made by hand, one a line; empty: those corrected in the explorer",
        flag="pixel-labels",
        common=True,
        file=True,
    )
    masks: str = option("", "folder of their masks ID.png; empty: masks beside the list", flag="masks", common=True, file=True)
    mask_colours: str = option("", "CSV id,colour: the colours of RGB masks; empty: VOC's", flag="mask-colours", file=True)
    mode: str = option(
        "weak", "labelled: learn from those images alone; unlabelled: the others too; weak: also the run's masks of these",
        flag="mode", choices=MODES, common=True,
    )  # fmt: skip
    method: str = option(
        "unimatch", "cct: auxiliary decoders agree; unimatch: strongly augmented views agree with weakly augmented ones",
        flag="method", choices=METHODS, common=True,
    )  # fmt: skip
    start: str = option(
        "backbone",
        "initial weights: backbone (its own), classifier (the run's), segment (that network), or a file *.safetensors",
        file=True,
        besides=STARTS,
    )
    unsupervised: float = option(30.0, "cct: weight of the consistency loss, ramped up", least=0)
    weak: float = option(0.4, "weight of the loss on the run's masks, ramped up", least=0)
    ramp: float = option(0.1, "share of the training over which these weights rise", least=0, most=1)
    threshold: float = option(0.95, "unimatch: confidence threshold of the weak view", least=0, most=1)
    strong: int = option(1, "unimatch: number of strongly augmented views", choices=(1, 2))
    batch: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in STARTS and not self.start.endswith(".safetensors"):
            raise SettingsError(f"start is one of {', '.join(STARTS)}, or a file *.safetensors; got {self.start!r}")
        if self.method == "unimatch" and self.network in UNFIT:
            raise SettingsError(f"unimatch cannot perturb the features of {self.network}; take another --network")

    @property
    def needs(self) -> str:
        """The step that this one needs."""
        return "segment" if self.start == "segment" else "refine" if self.mode == "weak" else "classify"

    def truth(self) -> Path:
        """Returns the folder of the masks of the list."""
        return Path(self.masks) if self.masks else Path(self.pixel_labels).parent / "masks"


def run(context: Context, config: SemiConfig) -> list[Skip]:
    """Trains the network; writes model.safetensors, model.json, metrics.json, look.png and predictions/ID.png.

    Without a list of images with masks made by hand, these are the images whose masks were corrected in the explorer; of one
    whose mask was rejected nothing is learnt but what its views have in common.
    The last epoch is kept: all of the few masks are trained on, and no other ground truth is read.

    Returns:
        Listed names that are not images of the run, and images without a prediction; also in skipped.csv in the step's folder.

    Raises:
        AdvcamError: as in :func:`check`.
    """
    config = replace(config, precision=context.precision("semi", config.precision))
    labelled, others, skipped = _split(context, config)
    by_hand = _by_hand(context, config)
    masks = [by_hand(item.id) for item in labelled]
    contents = [crc32(path.read_bytes()) if path.is_file() else None for path in masks]
    rejected = [] if config.pixel_labels else [[i.id for i in _corrected(context).rejected if i in others]]
    seen = [[i.id for i in labelled], contents, *filter(None, rejected)]
    identity = config.identity() | {"pixel_labels": digest(seen), "masks": ""}
    identity["mask_colours"] = digest(read_colours(Path(config.mask_colours))) if config.mask_colours else ""
    if config.start not in ("backbone", "classifier"):
        identity["start"] = f"{crc32(_trained(context, config).read_bytes()):x}"
    with context.step("semi", config, network_files(context, "semi"), config.needs, identity) as todo:
        if todo and not has_network(context.run.folder("semi")):
            _train(context, config)
        if todo:
            skipped += predict(context, "semi", config.precision)
            list_skips(context.run.folder("semi") / "skipped.csv", skipped)
    return skipped


def preflight(context: Context, config: SemiConfig, start: Start) -> None:
    """Checks the list and the masks, and builds the network with its initial weights, so that errors show early.

    Raises:
        AdvcamError: as in :func:`check` and :func:`build`.
    """
    check(context, config)
    untrained, views = encoder_of(context, config, start).untrained, max(len(context.data.train), 2)
    check_batch(context, config, "semi", build(context, config, start), untrained, views)


def check(context: Context, config: SemiConfig) -> list[int]:
    """Checks the list and all masks before anything is deleted; returns ids in masks made by hand that are not classes.

    Raises:
        DataError: the list names no training image, or an image for scoring; or there is no folder of masks.
        RunError: the masks do not fit, or the mode needs further images and there are none.
        SettingsError: too many classes for mode weak.
    """
    labelled, others, _ = _split(context, config)
    if config.start not in ("backbone", "classifier"):
        _trained(context, config)
    classes, truth = context.data.classes, config.truth()
    if config.pixel_labels and not truth.is_dir():
        raise DataError(f"{truth}: there is no such folder of masks; give the masks of {config.pixel_labels} with --masks DIR")
    remedy = "correct the mask, or remove the image from the list of --pixel-labels"
    remedy = remedy if config.pixel_labels else f"`advcam explore --run {context.run.root}` corrects it"
    positions = _positions(context, labelled, config)
    held = check_masks(labelled, _by_hand(context, config), positions, remedy, _load(config))
    if config.mode == "weak":
        if len(classes) >= UNKNOWN:
            raise SettingsError(f"semi in mode weak takes at most {UNKNOWN - 1} classes; the run has {len(classes)}")
        check_masks(others, _weak(context, config), classes.positions(others=IGNORE), redo(context.run, "refine"))
    return sorted(held - {0, IGNORE, *classes.ids})


def build(context: Context, config: SemiConfig, start: Start | None = None) -> nn.Module:
    """Builds the network with its initial weights.

    Raises:
        SettingsError: the network does not support the backbone.
        NetworkError: the weights do not fit, or the hub cannot be reached.
        RunError: the network to start from does not exist.
    """
    encoder, outputs = encoder_of(context, config, start), len(context.data.classes) + 1
    backbone = encoder.backbone
    if config.method == "cct":
        auxiliary = {} if config.mode == "labelled" else AUXILIARY
        model: nn.Module = CCT(backbone, outputs, config.output_stride or 8, auxiliary)
    else:
        model = segmentation_network(config.network, backbone, outputs, config.output_stride)
    if config.start not in ("backbone", "classifier"):
        path = _trained(context, config)
        load_weights(model, load_state(path), str(path), new=("auxiliary.",))
    else:
        encoder.give(model)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _corrected(context: Context) -> Corrected:
    """Returns the masks of training images that a person has looked at in the explorer."""
    return corrected_masks(context.run, context.data.train)


def _by_hand(context: Context, config: SemiConfig) -> Callable[[str], Path]:
    """Returns a function from an image's id to the path of its mask made by hand."""
    return (lambda name: mask_file(config.truth(), name)) if config.pixel_labels else partial(corrected_mask, context.run)


def _weak(context: Context, config: SemiConfig) -> Callable[[str], Path]:
    """Returns a function from the id of another image to the path of the run's mask; of a rejected one, to that of 255."""
    rejected = set[str]() if config.pixel_labels else {item.id for item in _corrected(context).rejected}
    return lambda name: corrected_mask(context.run, name) if name in rejected else context.run.mask(name)


def _load(config: SemiConfig) -> Load:
    """Returns a function that reads a mask made by hand.

    Raises:
        DataError: the file of colours cannot be used.
    """
    coloured = config.pixel_labels and config.mask_colours
    return partial(load_mask, colours=read_colours(Path(config.mask_colours)) if coloured else None)


def _positions(context: Context, labelled: Sequence[Item], config: SemiConfig) -> np.ndarray[Any, Any]:
    """Returns the class position of each id in masks made by hand, background's for ids of no class.

    Where all hold 0 and 255 alone and there is one class, 255 is that class, as in :meth:`advcam.stages.truth.Truth.knowing`;
    but not in masks of the explorer, where it is what a person does not know.
    """
    classes, held, by_hand = context.data.classes, set[int](), _by_hand(context, config)
    positions = classes.positions(others=0)
    for item in labelled if len(classes) == 1 and config.pixel_labels else ():
        with contextlib.suppress(StoreError):  # raised where the masks are checked
            held.update(np.unique(_load(config)(by_hand(item.id))).tolist())
    if held == {0, IGNORE}:
        positions[IGNORE] = 1
    return positions


def _trained(context: Context, config: SemiConfig) -> Path:
    """Returns the path of the weights of the trained network to start from.

    Raises:
        RunError: the file does not exist.
    """
    if config.start != "segment":
        path = Path(config.start)
        if not path.is_file():
            raise RunError(f"{path}: there is no such file to start from; check --semi-option start")
        return path
    path = context.run.folder("segment") / "model.safetensors"
    if not context.run.done("segment"):
        raise RunError(f"{path}: start=segment needs it; `advcam segment --run {context.run.root}` makes it")
    return path


def _split(context: Context, config: SemiConfig) -> tuple[list[Item], list[Item], list[Skip]]:
    """Returns the training images with masks made by hand, the others, and listed names that are not images of the run."""
    scored = {item.id for item in context.data.eval}
    if not config.pixel_labels:
        return (*_split_by_corrected(context, config, scored), [])
    path = Path(config.pixel_labels)
    labelled, skipped = listed(path, context.data.items)
    also = [item.id for item in labelled if item.id in scored]
    if also:
        raise DataError(f"{path}: names {also[0]!r}, which is scored on ({len(also)} are); list training images only")
    known = {item.id for item in labelled}
    others = [item for item in _with_masks(context, config) if item.id not in known]
    if config.mode != "labelled" and not others:
        raise RunError(f"{path}: names every training image, so none is left for --mode {config.mode}; use --mode labelled")
    return labelled, others, skipped


def _with_masks(context: Context, config: SemiConfig) -> list[Item]:
    """Returns the training images; in mode weak, which takes the run's masks, but those that refine has left out."""
    train = list(context.data.train)
    return without_left_out(context.run, "refine", train, context.run.mask) if config.mode == "weak" else train


def _split_by_corrected(context: Context, config: SemiConfig, scored: set[str]) -> tuple[list[Item], list[Item]]:
    """Returns the training images whose masks were corrected in the explorer, and the others; scored ones are not learnt."""
    found, root = _corrected(context), context.run.root
    labelled = [item for item in found.known if item.id not in scored]
    if not labelled:
        there = (
            f"{found.folder} has no mask of an image to train on" if found.folder.is_dir() else f"{root} has no corrected masks"
        )
        raise SettingsError(
            "advcam semi needs --pixel-labels LIST: the training images whose masks were made by hand, one a line; or masks"
            f" corrected with `advcam explore --run {root}` ({there})"
        )
    known = {item.id for item in labelled}
    others = [item for item in _with_masks(context, config) if item.id not in known]
    if config.mode != "labelled" and not others:
        raise RunError(
            f"{found.folder}: every training image is corrected, so none is left for --mode {config.mode}; use --mode labelled"
        )
    return labelled, others


def _train(context: Context, config: SemiConfig) -> None:
    unknown = check(context, config)
    if unknown:
        folder = config.truth() if config.pixel_labels else corrected_mask(context.run, "").parent
        context.reporter.warn(
            f"{folder}: masks hold ids {', '.join(map(str, unknown))}, which are not classes of this run and count as"
            " background"
        )
    labelled, others, _ = _split(context, config)
    if not config.pixel_labels:
        rejected = sum(item in others for item in _corrected(context).rejected)
        left = f", nothing of the masks of {rejected} rejected" if rejected else ""
        context.reporter.say(f"semi: learns from {len(labelled)} corrected masks{left}")
    started, folder, classes = encoder_of(context, config), context.run.folder("semi"), context.data.classes
    outputs = len(classes) + 1
    mask, weak = _by_hand(context, config), _weak(context, config)
    positions, pseudo = _positions(context, labelled, config), classes.positions(others=IGNORE)
    pseudo[IGNORE] = UNKNOWN
    torch.manual_seed(context.seed)
    normalise, augment = Normalisation(*started.backbone.normalisation()), config.augmentation(context.data.train)
    model = build(context, config)
    count = max(len(context.data.train), 2)  # pairs in an epoch: images repeat, each time as another view
    shown, beside = (list(islice(cycle(items), count)) for items in (labelled, others))
    views = SemiViews(
        TrainingViews(
            shown, augment, normalise, context.seed, outputs,
            masks=[mask(item.id) for item in shown], remap=positions, load=_load(config),
        ),
        None if config.mode == "labelled" else TrainingViews(
            beside, augment, normalise, context.seed + 1, outputs,
            masks=[weak(item.id) if config.mode == "weak" else None for item in beside], remap=pseudo,
            load=load_mask,
        ),
        normalise,
        config.strong if config.method == "unimatch" else 0,
    )  # fmt: skip
    score = "mean_iou_of_training_images"
    look = against_masks(context, config, labelled[:LOOK], mask, positions, folder, normalise, score, _load(config))
    state, history = train(context, config, "semi", model, started.untrained, views, SemiObjective(config), look, None, folder)
    name = "cct" if config.method == "cct" else config.network
    stride = config.output_stride or (8 if name == "cct" else None)
    about = {"labelled": len(labelled), "others": 0 if config.mode == "labelled" else len(others), "mode": config.mode}
    used = {name: value for name, value in state.items() if not name.startswith("auxiliary.")}
    save_network(
        context, folder, network_record(context, name, started.backbone, stride, config),
        {"history": history, "epoch_kept": "the last"} | about, used,
    )  # fmt: skip
