"""Image files that Pillow does not read, or not in full: TIFF and PNG of 16 bits in colour, many bands, DICOM, NIfTI."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.errors import ImageError
from advcam.limits import MAX_PIXELS

Array = NDArray[Any]

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG = b"\x89PNG\r\n\x1a\n"
DICOM = (".dcm", ".dicom")
NIFTI = (".nii",)
MORE = frozenset((*DICOM, *NIFTI))
"""Suffixes that Pillow does not know."""


def reader_of(path: Path, data: bytes) -> Callable[[Path, bytes, int], Array] | None:
    """The reader of a file that is none of Pillow's formats; None for others."""
    if path.suffix.lower() in DICOM or data[128:132] == b"DICM":
        return read_dicom
    return read_nifti if path.suffix.lower() in NIFTI else None


def read_in_full(path: Path, data: bytes, page: int, bands: tuple[int, ...] | None) -> Array | None:
    """A TIFF or PNG with all bits and bands, [H, W, C]; None where the packages of ``advcam[tiff]`` are not installed.

    Raises:
        ImageError: no such page, or too large.
    """
    try:
        return read_tiff(path, data, page, bands) if data.startswith(TIFF) else _read_png(data)
    except ModuleNotFoundError:
        return None


def read_tiff(path: Path, data: bytes, page: int, bands: tuple[int, ...] | None) -> Array:
    """A page of a TIFF without its alpha, [H, W, C]; if bands are asked for and every page has one, the pages are the bands.

    Raises:
        ModuleNotFoundError: tifffile is not installed.
        ImageError: no such page, or too large.
    """
    tifffile = importlib.import_module("tifffile")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if page > len(file.pages):
            raise ImageError(f"{path}: has {len(file.pages)} pages, and --page asks for {page}")
        if bands and file.pages[page - 1].samplesperpixel == 1 and max(bands) <= len(file.pages):
            pages = [_tiff_page(path, file.pages[at]) for at in range(max(bands))]
            if len({one.shape for one in pages}) == 1:
                return np.concatenate(pages, axis=2)
        return _tiff_page(path, file.pages[page - 1])


def _tiff_page(path: Path, page: Any) -> Array:
    _check(path, page.imagelength, page.imagewidth, page.samplesperpixel)
    array: Array = page.asarray()
    array = np.moveaxis(array, 0, -1) if page.axes.startswith("S") else array  # bands one after the other
    array = array.reshape(*array.shape[:2], -1)
    alpha = any(int(extra) in (1, 2) for extra in page.extrasamples)
    array = array[:, :, : array.shape[2] - len(page.extrasamples)] if alpha else array
    if int(page.photometric) == 0:  # white is zero
        array = array.max() - array if array.dtype.kind == "f" else np.iinfo(array.dtype).max - array
    return array


def _read_png(data: bytes) -> Array:
    """A PNG of 16 bits without its alpha, [H, W, C]."""
    array: Array = importlib.import_module("imagecodecs").png_decode(data)
    array = array.reshape(*array.shape[:2], -1)
    return array[:, :, :-1] if array.shape[2] in (2, 4) else array


def read_dicom(path: Path, data: bytes, page: int) -> Array:
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


def is_negative(path: Path, data: bytes) -> bool:
    """Whether a file is DICOM and shows low values bright (MONOCHROME1); its range is that of the values, before this."""
    if reader_of(path, data) is not read_dicom:
        return False
    file = _needed(path, "pydicom", "medical").dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
    return bool(file.get("PhotometricInterpretation") == "MONOCHROME1")


def read_nifti(path: Path, _data: bytes, page: int) -> Array:
    """A slice of a NIfTI volume along its third axis, [H, W, 1], with its scaling; its second axis points up.

    Raises:
        ImageError: nibabel is not installed, no such slice, or too large.
    """
    volume = _needed(path, "nibabel", "medical").load(path)
    shape = volume.shape
    if len(shape) < 2 or page > int(np.prod(shape[2:], dtype=np.int64)):
        raise ImageError(f"{path}: a volume of {'x'.join(map(str, shape))}, and --page asks for slice {page}")
    _check(path, shape[1], shape[0], 1)
    where = np.unravel_index(page - 1, shape[2:], order="F") if len(shape) > 2 else ()
    array: Array = np.asarray(volume.dataobj[(slice(None), slice(None), *(int(at) for at in where))])
    return np.ascontiguousarray(array.T[::-1])[:, :, None]


def _check(path: Path, height: int, width: int, bands: int) -> None:
    if height * width * max(1, bands / 4) > MAX_PIXELS:
        raise ImageError(f"{path}: {width}x{height} is more than {MAX_PIXELS / 1e6:.0f} megapixels; scale it down first")


def _needed(path: Path, package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise ImageError(f"{path}: reading it needs {package}: pip install 'advcam[{extra}]'") from None
