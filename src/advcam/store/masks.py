"""Masks: 8-bit palette PNGs of class ids, which viewers show in colour."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from advcam.errors import StoreError
from advcam.limits import MAX_IMAGE_BYTES, MAX_PIXELS

from .atomic import atomic_write

MADE_OF = "advcam-image"
"""The PNG text chunk with the hash of the mask's image."""
LACKS = "advcam-lacks"
"""The PNG text chunk that says why classes of the image's labels have no pixel."""


def voc_palette() -> list[int]:
    """PASCAL VOC's 256 colours, [R, G, B, R, G, B, ...]: the bits of the id, distributed over the channels, high bits first."""
    colours = []
    for number in range(256):
        red = green = blue = 0
        for bit in range(8):
            red |= (number >> (3 * bit) & 1) << (7 - bit)
            green |= (number >> (3 * bit + 1) & 1) << (7 - bit)
            blue |= (number >> (3 * bit + 2) & 1) << (7 - bit)
        colours += [red, green, blue]
    return colours


def save_mask(path: Path, ids: NDArray[np.uint8], made_of: str | None = None, lacks: str = "") -> None:
    """Writes class ids [H, W] as an 8-bit palette PNG, atomically; 0 is background, 255 ignored.

    Args:
        path: of the file.
        ids: the mask.
        made_of: hash of the image, stored in the file for :func:`made_of`.
        lacks: why labelled classes have no pixel, stored in the file for :func:`lacks`.
    """
    image = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8), mode="P")
    image.putpalette(voc_palette())
    notes = PngInfo()
    if made_of:
        notes.add_text(MADE_OF, made_of)
    if lacks:
        notes.add_itxt(LACKS, lacks)
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG", optimize=True, pnginfo=notes)


def made_of(path: Path) -> str | None:
    """The hash of the image that a mask was made from; None without a mask or a stored hash."""
    return _note(path, MADE_OF)


def lacks(path: Path) -> str | None:
    """Why classes of the image's labels have no pixel in a mask; None if they all have, or the mask does not say."""
    return _note(path, LACKS)


def _note(path: Path, name: str) -> str | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            found = image.info.get(name)
    except Exception:  # Pillow may raise anything on a damaged file, which is then made again
        return None
    return str(found) if isinstance(found, str) else None


def load_mask(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads class ids [H, W] from a palette or greyscale PNG.

    Args:
        path: of the file.
        size: (H, W) of the image that it is the mask of.

    Raises:
        StoreError: missing, damaged, an RGB image, of more than 100 megapixels, or of another size than the image.
    """
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise StoreError(f"{path}: has more than {MAX_IMAGE_BYTES} bytes, which no mask has")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=["PNG"])
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise StoreError(
                    f"{path}: {image.width}x{image.height} is more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first"
                )
            if image.mode not in ("P", "L", "1"):
                raise StoreError(f"{path}: a mask is a palette or greyscale PNG of class ids, this is {image.mode}")
            if size and size != (image.height, image.width):
                raise StoreError(
                    f"{path}: is {image.width}x{image.height}, its image {size[1]}x{size[0]} (a mask of another version of it?)"
                )
            return np.asarray(image if image.mode != "1" else image.convert("L").point(bool), dtype=np.uint8)
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such mask") from None
    except StoreError:
        raise
    except Image.DecompressionBombError:
        raise StoreError(f"{path}: more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first") from None
    except Exception as error:  # Pillow may raise anything on a damaged file, such as struct.error or TypeError
        raise StoreError(f"{path}: cannot be read as a mask ({error})") from None


def only_value(paths: Iterable[Path]) -> int | None:
    """The one value that all masks hold; None if they hold several or there is no mask. Stops at the second value."""
    seen: set[int] = set()
    for path in paths:
        seen.update(np.unique(load_mask(path)).tolist())
        if len(seen) > 1:
            return None
    return seen.pop() if seen else None
