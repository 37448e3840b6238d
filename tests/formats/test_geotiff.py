"""Masks that lie where their images lie, as rasterio reads them, and what GIS programs give back."""

import json
import sys
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from advcam.data import ClassTable
from advcam.errors import DataError, ImageError, SettingsError
from advcam.formats import FORMATS, Losses, Masked, Names, Wishes

rasterio = pytest.importorskip("rasterio")
from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.transform import Affine  # noqa: E402

CLASSES = ClassTable((7, 2), ("field", "forêt"))
PLACE = Affine(0.5, 0.1, 412_000.25, -0.1, -0.5, 5_411_000.75)  # turned a little
IDS = np.random.default_rng(0).choice([0, 2, 7, 255], (40, 53)).astype(np.uint8)


def image(path, bands=4, kind="uint16", place=PLACE, crs="EPSG:32632", nodata=None, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(1).integers(1, 200, (bands, 40, 53)).astype(kind)
    if nodata is not None:
        values[:, :4, :6] = nodata
        values[0, 20, 20] = nodata  # in one band alone: the others have data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        about = {"height": 40, "width": 53, "count": bands, "dtype": kind, "crs": crs, "transform": place, "nodata": nodata}
        with rasterio.open(path, "w", driver="GTiff", **about | more) as file:
            file.write(values)
    return path


def write(tmp_path, *made, out="out"):
    losses = Losses()
    with FORMATS["geotiff"].write(tmp_path / out, Wishes(Names(CLASSES)), losses) as add:
        for masked in made:
            add(masked)
    return tmp_path / out, losses


def read(source):
    return {found.names[0]: found.draw((40, 53)).ids for found in FORMATS["geotiff"].read(source, Names(CLASSES))}


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326", "EPSG:2154"])
def test_transform_crs_and_every_pixel_are_the_same(crs, tmp_path):
    out, losses = write(tmp_path, Masked("sub/a.1", image(tmp_path / "images" / "sub" / "a.1.tif", crs=crs), IDS))
    with rasterio.open(out / "sub" / "a.1.tif") as file:
        assert np.array_equal(file.read(1), IDS)
        assert file.transform == PLACE
        assert file.crs == rasterio.CRS.from_string(crs)
        assert (file.nodata, file.count, file.dtypes) == (255, 1, ("uint8",))
        assert file.colormap(1)[1] == (128, 0, 0, 255)  # VOC's
        assert json.loads(file.tags()["ADVCAM_CLASSES"]) == {"7": "field", "2": "forêt", "255": "ignored"}
    assert losses.lines() == []
    assert {path.name for path in (out / "sub").iterdir()} == {"a.1.tif"}
    assert np.array_equal(read(out)["sub/a.1"], IDS)


@pytest.mark.parametrize(("kind", "nodata"), [("uint16", 0), ("float32", float("nan")), ("float32", -9999.0), ("uint8", 255)])
def test_where_the_image_has_no_data_nothing_is_known(kind, nodata, tmp_path):
    out, _ = write(tmp_path, Masked("a", image(tmp_path / "images" / "a.tif", kind=kind, nodata=nodata), IDS))
    expected = IDS.copy()
    expected[:4, :6] = 255
    with rasterio.open(out / "a.tif") as file:
        assert np.array_equal(file.read(1), expected)


def test_a_fourth_band_that_is_called_alpha_hides_nothing(tmp_path):
    path = image(tmp_path / "images" / "a.tif", kind="uint8", photometric="RGB", alpha="yes")
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((40, 53), np.uint8), 4)
        assert file.colorinterp[3] == rasterio.enums.ColorInterp.alpha
    out, _ = write(tmp_path, Masked("a", path, IDS))
    with rasterio.open(out / "a.tif") as file:
        assert np.array_equal(file.read(1), IDS)


def test_control_points_are_kept(tmp_path):
    points = [
        GroundControlPoint(0, 0, 10.0, 50.0),
        GroundControlPoint(0, 52, 10.1, 50.0),
        GroundControlPoint(39, 0, 10.0, 49.9),
    ]
    path = image(tmp_path / "images" / "a.tif", place=None, crs=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "r+") as file:
            file.gcps = (points, rasterio.CRS.from_epsg(4326))
        out, _ = write(tmp_path, Masked("a", path, IDS))
        with rasterio.open(out / "a.tif") as file:
            found, crs = file.gcps
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
    assert crs == rasterio.CRS.from_epsg(4326)


def test_images_without_a_place_are_counted(tmp_path):
    plain, world, odd = (tmp_path / "images" / name for name in ("a.png", "b.png", "c.webp"))
    plain.parent.mkdir()
    for path in (plain, world, odd):
        Image.new("RGB", (53, 40)).save(path)
    world.with_suffix(".pgw").write_text("10\n0\n0\n-10\n505\n4995\n")  # a world file: the centre of the first pixel
    out, losses = write(tmp_path, *(Masked(path.stem, path, IDS) for path in (plain, world, odd)))
    assert losses.lines() == ["2 images have no transform and no CRS, and so have their masks none"]
    with rasterio.open(out / "b.tif") as file:
        assert file.transform == Affine(10, 0, 500, 0, -10, 5000)
    for name in "abc":
        assert np.array_equal(read(out)[name], IDS)


def test_an_image_that_is_stored_turned(tmp_path):
    with pytest.raises(ImageError, match="is stored turned"):
        write(tmp_path, Masked("a", image(tmp_path / "images" / "a.tif"), np.zeros((53, 40), np.uint8)))
    assert not list((tmp_path / "out").glob("*.tif"))


def saved(path, values, **more):
    path.parent.mkdir(exist_ok=True)
    values = values[None] if values.ndim == 2 else values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        about = {"height": values.shape[1], "width": values.shape[2], "count": len(values), "dtype": values.dtype}
        with rasterio.open(path, "w", driver="GTiff", **about | more) as file:
            file.write(values)


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32", "float64"])
def test_masks_of_gis_programs(kind, tmp_path):
    """Of any type of numbers, with any value for no data, and without our names; 0 is background even where it is no data."""
    values = IDS.astype(kind)
    values[IDS == 255] = 99 if kind == "uint8" else -1
    saved(tmp_path / "in" / "a.TIF", values, nodata=99 if kind == "uint8" else -1)
    assert np.array_equal(read(tmp_path / "in")["a"], IDS)
    saved(tmp_path / "in" / "a.TIF", np.where(IDS == 255, 7, IDS).astype(kind), nodata=0)
    assert np.array_equal(read(tmp_path / "in")["a"], np.where(IDS == 255, 7, IDS))


def test_the_files_own_names_count(tmp_path):
    saved(tmp_path / "in" / "a.tif", np.where(IDS == 7, 1, IDS).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "in" / "a.tif", "r+") as file:
            file.update_tags(ADVCAM_CLASSES=json.dumps({"1": "field", "2": "forêt"}))
    assert np.array_equal(read(tmp_path / "in")["a"], IDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "in" / "a.tif", "r+") as file:
            file.update_tags(ADVCAM_CLASSES=json.dumps({"1": "lake"}))
    with pytest.raises(DataError, match="no class is called 'lake'"):
        read(tmp_path / "in")


def test_a_zip_archive(tmp_path):
    out, _ = write(tmp_path, Masked("a", image(tmp_path / "images" / "a.tif"), IDS))
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.write(out / "a.tif", "a.tif")
    assert np.array_equal(read(tmp_path / "out.zip")["a"], IDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((40, 53), 3, np.uint8), "holds 3, which is the id of no class"),
        (np.full((40, 53), 2.5, np.float32), "holds 2.5, which is the id of no class"),
        (np.full((40, 53), 1e30, np.float64), r"holds 1e\+30, which is the id of no class"),
        (np.zeros((3, 40, 53), np.uint8), "has 3 bands of 53x40, expected one of its image's 53x40"),
        (np.zeros((41, 53), np.uint8), "has 1 bands of 53x41"),
    ],
)
def test_what_is_no_mask(values, message, tmp_path):
    saved(tmp_path / "in" / "a.tif", values)
    with pytest.raises(ImageError, match=message):
        read(tmp_path / "in")


def test_damaged_files_and_those_of_other_kinds(tmp_path):
    """GDAL is asked for GeoTIFF alone: other files, which may name further files, are not opened."""
    (tmp_path / "in").mkdir()
    saved(tmp_path / "truth.tif", IDS)
    vrt = '<VRTDataset rasterXSize="53" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>'
    vrt += f"{tmp_path}/truth.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    for data in (vrt.encode(), b"", b"II*\0", (tmp_path / "truth.tif").read_bytes()[:300]):
        (tmp_path / "in" / "a.tif").write_bytes(data)
        with pytest.raises(ImageError, match="cannot be read as a GeoTIFF"):
            read(tmp_path / "in")


def test_without_rasterio(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(SettingsError, match=r"--to geotiff needs rasterio: pip install 'advcam\[geo\]'"):
        write(tmp_path)
    with pytest.raises(SettingsError, match="--from geotiff needs rasterio"):
        read(tmp_path)
