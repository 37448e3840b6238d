"""Images of other than three channels, and the bands, values and files that they are made of."""

import copy
import gzip
import pickle
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from advcam.data import Channels, NetworkInput, Reading, ReadingConfig, channels_of, load, look_at, read_image, shrunk
from advcam.data.images import suffix_of
from advcam.errors import DataError, ImageError, SettingsError

SIX = np.stack([np.full((20, 30), 10 * (at + 1), np.uint8) for at in range(6)])


def layered(array):
    return Channels([Image.fromarray(np.ascontiguousarray(layer)) for layer in array])


def test_every_channel_is_resized_as_pillow_does_and_three_are_shown():
    array = np.random.default_rng(0).integers(0, 256, (5, 20, 30), dtype=np.uint8)
    image = layered(array)
    assert np.array_equal(np.asarray(image), np.moveaxis(array, 0, -1))
    shown = Image.fromarray(np.moveaxis(array[:3], 0, -1))
    how = {"resample": Image.Resampling.BILINEAR, "box": (1.5, 2.0, 20.25, 18.0)}
    assert np.array_equal(np.asarray(image.resize((11, 7), **how))[..., :3], np.asarray(shown.resize((11, 7), **how)))
    assert np.array_equal(np.asarray(image.crop((1, 2, 9, 8))), np.moveaxis(array[:, 2:8, 1:9], 0, -1))
    assert np.array_equal(np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), np.moveaxis(array[:, :, ::-1], 0, -1))
    assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(shown))
    sheet = Image.new("RGB", (30, 20))
    sheet.paste(image)
    assert np.array_equal(np.asarray(sheet), np.asarray(shown))
    two = layered(array[:2])
    assert np.asarray(two).shape == (20, 30, 2)
    assert np.array_equal(np.asarray(two.convert("RGB"))[..., 1], array[0])  # the first as grey


def test_copies_have_all_channels_here_and_in_another_process():
    image = layered(SIX)
    for same in (image.copy(), copy.copy(image), copy.deepcopy(image), pickle.loads(pickle.dumps(image))):
        assert channels_of(same) == 6
        assert same.size == (30, 20)
        assert np.array_equal(np.asarray(same), np.moveaxis(SIX, 0, -1))
        assert same.getpixel((0, 0)) == (10, 20, 30)
    assert not isinstance(image.convert("RGB"), Channels)
    assert np.asarray(image.convert("RGB")).shape == (20, 30, 3)


def test_a_thumbnail_has_all_channels_and_leaves_its_layers():
    layers = [Image.fromarray(layer) for layer in SIX]
    image = Channels(layers)
    image.thumbnail((15, 15))
    assert image.size == (15, 10)
    assert np.array_equal(np.asarray(image), np.moveaxis(SIX[:, ::2, ::2], 0, -1))
    assert layers[0].size == (30, 20)


TURNS = {1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
         7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
"""Pillow's turn for each EXIF orientation."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_that_are_read_in_full_are_turned_as_others(orientation, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    said = {"extratags": [(274, "H", 1, orientation, True)]}
    way = TURNS[orientation]

    def turned(array):
        image = Image.fromarray(np.ascontiguousarray(array))
        return np.asarray(image.transpose(Image.Transpose[way]) if way else image)

    rgb = values[..., :3]
    tifffile.imwrite(tmp_path / "plain.tif", rgb, photometric="rgb", **said)
    tifffile.imwrite(tmp_path / "deep.tif", rgb * np.uint16(257), photometric="rgb", **said)
    tifffile.imwrite(tmp_path / "float.tif", rgb / np.float32(255), photometric="rgb", **said)
    tifffile.imwrite(tmp_path / "bands.tif", values, photometric="minisblack", planarconfig="contig", **said)
    tifffile.imwrite(tmp_path / "pages.tif", np.moveaxis(values, -1, 0), photometric="minisblack", **said)
    png = imagecodecs.png_encode(rgb * np.uint16(257))
    exif = Image.Exif()
    exif[274] = orientation
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "deep.png").write_bytes(
        png[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    )
    for name in ("plain.tif", "deep.tif", "deep.png"):
        assert np.array_equal(np.asarray(read_image(tmp_path / name)), turned(rgb)), name
    assert np.array_equal(np.asarray(read_image(tmp_path / "float.tif", reading=Reading((0.0, 1.0)))), turned(rgb))
    for name in ("bands.tif", "pages.tif"):
        found = read_image(tmp_path / name, reading=Reading(bands=(1, 2, 3, 4)))
        assert all(np.array_equal(np.asarray(found)[..., at], turned(values[..., at])) for at in range(4)), name


def test_a_tensor_has_all_channels():
    prepare = NetworkInput((0.5, 0.0, 0.0, 0.2), (1.0, 1.0, 2.0, 1.0), 64, (16, 16))
    tensor = prepare(layered(np.stack([np.full((16, 16), value, np.uint8) for value in (255, 51, 102, 51)])))
    assert tensor.shape == (4, 16, 16)
    assert tensor[:, 3, 5].tolist() == pytest.approx([0.5, 0.2, 0.2, 0.0])


@pytest.mark.parametrize(
    ("bands", "channels", "pixel"),
    [("", None, None), ("all", 6, [10, 20, 30, 40, 50, 60]), ("5,4,3,2", 4, [50, 40, 30, 20]), ("2,1", 2, [20, 10]),
     ("4,3,2", 3, [40, 30, 20]), ("3", 3, [30, 30, 30])],
)  # fmt: skip
def test_bands_become_channels(bands, channels, pixel, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "apart.tif", SIX, photometric="minisblack", planarconfig="separate")
    tifffile.imwrite(tmp_path / "pages.tif", SIX, photometric="minisblack")
    for name in ("apart.tif", "pages.tif"):
        reading = ReadingConfig(bands=bands).reading
        if not bands:
            continue
        image = read_image(tmp_path / name, reading=reading)
        assert np.asarray(image)[5, 5].tolist() == pixel
        assert channels_of(image) == channels
        assert reading.counted(6).channels == channels
        assert look_at(tmp_path / name, reading).bands == (6 if bands == "all" else len(bands.split(",")))
    if not bands:
        with pytest.raises(
            ImageError, match=r"has 6 bands; say which .*--bands 4,3,2; --bands all makes a network of them all"
        ):
            read_image(tmp_path / "apart.tif")


def test_one_channel(tmp_path):
    Image.fromarray(SIX[3]).save(tmp_path / "grey.png")
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "red.png")
    one = ReadingConfig(one_channel=True).reading
    assert one.channels == 1
    assert np.asarray(read_image(tmp_path / "grey.png", reading=one)).shape == (20, 30, 1)
    assert np.asarray(read_image(tmp_path / "grey.png", reading=one))[0, 0].tolist() == [40]
    assert np.asarray(read_image(tmp_path / "red.png", reading=one))[0, 0].tolist() == [76]  # Pillow's luminance, .299 of red
    assert np.asarray(read_image(tmp_path / "red.png", reading=Reading(bands=(1,), one_channel=True)))[0, 0].tolist() == [255]
    with pytest.raises(SettingsError, match="--one-channel is for one band, such as --bands 1; got --bands 1,2"):
        ReadingConfig(bands="1,2", one_channel=True)


def test_a_reading_is_recorded():
    for reading in (Reading((1.0, 2.0), (5, 4, 3, 2), 3, True), Reading("data", (1,), one_channel=True), Reading(bands="all")):
        assert Reading.from_record(reading.record()) == reading
    assert "one_channel" not in Reading().record()  # as in runs of earlier versions


@pytest.mark.parametrize("text", ["0", "1,,2", "a", "-1", "1;2", "4.0", "99999999999", ",".join(["1"] * 1001), "ALL"])
def test_bands_that_are_none(text):
    with pytest.raises(SettingsError, match=r"--bands is numbers from 1 to 1000 such as 4,3,2, or all; got"):
        ReadingConfig(bands=text)


def test_a_fourth_band_that_is_called_alpha_is_a_band_where_bands_are_asked_for(tmp_path):
    """GDAL calls the infrared of red, green, blue and infrared alpha."""
    tifffile = pytest.importorskip("tifffile")
    four = np.moveaxis(SIX[:4], 0, -1)
    for name, array in (("8.tif", four), ("16.tif", four.astype(np.uint16) * 257)):
        tifffile.imwrite(tmp_path / name, array, photometric="rgb", extrasamples=["unassalpha"])
        assert np.asarray(read_image(tmp_path / name, reading=Reading(bands="all")))[0, 0].tolist() == [10, 20, 30, 40]
        assert np.asarray(read_image(tmp_path / name, reading=Reading(bands=(4, 1, 2))))[0, 0].tolist() == [40, 10, 20]
        assert np.asarray(read_image(tmp_path / name)).shape == (20, 30, 3)


def test_smaller_copies_in_a_file_are_no_bands(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "cog.tif") as file:
        file.write(SIX[0], photometric="minisblack")
        file.write(SIX[0][::2, ::2], photometric="minisblack", subfiletype=1)
    assert np.asarray(read_image(tmp_path / "cog.tif", reading=Reading(bands="all"))).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="has 1 bands, and --bands asks for 2"):
        read_image(tmp_path / "cog.tif", reading=Reading(bands=(2,)))


def test_too_many_pixels_in_many_bands(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "six.tif", SIX, photometric="minisblack", planarconfig="separate")
    monkeypatch.setattr("advcam.data.arrays.MAX_PIXELS", 800)
    with pytest.raises(ImageError, match="30x20 in 6 bands, of which four count as one, is more than"):
        read_image(tmp_path / "six.tif", reading=Reading(bands="all"))


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 4])
def test_no_data_is_black_and_does_not_count_for_the_range(kind, bands, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.tile(np.linspace(100, 200, 30), (20, 1)).astype(kind)
    array = np.stack([values] * bands, -1)
    nodata = 65535 if kind == np.uint16 else -9999
    array[:5, :5] = nodata
    path = tmp_path / "map.tif"
    tag = [(42113, 2, 0, str(nodata), True)]
    tifffile.imwrite(
        path, array if bands > 1 else array[..., 0], photometric="minisblack", planarconfig="contig", extratags=tag
    )
    reading = Reading("data", "all" if bands > 1 else None)
    seen = look_at(path, reading)
    assert seen.sample is not None
    assert 100 <= seen.sample[0].min() <= seen.sample[0].max() <= 200
    image = np.asarray(read_image(path, reading=reading))
    assert (image[:5, :5] == 0).all()
    assert image[10, 29].tolist() == [255] * max(bands, 3)
    array[:] = nodata
    tifffile.imwrite(
        path, array if bands > 1 else array[..., 0], photometric="minisblack", planarconfig="contig", extratags=tag
    )
    assert look_at(path, reading).doubt == "no pixel of it has data"


def test_a_data_set_of_all_bands(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "images").mkdir()
    for at in range(3):
        four = np.moveaxis(SIX[:4], 0, -1) + at
        tifffile.imwrite(tmp_path / "images" / f"{at}.TIF", four, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "images" / "odd.tif", SIX, photometric="minisblack", planarconfig="separate")
    (tmp_path / "labels.csv").write_text("image,labels\n0,a\n1,b\n2,a;b\nodd,a\n")
    data = load(tmp_path / "images", tmp_path / "labels.csv", reading=Reading("dtype", "all"))
    assert [item.id for item in data.items] == ["0", "1", "2"]
    assert data.reading == Reading("dtype", (1, 2, 3, 4))
    assert channels_of(data.items[0].read()) == 4
    assert [skip.reason.split(": ")[1] for skip in data.skipped] == ["has 6 bands, most images have 4"]
    with pytest.raises(DataError, match="has 4 bands, and --bands asks for 7"):
        load(tmp_path / "images", tmp_path / "labels.csv", reading=Reading("dtype", (7,)))


def test_a_film_is_no_image_of_many_bands(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "film.tif", np.zeros((1003, 16, 16), np.uint8), photometric="minisblack")
    with pytest.raises(ImageError, match="has more than 1000 bands; say which: --bands 4,3,2"):
        read_image(tmp_path / "film.tif", reading=Reading(bands="all"))
    assert np.asarray(read_image(tmp_path / "film.tif", reading=Reading(bands=(1000, 3)))).shape == (16, 16, 2)


def test_bands_without_tifffile(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "four.tif", np.moveaxis(SIX[:4], 0, -1), photometric="rgb", extrasamples=["unassalpha"])
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match=r"reading its bands needs tifffile: pip install 'advcam\[tiff\]'"):
        read_image(tmp_path / "four.tif", reading=Reading(bands="all"))


def test_nifti_compressed_and_of_four_axes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = np.arange(30 * 20 * 2 * 4, dtype=np.int16).reshape(30, 20, 2, 4) % 251
    plain = nibabel.Nifti1Image(values, np.eye(4)).to_bytes()
    (tmp_path / "a.nii").write_bytes(plain)
    (tmp_path / "b.NII.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "c.nii").write_bytes(nibabel.Nifti2Image(values, np.eye(4)).to_bytes())
    reading = Reading((0.0, 255.0), (1, 2, 3, 4), page=2)
    for name in ("a.nii", "b.NII.gz", "c.nii"):
        image = np.asarray(read_image(tmp_path / name, reading=reading))
        assert np.array_equal(image, np.moveaxis(values[:, :, 1], 0, 1)[::-1])
    assert np.array_equal(
        np.asarray(read_image(tmp_path / "b.NII.gz", reading=Reading((0.0, 255.0))))[..., 0], values[:, ::-1, 0, 0].T
    )
    with pytest.raises(ImageError, match="a volume of 30x20x2x4, and --page asks for slice 3"):
        read_image(tmp_path / "a.nii", reading=Reading((0.0, 255.0), (1,), page=3))
    (tmp_path / "b.NII.gz").write_bytes(gzip.compress(plain)[:200])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_image(tmp_path / "b.NII.gz")


def test_an_archive_that_unpacks_to_more_than_an_image(tmp_path, monkeypatch):
    pytest.importorskip("nibabel")
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(10**6)))
    monkeypatch.setattr("advcam.data.arrays.MAX_IMAGE_BYTES", 10**5)
    with pytest.raises(ImageError, match="unpacks to more than 100000 bytes"):
        read_image(tmp_path / "bomb.nii.gz")


def test_names_of_compressed_volumes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "images").mkdir()
    volume = gzip.compress(nibabel.Nifti1Image(np.full((30, 20), 90, np.int16), np.eye(4)).to_bytes())
    for name in ("p.1.nii.gz", "q.NII.GZ"):
        (tmp_path / "images" / name).write_bytes(volume)
    (tmp_path / "labels.csv").write_text("image,labels\np.1.nii.gz,a\nq,a\n")
    data = load(tmp_path / "images", tmp_path / "labels.csv", reading=Reading((0.0, 255.0)))
    assert [item.id for item in data.items] == ["p.1", "q"]
    assert [suffix_of(name) for name in ("a.NII.gz", "a.gz", "a.b.PNG", "a")] == [".nii.gz", ".gz", ".png", ""]


def test_heic(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    shown = Image.fromarray(
        np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    )
    heif.from_pillow(shown).save(tmp_path / "phone.HEIC", quality=95)
    read = read_image(tmp_path / "phone.HEIC")
    assert (read.mode, read.size) == ("RGB", (128, 96))
    assert np.abs(np.asarray(read).astype(int) - np.asarray(shown)).mean() < 12
    (tmp_path / "cut.heic").write_bytes((tmp_path / "phone.HEIC").read_bytes()[:900])
    with pytest.raises(ImageError, match="damaged or truncated|not an image"):
        read_image(tmp_path / "cut.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"reading it needs pillow_heif: pip install 'advcam\[heic\]'"):
        read_image(tmp_path / "phone.HEIC")


def test_avif_needs_no_extra(tmp_path):
    Image.new("RGB", (32, 24), (200, 30, 40)).save(tmp_path / "a.AVIF")
    assert np.abs(np.asarray(read_image(tmp_path / "a.AVIF"))[3, 3].astype(int) - [200, 30, 40]).max() < 6


def test_what_a_long_side_shrinks():
    assert shrunk([(480, 640), (1280, 960)], 640) is None
    assert shrunk([(480, 640), (3000, 4000), (1281, 960)], 640) == (
        "2 of 3 images are shrunk by more than two, up to 4000x3000 to 640x480 pixels: a --long-side of 640 does it"
    )
    assert shrunk([], 640) is None


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("planes", ["separate", "contig"])
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_no_band_is_lost_however_a_file_stores_them(kind, planes, count, tmp_path):
    """Pillow opens some files of several bands as grey, and reads the first or none."""
    tifffile = pytest.importorskip("tifffile")
    array = SIX[:count].astype(kind)
    array = array if planes == "separate" else np.moveaxis(array, 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", planarconfig=planes)
    image = read_image(tmp_path / "a.tif", reading=Reading((0.0, 255.0), "all"))
    assert np.asarray(image)[3, 3].tolist() == [10 * (at + 1) for at in range(count)]
    assert np.asarray(read_image(tmp_path / "a.tif", reading=Reading((0.0, 255.0), (2, 1))))[3, 3].tolist() == [20, 10]
    if count != 3:
        with pytest.raises(ImageError, match=f"has {count} bands; say which"):
            read_image(tmp_path / "a.tif", reading=Reading((0.0, 255.0)))


def test_values_are_scaled_in_parts(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 4096, (37, 29), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    whole = np.asarray(read_image(tmp_path / "a.png", reading=Reading((100.0, 3000.0))))
    monkeypatch.setattr("advcam.data.reading.AT_ONCE", 60)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png", reading=Reading((100.0, 3000.0)))), whole)
