"""Reading an image file of any common format as 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from advcam.errors import ImageError
from advcam.limits import MAX_IMAGE_BYTES, MAX_PIXELS, MIN_SIDE

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
}
"""The formats that are read, by Pillow's names: raster formats only. Others, such as PostScript, would run a program."""

NEEDS = {"JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}
"""The Pillow feature that a format needs."""

Image.init()
READ = tuple(name for name in FORMATS if name in Image.OPEN and (name not in NEEDS or features.check(NEEDS[name])))
SUFFIXES = frozenset(suffix for name in READ for suffix in FORMATS[name])
DARK = 64  # of 255: an image of more than 8 bits whose maximum is below has probably another range


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Opens an image file of one of the :data:`FORMATS`, recognised by content and not by name, without decoding it."""
    return Image.open(file, formats=READ)


def read_image(path: Path, content: str | None = None) -> Image.Image:
    """The image as 8-bit RGB, as a viewer shows it.

    EXIF rotation is applied; palettes, greyscale and CMYK are converted; 16-bit grey is divided by 257; transparent
    pixels are blended with white; of an animation the first frame is taken.

    Args:
        path: of the file.
        content: the expected :func:`content_of`; another raises.

    Raises:
        ImageError: missing, empty, not an image, truncated, float pixels, under 16 pixels a side or over 100 megapixels, or
            another content.
    """
    data = _bytes(path)
    if content is not None and _hash(data) != content:
        raise ImageError(f"{path}: has changed since this run looked at it; put the original image back")
    return _decoded(path, data)[0]


@dataclass(frozen=True)
class Look:
    """What is known of an image file after it was checked.

    Args:
        size: (H, W) in pixels, as a viewer shows it.
        content: of the file; see :func:`content_of`.
        doubt: a warning where its range of values is clipped or makes it nearly black.
    """

    size: tuple[int, int]
    content: str
    doubt: str | None


def look_at(path: Path) -> Look:
    """Decodes an image once, so that unusable ones are found before any long computation.

    Raises:
        ImageError: as :func:`read_image`.
    """
    data = _bytes(path)
    image, doubt = _decoded(path, data)
    return Look((image.height, image.width), _hash(data), doubt)


def read_with_doubt(path: Path) -> tuple[Image.Image, str | None]:
    """The image, and a warning where its range of values is clipped or makes it nearly black.

    Raises:
        ImageError: as :func:`read_image`.
    """
    return _decoded(path, _bytes(path))


def content_of(path: Path) -> str:
    """A hash of an image file's bytes.

    Raises:
        ImageError: it cannot be read.
    """
    return _hash(_bytes(path))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def pixels_of(path: Path) -> int:
    """The number of pixels by the image's header; 0 where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_image(path) as image:
                return image.width * image.height
    except Exception:  # the error is raised where the image is read
        return 0


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes); copy it again")
        if size > MAX_IMAGE_BYTES:
            raise ImageError(f"{path}: has more than {MAX_IMAGE_BYTES} bytes; save it in a smaller format")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); copy it again") from None


def _decoded(path: Path, data: bytes) -> tuple[Image.Image, str | None]:
    """The image, and a warning about its range of values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_image(io.BytesIO(data)) as image:
                _check_size(path, image.size)
                bits = _bits(image)
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(path, image), _doubt(image, bits) if bits > 8 else None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image that Pillow can read; convert it to JPEG or PNG") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first") from None
    except ImageError:
        raise
    except Exception as error:  # Pillow may raise anything on a damaged file, such as struct.error or TypeError
        raise ImageError(f"{path}: damaged or truncated ({error}); copy it again") from None


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: {width}x{height} is more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first")
    if min(size) < MIN_SIDE:
        raise ImageError(f"{path}: {width}x{height} pixels; an image needs at least {MIN_SIDE} a side")


def _bits(image: Image.Image) -> int:
    """8, 16 or 32 bits of an opened file; Pillow keeps these of grey images and reads colour as 8."""
    if image.mode == "I" and image.format != "PPM":
        return 32
    deep = image.mode.startswith("I") or any(
        ";16" in str(args) or (codec == "ppm" and isinstance(args, tuple) and args[-1] > 255)
        for codec, _, _, args in getattr(image, "tile", ())
    )
    return 16 if deep else 8


def _doubt(image: Image.Image, bits: int) -> str | None:
    """A warning about the range of values of an image of more than 8 bits, alpha aside."""
    grey = image.mode.startswith("I")
    low, high = image.getextrema() if grey else (0, _brightest(image))
    remedy = "rescale it to the whole range of 16 bits, 0 to 65535, or to 8 bits"
    if grey and (high > 65535 or low < 0):  # type: ignore[operator]
        return f"{bits}-bit image with values from {low} to {high}: values outside 0 to 65535 are clipped; {remedy}"
    seen = int(high) // 257 if grey else int(high)  # type: ignore[arg-type]
    if seen >= DARK:
        return None
    largest = f" whose largest value is {high}" if grey else ""
    return f"{bits}-bit image{largest}: read as {seen} of 255{', nearly black' if seen < DARK // 2 else ''}; {remedy}"


def _brightest(image: Image.Image) -> int:
    """The largest value of any channel except alpha, 0 to 255."""
    colours = image.convert("L" if image.mode in ("L", "LA") else "RGB")
    return max(colours.getextrema()) if colours.mode == "L" else max(high for _, high in colours.getextrema())  # type: ignore


def _rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError(f"{path}: float pixels have no fixed range; save it as 8- or 16-bit")
    if image.mode.startswith("I"):
        grey: NDArray[Any] = np.asarray(image) // 257
        return Image.fromarray(np.clip(grey, 0, 255, out=grey).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def fit_within(image: Image.Image, long_side: int) -> Image.Image:
    """The image itself, or scaled down so that its longer side is ``long_side``."""
    factor = long_side / max(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def at_least(image: Image.Image, short_side: int) -> Image.Image:
    """The image itself, or enlarged so that its shorter side is ``short_side``."""
    factor = short_side / min(image.size)
    if factor <= 1:
        return image
    width, height = (round(side * factor) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)
