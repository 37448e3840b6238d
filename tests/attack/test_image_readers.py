"""Damaged images and masks of every kind: what reads them gives pixels or raises an error of ours, and writes nothing.

``ATTACK_EXAMPLES=20000`` makes a long hunt of it.
"""

import gzip
import io
import os
import random
import warnings
from functools import cache

import numpy as np
import pytest
from PIL import Image

from advcam.data import ClassTable, Reading, look_at, read_image
from advcam.errors import AdvcamError
from advcam.formats import FORMATS, Names
from advcam.store import load_mask

EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "30"))
NAMES = Names(ClassTable((1, 2, 7), ("a", "b", "c")))
READINGS = [
    Reading(), Reading("auto"), Reading("image"), Reading("data", "all"), Reading("image", (2,), 2), Reading("image", None, 3),
    Reading((0.0, 4000.0), (1, 2, 3, 4)), Reading("data", one_channel=True), Reading("image", (4, 3, 2, 1), 2),
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63]
RGB = np.kron(np.random.default_rng(0).integers(0, 255, (6, 8, 3)), np.ones((6, 6, 1))).astype(np.uint8)
DEEP = RGB.astype(np.uint16) * 100
SIX = np.stack([DEEP[..., at % 3] + at for at in range(6)])


def by_pillow(form, mode="RGB", **more):
    held = io.BytesIO()
    image = Image.fromarray(DEEP[..., 0]) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    image.save(held, form, **more)
    return held.getvalue()


def tiff(array, **more):
    held = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(held, array, **more)
    return held.getvalue()


def geotiff(array, **more):
    rasterio = pytest.importorskip("rasterio")
    about = {"height": 36, "width": 48, "count": len(array), "dtype": array.dtype, "crs": "EPSG:32632", "compress": "deflate"}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), **about | more) as file:
            file.write(array)
            file.update_tags(ADVCAM_CLASSES='{"1": "a", "2": "b"}')
        return bytes(memory.getbuffer())


def dicom(frames=1, colour=False, compressed=False):
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file = pydicom.dataset.FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    file.Rows, file.Columns, file.SamplesPerPixel, file.PixelRepresentation = 36, 48, 3 if colour else 1, 0
    file.BitsAllocated = file.BitsStored = 8 if colour else 16
    file.HighBit, file.PlanarConfiguration = file.BitsStored - 1, 0
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME1"
    file.NumberOfFrames, file.RescaleSlope, file.RescaleIntercept = frames, "2", "-1000"
    file.PixelData = RGB.tobytes() if colour else np.stack([DEEP[..., 0]] * frames).tobytes()
    if compressed:
        file.compress(pydicom.uid.RLELossless)
    held = io.BytesIO()
    file.save_as(held, enforce_file_format=True)
    return held.getvalue()


def nifti(array, kind="Nifti1Image"):
    return getattr(pytest.importorskip("nibabel"), kind)(array, np.eye(4)).to_bytes()


def heic():
    held = io.BytesIO()
    pytest.importorskip("pillow_heif").from_pillow(Image.fromarray(RGB)).save(held)
    return held.getvalue()


GOOD = {
    "rgb.png": lambda: by_pillow("PNG"),
    "palette.png": lambda: by_pillow("PNG", "P"),
    "alpha.png": lambda: by_pillow("PNG", "LA"),
    "bits.png": lambda: by_pillow("PNG", "1"),
    "deep.png": lambda: by_pillow("PNG", "I;16"),
    "deeprgb.png": lambda: bytes(pytest.importorskip("imagecodecs").png_encode(DEEP)),
    "rgb.jpg": lambda: by_pillow("JPEG"),
    "rgb.webp": lambda: by_pillow("WEBP"),
    "rgb.avif": lambda: by_pillow("AVIF"),
    "rgb.jp2": lambda: by_pillow("JPEG2000"),
    "rgb.gif": lambda: by_pillow("GIF"),
    "rgb.bmp": lambda: by_pillow("BMP"),
    "rgb.tga": lambda: by_pillow("TGA"),
    "rgb.ppm": lambda: by_pillow("PPM"),
    "jpeg.tif": lambda: by_pillow("TIFF", compression="jpeg"),
    "fax.tif": lambda: by_pillow("TIFF", "1", compression="group4"),
    "alpha.tif": lambda: by_pillow("TIFF", "RGBA", compression="tiff_lzw"),
    "deep.tif": lambda: tiff(DEEP, photometric="rgb"),
    "tiles.tif": lambda: tiff(DEEP, photometric="rgb", compression="zlib", tile=(16, 16)),
    "lzw.tif": lambda: tiff(DEEP, photometric="rgb", compression="lzw", predictor=True),
    "planes.tif": lambda: tiff(SIX, photometric="minisblack", planarconfig="separate"),
    "pages.tif": lambda: tiff(SIX, photometric="minisblack"),
    "float.tif": lambda: tiff(SIX[0].astype(np.float32), extratags=[(42113, 2, 0, "-9999", True)]),
    "geo.tif": lambda: geotiff(SIX[:4], nodata=0, tiled=True, blockxsize=16, blockysize=16),
    "mask.tif": lambda: geotiff((RGB[None, ..., 0] % 3), nodata=255),
    "grey.dcm": dicom,
    "frames.dcm": lambda: dicom(3),
    "colour.dcm": lambda: dicom(colour=True),
    "packed.dcm": lambda: dicom(compressed=True),
    "volume.nii": lambda: nifti(SIX.T.astype(np.int16)),
    "four.nii": lambda: nifti(SIX.T[:, :, None].astype(np.float32)),
    "two.nii": lambda: nifti(SIX.T, "Nifti2Image"),
    "volume.nii.gz": lambda: gzip.compress(nifti(SIX.T), mtime=0),
    "phone.heic": heic,
}


@cache
def good(name):
    return GOOD[name]()


def spoilt(data, chance):
    """Bytes of a good file with some changed, cut, doubled, or replaced by numbers that readers trip over; most in its head."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 6])):
        at = chance.randrange(min(len(data), 700 if chance.random() < 0.6 else len(data)) + 1)
        count, other = chance.choice([1, 2, 4, 8, 32]), chance.randrange(len(data) + 1)
        width = chance.choice([1, 2, 4, 8])
        number = (chance.choice(NUMBERS) % 256**width).to_bytes(width, chance.choice(["little", "big"]))
        changes = [
            (at, at + 1, bytes([chance.randrange(256)])),
            (at, at + width, number),
            (at, at + count, b""),
            (at, at, bytes(data[at : at + count])),
            (at, at, chance.randbytes(count)),
            (at, at + count, bytes(data[other : other + count])),
            (at, len(data) if chance.random() < 0.3 else at + 1, b""),
        ]
        start, end, piece = chance.choice(changes)
        data[start:end] = piece
    return bytes(data)


@pytest.mark.parametrize("name", GOOD)
def test_a_damaged_file_gives_pixels_or_an_error_of_ours(name, tmp_path):
    whole, chance = good(name), random.Random(name)
    path = tmp_path / "in" / f"x.{name.split('.', 1)[1]}"
    path.parent.mkdir()
    path.write_bytes(whole)
    assert np.asarray(read_image(path, reading=Reading("image", None if "rgb" in name else "all"))).shape[:2] == (36, 48)
    seen = 0
    for _ in range(EXAMPLES):
        path.write_bytes(spoilt(whole, chance))
        reading = chance.choice(READINGS)
        calls = [lambda: np.asarray(read_image(path, reading=reading)), lambda: look_at(path, reading)]  # noqa: B023
        if path.suffix in (".png", ".tif", ".bmp"):
            calls.append(lambda: load_mask(path, (36, 48)))
        if path.suffix == ".tif" and name in ("geo.tif", "mask.tif"):
            calls.append(lambda: [found.draw((36, 48)) for found in FORMATS["geotiff"].read(path.parent, NAMES)])
        for call in calls:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries
                try:
                    call()
                except AdvcamError:
                    seen += 1
        assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [path.name]
    assert seen or EXAMPLES < 20
