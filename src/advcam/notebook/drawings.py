"""How maps and sweeps are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advcam.drawn import drawing
from advcam.errors import InputError
from advcam.expect import describe, expect_whole
from advcam.extractor import Maps
from advcam.metrics import SweepResult

from .figures import Curves, Pictures

MOST = 12
"""Pairs that are drawn; the note says how many there are."""
LARGEST = 2048


@drawing.register
def draw_maps(maps: Maps, images: Any = None, names: Any = None, side: int = 160) -> Pictures:
    """Draws maps, a row for each (image, class): the image, the plain map, the AdvCAM; see :meth:`advcam.Maps.plot`."""
    side = expect_whole(side, "side", 8, LARGEST)
    count = int(maps.image.max()) + 1 if len(maps.image) else 0
    given = None if images is None else _images(images, count)
    shown = range(min(MOST, len(maps.maps)))
    plain, climbed = (kind.normalised()[: len(shown)].detach().float().cpu().numpy() for kind in (maps.plain, maps))
    height, width = (max(1, round(side * length / max(maps.size))) for length in maps.size)
    black, rows = Image.new("RGB", (width, height)), []
    for at in shown:
        row, name = int(maps.image[at]), _name(int(maps.target[at]), names)
        image = black if given is None else _picture(given[row], row, maps.size).resize(black.size)
        before = [] if given is None else [(f"image {row}", image)]
        rows.append([*before, _heat(f"plain map, {name}", plain[at], image), _heat(f"AdvCAM, {name}", climbed[at], image)])
    note = "" if len(maps.maps) else "no maps: no class was named for these images"
    if len(maps.maps) > MOST:
        note = f"{MOST} of {len(maps.maps)} pairs of image and class; of_image(row) gives the maps of one image"
    return Pictures(rows, note)


@drawing.register
def draw_sweep(result: SweepResult) -> Curves:
    """Draws mIoU and noise against the background threshold."""
    from advcam.report.charts import lines

    best = result.best
    series = {
        name: list(zip(result.thresholds, values.tolist(), strict=True))
        for name, values in (("mIoU", result.mean_iou), ("noise", result.noise))
    }
    known = bool(result.mean_iou.isfinite().any())
    mean, noise = (f"{100 * float(values[best]):.1f} %" for values in (result.mean_iou, result.noise))
    note = "No class occurs, in truth or maps, so there is no mIoU."
    if known:
        note = f"Best threshold {result.thresholds[best]:g}, chosen with ground truth: mIoU {mean}, noise {noise}."
    marks = {"best": result.thresholds[best]} if known else None
    title, axis = "mIoU and noise against background threshold", "background threshold"
    return Curves(lines(title, note, axis, "mIoU and noise in %", series, marks, percent=True))


def _heat(caption: str, values: NDArray[np.float32], image: Image.Image) -> tuple[str, Image.Image]:
    from advcam.report import heat

    broken = "" if np.isfinite(values).all() else " (holds NaN or infinity)"
    return caption + broken, heat(np.nan_to_num(values, posinf=1.0), image)


def _name(number: int, names: Any) -> str:
    """The name of a class, from a list or a mapping."""
    if names is None:
        return f"class {number}"
    if isinstance(names, str) or not isinstance(names, (Mapping, Sequence)):
        raise InputError(f"names {describe(names)}: expected the name of each class, as a list or as a dict from class id")
    try:
        return str(names[number])
    except Exception:  # foreign names may raise anything
        raise InputError(f"names has no class {number}: expected the name of each class that there are maps of") from None


def _images(images: Any, count: int) -> list[Any]:
    """The images as a list: of a batch, of one image, or of a list.

    Raises:
        InputError: fewer than the maps are of.
    """
    dimensions = getattr(images, "ndim", None)
    one = isinstance(images, Image.Image) or (isinstance(images, (Tensor, np.ndarray)) and dimensions in (2, 3))
    if (not one and not isinstance(images, (Sequence, Tensor, np.ndarray))) or isinstance(images, (str, bytes)):
        raise InputError(
            f"images {describe(images)}: expected a batch [N, C, H, W], an image, or a list of tensors, arrays or PIL images"
        )
    try:
        held = 1 if one else len(images)
        found = [images] if one else [images[row] for row in range(min(count, held))]
    except Exception:  # foreign sequences may raise anything
        raise InputError(f"images {describe(images)}: expected the images one by one") from None
    if held < count:
        raise InputError(f"maps are of {count} images, got {held}: give the images that the maps were made of, in order")
    return found


def _picture(image: Any, row: int, size: tuple[int, int]) -> Image.Image:
    """An image as 8-bit RGB.

    Raises:
        InputError: it is no image, or of another shape than the maps' images.
    """
    picture = image.convert("RGB") if isinstance(image, Image.Image) else Image.fromarray(_pixels(image, row))
    height, width = size
    if abs(picture.width * height - picture.height * width) > max(picture.size + size):  # by more than a pixel
        raise InputError(
            f"image {row} is {picture.width}x{picture.height}, the maps are of images of {width}x{height}: give the images as"
            " the network was given them, so that the maps lie where they belong"
        )
    return picture


def _pixels(image: Any, row: int) -> NDArray[np.uint8]:
    form = "a tensor or array of numbers [C, H, W], 8-bit pixels [H, W] or [H, W, C], or a PIL image"
    try:
        if isinstance(image, Tensor):
            image = image.detach().cpu()
            held = (image.float() if image.is_floating_point() else image).numpy()
        else:
            held = np.asarray(image)
        if held.ndim not in (2, 3) or held.dtype.kind not in "buif" or not held.size:
            raise TypeError
    except Exception:  # foreign objects, and tensors that hold no values, may raise anything
        raise InputError(f"image {row} {describe(image)}: expected {form}") from None
    if held.ndim == 2:
        held = held[None]
    elif held.shape[2] in (1, 3, 4) and held.shape[0] not in (1, 3):
        held = held.transpose(2, 0, 1)
    held = held[:3] if len(held) >= 3 else held[[0, 0, 0]]
    return np.ascontiguousarray(_as_bytes(held, row).transpose(1, 2, 0))


def _as_bytes(held: NDArray[Any], row: int) -> NDArray[np.uint8]:
    """Whole numbers up to 255 and other numbers from 0 to 1 as they are; the rest stretched from smallest to largest."""
    if not np.isfinite(held).all():
        raise InputError(f"image {row} holds NaN or infinity: expected finite pixels")
    low, high = float(held.min()), float(held.max())
    if held.dtype.kind in "ui" and low >= 0 and high <= 255:
        return held.astype(np.uint8)
    values = held.astype(np.float64)
    if low < 0 or high > 1:
        values = (values - low) / ((high - low) or 1)
    return np.rint(255 * values).astype(np.uint8)
