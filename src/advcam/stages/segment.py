"""The segment step: trains a segmentation network on the masks, and predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from advcam.data import IGNORE, Item, Normalisation, Skip, TrainingViews
from advcam.errors import RunError
from advcam.models.segmentation import segmentation_network
from advcam.options import option
from advcam.segmenter import Segmenter
from advcam.store import digest, load_mask, save_mask
from advcam.training import KINDS, PixelLoss

from .context import Context, redo
from .networks import NetworkConfig, check_batch, encoder_of, has_network, network_files, network_record, save_network, train
from .predictions import predict
from .preview import LOOK, against_masks
from .sharing import without_left_out
from .start import Start
from .training_masks import Load, check_masks, sure_pixels

STARTS = ("classifier", "backbone")


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(NetworkConfig):
    """How the network is trained. The defaults are ours; ``recipes/`` has others'."""

    start: str = option(
        "classifier",
        "initial weights of the encoder: the run's classifier, or the backbone's own (its file, or timm's)",
        choices=STARTS,
    )
    loss: str = option("cross_entropy", "pixel loss", choices=tuple(KINDS))
    balanced: bool = option(
        False, "give background and foreground equal weight: good where masks are tight (irn), bad where they spill over (pamr)"
    )
    holdout: float = option(
        0.05, "share of the training images whose masks choose the best epoch instead of training it; 0 keeps the last",
        least=0, below=1,
    )  # fmt: skip
    least_confidence: float = option(
        0.0, "pixels of the masks that are less sure, by their confidence maps, are left out of training", least=0, below=1,
        flag="least-confidence",
    )  # fmt: skip
    rounds: int = option(
        1,
        "training rounds; each after the first learns from the confident predictions of the one before",
        least=1,
        most=1000,
    )
    sure: float = option(0.7, "least probability of a pixel label for the next round", least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.objective()

    def objective(self) -> PixelLoss:
        """Returns the loss."""
        return PixelLoss(self.loss, self.balanced)

    def identity(self) -> dict[str, Any]:
        """Returns everything that changes the network; what leaves out no pixel is not part of it, as in older runs."""
        left_out = () if self.least_confidence else ("least_confidence",)
        return {name: value for name, value in super().identity().items() if name not in left_out}


def run(context: Context, config: SegmentConfig) -> list[Skip]:
    """Trains the network on the pseudo masks of the training images, and predicts.

    Writes model.safetensors, model.json, metrics.json, look.png and predictions/ID.png of the images for scoring (of all if
    there are none). Pixels of 255 are ignored. The epoch kept is the best by mIoU against held-out *pseudo* masks; no ground
    truth is read. Several processes (``accelerate launch``, ``torchrun``) share every batch, and the images to predict.

    Returns:
        Images left without a prediction, also listed in skipped.csv in the step's folder.

    Raises:
        RunError: the masks do not fit the images or the classes.
    """
    config = replace(config, precision=context.precision("segment", config.precision))
    with context.step("segment", config, network_files(context, "segment")) as todo:
        if not todo:
            return []
        if not has_network(context.run.folder("segment")):
            _train(context, config)
        context.runtime.wait()
        return predict(context, "segment", config.precision)


def check(context: Context, least_confidence: float = 0.0) -> None:
    """Checks all masks, before anything is deleted or trained.

    Raises:
        RunError: the masks do not fit the images or the classes, or lack the confidence maps that are asked for.
    """
    positions, run = context.data.classes.positions(others=IGNORE), context.run
    if least_confidence:
        without = [item.id for item in _to_learn(context) if item.labels and not run.confidence(item.id).is_file()]
        if without:
            raise RunError(
                f"{run.confidence(without[0])}: there is no such confidence map, nor of {len(without) - 1} other images, which"
                f" --least-confidence needs; {redo(run, 'refine')}"
            )
    check_masks(_to_learn(context), run.mask, positions, redo(run, "refine"), _reader(context, least_confidence))


def _to_learn(context: Context) -> list[Item]:
    """Returns the training images but those that refine has left out."""
    return without_left_out(context.run, "refine", context.data.train, context.run.mask)


def _reader(context: Context, least_confidence: float) -> Load:
    """Returns what reads the run's masks for training."""
    if not least_confidence:
        return load_mask
    folder = context.run.folder("refine")
    return partial(sure_pixels, least=least_confidence, masks=folder / "masks", confidence=folder / "confidence")


def preflight(context: Context, config: SegmentConfig, start: Start) -> None:
    """Checks the masks, if they exist, and builds the network with its initial weights, so that errors show early.

    Raises:
        AdvcamError: as in :func:`check` and :func:`build`.
    """
    if context.run.done("refine"):
        check(context, config.least_confidence)
    untrained, views = encoder_of(context, config, start).untrained, len(_split(context, config.holdout)[0])
    check_batch(context, config, "segment", build(context, config, start), untrained, views)


def build(context: Context, config: SegmentConfig, start: Start | None = None) -> nn.Module:
    """Builds the network with its initial weights.

    Raises:
        SettingsError: the network does not support the backbone.
        NetworkError: the weights do not fit, or the hub cannot be reached.
    """
    encoder = encoder_of(context, config, start)
    outputs = len(context.data.classes) + 1
    model = segmentation_network(config.network, encoder.backbone, outputs, config.output_stride)
    encoder.give(model)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _train(context: Context, config: SegmentConfig) -> None:
    check(context, config.least_confidence)
    folder = context.run.folder("segment")
    masks: Callable[[str], Path] = context.run.mask
    load = _reader(context, config.least_confidence)
    for number in range(1, config.rounds):
        before = folder / f"round-{number}"
        _round(context, config, masks, before, load)
        masks, load = _own_masks(context, config, before), load_mask
    _round(context, config, masks, folder, load)


def _round(context: Context, config: SegmentConfig, masks: Callable[[str], Path], folder: Path, load: Load) -> None:
    """Trains once on masks of class ids; writes model.json, metrics.json and, last, model.safetensors."""
    if has_network(folder):
        return
    torch.manual_seed(context.seed)
    started, outputs = encoder_of(context, config), len(context.data.classes) + 1
    model = build(context, config)
    positions = context.data.classes.positions(others=IGNORE)
    learnt, held = _split(context, config.holdout)
    normalise = Normalisation(*started.backbone.normalisation())
    views = TrainingViews(
        learnt, config.augmentation(context.data.train), normalise, context.seed, outputs,
        masks=[masks(item.id) for item in learnt], remap=positions, load=load,
    )  # fmt: skip
    score = "held_out_mean_iou" if held else "mean_iou_of_training_images"
    look = against_masks(context, config, held or learnt[:LOOK], masks, positions, folder, normalise, score)
    state, history = train(
        context, config, "segment", model, started.untrained, views, config.objective(), look, score if held else None, folder
    )
    rule = "best by mIoU against held-out pseudo masks (no ground truth)" if held else "the last"
    metrics = {"history": history, "epoch_kept": rule, "held_out": len(held)}
    record = network_record(context, config.network, started.backbone, config.output_stride, config)
    save_network(context, folder, record, metrics, state)


def _own_masks(context: Context, config: SegmentConfig, before: Path) -> Callable[[str], Path]:
    """Writes a round's confident predictions for the training images as masks, restricted to each image's classes."""
    segmenter = Segmenter.load(before, context.runtime.torch_device(), config.precision)
    folder, ids = before / "masks", np.array([0, *context.data.classes.ids], dtype=np.uint8)

    def path(name: str) -> Path:
        return folder / f"{name}.png"

    left = [item for item in context.runtime.share(list(context.data.train)) if not path(item.id).is_file()]
    for item in context.reporter.track(left, len(left), "own masks"):
        shown = [0, *(at + 1 for at in sorted({*item.labels, *item.unknown}))]
        best, which = segmenter.probabilities(item.read())[shown].max(0)
        mask = np.where(best.cpu() >= config.sure, ids[shown][which.cpu()], IGNORE).astype(np.uint8)
        save_mask(path(item.id), mask)
    context.runtime.wait()
    positions = context.data.classes.positions(others=IGNORE)
    check_masks(
        context.data.train,
        path,
        positions,
        "give --redo with rounds=1, or where all is 255 a lower sure (both --segment-option)",
    )
    return path


def _split(context: Context, holdout: float) -> tuple[list[Item], list[Item]]:
    items = sorted(_to_learn(context), key=lambda item: digest([context.seed, "segment", item.id]))
    held = max(1, round(len(items) * holdout)) if holdout else 0
    return (items[held:], items[:held]) if len(items) > held + 1 else (items, items)
