"""Masks: 8-bit palette PNGs of class ids, which viewers show in colour."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from advcam.errors import StoreError
from advcam.limits import IGNORE, MAX_IMAGE_BYTES, MAX_PIXELS

from .atomic import atomic_write, write_bytes

MADE_OF = "advcam-image"
"""The PNG text chunk with the hash of the mask's image."""
SCORES = "advcam-scores"
"""The PNG text chunk of a confidence image with the score of each class id."""
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
    write_bytes(path, mask_bytes(ids, made_of, lacks))


def mask_bytes(ids: NDArray[np.uint8], made_of: str | None = None, lacks: str = "") -> bytes:
    """Returns the file of a mask; see :func:`save_mask`."""
    image = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8), mode="P")
    image.putpalette(voc_palette())
    notes = PngInfo()
    if made_of:
        notes.add_text(MADE_OF, made_of)
    if lacks:
        notes.add_itxt(LACKS, lacks)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True, pnginfo=notes)
    return file.getvalue()


def made_of(mask: Path | bytes) -> str | None:
    """The hash of the image that a mask was made from; None without a stored hash, or a mask that is whole.

    Args:
        mask: its file, or the bytes of it.
    """
    return _note(io.BytesIO(mask) if isinstance(mask, bytes) else mask, MADE_OF)


def save_confidence(path: Path, sure: NDArray[np.floating[Any]], scores: Mapping[int, float]) -> None:
    """Writes confidences [H, W] in [0, 1] as an 8-bit grey PNG, times 255, with the score of each class id, atomically."""
    notes = PngInfo()
    notes.add_text(SCORES, json.dumps({str(number): round(score, 4) for number, score in scores.items()}))
    with atomic_write(path) as temporary:
        Image.fromarray(np.rint(255 * sure).astype(np.uint8)).save(temporary, format="PNG", pnginfo=notes)


def load_scores(path: Path) -> dict[int, float]:
    """The score of each class id that :func:`save_confidence` stored; empty without such a file."""
    try:
        return {int(number): float(score) for number, score in json.loads(_note(path, SCORES) or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def lacks(path: Path) -> str | None:
    """Why classes of the image's labels have no pixel in a mask; None if they all have, or the mask does not say."""
    return _note(path, LACKS)


def _note(file: Path | io.BytesIO, name: str) -> str | None:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            found = image.info.get(name)
            image.verify()  # of every part the checksum, to the end
    except Exception:  # Pillow may raise anything on a damaged file, which is then made again
        return None
    return str(found) if isinstance(found, str) else None


Colours = Mapping[int, int]
"""The class id of each colour 0xRRGGBB."""

FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}


def mask_file(folder: Path, name: str) -> Path:
    """The file of an image's mask: the first of ``NAME.png``, ``.tif``, ``.tiff``, ``.bmp`` there is, else ``NAME.png``."""
    files = [folder / f"{name}{suffix}" for suffix in FORMATS]
    return next((file for file in files if file.is_file()), files[0])


def load_mask(path: Path, size: tuple[int, int] | None = None, colours: Colours | None = None) -> NDArray[np.uint8]:
    """Reads class ids [H, W]: the indices of a palette image, the values of a grey one, or the colours of an RGB one.

    Where a palette has VOC's colours, but not at VOC's indices, the colours count, as they do wherever ``colours`` are given.

    Args:
        path: of the file.
        size: (H, W) of the image that it is the mask of.
        colours: the id of each colour; None: VOC's.

    Raises:
        StoreError: missing, damaged, a colour that is no id's, values above 255, of more than 100 megapixels, or of another
            size than the image.
    """
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise StoreError(f"{path}: has more than {MAX_IMAGE_BYTES} bytes, which no mask has")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=list(dict.fromkeys(FORMATS.values())))
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise StoreError(
                    f"{path}: {image.width}x{image.height} is more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first"
                )
            if size and size != (image.height, image.width):
                raise StoreError(
                    f"{path}: is {image.width}x{image.height}, its image {size[1]}x{size[0]} (a mask of another version of it?)"
                )
            return _ids(path, image, colours)
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such mask") from None
    except StoreError:
        raise
    except Image.DecompressionBombError:
        raise StoreError(f"{path}: more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first") from None
    except Exception as error:  # Pillow may raise anything on a damaged file, such as struct.error or TypeError
        raise StoreError(f"{path}: cannot be read as a mask ({error})") from None


def _ids(path: Path, image: Image.Image, colours: Colours | None) -> NDArray[np.uint8]:
    if image.mode == "P" and (colours or _shuffled(image)):
        image = image.convert("RGB")
    if image.mode in ("RGB", "RGBA", "PA"):
        return _of_colours(path, np.asarray(image.convert("RGB")), colours)
    if image.mode not in ("P", "L", "LA", "1") and not image.mode.startswith("I"):
        raise StoreError(f"{path}: a mask is a palette, grey or RGB image of class ids or their colours, this is {image.mode}")
    if image.mode == "LA":
        image = image.convert("L")
    values = np.asarray(image if image.mode != "1" else image.convert("L").point(bool))
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= IGNORE:
        raise StoreError(f"{path}: holds values from {values.min()} to {values.max()}; class ids are 1 to 254, 0 is background")
    return values.astype(np.uint8)


def _shuffled(image: Image.Image) -> bool:
    """Whether the colours in use are VOC's, but not all at VOC's indices, as where a program has sorted the palette."""
    palette, voc = image.getpalette("RGB") or [], _voc_colours()
    used = np.unique(np.asarray(image)).tolist()
    own = [_packed(*palette[3 * at : 3 * at + 3]) if 3 * at + 2 < len(palette) else -1 for at in used]
    return all(colour in voc for colour in own) and any(voc[colour] != at for at, colour in zip(used, own, strict=True))


def _packed(red: int, green: int, blue: int) -> int:
    return red << 16 | green << 8 | blue


@cache
def _voc_colours() -> Colours:
    palette = voc_palette()
    return {_packed(*palette[3 * at : 3 * at + 3]): at for at in range(IGNORE + 1)}


def _of_colours(path: Path, rgb: NDArray[np.uint8], colours: Colours | None) -> NDArray[np.uint8]:
    table = {0: 0} | dict(colours) if colours else _voc_colours()
    packed = (rgb.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(-1, dtype=np.uint32)
    found, where = np.unique(packed, return_inverse=True)
    if odd := [int(colour) for colour in found if int(colour) not in table]:
        listed = ", ".join(f"#{colour:06x}" for colour in odd[:4]) + (", ..." if len(odd) > 4 else "")
        of = "of --mask-colours" if colours else "of VOC"
        raise StoreError(
            f"{path}: an RGB mask with {len(odd)} colours that are none {of} ({listed}); --mask-colours FILE (CSV id,colour)"
            " says which id each has"
        )
    return np.array([table[int(colour)] for colour in found], np.uint8)[where].reshape(rgb.shape[:2])


def only_value(paths: Iterable[Path]) -> int | None:
    """The one value that all masks hold; None if they hold several or there is no mask. Stops at the second value."""
    seen: set[int] = set()
    for path in paths:
        seen.update(np.unique(load_mask(path)).tolist())
        if len(seen) > 1:
            return None
    return seen.pop() if seen else None
