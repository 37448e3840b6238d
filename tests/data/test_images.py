"""Images of every kind people have, and what is said of those that cannot be used."""

import contextlib
import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advcam.data import Reading, ReadingConfig, fit_within, read_image, read_with_doubt
from advcam.data.images import at_least
from advcam.data.reading import SAMPLE, sample_of
from advcam.errors import ImageError, SettingsError

RAMP = np.linspace(0, 255, 32 * 24 * 3).reshape(24, 32, 3).astype(np.uint8)


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_rgb_is_untouched(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP), "bär 犬.png")
    assert np.array_equal(np.asarray(read_image(path)), RAMP)


def test_cmyk(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP).convert("CMYK"), "print.jpg", quality=95)
    read = read_image(path)
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read).astype(int) - RAMP).mean() < 12


def test_sixteen_bit_grey(tmp_path):
    grey = (RAMP[:, :, 0].astype(np.uint16)) * 257
    path = saved(tmp_path, Image.fromarray(grey), "scan.png")
    assert np.array_equal(np.asarray(read_image(path))[:, :, 1], RAMP[:, :, 0])


def test_palette_and_transparency(tmp_path):
    palette = saved(tmp_path, Image.fromarray(RAMP).convert("P"), "palette.png")
    assert read_image(palette).mode == "RGB"
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert read_image(saved(tmp_path, clear, "clear.png")).getpixel((3, 3)) == (255, 255, 255)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    assert read_image(path).getpixel((3, 3))[0] > 200


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    path = saved(tmp_path, Image.fromarray(RAMP), "phone.jpg", exif=exif)
    assert read_image(path).size == (24, 32)


def test_large_images_are_scaled_down():
    assert fit_within(Image.new("RGB", (400, 100)), 200).size == (200, 50)
    assert fit_within(Image.new("RGB", (40, 10)), 200).size == (40, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.write_bytes(b""), "the file is empty"),
        (lambda p: p.write_bytes(b"not an image at all"), "not an image that Pillow can read"),
        (lambda p: Image.new("RGB", (1, 1)).save(p), "1x1 pixels; an image needs at least 16 a side"),
        (lambda p: Image.new("1", (16000, 9999)).save(p), "16000x9999 is more than 150 megapixels"),
        (lambda p: Image.new("1", (20000, 20000)).save(p), "more than 150 megapixels"),
    ],
)
def test_unusable(tmp_path, make, message):
    path = tmp_path / "image.png"
    make(path)
    with pytest.raises(ImageError, match=message):
        read_image(path)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
def test_truncated(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), name)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_image(path)


def test_a_damaged_exif_block(tmp_path):
    """Pixels are whole, yet Pillow raises ``TypeError`` or ``struct.error``: which way up is not known, so it is refused."""
    exif = Image.Exif()
    exif[274] = 6
    good = exif.tobytes()
    refused = []
    for at in range(6, len(good)):
        path = saved(tmp_path, Image.new("RGB", (32, 20)), "exif.jpg", exif=good[:at] + b"\x02" + good[at + 1 :])
        with contextlib.suppress(ImageError):
            read_image(path)
            continue
        refused.append(at)
    assert refused


def test_too_many_open_files_are_no_damage(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (32, 20)), "a.png")

    def refuse(_path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"Too many open files\); more files are open than the system allows.*ulimit"):
        read_image(path)


def test_float_pixels(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.random.rand(20, 20).astype(np.float32) * 40), "float.tiff")
    with pytest.raises(ImageError, match="float pixels have no fixed range"):
        read_image(path)
    assert read_image(path, reading=Reading((0.0, 1e6))).getextrema()[0] == (0, 0)
    assert read_image(path, reading=Reading("image")).getextrema()[0] == (0, 255)


def test_sizes():
    image = Image.new("RGB", (40, 20))
    assert fit_within(image, 30).size == (30, 15)
    assert fit_within(image, 50) is image
    assert at_least(image, 64).size == (128, 64)
    assert at_least(image, 20) is image


def test_a_range_of_values(tmp_path):
    """255 (value - low) / (high - low), rounded down and clipped; of a data set that of 8-bit images is left alone."""
    values = np.tile(np.array([0, 100, 200, 300, 400], np.uint16), (20, 4))
    path = saved(tmp_path, Image.fromarray(values), "scan.png")
    assert np.asarray(read_image(path, reading=Reading((100.0, 300.0))))[0, :5, 1].tolist() == [0, 0, 127, 255, 255]
    eight = saved(tmp_path, Image.fromarray(RAMP), "photo.png")
    assert np.array_equal(np.asarray(read_image(eight, reading=Reading((100.0, 300.0), deep_only=True))), RAMP)
    assert np.asarray(read_image(eight, reading=Reading((0.0, 127.5)))).max() == 255
    assert Reading.from_record(Reading((1.0, 2.0), (1,), 3, True).record()) == Reading((1.0, 2.0), (1,), 3, True)
    assert Reading("auto").of([np.array([0.0, 60_000.0])], 65535) == Reading("dtype")
    found = Reading("auto").of([np.linspace(0, 4000, 1001)], 65535)
    assert (found.window, found.deep_only) == (pytest.approx((4, 3996)), True)
    assert Reading("auto").of([], 255) == Reading("dtype")


@pytest.mark.parametrize("text", ["4095", "5,5", "a,b", "0,nan", "", "1,2,3", "black"])
def test_ranges_that_are_none(text):
    with pytest.raises(SettingsError, match="two ascending numbers such as 0,4095"):
        ReadingConfig(range=text)


def test_sixteen_bits_of_colour(tmp_path):
    tifffile, imagecodecs = pytest.importorskip("tifffile"), pytest.importorskip("imagecodecs")
    values = (RAMP.astype(np.uint16) * 16).copy()  # 12 bits
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    alpha = np.concatenate([values, np.full((24, 32, 1), 9, np.uint16)], 2)
    tifffile.imwrite(tmp_path / "alpha.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    for name in ("a.tif", "a.png", "alpha.tif"):
        assert np.array_equal(np.asarray(read_image(tmp_path / name, reading=Reading((0.0, 4080.0)))), RAMP), name
        assert "16-bit image whose largest value is 4080: read as 15 of 255" in read_with_doubt(tmp_path / name)[1]


def test_bands_and_pages(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    bands = np.stack([np.full((20, 30), 10 * (at + 1), np.uint8) for at in range(6)])
    tifffile.imwrite(tmp_path / "apart.tif", bands, photometric="minisblack", planarconfig="separate")
    tifffile.imwrite(tmp_path / "pages.tif", bands, photometric="minisblack")
    tifffile.imwrite(tmp_path / "beside.tif", np.moveaxis(bands, 0, -1), photometric="minisblack", planarconfig="contig")
    for name in ("apart.tif", "pages.tif", "beside.tif"):
        assert read_image(tmp_path / name, reading=Reading(bands=(4, 3, 2))).getpixel((5, 5)) == (40, 30, 20)
        assert read_image(tmp_path / name, reading=Reading(bands=(6,))).getpixel((5, 5)) == (60, 60, 60)
        with pytest.raises(ImageError, match="bands|pages"):
            read_image(tmp_path / name, reading=Reading(bands=(7, 3, 2)))
    for name in ("apart.tif", "beside.tif"):
        with pytest.raises(ImageError, match="has 6 bands; say which are red, green and blue"):
            read_image(tmp_path / name)
    image, said = read_with_doubt(tmp_path / "pages.tif")
    assert (image.getpixel((5, 5)), said) == ((10, 10, 10), "has 6 pages, of which page 1 is read (--page)")
    assert read_image(tmp_path / "pages.tif", reading=Reading(page=6)).getpixel((5, 5)) == (60, 60, 60)
    with pytest.raises(ImageError, match="has 6 pages, and --page asks for 7"):
        read_image(tmp_path / "pages.tif", reading=Reading(page=7))


def test_dicom(tmp_path):
    """The rescaled values, here -1000 to 1000 with bright as low: turned over."""
    pydicom = pytest.importorskip("pydicom")
    values = np.linspace(0, 2000, 20 * 30).reshape(20, 30).astype(np.uint16)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, pydicom.uid.generate_uid()
    file.RescaleSlope, file.RescaleIntercept = 1, -1000
    file.PhotometricInterpretation = "MONOCHROME1"
    pydicom.pixels.set_pixel_data(file, values, "MONOCHROME1", 16)
    file.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    row = np.asarray(read_image(tmp_path / "scan.dcm", reading=Reading((-1000.0, 1000.0))))[:, :, 0]
    assert (row[0, 0], row[-1, -1]) == (255, 0)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "scan.dcm").read_bytes()[:900])
    (tmp_path / "text.dcm").write_text("not a scan at all " * 20)
    for name in ("cut.dcm", "text.dcm"):
        with pytest.raises(ImageError):
            read_image(tmp_path / name)


def test_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.zeros((30, 20, 4), np.int16)
    volume[2, 3, 1] = 500
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii", reading=Reading((0.0, 500.0), page=2))
    assert (image.size, image.getpixel((2, 20 - 1 - 3))) == ((30, 20), (255, 255, 255))
    with pytest.raises(ImageError, match="a volume of 30x20x4, and --page asks for slice 5"):
        read_image(tmp_path / "scan.nii", reading=Reading(page=5))


@pytest.mark.parametrize("shape", [(512, 512, 1), (1024, 1024, 1), (300, 512, 3), (2048, 100, 6)])
def test_a_sample_is_of_the_whole_image(shape):
    """Not of a few columns or of one band, whatever the width: half of it left, a quarter in every quarter, all bands."""
    where = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), -1)
    for axis, side in enumerate(shape):
        found = sample_of(where[..., axis])
        assert len(found) == SAMPLE
        assert found.mean() == pytest.approx((side - 1) / 2, abs=0.02 * side)
        assert len(np.unique(found)) > min(side, SAMPLE) / 2
