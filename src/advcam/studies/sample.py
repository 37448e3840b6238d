"""The sample of images of a study, and their ground truth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from advcam.data import IGNORE, ClassTable, Item, Skip, listed
from advcam.errors import DataError, ImageError, StoreError
from advcam.stages.context import Context, trained_elsewhere
from advcam.stages.truth import Truth, look_at_truth
from advcam.store import mask_file


@dataclass(frozen=True)
class Sample:
    """Images with labels (and a ground-truth mask if the study needs one).

    Args:
        items: the images, in the order in which they were drawn.
        source: what they were drawn from, in words.
        of: number of images drawn from.
        seed: seed of the draw, and of the bootstrap.
        skipped: listed names that are not images of the run.
    """

    items: tuple[Item, ...]
    source: str
    of: int
    seed: int
    skipped: tuple[Skip, ...] = ()

    def __str__(self) -> str:
        if len(self.items) == self.of:
            return f"all {self.of} images of {self.source}"
        return f"{len(self.items)} of the {self.of} images of {self.source} (drawn with seed {self.seed})"

    def left(self, items: Sequence[Item]) -> Sample:
        """Returns the sample with only the images that could be used."""
        return replace(self, items=tuple(items))

    def record(self) -> dict[str, Any]:
        """Returns plain data, for a file."""
        about = {"list": self.source, "images": len(self.items), "of": self.of, "seed": self.seed}
        return about | {"ids": [item.id for item in self.items]}


def draw(context: Context, masks: Path | None, images: int | None, names: Path | None) -> Sample:
    """Draws images from those for scoring (if none, from all; or from a list), in an order given by the run's seed.

    Raises:
        DataError: no folder of masks, an unreadable list, or no image with a label (and mask).
    """
    if masks is not None and not masks.is_dir():
        raise DataError(f"{masks}: there is no such folder of ground-truth masks; check --masks")
    skipped: list[Skip] = []
    if names is not None:
        pool, skipped = listed(names, context.data.items)
        source = names.name
    else:
        pool = list(context.data.eval or context.data.items)
        given = "classifier was given" if trained_elsewhere(context) else "classifier was trained on them"
        source = context.run.state()["about"]["eval_name"] or f"the run's own images (the {given})"
    fit = [item for item in pool if item.labels and (masks is None or mask_file(masks, item.id).is_file())]
    if not fit:
        lacking = "a label" if masks is None else f"both a label and a ground-truth mask in {masks}"
        raise DataError(f"none of {len(pool)} images of {source} has {lacking}; check --masks and --list")
    random.Random(context.seed).shuffle(fit)
    wanted = images or (100 if names is None else len(fit))
    if masks is not None:
        check, *_ = look_at_truth(Truth(masks), fit[:wanted], context.data.classes, context.reporter)
        if check.truth.white is not None:
            own = context.data.classes.ids[0]
            raise DataError(f"{masks}: masks of 0 and 255 alone; a study takes class ids, {own} in place of 255")
        check.must_be_truth()
        for line in check.totals():
            context.reporter.warn(f"{masks}: {line}")
    return Sample(tuple(fit[:wanted]), source, len(pool), context.seed, tuple(skipped))


def truth(folder: Path, item: Item, classes: ClassTable) -> Int[Tensor, "y x"]:
    """Returns an image's mask as positions among a network's outputs: 0 background (and unknown ids), 255 ignored.

    Raises:
        ImageError: the mask is missing, damaged, or differs in size from the image.
    """
    try:
        mask = Truth(folder)(item)
    except StoreError as error:
        raise ImageError(str(error)) from error
    return torch.from_numpy(classes.positions(others=0)[mask].astype(np.int64))


def of_own(mask: Int[Tensor, "y x"], labels: Sequence[int]) -> Int[Tensor, "y x"]:
    """Maps a mask to an image's own labels: 0 background, 1 to k its classes, k + 1 other classes, 255 ignored.

    Args:
        mask: see :func:`truth`.
        labels: the k class positions of the image, 0 being the first class.

    Example:
        >>> of_own(torch.tensor([[0, 1, 4, 255]]), [3]).tolist()
        [[0, 2, 1, 255]]
    """
    table = torch.full((IGNORE + 1,), len(labels) + 1)
    table[[0, IGNORE]] = torch.tensor([0, IGNORE])
    table[[label + 1 for label in labels]] = torch.arange(1, len(labels) + 1)
    return table[mask]
