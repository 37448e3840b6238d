"""Checks of masks before they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from advcam.data import IGNORE, Item
from advcam.errors import RunError, StoreError
from advcam.store import load_mask

Load = Callable[..., np.ndarray[Any, Any]]
"""Reads the mask of a path and, to check it, a size."""


def sure_pixels(
    path: Path, size: tuple[int, int] | None = None, *, least: float, masks: Path, confidence: Path
) -> np.ndarray[Any, Any]:
    """Reads a mask, with 255 where its confidence map is below ``least``, a share; an image without classes has no such map.

    Args:
        path: of the mask.
        size: of its image, to check it.
        least: the least confidence.
        masks: the folder of the masks.
        confidence: the folder of the confidence maps, of the same names.

    Raises:
        StoreError: a file is damaged, or of another size.
    """
    ids, sure = load_mask(path, size), confidence / path.relative_to(masks)
    if not sure.is_file():
        return ids
    left: np.ndarray[Any, Any] = np.where(load_mask(sure, ids.shape) < 255 * least, IGNORE, ids).astype(np.uint8)
    return left


def check_masks(
    items: Sequence[Item], mask: Callable[[str], Path], positions: np.ndarray[Any, Any], remedy: str, load: Load = load_mask
) -> set[int]:
    """Checks every mask before the training; returns the ids found in them.

    Args:
        items: the images.
        mask: a function from an image's id to the path of its mask.
        positions: [256] the class position of each id; ids other than 255 at position 255 are unknown.
        remedy: advice for the message.
        load: reads a mask.

    Raises:
        RunError: masks are missing, differ in size from their image, have unknown ids, or all hold only 255 or background.
    """
    folder = mask(items[0].id).parent
    missing = [item.id for item in items if not mask(item.id).is_file()]
    if missing:
        raise RunError(f"{folder}: {len(missing)} of {len(items)} images have no mask, the first is {missing[0]}; {remedy}")
    held = np.zeros(256, dtype=bool)
    for item in items:
        try:
            ids = load(mask(item.id), item.size)
        except StoreError as error:
            raise RunError(f"{error}; {remedy}") from error
        here = np.bincount(ids.ravel(), minlength=256) > 0
        odd = np.flatnonzero(here & (positions == IGNORE) & (np.arange(256) != IGNORE))
        if len(odd):
            raise RunError(
                f"{mask(item.id)}: holds id {odd[0]}, which is not a class of this run (0 background, classes"
                f" {', '.join(str(i) for i in np.flatnonzero(positions != IGNORE)[1:])}, 255 ignored); {remedy}"
            )
        held |= here
    known = {int(positions[i]) for i in np.flatnonzero(held)} - {IGNORE}
    if known <= {0}:
        strange = [i for i in np.flatnonzero(held).tolist() if i not in (0, IGNORE)]
        ours = [i for i in range(1, IGNORE) if positions[i] not in (0, IGNORE)]
        if strange:
            raise RunError(
                f"{folder}: the {len(items)} masks hold the ids {', '.join(map(str, strange))}, the run's classes are"
                f" {', '.join(map(str, ours))}, so there is nothing to learn: write these ids into the masks, or start a run"
                " whose --classes FILE (CSV id,name) has the ids of the masks"
            )
        only = "background" if known else "255, ignored"
        raise RunError(f"{folder}: all {len(items)} masks hold only {only}: there is nothing to learn; {remedy}")
    return {int(i) for i in np.flatnonzero(held)}
