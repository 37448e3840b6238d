"""The climb of an image that is larger than a window: in windows that overlap, joined step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.attribution import Step, counted
from advcam.attribution.windows import place, spans
from advcam.errors import InputError
from advcam.models import Network

from .job import Job, undisturbed, warn_not_finite


class LargeImage(Protocol):
    """An image of which one window at a time is needed."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest of its values."""

    def window(self, size: tuple[int, int], rows: slice, columns: slice) -> Float[Tensor, "b y x"]:
        """Some rows and columns of the image, resized to ``size``, as the model expects it, on its device."""


@dataclass(frozen=True)
class Pixels:
    """A large image whose pixels are at hand.

    Args:
        pixels: [B, H, W].
    """

    pixels: Float[Tensor, "b y x"]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest of its values."""
        return float(self.pixels.min()), float(self.pixels.max())

    def window(self, size: tuple[int, int], rows: slice, columns: slice) -> Float[Tensor, "b y x"]:
        """Some rows and columns of the image, resized to ``size``."""
        whole = self.pixels
        if size != self.size:
            whole = F.interpolate(whole[None], size=size, mode="bilinear", align_corners=False)[0]
        found: Tensor = whole[:, rows, columns]
        return found


def climb_windows(job: Job, image: LargeImage, window: int, scale: float) -> tuple[Tensor, Tensor]:
    """Climb each class of one image at one scale, window by window: the sum of its maps, and the first map.

    Each window climbs from its own pixels along its own gradient. The maps and pressures of a step are then joined to those of
    the whole image, and only then capped, weighted and summed, so that what counts is the classifier's evidence in the whole
    image and not in a window: where a window holds nothing of the class, its maps stay low.

    Args:
        job: whose pairs are the classes of this image; its own images are not used.
        image: the image.
        window: side of a window, pixels.
        scale: of the image.

    Raises:
        InputError: a window that the network's cells do not divide, or that is too small.
    """
    height, width = (max(1, round(side * scale)) for side in image.size)

    def part(rows: slice, columns: slice) -> Tensor:
        pixels: Tensor = image.window((height, width), rows, columns)
        return pixels[None]

    first = part(slice(0, min(height, window)), slice(0, min(width, window)))
    cell = _cell(job.network, first, window)
    steps, pairs = int(job.settings.steps_at(scale)), len(job.target)
    s = replace(job.settings, bounds=job.settings.bounds or image.bounds, steps=steps)
    maps = first.new_zeros(pairs, steps, -(-height // cell), -(-width // cell))
    pressures, strange = torch.zeros_like(maps), torch.zeros(pairs, dtype=torch.bool, device=maps.device)
    for rows in spans(height, window, cell):
        for columns in spans(width, window, cell):
            found, pushed, failed = replace(job, settings=s, images=part(rows.seen, columns.seen)).every_step()
            place(maps, found, rows, columns, cell)
            place(pressures, pushed, rows, columns, cell)
            strange |= failed
    warn_not_finite(strange)
    scores, pixels = first.new_zeros(pairs, 0), first.new_zeros(pairs, 0, 0, 0, 0)  # of the whole image: nowhere needed
    joined = [Step(maps[:, t], scores, pixels, None, pressures[:, t]) for t in range(steps)]
    total: Tensor = sum((step.maps for step in counted(iter(joined), s)), torch.zeros_like(maps[:, 0]))
    return total, maps[:, 0]


def _cell(network: Network, first: Float[Tensor, "1 b y x"], window: int) -> int:
    """The side in pixels of a cell of the network's map, which must be a whole number for windows to share a grid."""
    with undisturbed(), torch.no_grad():
        features, _ = network(first)
    pixels, count = max(zip(first.shape[2:], features.shape[2:], strict=True))
    if pixels % count:
        raise InputError(
            f"the network's map of a window of {window} pixels has {count} cells a side, and windows can be joined only where a"
            " cell is a whole number of pixels; give another window, such as a multiple of 32"
        )
    return int(pixels // count)
