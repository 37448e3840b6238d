"""Masks by a constant background threshold: the strongest class where its map exceeds it."""

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
    """Make a mask of maps: the strongest class where its map exceeds the background threshold t, ``argmax [t | maps]``.

    Args:
        maps: float [k, h, w] in [0, 1]; k = 0 gives background alone.
        classes: the k class ids, 0 to 255.
        threshold: t, the background threshold, in the unit of the maps.
        size: (H, W) in pixels to resize the maps to (bilinear, one at a time to save memory). None is their own size.
        margin: where the strongest of ``[t | maps]`` leads the second by less than this, the label is 255 (ignored).

    Returns:
        uint8 [H, W]: class ids, 0 for background, 255 within the margin.

    Raises:
        InputError: another number of classes than of maps, class ids out of range, maps that are NaN, an invalid size.

    Source: jiwoon-ahn/irn, ``eval_cam.py``; the margin is ours.

    Example:
        >>> argmax_mask(torch.tensor([[[0.9, 0.2, 0.1]], [[0.4, 0.6, 0.2]]]), [3, 7], threshold=0.3).tolist()
        [[3, 7, 0]]
    """
    expect_tensor(maps, "maps", "float", "k h w")
    classes = [expect_whole(c, "a class id", 0, IGNORE) for c in expect_list(classes, "classes")]
    threshold, margin = expect_number(threshold, "threshold", -1e4, 1e4), expect_number(margin, "margin", -1e4, 1e4)
    if len(classes) != len(maps):
        raise InputError(f"{len(maps)} maps need as many class ids, got {len(classes)}")
    if maps.isnan().any():
        raise InputError("the maps hold NaN, expected numbers in [0, 1]; compute the maps again")
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
