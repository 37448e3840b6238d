"""Masks: 8-bit palette PNGs that any viewer shows in colour and any trainer reads as class ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcam.errors import StoreError

from .atomic import whole


def voc_palette() -> list[int]:
    """PASCAL VOC's 256 colours, [R, G, B, R, G, B, ...]: the bits of the id, spread over the channels from the top."""
    colours = []
    for number in range(256):
        red = green = blue = 0
        for bit in range(8):
            red |= (number >> (3 * bit) & 1) << (7 - bit)
            green |= (number >> (3 * bit + 1) & 1) << (7 - bit)
            blue |= (number >> (3 * bit + 2) & 1) << (7 - bit)
        colours += [red, green, blue]
    return colours


def save_mask(path: Path, ids: NDArray[np.uint8]) -> None:
    """Writes class ids [H, W] as an 8-bit palette PNG, 0 background, 255 ignore; whole or not at all."""
    image = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8), mode="P")
    image.putpalette(voc_palette())
    with whole(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)


def load_mask(path: Path) -> NDArray[np.uint8]:
    """Reads class ids [H, W] from a palette or greyscale PNG.

    Raises:
        StoreError: missing, damaged, or an RGB picture.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("P", "L", "1"):
                raise StoreError(f"{path}: a mask is a palette or greyscale PNG of class ids, this is {image.mode}")
            return np.asarray(image if image.mode != "1" else image.convert("L").point(bool), dtype=np.uint8)
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such mask") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as a mask ({error})") from None


def only_value(paths: Iterable[Path]) -> int | None:
    """The one value that all masks hold; None where they hold several (or there is no mask). Reads no further than it must."""
    seen: set[int] = set()
    for path in paths:
        seen.update(np.unique(load_mask(path)).tolist())
        if len(seen) > 1:
            return None
    return seen.pop() if seen else None
