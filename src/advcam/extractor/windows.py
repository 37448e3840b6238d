"""The climb of an image that is larger than a window: in windows that overlap, joined step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from advcam.attribution import Step, counted
from advcam.attribution.windows import place, spans
from advcam.errors import InputError
from advcam.models import Network, as_network_errors, find

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

    The image is continued by its last pixels to whole cells.

    Each window climbs from its own pixels, within the range of the whole image's, or from its own features, along its own
    gradient. The maps and pressures of a step are then joined to those of the whole image, and only then capped, weighted and
    summed, so that what counts is the classifier's evidence in the whole image and not in a window: where a window holds
    nothing of the class, its maps stay low.

    Args:
        job: whose pairs are the classes of this image; its own images are not used.
        image: the image.
        window: side of a window, pixels.
        scale: of the image.

    Raises:
        InputError: a window that the network's cells do not divide, or that is too small.
    """
    height, width = (max(1, round(side * scale)) for side in image.size)
    bounds = None if job.inner else job.settings.bounds or image.bounds
    job = replace(job, settings=replace(job.settings, bounds=bounds, steps=job.steps_at(scale)))

    def climbed(rows: slice, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
        inside = slice(rows.start, min(rows.stop, height)), slice(columns.start, min(columns.stop, width))
        pixels = image.window((height, width), *inside)[None]
        beyond = (0, columns.stop - inside[1].stop, 0, rows.stop - inside[0].stop)
        pixels = F.pad(pixels, beyond, mode="replicate") if any(beyond) else pixels
        return replace(job, images=pixels).every_step()

    if max(height, width) <= window:
        maps, pressures, strange = climbed(slice(0, height), slice(0, width))
    else:
        cell = cell_of(job.network, job.images.new_zeros(1, job.images.shape[1], window, window))
        grid = -(-height // cell), -(-width // cell)
        maps = job.images.new_zeros(len(job.target), job.settings.steps, *grid)
        pressures, strange = torch.zeros_like(maps), torch.zeros_like(job.target, dtype=torch.bool)
        for rows in spans(grid[0] * cell, window, cell):
            for columns in spans(grid[1] * cell, window, cell):
                found, pushed, failed = climbed(rows.seen, columns.seen)
                place(maps, found, rows, columns, cell)
                place(pressures, pushed, rows, columns, cell)
                strange |= failed
    warn_not_finite(strange)
    pairs, steps = maps.shape[:2]
    scores, pixels = maps.new_zeros(pairs, 0), maps.new_zeros(pairs, 0, 0, 0, 0)  # of the whole image: nowhere needed
    joined = [Step(maps[:, t], scores, pixels, None, pressures[:, t]) for t in range(steps)]
    total: Tensor = sum((step.maps for step in counted(iter(joined), job.settings)), torch.zeros_like(maps[:, 0]))
    return total, maps[:, 0]


def check_window(model: nn.Module, images: Float[Tensor, "1 b y x"]) -> None:
    """Checks that a model can be climbed in windows of this size.

    Raises:
        InputError: its cells do not divide the window, or are too large for it.
        NetworkError: it has no class activation map, or does not take images of this size.
    """
    cell_of(find(model, images), images)


def cell_of(network: Network, images: Float[Tensor, "1 b y x"]) -> int:
    """The side in pixels of a cell of the network's map of a window.

    Raises:
        InputError: it is not a whole number, or so large that windows cannot share a grid.
        NetworkError: the network does not take images of this size.
    """
    with undisturbed(), torch.no_grad(), as_network_errors(network.model, "fails on a window"):
        features, _ = network(images)
    window, count = images.shape[2], features.shape[2]
    if window % count:
        raise InputError(
            f"the network's map of a window of {window} pixels has {count} cells a side, and windows can be joined only where a"
            " cell is a whole number of pixels; give another window, such as a multiple of 32"
        )
    cell = int(window // count)
    spans(window + 1, window, cell)  # raises where a window has too few cells
    return cell
