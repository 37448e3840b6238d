"""How a layer's activation maps to a grid over the image: channels first, channels last, or tokens."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MOST_PREFIX_TOKENS = 16  # class, distillation and register tokens before those of the grid


@dataclass(frozen=True)
class Layout:
    """One of the three layouts, with conversion to a feature map and back.

    Args:
        kind: ``channels first`` [N, D, h, w], ``channels last`` [N, h, w, D] or ``tokens`` [N, prefix + h w, D].
        prefix: leading tokens without a place on the grid (class, distillation, register tokens).
    """

    kind: str
    prefix: int = 0

    def to_grid(self, value: Tensor, size: tuple[int, int]) -> Float[Tensor, "n d h w"]:
        """The activation as a feature map of images of ``size``; prefix tokens are left out."""
        if self.kind == "channels first":
            return value
        if self.kind == "channels last":
            return value.permute(0, 3, 1, 2)
        cells = _cells(value.shape[1] - self.prefix, size)
        return value[:, self.prefix :].transpose(1, 2).reshape(len(value), -1, *cells)

    def back(self, grid: Float[Tensor, "n d h w"], value: Tensor) -> Tensor:
        """The feature map as an activation of the shape and type of ``value``, in a new tensor."""
        new: Tensor = grid.to(value.dtype)
        if self.kind == "channels first":
            return new.clone()
        if self.kind == "channels last":
            return new.permute(0, 2, 3, 1).clone()
        return torch.cat([value[:, : self.prefix], new.flatten(2).transpose(1, 2)], 1)


def layout(shape: torch.Size, size: tuple[int, int], seen: Collection[int] = ()) -> Layout | None:
    """The layout of an activation of this shape on an image of ``size`` (H, W); None if none fits or it has one cell.

    A grid of h x w cells fits if one stride s explains both sides: ``|H/s - h| < 1`` and ``|W/s - w| < 1``. Of
    tokens, as few as possible are prefix tokens, and the grid's sides are exactly ``floor`` or exactly ``ceil`` of H/s and W/s.

    Args:
        shape: of the activation, of one image.
        size: (H, W) of the image.
        seen: numbers of cells of earlier feature maps, such as a patch embedding's; a prefix leaving one of these is preferred.
    """
    if len(shape) == 4:
        if _fits((shape[2], shape[3]), size):
            return Layout("channels first")
        return Layout("channels last") if _fits((shape[1], shape[2]), size) else None
    if len(shape) == 3 and shape[2] > 1:
        prefixes = range(min(MOST_PREFIX_TOKENS, shape[1] - 2) + 1)
        for prefix in sorted(prefixes, key=lambda p: shape[1] - p not in seen):
            if _divides(_cells(shape[1] - prefix, size), size):
                return Layout("tokens", prefix)
    return None


def _fits(cells: tuple[int, int], size: tuple[int, int]) -> bool:
    low = max(side / (n + 1) for side, n in zip(size, cells, strict=True))
    high = min(side / (n - 1) if n > 1 else math.inf for side, n in zip(size, cells, strict=True))
    return cells[0] * cells[1] > 1 and low < high and high > 1


def _divides(cells: tuple[int, int], size: tuple[int, int]) -> bool:
    sides = list(zip(size, cells, strict=True))
    floor = max(side / (n + 1) for side, n in sides) < min(side / n for side, n in sides)
    ceil = max(side / n for side, n in sides) < min(side / (n - 1) if n > 1 else math.inf for side, n in sides)
    return _fits(cells, size) and (floor or ceil)


def _cells(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """``count`` cells as h x w, of the shape closest to the image's."""
    shapes = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    return min(shapes, key=lambda s: abs(math.log(s[0] * size[1] / (s[1] * size[0]))))
