"""Previews of a network in training: its mIoU on some images, and look.png with some predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from advcam.data import Item, Normalisation, fit_within
from advcam.errors import ImageError
from advcam.metrics import confusion, mean_iou
from advcam.segmenter import Segmenter
from advcam.store import atomic_write, load_mask
from advcam.store.masks import voc_palette

from .context import Context
from .networks import NetworkConfig
from .training_masks import Load

LOOK = 4
"""Images in look.png."""


def against_masks(
    context: Context, config: NetworkConfig, held: Sequence[Item], mask: Callable[[str], Path],
    positions: np.ndarray[Any, Any], folder: Path, normalise: Normalisation, name: str,
    load: Load = load_mask,
) -> Callable[[torch.nn.Module], dict[str, Any]]:  # fmt: skip
    """Returns a function that measures a network's mIoU against the masks of some images, and writes folder/look.png.

    Each row of look.png shows an image, its mask and its prediction.
    """
    outputs = len(context.data.classes) + 1
    ids = np.array([0, *context.data.classes.ids], dtype=np.uint8)

    def look(network: torch.nn.Module) -> dict[str, Any]:
        segmenter = Segmenter(
            network, np.arange(outputs), normalise, config.long_side, mirror=False, precision=config.precision
        )
        counts = torch.zeros(outputs, outputs, dtype=torch.long)
        rows: list[tuple[Image.Image, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        for item in context.reporter.track(held, len(held), "compare with masks"):
            image, target = item.read(), load(mask(item.id), item.size)
            try:
                predicted = segmenter(image)
            except ImageError:  # a failed preview must not end the training
                context.reporter.warn(
                    f"{item.path}: not enough memory to predict it after the epoch; a smaller long_side helps"
                )
                continue
            counts += confusion(torch.from_numpy(predicted), torch.from_numpy(positions[target]), outputs)
            if len(rows) < LOOK:
                rows.append((image.convert("RGB"), target, ids[predicted]))
        with atomic_write(folder / "look.png") as temporary:
            _table(rows).save(temporary, format="PNG")
        return {name: float(mean_iou(counts))}

    return look


def _table(rows: Sequence[tuple[Image.Image, np.ndarray[Any, Any], np.ndarray[Any, Any]]], side: int = 192) -> Image.Image:
    """Draws images, masks and predictions in three columns."""
    table = Image.new("RGB", (3 * side, side * len(rows)), "white")
    for row, (image, *masks) in enumerate(rows):
        shown = [image]
        for ids in masks:
            mask = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8), mode="P")
            mask.putpalette(voc_palette())
            shown.append(mask.convert("RGB").resize(image.size, Image.Resampling.NEAREST))
        for column, panel in enumerate(shown):
            table.paste(fit_within(panel, side), (column * side, row * side))
    return table
