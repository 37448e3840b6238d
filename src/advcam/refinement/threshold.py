"""The simplest mask: the strongest class where its map exceeds a constant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from advcam.errors import InputError


def label(
    maps: Float[Tensor, "k h w"], classes: Sequence[int], threshold: float, size: tuple[int, int] | None = None
) -> UInt8[Tensor, "y x"]:
    """``argmax [t | maps]``: the id of the strongest class where its map exceeds t, 0 (background) elsewhere.

    Args:
        maps: [k, h, w] in [0, 1]; k = 0 gives background alone.
        classes: the k class ids, 0 to 255.
        threshold: t.
        size: (H, W) to enlarge the maps to (bilinear), one at a time: a large picture needs no k copies. None is their own.

    Raises:
        InputError: another number of classes than of maps.
    """
    if len(classes) != len(maps):
        raise InputError(f"{len(maps)} maps need as many class ids, got {len(classes)}")
    height, width = size or maps.shape[1:]
    strongest = maps.new_full((height, width), threshold)
    ids = torch.zeros(height, width, dtype=torch.uint8, device=maps.device)
    for one, class_id in zip(maps, classes, strict=True):
        if one.shape != strongest.shape:
            one = F.interpolate(one[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
        ids[one > strongest] = class_id
        strongest = torch.maximum(strongest, one)
    return ids
