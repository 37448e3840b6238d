"""Pixel-adaptive mask refinement (Araslanov & Roth, CVPR 2020): maps follow the edges of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_tensor, expect_whole
from advcam.limits import MAX_RADIUS

DILATIONS = (1, 2, 4, 8, 12, 24)


def pamr(
    images: Float[Tensor, "n c y x"],
    maps: Float[Tensor, "n k y x"],
    iterations: int = 10,
    dilations: Sequence[int] = DILATIONS,
) -> Float[Tensor, "n k y x"]:
    """Refine maps with the edges of the image, by pixel-adaptive averaging over neighbours (PAMR).

    ``m_i <- sum_j a_ij m_j``, ``a_i = softmax_j( -mean_c |I_i - I_j| / (0.1 s_i + 1e-8) )``, over the 8 neighbours at every
    dilation; s_i is the standard deviation, per channel, of the neighbours and, once for every dilation, the pixel itself.
    Neighbours beyond the border repeat its pixels.

    Args:
        images: float [N, C, H, W], in any unit: only ratios of differences count.
        maps: float [N, k, H, W].
        iterations: number of averaging rounds.
        dilations: distances of the neighbours, in pixels, at least 1.

    Returns:
        [N, k, H, W], within the range of ``maps``.

    Raises:
        InputError: images and maps of different number or size, or not of finite numbers; dilations below 1.

    Source: Araslanov & Roth, CVPR 2020, equations 4-6; visinf/1-stage-wseg for the order of mean and division.

    Example:
        >>> image = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 3, 4)  # an edge in the middle
        >>> maps = torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(1, 1, 3, 4)
        >>> [round(value, 2) for value in pamr(image, maps, dilations=[1])[0, 0, 1].tolist()]
        [0.38, 0.38, 0.0, 0.0]
    """
    expect_tensor(images, "images", "float", "n c y x", finite=True)
    expect_tensor(maps, "maps", "float", "n k y x", finite=True, beside=images)
    iterations = expect_whole(iterations, "iterations", 0)
    dilations = [expect_whole(d, "a dilation", 1, MAX_RADIUS) for d in expect_list(dilations, "dilations")]
    if not dilations or 0 in images.shape[1:]:
        raise InputError(
            f"{len(dilations)} dilations, images {tuple(images.shape)}: expected at least one dilation, channel and pixel"
        )
    if images.shape[0] != maps.shape[0] or images.shape[2:] != maps.shape[2:]:
        raise InputError(f"images {tuple(images.shape)} and maps {tuple(maps.shape)} must be of one number and size")
    around = _neighbours(images, dilations)  # [N, C, P, H, W]
    centre = images[:, :, None]
    spread = torch.cat([around, *[centre] * len(dilations)], 2).std(2, keepdim=True)
    affinity = (-(around - centre).abs() / (0.1 * spread + 1e-8)).mean(1).softmax(1)  # [N, P, H, W]
    for _ in range(iterations):
        maps = torch.stack([(affinity * _neighbours(m[:, None], dilations)[:, 0]).sum(1) for m in maps.unbind(1)], 1)
    return maps


def _neighbours(x: Float[Tensor, "n c y x"], dilations: Sequence[int]) -> Float[Tensor, "n c p y x"]:
    """The 8 neighbours of every pixel at every dilation, borders repeated."""
    height, width = x.shape[2:]
    reach = max(dilations)
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    shifted = [
        padded[:, :, reach + dy * d : reach + dy * d + height, reach + dx * d : reach + dx * d + width]
        for d in dilations
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]
    return torch.stack(shifted, 2)
