"""The simplest mask: the strongest class where its map exceeds a constant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advcam.errors import InputError


def label(maps: Float[Tensor, "k y x"], classes: Sequence[int], threshold: float) -> Int[Tensor, "y x"]:
    """``argmax [t | maps]``: the id of the strongest class where its map exceeds t, 0 (background) elsewhere.

    Args:
        maps: [k, H, W] in [0, 1]; k = 0 gives background alone.
        classes: the k class ids.
        threshold: t.

    Raises:
        InputError: another number of classes than of maps.
    """
    if len(classes) != len(maps):
        raise InputError(f"{len(maps)} maps need as many class ids, got {len(classes)}")
    if not len(maps):
        return torch.zeros(maps.shape[1:], dtype=torch.long, device=maps.device)
    value, row = maps.max(0)
    return torch.where(value > threshold, torch.tensor(list(classes), device=maps.device)[row], 0)
