"""A box of one image pasted into another, and all that belongs to the pixels with it (CutMix)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Integer, Shaped
from torch import Tensor


def cutmix_boxes(
    n: int,
    size: tuple[int, int],
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    device: torch.device | None = None,
) -> Bool[Tensor, "n h w"]:
    """For each of n images a box, or with ``1 - probability`` none.

    Area, aspect and corner are drawn evenly, aspect and corner again until the box lies inside. Of an image H x W the box is
    ``H sqrt(area aspect)`` x ``W sqrt(area / aspect)``.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``dataset/transform.py`` (square images).

    Args:
        n: number of images.
        size: (H, W).
        probability: of a box.
        area: smallest and largest share of the image.
        aspect: smallest and largest height through width, in shares of the image's.
        device: of the result; what is drawn does not depend on it.

    Returns:
        True inside the box.
    """
    boxes = torch.zeros(n, *size, dtype=torch.bool)
    for box in boxes:
        if float(torch.rand(())) < probability:
            top, left, height, width = _box(size, area, aspect)
            box[top : top + height, left : left + width] = True
    return boxes.to(device)


def cutmix(x: Shaped[Tensor, "n ..."], boxes: Bool[Tensor, "n h w"], partner: Integer[Tensor, " n"]) -> Shaped[Tensor, "n ..."]:
    """``box * x[partner] + (1 - box) * x``: the same for images, pseudo labels and confidences.

    Args:
        x: [n, h, w] or [n, c, h, w].
        boxes: of :func:`cutmix_boxes`.
        partner: of each image, the one whose box is pasted; ``torch.randperm(n)``.
    """
    return torch.where(boxes if x.ndim == 3 else boxes[:, None], x[partner], x)


def _box(size: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float]) -> tuple[int, int, int, int]:
    """Top, left, height, width."""
    share = _uniform(*area)
    while True:
        ratio = _uniform(*aspect)
        height, width = int(size[0] * math.sqrt(share * ratio)), int(size[1] * math.sqrt(share / ratio))
        top, left = (int(_uniform(0, side)) for side in size)
        if top + height <= size[0] and left + width <= size[1]:
            return top, left, height, width


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
