"""CutMix: a box of one image pasted into another, with its labels and confidences."""

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
    """Draw for each of n images a box to be replaced by CutMix, or with probability ``1 - probability`` none.

    The box is ``H sqrt(area aspect)`` x ``W sqrt(area / aspect)`` pixels. Area, aspect and corner are drawn evenly; aspect and
    corner are drawn again until the box lies inside. Random numbers come from torch's global generator.

    Args:
        n: number of images.
        size: (H, W) in pixels.
        probability: of a box, 0 to 1.
        area: smallest and largest area of a box, as shares of the image's.
        aspect: smallest and largest ratio of height to width, where the image's own is 1.
        device: of the result; what is drawn does not depend on it.

    Returns:
        bool [n, H, W], True inside the box.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``dataset/transform.py`` (square images).

    Example:
        >>> boxes = cutmix_boxes(2, (20, 20), probability=1.0, area=(0.25, 0.25), aspect=(1, 1))
        >>> boxes.shape, boxes.sum((1, 2)).tolist()
        (torch.Size([2, 20, 20]), [100, 100])
    """
    boxes = torch.zeros(n, *size, dtype=torch.bool)
    for box in boxes:
        if float(torch.rand(())) < probability:
            top, left, height, width = _box(size, area, aspect)
            box[top : top + height, left : left + width] = True
    return boxes.to(device)


def cutmix(x: Shaped[Tensor, "n ..."], boxes: Bool[Tensor, "n h w"], partner: Integer[Tensor, " n"]) -> Shaped[Tensor, "n ..."]:
    """Paste a box of another image into each image: ``box * x[partner] + (1 - box) * x``.

    Applied to images, pseudo labels and confidences with the same boxes.

    Args:
        x: [n, H, W] or [n, c, H, W], any values.
        boxes: bool [n, H, W], of :func:`cutmix_boxes`.
        partner: int [n], 0 to n - 1: the image whose box is pasted into each, such as ``torch.randperm(n)``.

    Returns:
        The shape and type of ``x``.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); that the partner comes from the same batch is ours.

    Example:
        >>> x, boxes = torch.tensor([[[1, 2]], [[3, 4]]]), torch.tensor([[[True, False]], [[False, False]]])
        >>> cutmix(x, boxes, partner=torch.tensor([1, 0])).tolist()
        [[[3, 2]], [[3, 4]]]
    """
    return torch.where(boxes if x.ndim == 3 else boxes[:, None], x[partner], x)


def _box(size: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float]) -> tuple[int, int, int, int]:
    """A random box: top, left, height, width, in pixels."""
    share = _uniform(*area)
    while True:
        ratio = _uniform(*aspect)
        height, width = int(size[0] * math.sqrt(share * ratio)), int(size[1] * math.sqrt(share / ratio))
        top, left = (int(_uniform(0, side)) for side in size)
        if top + height <= size[0] and left + width <= size[1]:
            return top, left, height, width


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
