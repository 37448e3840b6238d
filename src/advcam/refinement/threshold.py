"""Masks by a background threshold: the strongest class where its map exceeds it; and how well a threshold separates colours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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
    second = torch.full_like(strongest, -torch.inf) if margin > 0 else None
    ids = torch.zeros(height, width, dtype=torch.uint8, device=maps.device)
    for one, class_id in zip(maps, classes, strict=True):
        if one.shape != strongest.shape:
            one = F.interpolate(one[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
        ids[one > strongest] = class_id
        if second is not None:
            torch.maximum(second, torch.minimum(one, strongest), out=second)
        torch.maximum(strongest, one, out=strongest)  # in place: these are as large as the image
    if second is not None:
        ids[strongest.sub_(second) < margin] = IGNORE
    return ids


def separation(
    maps: Float[Tensor, "k h w"], features: Float[Tensor, "d h w"], thresholds: Sequence[float], balance: float = 1.0
) -> Float[Tensor, "k t"]:
    """How well a map's region at each threshold separates features, or the colours of the image.

    ``s(t) = (a (1 - a))^b |mu_1 - mu_0|^2 / sigma^2``, with a the share of cells where the map exceeds t, mu_1 and mu_0 the
    mean features of these and of the other cells, and sigma^2 the features' variance, summed over channels. With b = 1 it is
    the share of the variance between the two, and the t at which it is greatest is Otsu's threshold where the map is the image
    itself. A smaller b favours regions of half the image less.

    Args:
        maps: float [k, h, w], finite.
        features: float [d, h, w], finite, in any unit.
        thresholds: the t, in the unit of the maps, ascending.
        balance: b, in [0, 1].

    Returns:
        float64 [k, len(thresholds)], at least 0, at most 1 with b = 1; 0 where no cell or every cell exceeds t, or the features
        are the same everywhere.

    Raises:
        InputError: maps and features of different size, without a cell or not finite; thresholds that do not ascend.

    Source: Otsu, IEEE Trans. SMC 1979, equation 12 (between-class variance); that the classes are cut from one map and the
        variance is that of other features, and the power b, are ours.

    Example:
        >>> image = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])  # dark and bright half
        >>> maps = torch.tensor([[[0.1, 0.3, 0.5, 0.9]]])  # rises to the right
        >>> [round(v, 2) for v in separation(maps, image, [0.2, 0.4, 0.6])[0].tolist()]
        [0.33, 1.0, 0.33]
    """
    expect_tensor(maps, "maps", "float", "k h w", finite=True)
    expect_tensor(features, "features", "float", "d h w", finite=True, beside=maps)
    balance = expect_number(balance, "balance", 0, 1)
    cuts = [expect_number(t, "a threshold", -1e4, 1e4) for t in expect_list(thresholds, "thresholds")]
    if features.shape[1:] != maps.shape[1:] or 0 in features.shape:
        raise InputError(
            f"maps {tuple(maps.shape)} and features {tuple(features.shape)}: expected the same size, at least one cell"
        )
    if not cuts or any(low >= high for low, high in pairwise(cuts)):
        raise InputError(f"thresholds {describe(thresholds)}: expected at least one, each above the one before")
    values = features.flatten(1).double()
    values = values - values.mean(1, keepdim=True)
    cells = values.shape[1]
    variance = values.square().mean(1).sum()
    above = torch.bucketize(maps.flatten(1).double(), torch.tensor(cuts, dtype=torch.float64, device=maps.device))
    counted = torch.cat([torch.ones_like(values[:1]), values])  # [1 + d, cells]: their number, and the sum of their features
    sums = counted.new_zeros(len(maps), len(counted), len(cuts) + 1)
    sums.scatter_add_(2, above[:, None].expand(-1, len(counted), -1), counted.expand(len(maps), -1, -1))
    sums = sums.flip(2).cumsum(2).flip(2)[..., 1:]  # over the cells above each threshold
    inside = sums[:, 0]
    share = inside / cells
    between = (sums[:, 1:] / (inside[:, None] * (1 - share[:, None]))).square().sum(1)  # mu_1 - mu_0, since the mean is 0
    found = (share * (1 - share)) ** balance * between / variance
    return torch.where((inside > 0) & (share < 1) & (variance > 0), found, 0)
