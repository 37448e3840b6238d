"""How sure a mask is: of each pixel, and of each class of the image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from advcam.expect import expect_number, expect_tensor

TEMPERATURE = 0.09
"""Fitted on refined maps (``affinity``) of 437 photographs, see ``SOURCES.md``; maps have maximum 1."""


def confidence(
    maps: Float[Tensor, "k h w"], threshold: float, temperature: float = TEMPERATURE
) -> tuple[Float[Tensor, "h w"], Float[Tensor, " k"]]:
    """Compute the probability that each pixel's label is right, and a score of each map's mask.

    With ``p = softmax([t | maps] / T)`` over the labels and ``y = argmax [t | maps]`` the mask, the confidence of a pixel is
    ``max p``. With ``r_l = sum over y = l of p_l``, what can be expected to be right of label l, its score is
    ``r_l / |y = l|``, the precision to expect, times ``r_l / (|y = l| + sum over y != l of p_l)``, the IoU to expect.

    Args:
        maps: float [k, h, w] in [0, 1], at least one.
        threshold: t, the background threshold, in the unit of the maps; negative where one of the maps is the background's.
        temperature: T, above 0, in the unit of the maps; higher is less sure.

    Returns:
        Confidence [h, w] in (0, 1], and scores [k] in [0, 1], 0 of a label without a pixel.

    Raises:
        InputError: maps without a cell, or a temperature that is not positive.

    Source: ours; softmax with one temperature as in Guo et al., ICML 2017 (arXiv 1706.04599).

    Example:
        >>> sure, score = confidence(torch.tensor([[[0.9, 0.1, 0.3]]]), threshold=0.3)
        >>> [round(float(c), 2) for c in sure[0]], round(float(score[0]), 2)
        ([1.0, 0.9, 0.5], 0.62)
    """
    expect_tensor(maps, "maps", "float", "k h w")
    threshold = expect_number(threshold, "threshold", -1e4, 1e4)
    temperature = expect_number(temperature, "temperature", 1e-4, 1e4)
    labels = maps if threshold < 0 else torch.cat([maps.new_full((1, *maps.shape[1:]), threshold), maps])
    p = (labels / temperature).softmax(0)
    sure, chosen = p.max(0)
    shift = len(labels) - len(maps)
    mine = torch.stack([chosen == at for at in range(shift, len(labels))]).to(p.dtype)
    p = p[shift:]
    right, size, missed = (x.sum((1, 2)) for x in (p * mine, mine, p * (1 - mine)))
    return sure, right**2 / (size * (size + missed)).clamp_min(1e-12)
