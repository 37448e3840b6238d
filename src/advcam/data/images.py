"""Reading an image file of any common format as 8-bit RGB, or as 8-bit channels of another number."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from advcam.errors import ImageError
from advcam.limits import MAX_IMAGE_BYTES, MAX_PIXELS, MIN_SIDE

from .arrays import MORE, NODATA, PNG, SAMPLES, TIFF, add_heif, is_negative, read_in_full, reader_of, with_data
from .channels import Channels
from .reading import Reading, as_8_bits, chosen, of_type, sample_of
from .remote import again

if TYPE_CHECKING:
    from .places import Place

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
SUFFIXES = frozenset(suffix for name in READ for suffix in FORMATS[name]) | MORE
GZIPPED = ".nii.gz"
AS_IT_IS = Reading()
DARK = 64  # of 255: an image of more than 8 bits whose maximum is below has probably another range


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, ``.nii.gz`` as one."""
    return GZIPPED if name.lower().endswith(GZIPPED) else PurePath(name).suffix.lower()


def open_image(file: Path | io.BytesIO, more: tuple[str, ...] = ()) -> Image.Image:
    """Opens an image file of one of the :data:`FORMATS` or of ``more``, recognised by content, without decoding it."""
    return Image.open(file, formats=(*READ, *more))


def read_image(path: Place, content: str | None = None, reading: Reading = AS_IT_IS) -> Image.Image:
    """The image as 8-bit RGB, as a viewer shows it; :class:`~.channels.Channels` where ``reading`` asks for other than three.

    EXIF rotation is applied; palettes, greyscale and CMYK are converted; more than 8 bits are brought to 8 by ``reading``;
    transparent pixels are blended with white; of an animation the first frame is taken.

    Args:
        path: of the file.
        content: the expected :func:`content_of`; another raises.
        reading: how its values become 8-bit RGB.

    Raises:
        ImageError: missing, empty, not an image, truncated, under 16 pixels a side or over 100 megapixels, another content,
            float pixels without a range, or bands or a page that it does not have.
    """
    data = bytes_of(path)
    if content is not None and content_of(data) != content:
        raise ImageError(f"{path}: has changed since this run looked at it; put the original image back")
    return _decoded(path, data, reading)[0]


@dataclass(frozen=True)
class Look:
    """What is known of an image file after it was checked.

    Args:
        size: (H, W) in pixels, as a viewer shows it.
        content: of the file; see :func:`content_of`.
        doubt: a warning about its range of values or its pages.
        bands: how many it has of those that were asked for.
        sample: some of its values and the largest value of their type, if it has more than 8 bits.
    """

    size: tuple[int, int]
    content: str
    doubt: str | None
    bands: int = 3
    sample: tuple[NDArray[np.float64], float] | None = None


def look_at(path: Place, reading: Reading = AS_IT_IS, data: bytes | None = None) -> Look:
    """Decodes an image once, so that unusable ones are found before any long computation.

    Args:
        path: of the file.
        reading: how its values become 8-bit RGB.
        data: its bytes, if already read.

    Raises:
        ImageError: as :func:`read_image`.
    """
    data = bytes_of(path) if data is None else data
    image, doubt, bands, sample = _decoded(path, data, reading)
    return Look((image.height, image.width), content_of(data), doubt, bands, sample)


def read_with_doubt(path: Place, reading: Reading = AS_IT_IS, data: bytes | None = None) -> tuple[Image.Image, str | None]:
    """The image, and a warning about its range of values or its pages.

    Args:
        path: of the file.
        reading: how its values become 8-bit RGB.
        data: its bytes, if already read.

    Raises:
        ImageError: as :func:`read_image`.
    """
    return _decoded(path, bytes_of(path) if data is None else data, reading)[:2]


def content_of(image: Place | bytes) -> str:
    """A hash of an image file's bytes.

    Args:
        image: its path or address, or the bytes.

    Raises:
        ImageError: it cannot be read.
    """
    data = image if isinstance(image, bytes) else bytes_of(image)
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def pixels_of(file: Path | io.BytesIO) -> int:
    """The number of pixels by the image's header; 0 where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_image(file) as image:
                return image.width * image.height
    except Exception:  # the error is raised where the image is read
        return 0


def bytes_of(path: Place) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: missing, empty, too large, or it cannot be read.
    """
    try:
        if isinstance(path, Path) and path.stat().st_size > MAX_IMAGE_BYTES:  # an address looks at its size by itself
            raise ImageError(f"{path}: has more than {MAX_IMAGE_BYTES} bytes; save it in a smaller format")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); {again(error)}") from None
    if not data:
        raise ImageError(f"{path}: the file is empty (0 bytes); copy it again")
    return data


class _Decoded(NamedTuple):
    """An image, a warning, the number of its chosen bands, and, of one of more than 8 bits, some values and their white."""

    image: Image.Image
    doubt: str | None
    bands: int = 3
    sample: tuple[NDArray[np.float64], float] | None = None


def _decoded(path: Place, data: bytes, reading: Reading) -> _Decoded:
    try:
        read = reader_of(path, data)
        if read:
            found = _shown(path, read(path, data, reading.page, reading.bands), reading, None)
            return found._replace(image=_negative(found.image)) if is_negative(path, data) else found
        heif = add_heif(path, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                opened = open_image(io.BytesIO(data), heif)
            except UnidentifiedImageError:
                if data.startswith(TIFF) and (array := read_in_full(path, data, reading.page, reading.bands)) is not None:
                    return _shown(path, array, reading, None)
                raise
            with opened as image:
                return _by_pillow(path, data, image, reading)
    except UnidentifiedImageError:
        more = "; a TIFF of many bands or of float colours needs pip install 'advcam[tiff]'" if data.startswith(TIFF) else ""
        raise ImageError(f"{path}: not an image that Pillow can read; convert it to JPEG or PNG{more}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first") from None
    except ImageError:
        raise
    except Exception as error:  # Pillow may raise anything on a damaged file, such as struct.error or TypeError
        raise ImageError(f"{path}: damaged or truncated ({error}); copy it again") from None


def _negative(image: Image.Image) -> Image.Image:
    return image.each(ImageOps.invert) if isinstance(image, Channels) else ImageOps.invert(image)


def _by_pillow(path: Place, data: bytes, image: Image.Image, reading: Reading) -> _Decoded:
    _check_size(path, image.size)
    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" or reading.page > 1 else 1
    if reading.page > pages:
        raise ImageError(f"{path}: has {pages} page{'s' * (pages > 1)}, and --page asks for {reading.page}")
    if reading.page > 1:
        image.seek(reading.page - 1)
        _check_size(path, image.size)
    doubt = f"has {pages} pages, of which page {reading.page} is read (--page)" if pages > 1 and reading.page == 1 else None
    bits, grey = _bits(image), image.mode == "F" or image.mode.startswith("I")
    known = len(image.getbands())
    unseen = getattr(image, "tag_v2", {}).get(SAMPLES, known) != known  # Pillow takes the first of several bands
    by_bands = reading.bands is not None and (pages > 1 or known not in (1, 3) or unseen)
    if (bits > 8 and not grey) or by_bands or unseen:
        array = read_in_full(path, data, reading.page, reading.bands) if data.startswith((*TIFF, PNG)) else None
        if array is not None:
            return _shown(path, array, reading, None if by_bands else doubt)
        if by_bands and data.startswith(TIFF):
            raise ImageError(f"{path}: reading its bands needs tifffile: pip install 'advcam[tiff]'")
    nodata = getattr(image, "tag_v2", {}).get(NODATA)
    ImageOps.exif_transpose(image, in_place=True)
    if grey:
        return _shown(path, with_data(np.asarray(image)[:, :, None], nodata), reading, doubt, bits)
    shown, reading = _rgb(image), reading.of([], 255)
    if bits > 8 and (seen := int(np.asarray(shown).max())) < DARK:  # Pillow keeps 8 bits of colours
        doubt = f"{bits}-bit image: read as {seen} of 255{_dark(seen)}; pip install 'advcam[tiff]' reads PNG and TIFF in full"
    if not reading.is_plain:
        shown = as_8_bits(path, np.asarray(shown), reading)
    return _Decoded(shown, doubt)


def _shown(path: Place, array: NDArray[Any], reading: Reading, doubt: str | None, bits: int | None = None) -> _Decoded:
    """An image [H, W, C] of any type in 8 bits, with a warning where the range of its type leaves it dark."""
    _check_size(path, (array.shape[1], array.shape[0]))
    bands, white = chosen(path, array, reading.bands), of_type(array)[1]
    deep = array.dtype != np.uint8
    sample = (sample_of(bands), white) if deep else None
    reading = reading.of([sample[0]] if sample else [], white)  # a single image is its own data set
    if deep and reading.window == "dtype":
        doubt = _range_doubt(bands, white, bits or 8 * array.dtype.itemsize) or doubt
    return _Decoded(as_8_bits(path, array, reading), doubt, bands.shape[2], sample)


def _check_size(path: Place, size: tuple[int, int]) -> None:
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


def _dark(seen: int) -> str:
    return ", nearly black" if seen < DARK // 2 else ""


def _range_doubt(array: NDArray[Any], white: float, bits: int) -> str | None:
    """A warning about the range of values of an image of more than 8 bits that is read by the range of its type."""
    values = np.ma.compressed(array)
    if not values.size:
        return "no pixel of it has data"
    low, high = np.nanmin(values), np.nanmax(values)
    remedy = "--range LOW,HIGH, data or image reads other ranges"
    if high > white or low < 0:
        return f"{bits}-bit image with values from {low} to {high}: values outside 0 to {white:g} are clipped; {remedy}"
    seen = int(255 * float(high) / white)
    if seen >= DARK:
        return None
    return f"{bits}-bit image whose largest value is {high}: read as {seen} of 255{_dark(seen)}; {remedy}"


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def shrunk(sizes: Iterable[tuple[int, int]], long_side: int) -> str | None:
    """Says how many of some images (H, W) a long side shrinks by more than two, and the largest; None if it shrinks none so."""
    every = list(sizes)
    large = [size for size in every if max(size) > 2 * long_side]
    if not large:
        return None
    height, width = max(large, key=max)
    factor = long_side / max(height, width)
    return (
        f"{len(large)} of {len(every)} images are shrunk by more than two, up to {width}x{height} to"
        f" {max(1, round(width * factor))}x{max(1, round(height * factor))} pixels: a --long-side of {long_side} does it"
    )


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
