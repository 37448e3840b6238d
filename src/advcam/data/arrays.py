"""Image files that Pillow does not read, or not in full: TIFF and PNG of 16 bits in colour, many bands, DICOM, NIfTI, HEIC."""

from __future__ import annotations

import importlib
import io
import logging
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcam.errors import ImageError
from advcam.limits import MAX_BANDS, MAX_IMAGE_BYTES, MAX_PIXELS

from .reading import Bands

if TYPE_CHECKING:
    from .places import Place

Array = NDArray[Any]

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG = b"\x89PNG\r\n\x1a\n"
DICOM = (".dcm", ".dicom")
NIFTI = (".nii", ".nii.gz")
HEIF = (".heic", ".heif", ".hif")
MORE = frozenset((*DICOM, *NIFTI, *HEIF))
"""Suffixes that Pillow does not know."""
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
"""What a HEIF file says of itself in its ninth to twelfth byte; AVIF says avif."""
GZIP = b"\x1f\x8b"
SAMPLES = 277
"""The TIFF tag with the number of bands, alpha among them."""
ORIENTATION = 274
"""The TIFF and EXIF tag that says how an image is turned and mirrored before it is shown."""
NODATA = 42113
"""GDAL's TIFF tag with the value that stands for no data."""


def reader_of(path: Place, data: bytes) -> Callable[[Place, bytes, int, Bands], Array] | None:
    """The reader of a file that is none of Pillow's formats; None for others."""
    if path.suffix.lower() in DICOM or data[128:132] == b"DICM":
        return read_dicom
    return read_nifti if path.name.lower().endswith(NIFTI) else None


def add_heif(path: Place, data: bytes) -> tuple[str, ...]:
    """Gives Pillow the reader of a HEIC file; returns its name for Pillow, nothing for other files.

    Raises:
        ImageError: pillow-heif is not installed.
    """
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    if data[4:8] != b"ftyp" or data[8:12] not in HEIF_BRANDS or b"avif" in brands:
        return ()
    _needed(path, "pillow_heif", "heic").register_heif_opener()
    return ("HEIF",)


def read_in_full(path: Place, data: bytes, page: int, bands: Bands) -> Array | None:
    """A TIFF or PNG with all bits and bands, [H, W, C]; None where the packages of ``advcam[tiff]`` are not installed.

    Raises:
        ImageError: no such page, or too large.
    """
    try:
        return read_tiff(path, data, page, bands) if data.startswith(TIFF) else _read_png(data)
    except ModuleNotFoundError:
        return None


def read_tiff(path: Place, data: bytes, page: int, bands: Bands) -> Array:
    """A page of a TIFF, upright, [H, W, C], masked where GDAL says that there is no data.

    Without ``bands`` its alpha is left out; with them it is one of the bands, since many programs call a fourth band alpha. If
    every page has one band, the pages are the bands.

    Raises:
        ModuleNotFoundError: tifffile is not installed.
        ImageError: no such page, or too large.
    """
    tifffile = importlib.import_module("tifffile")
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it prints what it finds odd
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if page > len(file.pages):
            raise ImageError(f"{path}: has {len(file.pages)} pages, and --page asks for {page}")
        own = file.pages[page - 1]
        pages = _alike(own, file.pages) if bands and own.samplesperpixel == 1 else []
        wanted = len(pages) if bands == "all" else max(bands or (0,))
        if len(pages) > 1 and wanted <= len(pages):
            _check(path, own.imagelength, own.imagewidth, wanted)
            parts = [_tiff_page(path, one, bands) for one in pages[:wanted]]
            array = np.ma.concatenate(parts, axis=2) if any(map(np.ma.isMA, parts)) else np.concatenate(parts, axis=2)
        else:
            array = _tiff_page(path, own, bands)
        return upright(array, own.tags.valueof(ORIENTATION))


def upright(array: Array, orientation: object) -> Array:
    """An image [H, W, C] turned and mirrored as its :data:`ORIENTATION` says, of which 1 is as it is."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array


def _alike(page: Any, pages: Any) -> list[Any]:
    """The pages of one size and type, if all are so except for the smaller copies that GIS programs add."""
    full = [one for one in pages[: MAX_BANDS + 1] if not one.is_reduced and not one.is_mask]
    return full if len({(one.shape, one.dtype) for one in full}) == 1 and page in full else []


def _tiff_page(path: Place, page: Any, bands: Bands) -> Array:
    _check(path, page.imagelength, page.imagewidth, page.samplesperpixel)
    array: Array = page.asarray()
    array = np.moveaxis(array, 0, -1) if page.axes.startswith("S") else array  # bands one after the other
    array = array.reshape(*array.shape[:2], -1)
    alpha = not bands and any(int(extra) in (1, 2) for extra in page.extrasamples)
    array = array[:, :, : array.shape[2] - len(page.extrasamples)] if alpha else array
    array = with_data(array, page.tags[NODATA].value if NODATA in page.tags else None)
    if int(page.photometric) == 0:  # white is zero
        array = array.max() - array if array.dtype.kind == "f" else np.iinfo(array.dtype).max - array
    return array


def with_data(array: Array, nodata: object) -> Array:
    """The values of more than 8 bits, masked where they are what GDAL's tag says stands for no data."""
    try:
        number = float(str(nodata).strip("\0 "))
    except ValueError:
        return array
    if array.dtype == np.uint8 or np.isnan(number):
        return array
    missing = np.equal(array, array.dtype.type(number) if array.dtype.kind == "f" else number)
    masked: Array = np.ma.masked_array(array, missing)
    return masked if missing.any() else array


def _read_png(data: bytes) -> Array:
    """A PNG of 16 bits without its alpha, upright, [H, W, C]."""
    array: Array = importlib.import_module("imagecodecs").png_decode(data)
    array = array.reshape(*array.shape[:2], -1)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        array = upright(array, image.getexif().get(ORIENTATION))
    return array[:, :, :-1] if array.shape[2] in (2, 4) else array


def read_dicom(path: Place, data: bytes, page: int, _bands: Bands = None) -> Array:
    """A frame of a DICOM file, [H, W, C], with its rescaling; :func:`is_negative` says whether bright is low.

    Raises:
        ImageError: pydicom is not installed, no such frame, no pixels, or too large.
    """
    pydicom = _needed(path, "pydicom", "medical")
    file = pydicom.dcmread(io.BytesIO(data), force=True)
    if "PixelData" not in file or "Rows" not in file:
        raise ImageError(f"{path}: a DICOM file without pixels (a report, a directory or a structure set?)")
    frames = int(file.get("NumberOfFrames", 1) or 1)
    if page > frames:
        raise ImageError(f"{path}: has {frames} frames, and --page asks for {page}")
    colours = int(file.get("SamplesPerPixel", 1))
    _check(path, int(file.Rows), int(file.Columns), colours)
    array: Array = pydicom.pixels.pixel_array(file, index=page - 1)
    if colours > 1:
        return array.reshape(*array.shape[:2], -1)
    rescaled: Array = pydicom.pixels.apply_modality_lut(array, file)
    return rescaled[:, :, None]


def is_negative(path: Place, data: bytes) -> bool:
    """Whether a file is DICOM and shows low values bright (MONOCHROME1); its range is that of the values, before this."""
    if reader_of(path, data) is not read_dicom:
        return False
    file = _needed(path, "pydicom", "medical").dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
    return bool(file.get("PhotometricInterpretation") == "MONOCHROME1")


def read_nifti(path: Place, data: bytes, page: int, bands: Bands = None) -> Array:
    """A slice of a NIfTI volume along its third axis, [H, W, C], with its scaling; its second axis points up.

    With ``bands``, those are along the fourth axis.

    Raises:
        ImageError: nibabel is not installed, no such slice, or too large.
    """
    nibabel = _needed(path, "nibabel", "medical")
    plain = unpacked(path, data)
    kind = nibabel.Nifti2Image if plain[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") else nibabel.Nifti1Image
    volume = kind.from_bytes(plain)
    shape = volume.shape
    stacked = bool(bands) and len(shape) == 4
    if len(shape) < 2 or page > int(np.prod(shape[2 : 3 if stacked else None], dtype=np.int64)):
        raise ImageError(f"{path}: a volume of {'x'.join(map(str, shape))}, and --page asks for slice {page}")
    _check(path, shape[1], shape[0], shape[3] if stacked else 1)
    where = (page - 1,) if stacked else np.unravel_index(page - 1, shape[2:], order="F") if len(shape) > 2 else ()
    array: Array = np.asarray(volume.dataobj[(slice(None), slice(None), *(int(at) for at in where))])
    array = array.reshape(*array.shape[:2], -1)
    return np.ascontiguousarray(array.swapaxes(0, 1)[::-1])


def unpacked(path: Place, data: bytes) -> bytes:
    """The bytes of a file that may be compressed by gzip.

    Raises:
        ImageError: damaged, or more than an image has.
    """
    if not data.startswith(GZIP):
        return data
    try:
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        plain = unpacker.decompress(data, MAX_IMAGE_BYTES + 1)
    except zlib.error as error:
        raise ImageError(f"{path}: damaged or truncated ({error}); copy it again") from None
    if len(plain) > MAX_IMAGE_BYTES:
        raise ImageError(f"{path}: unpacks to more than {MAX_IMAGE_BYTES} bytes; save each slice as a file")
    return plain


def _check(path: Place, height: int, width: int, bands: int) -> None:
    if height * width * max(1, bands / 4) > MAX_PIXELS:
        of = f" in {bands} bands, of which four count as one," if bands > 4 else ""
        raise ImageError(f"{path}: {width}x{height}{of} is more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first")


def _needed(path: Place, package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise ImageError(f"{path}: reading it needs {package}: pip install 'advcam[{extra}]'") from None
