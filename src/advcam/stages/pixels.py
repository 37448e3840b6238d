"""What the steps that train a network on masks share: masks looked at beforehand, the network's record, its predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from advcam.data import IGNORE, Item, Normalisation, Skip, fit_within
from advcam.errors import ImageError, NetworkError, RunError, StoreError
from advcam.metrics import confusion, mean_iou
from advcam.models.classifiers import Backbone
from advcam.segmenter import Segmenter
from advcam.store import atomic_write, load_mask, save_mask
from advcam.store.masks import voc_palette
from advcam.store.records import ClassifierRecord

from .context import Context, classifier_record, list_skips
from .networks import NetworkConfig
from .start import Start, trained_start

LOOK = 4
"""Images in the early look."""

NETWORK = ("model.safetensors", "model.json", "metrics.json")
"""The files of a trained network."""


def check_masks(items: Sequence[Item], mask: Callable[[Item], Path], positions: np.ndarray[Any, Any], remedy: str) -> set[int]:
    """Looks at every mask before hours are spent on them; returns the ids that they hold.

    Args:
        items: the images.
        mask: where the mask of each is.
        positions: [256] what each id becomes; ids that become 255 and are not 255 are refused.
        remedy: what to do, for the message.

    Raises:
        RunError: masks that are missing, of another size than their image, or hold ids that are no class; masks that
            together hold nothing but 255, or nothing but background.
    """
    missing = [item.id for item in items if not mask(item).is_file()]
    if missing:
        raise RunError(
            f"{mask(items[0]).parent}: {len(missing)} of {len(items)} images have no mask, the first is {missing[0]}; {remedy}"
        )
    held = np.zeros(256, dtype=bool)
    for item in items:
        try:
            ids = load_mask(mask(item))
        except StoreError as error:
            raise RunError(f"{error}; {remedy}") from error
        if ids.shape != item.size:
            raise RunError(f"{mask(item)}: is {ids.shape[1]}x{ids.shape[0]}, its image {item.size[1]}x{item.size[0]}; {remedy}")
        here = np.bincount(ids.ravel(), minlength=256) > 0
        odd = np.flatnonzero(here & (positions == IGNORE) & (np.arange(256) != IGNORE))
        if len(odd):
            raise RunError(
                f"{mask(item)}: holds id {odd[0]}, which is no class of this run (0 background, classes"
                f" {', '.join(str(i) for i in np.flatnonzero(positions != IGNORE)[1:])}, 255 ignored); {remedy}"
            )
        held |= here
    known = {int(positions[i]) for i in np.flatnonzero(held)} - {IGNORE}
    if known <= {0}:
        only = "background" if known else "255, ignored"
        raise RunError(
            f"{mask(items[0]).parent}: all {len(items)} masks hold nothing but {only}: there is nothing to learn; {remedy}"
        )
    return {int(i) for i in np.flatnonzero(held)}


def check_classes(context: Context) -> ClassifierRecord:
    """The record of the run's classifier, whose classes must be the run's.

    Raises:
        RunError: the class list is another one since.
    """
    made = classifier_record(context.run)
    now = context.data.classes.record()
    if made["classes"] != now:
        names = [", ".join(f"{c['id']} {c['name']}" for c in listed) for listed in (made["classes"], now)]
        raise RunError(
            f"{context.run.root}: the classifier was made for the classes {names[0]}, the run has {names[1]} now; put"
            " data.json back, or start another run"
        )
    return made


@dataclass(frozen=True)
class Encoder:
    """The encoder of a network before any training, and where it starts from."""

    start: Start

    @property
    def untrained(self) -> bool:
        """Whether it starts from nothing: its BatchNorm must then be trained."""
        return self.start.from_scratch and self.start.classifier() is None

    def give(self, network: nn.Module) -> None:
        """Gives a network's encoder its weights.

        Raises:
            NetworkError: weights that do not fit, or a hub that cannot be reached.
        """
        try:
            self.start.give(network)
        except NetworkError as error:
            raise NetworkError(f"{error} (of the network's encoder: option encoder_weights=FILE, or encoder='')") from None


def encoder_of(context: Context, config: NetworkConfig, start: Start | None = None) -> Encoder:
    """The encoder that a config with ``encoder``, ``encoder_weights`` and ``start`` asks for.

    Args:
        context: the run.
        config: of the network.
        start: what networks of the run start from, before its classifier is trained; None reads that.

    Raises:
        RunError: as :func:`check_classes`.
    """
    if start is None:
        check_classes(context)
        start = trained_start(context)
    if config.encoder:
        return Encoder(Start(Backbone(config.encoder), lambda: None, config.encoder_weights or None, False))
    return Encoder(replace(start, classifier=lambda: None) if config.start == "backbone" else start)


def against_masks(
    context: Context, held: Sequence[Item], mask: Callable[[Item], Path], positions: np.ndarray[Any, Any], folder: Path,
    normalise: Normalisation, long_side: int, precision: str, name: str = "held_out_mean_iou",
) -> Callable[[torch.nn.Module], dict[str, Any]]:  # fmt: skip
    """A look at a network in training: its mIoU against the masks of some images, and folder/look.png, where some
    of them stand in rows: image, mask, prediction.
    """
    outputs = len(context.data.classes) + 1
    ids = np.array([0, *context.data.classes.ids], dtype=np.uint8)

    def look(network: torch.nn.Module) -> dict[str, Any]:
        segmenter = Segmenter(network, np.arange(outputs), normalise, long_side, mirror=False, precision=precision)
        counts = torch.zeros(outputs, outputs, dtype=torch.long)
        rows: list[tuple[Image.Image, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        for item in context.reporter.track(held, len(held), "held-out masks"):
            picture, target = item.read(), load_mask(mask(item))
            try:
                predicted = segmenter(picture)
            except ImageError:  # what was trained is worth more than a look
                context.reporter.warn(f"{item.path}: memory does not suffice to look at it; a smaller long_side would help")
                continue
            counts += confusion(torch.from_numpy(predicted), torch.from_numpy(positions[target]), outputs)
            if len(rows) < LOOK:
                rows.append((picture, target, ids[predicted]))
        with atomic_write(folder / "look.png") as temporary:
            _table(rows).save(temporary, format="PNG")
        return {name: float(mean_iou(counts))}

    return look


def _table(rows: Sequence[tuple[Image.Image, np.ndarray[Any, Any], np.ndarray[Any, Any]]], side: int = 192) -> Image.Image:
    """Images, masks and predictions in three columns."""
    table = Image.new("RGB", (3 * side, side * len(rows)), "white")
    for row, (picture, *masks) in enumerate(rows):
        shown = [picture]
        for ids in masks:
            mask = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8), mode="P")
            mask.putpalette(voc_palette())
            shown.append(mask.convert("RGB").resize(picture.size, Image.Resampling.NEAREST))
        for column, image in enumerate(shown):
            table.paste(fit_within(image, side), (column * side, row * side))
    return table


def has_network(folder: Path) -> bool:
    """Whether a training in this folder is done."""
    return all((folder / name).is_file() for name in NETWORK)


def network_files(context: Context, step: str) -> list[Path]:
    """The files that a step that trains a network leaves; predictions unless some could not be made."""
    run, folder = context.run, context.run.folder(step)
    wanted = [] if (folder / "skipped.csv").is_file() else context.data.eval or context.data.items
    return [*(folder / name for name in NETWORK), *(run.prediction(item.id, step) for item in wanted)]


def predict(context: Context, step: str, precision: str) -> list[Skip]:
    """Writes predictions/ID.png of the images for scoring (of all, where no list names them); each process its share.

    Returns:
        Images that memory did not suffice for, also in skipped.csv of the step's folder.
    """
    segmenter = Segmenter.load(context.run.folder(step), context.runtime.torch_device(), precision)
    everything = list(context.data.eval or context.data.items)
    wanted = context.runtime.share(everything)
    left = [item for item in wanted if not context.run.prediction(item.id, step).is_file()]
    with context.reporter.bar("predict", len(wanted), done=len(wanted) - len(left)) as advance:
        for item in left:
            picture = item.read()
            try:
                ids = segmenter(picture)
            except ImageError as error:
                context.reporter.warn(f"{item.path}: {error}, with `advcam predict --model {context.run.folder(step)}`")
            else:
                save_mask(context.run.prediction(item.id, step), ids)
            advance(1)
    context.runtime.wait()
    without = [item.id for item in everything if not context.run.prediction(item.id, step).is_file()]
    skips = [Skip(name, "memory did not suffice; advcam predict takes it in windows (--window 512)") for name in without]
    if context.runtime.first:
        list_skips(context.run.folder(step) / "skipped.csv", skips)
    return skips


def network_record(
    context: Context, name: str, backbone: Backbone, stride: int | None, config: NetworkConfig
) -> dict[str, Any]:
    """What model.json says: enough to build the network again and to use it as it is meant to be."""
    return {
        "network": name,
        "backbone": backbone.record(),
        "output_stride": stride,
        "classes": context.data.classes.record(),
        "long_side": config.long_side,
        "predict_scales": config.predict_scales,
        "predict_mirror": config.predict_mirror,
        "predict_merge": config.predict_merge,
        "predict_crf": config.predict_crf,
    }
