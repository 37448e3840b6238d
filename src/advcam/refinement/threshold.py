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


def separation(
    maps: Float[Tensor, "k h w"], image: Float[Tensor, "c h w"], thresholds: Sequence[float]
) -> Float[Tensor, "k t"]:
    """How well a map's region at each threshold separates the image's colours: the share of their variance between the two.

    ``eta^2(t) = a (1 - a) |mu_1 - mu_0|^2 / sigma^2``, with a the share of pixels where the map exceeds t, mu_1 and mu_0 the
    mean colours of these and of the other pixels, and sigma^2 the variance of the image's colours, summed over channels. The t
    at which it is greatest is Otsu's threshold where the map is the image itself.

    Args:
        maps: float [k, h, w], finite.
        image: float [c, h, w], finite, in any unit.
        thresholds: the t, in the unit of the maps, ascending.

    Returns:
        float64 [k, len(thresholds)] in [0, 1]; 0 where no pixel or every pixel exceeds t, or the image has one colour.

    Raises:
        InputError: maps and image of different size, without a pixel or not finite; thresholds that do not ascend.

    Source: Otsu, IEEE Trans. SMC 1979, equation 12 (between-class variance); that the classes are cut from one map and the
        variance is that of another image is ours.

    Example:
        >>> image = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])  # dark and bright half
        >>> maps = torch.tensor([[[0.1, 0.3, 0.5, 0.9]]])  # rises to the right
        >>> [round(v, 2) for v in separation(maps, image, [0.2, 0.4, 0.6])[0].tolist()]
        [0.33, 1.0, 0.33]
    """
    expect_tensor(maps, "maps", "float", "k h w", finite=True)
    expect_tensor(image, "image", "float", "c h w", finite=True, beside=maps)
    cuts = [expect_number(t, "a threshold", -1e4, 1e4) for t in expect_list(thresholds, "thresholds")]
    if image.shape[1:] != maps.shape[1:] or 0 in image.shape:
        raise InputError(f"maps {tuple(maps.shape)} and image {tuple(image.shape)}: expected the same size, at least one pixel")
    if not cuts or any(low >= high for low, high in pairwise(cuts)):
        raise InputError(f"thresholds {describe(thresholds)}: expected at least one, each above the one before")
    colours = image.flatten(1).double()
    colours = colours - colours.mean(1, keepdim=True)
    pixels = colours.shape[1]
    variance = colours.square().mean(1).sum()
    above = torch.bucketize(maps.flatten(1).double(), torch.tensor(cuts, dtype=torch.float64, device=maps.device))
    counted = torch.cat([torch.ones_like(colours[:1]), colours])  # [1 + c, pixels]: their number, and the sum of their colours
    sums = counted.new_zeros(len(maps), len(counted), len(cuts) + 1)
    sums.scatter_add_(2, above[:, None].expand(-1, len(counted), -1), counted.expand(len(maps), -1, -1))
    sums = sums.flip(2).cumsum(2).flip(2)[..., 1:]  # over the pixels above each threshold
    inside = sums[:, 0]
    share = inside / pixels
    between = sums[:, 1:].square().sum(1) / (inside * pixels * (1 - share))  # a / (1 - a) |mu_1|^2, since the mean is 0
    return torch.where((inside > 0) & (share < 1) & (variance > 0), between / variance, 0).clamp(0, 1)
