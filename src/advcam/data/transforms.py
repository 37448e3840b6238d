"""Images as tensors, and random training views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from advcam.errors import SettingsError
from advcam.limits import IGNORE, MIN_SIDE
from advcam.options import check

from .channels import Channels
from .images import at_least, fit_within, open_image
from .items import Item

LEAST_SIDE = 64
"""Pixels: smaller images are enlarged for a classifier, whose feature map of them would have a single cell."""


@dataclass(frozen=True)
class Normalisation:
    """``(image / 255 - mean) / std``, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image.Image) -> Float[Tensor, "c y x"]:
        """The normalised image."""
        pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (pixels - mean) / std


@dataclass(frozen=True)
class NetworkInput:
    """A classifier's input outside of training: the image at its own size, within limits, and normalised.

    Args:
        mean: of the input's channels.
        std: of the input's channels.
        long_side: larger images are scaled down to it.
        size: (H, W) of a network that takes one size only; takes the place of both limits.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    long_side: int
    size: tuple[int, int] | None = None

    def __call__(self, image: Image.Image) -> Float[Tensor, "c y x"]:
        """The image's tensor."""
        image = image.resize(self.size[::-1]) if self.size else at_least(fit_within(image, self.long_side), LEAST_SIDE)
        return self.normalise(image)

    @property
    def normalise(self) -> Normalisation:
        """The normalisation alone."""
        return Normalisation(self.mean, self.std)


@dataclass(frozen=True)
class Windows:
    """An image of which one window at a time becomes a tensor.

    Args:
        image: at its own size.
        normalise: of the network's input.
        device: of the tensors.
    """

    image: Image.Image
    normalise: Normalisation
    device: torch.device

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.height, self.image.width

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest of its normalised values."""
        layers = self.image.layers if isinstance(self.image, Channels) else self.image.split()
        ends = torch.tensor([layer.getextrema() for layer in layers], dtype=torch.float32) / 255
        mean, std = (torch.tensor(values)[:, None] for values in (self.normalise.mean, self.normalise.std))
        ends = (ends - mean) / std
        return float(ends.min()), float(ends.max())

    def window(self, size: tuple[int, int], rows: slice, columns: slice) -> Float[Tensor, "c y x"]:
        """Some rows and columns of the image, resized to ``size`` (bilinear), normalised."""
        y, x = (own / other for own, other in zip(self.size, size, strict=True))
        box = (columns.start * x, rows.start * y, columns.stop * x, rows.stop * y)
        shown = (columns.stop - columns.start, rows.stop - rows.start)
        return self.normalise(self.image.resize(shown, Image.Resampling.BILINEAR, box=box)).to(self.device)


@dataclass(frozen=True)
class Augmentation:
    """Mirror, scale and crop.

    Args:
        crop: side of the square crop, pixels; a smaller image is padded with the mean (mask: ignore).
        scales: smallest and largest factor.
        long_side: larger images are first scaled down to it.
        long_sides: shortest and longest longer side of a view before the crop, pixels; takes the place of ``scales``.
    """

    crop: int
    scales: tuple[float, float]
    long_side: int
    long_sides: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.crop < MIN_SIDE or self.long_side < MIN_SIDE:
            raise SettingsError(f"crop and long side must be at least {MIN_SIDE} pixels; got {self.crop} and {self.long_side}")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise SettingsError(f"a range of scales is two ascending factors, e.g. (0.75, 1.5); got {self.scales}")
        if self.long_sides and not MIN_SIDE <= self.long_sides[0] <= self.long_sides[1]:
            raise SettingsError(f"a range of long sides is two ascending lengths, e.g. (320, 640); got {self.long_sides}")

    def __call__(
        self, image: Image.Image, mask: Image.Image | None, normalise: Normalisation, rng: Generator
    ) -> tuple[Float[Tensor, "n c c"], Tensor | None]:
        """A random view of the image, and of its mask."""
        image = fit_within(image, self.long_side)
        factor = self._factor(max(image.size), rng)
        width, height = (max(1, round(side * factor)) for side in image.size)
        left, top = (int(rng.integers(0, max(1, side - self.crop + 1))) for side in (width, height))
        inner = (min(width, self.crop), min(height, self.crop))
        share = (image.width / width, image.height / height)
        box = (left * share[0], top * share[1], (left + inner[0]) * share[0], (top + inner[1]) * share[1])
        at = tuple(int(rng.integers(0, self.crop - side + 1)) for side in inner)
        mirror = bool(rng.integers(2))

        view = torch.zeros(len(normalise.mean), self.crop, self.crop)
        window = (slice(at[1], at[1] + inner[1]), slice(at[0], at[0] + inner[0]))
        view[(slice(None), *window)] = normalise(image.resize(inner, Image.Resampling.BILINEAR, box=box))
        labels = None
        if mask is not None:
            mask = mask.resize(image.size, Image.Resampling.NEAREST)
            labels = torch.full((self.crop, self.crop), IGNORE, dtype=torch.long)
            cut = mask.resize(inner, Image.Resampling.NEAREST, box=box)
            labels[window] = torch.from_numpy(np.array(cut, dtype=np.int64))
            labels = labels.flip(-1) if mirror else labels
        return (view.flip(-1) if mirror else view), labels

    def _factor(self, long_side: int, rng: Generator) -> float:
        if self.long_sides is None:
            return float(rng.uniform(*self.scales))
        return float(rng.integers(self.long_sides[0], self.long_sides[1] + 1)) / long_side


class Views(Protocol):
    """Random training views that depend on (seed, epoch, position) only."""

    seed: int
    epoch: int

    @property
    def aside(self) -> bool:
        """Whether another thread may take them: they draw nothing from torch's own generator, from which a network draws."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int) -> tuple[Any, Any]:
        """Inputs and targets."""


def _stored(path: Path) -> np.ndarray[Any, Any]:
    with open_image(path) as stored:
        return np.asarray(stored).astype(np.uint8)  # 1-bit masks too


class TrainingViews(Dataset[Any]):
    """Random views of images with their targets, which depend on (seed, epoch, position) only.

    Args:
        items: the images.
        augment: how a view is taken.
        normalise: of the network.
        seed: of the views; set ``epoch`` before every pass.
        masks: a PNG of ids for each image, None for an image of background only; without masks, the target is the image's
            labels, [classes]: 1 shown, 0 not shown, -1 not known.
        remap: [256] the class position of each id.
        classes: number of classes.
        load: reads a mask; None: an image of ids.
    """

    def __init__(
        self, items: Sequence[Item], augment: Augmentation, normalise: Normalisation, seed: int, classes: int,
        masks: Sequence[Path | None] | None = None, remap: np.ndarray[Any, Any] | None = None,
        load: Callable[[Path], np.ndarray[Any, Any]] | None = None,
    ) -> None:  # fmt: skip
        self.items, self.augment, self.normalise, self.seed = items, augment, normalise, seed
        self.masks, self.remap, self.load, self.classes, self.epoch = masks, remap, load or _stored, classes, 0

    @property
    def aside(self) -> bool:
        """They have a generator of their own."""
        return True

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, at])
        item = self.items[at]
        mask, path = None, self.masks[at] if self.masks is not None else None
        if path is not None:
            ids = self.load(path)
            mask = Image.fromarray(self.remap[ids] if self.remap is not None else ids)
        elif self.masks is not None:
            mask = Image.new("L", (item.size[1], item.size[0]))
        view, labels = self.augment(item.read(), mask, self.normalise, rng)
        if labels is None:
            labels = torch.zeros(self.classes)
            labels[list(item.labels)], labels[list(item.unknown)] = 1, -1
        return view, labels
