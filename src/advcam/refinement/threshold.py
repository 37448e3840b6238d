"""The simplest mask: the strongest class where its map exceeds a constant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import describe, expect_list, expect_number, expect_size, expect_tensor, expect_whole
from advcam.limits import IGNORE


def argmax_mask(
    maps: Float[Tensor, "k h w"],
    classes: Sequence[int],
    threshold: float,
    size: tuple[int, int] | None = None,
    margin: float = 0.0,
) -> UInt8[Tensor, "y x"]:
    """``argmax [t | maps]``: the id of the strongest class where its map exceeds t, 0 (background) elsewhere.

    Args:
        maps: [k, h, w] in [0, 1]; k = 0 gives background alone.
        classes: the k class ids, 0 to 255.
        threshold: t.
        size: (H, W) to enlarge the maps to (bilinear), one at a time: a large image needs no k copies. None is their own.
        margin: where the strongest of ``[t | maps]`` is not ahead of the second by as much, the label is 255: nobody knows.

    Raises:
        InputError: another number of classes than of maps, class ids out of range, maps that are NaN, a size that is none.
    """
    expect_tensor(maps, "maps", "float", "k h w")
    classes = [expect_whole(c, "a class id", 0, IGNORE) for c in expect_list(classes, "classes")]
    threshold, margin = expect_number(threshold, "threshold", -1e4, 1e4), expect_number(margin, "margin", -1e4, 1e4)
    if len(classes) != len(maps):
        raise InputError(f"{len(maps)} maps need as many class ids, got {len(classes)}")
    if maps.isnan().any():
        raise InputError("the maps hold NaN, expected numbers in [0, 1]; make the maps anew")
    if size is not None and len(maps) and 0 in maps.shape[1:]:
        raise InputError(
            f"maps {tuple(maps.shape)} without a cell cannot be enlarged to {describe(size)}: give maps, or no size"
        )
    height, width = maps.shape[1:] if size is None else expect_size(size)
    strongest = maps.new_full((height, width), threshold)
    second = torch.full_like(strongest, -torch.inf)
    ids = torch.zeros(height, width, dtype=torch.uint8, device=maps.device)
    for one, class_id in zip(maps, classes, strict=True):
        if one.shape != strongest.shape:
            one = F.interpolate(one[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
        ids[one > strongest] = class_id
        second = torch.maximum(second, torch.minimum(one, strongest))
        strongest = torch.maximum(strongest, one)
    ids[strongest - second < margin] = IGNORE
    return ids
