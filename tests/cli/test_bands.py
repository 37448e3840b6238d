"""A run on GeoTIFFs of four bands, one that gives grey as one channel, and what each verb makes of them."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from advcam.cli import main
from advcam.models.classifiers import Backbone
from advcam.segmenter import Segmenter

tifffile, rasterio = pytest.importorskip("tifffile"), pytest.importorskip("rasterio")
from rasterio.transform import Affine  # noqa: E402

SMALL = [
    "--backbone", "test_resnet", "--output-stride", "8", "--from-scratch", "--epochs", "8", "--crop", "48", "--batch", "8",
    "--lr", "3e-3", "--workers", "0", "--quiet", "--preset", "default", "--steps", "2", "--threshold", "0.3",
    "--segment-epochs", "1", "--segment-crop", "48", "--segment-batch", "4",
]  # fmt: skip


def mode(path):
    with Image.open(path) as image:
        return image.mode


def place(at):
    return Affine(10, 0, 500_000 + 480 * at, 0, -10, 5_000_000)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Twelve tiles of noise; class a is a square that the fourth band alone shows."""
    root, random, rows = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0), ["image,labels"]
    (root / "images").mkdir()
    for at in range(12):
        values = random.integers(900, 1400, (4, 48, 48)).astype(np.uint16)
        if at % 2:
            values[3, 10:34, 8:30] = 3500
        values[:, :3, :3] = 65535
        about = {"height": 48, "width": 48, "count": 4, "dtype": "uint16", "crs": "EPSG:32632", "nodata": 65535}
        with rasterio.open(root / "images" / f"t{at:02}.tif", "w", driver="GTiff", transform=place(at), **about) as file:
            file.write(values)
        rows.append(f"t{at:02},{'a' if at % 2 else ''}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def four(tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "four"
    data = ["--images", tiles / "images", "--labels", tiles / "labels.csv", "--bands", "all", "--range", "data"]
    assert main(["run", *map(str, data), "--out", str(out), *SMALL]) == 0
    return out


@pytest.fixture
def copied(four, tmp_path):
    return shutil.copytree(four, tmp_path / "run")


def test_the_network_sees_every_band(four):
    kept, made = (json.loads((four / name).read_text()) for name in ("data.json", "1-classify/model.json"))
    assert kept["reading"]["bands"] == [1, 2, 3, 4]
    assert 3000 < kept["reading"]["window"][1] <= 3500  # not 65535, which is no data
    assert (made["backbone"]["channels"], len(made["backbone"]["mean"])) == (4, 4)
    assert json.loads((four / "1-classify" / "metrics.json").read_text())["history"][-1]["loss"] < 0.7
    segmenter = Segmenter.load(four / "4-segment", torch.device("cpu"))
    assert segmenter.network.encoder.model.conv1[0].weight.shape[1] == 4
    assert mode(four / "4-segment" / "look.png") == "RGB"
    assert (four / "report.html").is_file()


def test_the_map_is_where_the_fourth_band_shows_the_class(four):
    """No other band says anything of it."""
    inside = []
    for at in range(1, 12, 2):
        with np.load(four / "2-climb" / "maps" / f"t{at:02}.npz") as held:
            cells = held["maps"][0].astype(float)
        inside.append(cells[3:8, 2:7].mean() - np.delete(cells, slice(2, 9), 0).mean())
    assert np.mean(inside) > 0.1


@pytest.mark.parametrize("options", [["--method", "pamr"], ["--method", "crf"]])
def test_refinements(copied, options):
    assert main(["refine", "--run", str(copied), "--redo", "--quiet", *options]) == 0
    assert len(list((copied / "3-refine" / "masks").iterdir())) == 12


def test_semi_and_predict_and_export(tiles, copied, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "few.txt").write_text("t01\nt02\n")
    for name, value in (("t01", 1), ("t02", 0)):
        mask = np.zeros((48, 48), np.uint8)
        mask[10:34, 8:30] = value
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    few = ["--pixel-labels", str(tmp_path / "few.txt"), "--masks", str(tmp_path / "masks"), "--batch", "4", "--crop", "48"]
    assert main(["semi", "--run", str(copied), *few, "--epochs", "1", "--quiet"]) == 0
    out, model = tmp_path / "predicted", str(copied / "5-semi")
    assert main(["predict", "--model", model, "--images", str(tiles / "images"), "--out", str(out), "--crf", "--quiet"]) == 0
    assert len(list(out.glob("*.png"))) == 12
    assert main(["export", "--model", model, "--out", str(tmp_path / "net.pt2"), "--size", "64x64"]) == 0
    about = json.loads((tmp_path / "net.pt2.json").read_text())["input"]
    assert about["is"].startswith("float32 [N, 4, H, W], the bands of `reading` in their order")
    assert about["reading"]["bands"] == [1, 2, 3, 4]
    placed = ["--images", str(tiles / "images"), "--masks", str(out), "--classes", str(tmp_path / "classes.csv")]
    (tmp_path / "classes.csv").write_text("id,name\n1,a\n")
    assert main(["convert", "masks", *placed, "--to", "geotiff", "--out", str(tmp_path / "gis"), "--quiet"]) == 0
    with rasterio.open(tmp_path / "gis" / "t03.tif") as file:
        expected = np.asarray(Image.open(out / "t03.png")).copy()
        expected[:3, :3] = 255
        assert np.array_equal(file.read(1), expected)
        assert file.transform == place(3)
        assert file.crs == rasterio.CRS.from_epsg(32632)


def test_climb_image(tiles, four, tmp_path):
    image = str(tiles / "images" / "t01.tif")
    assert main(["climb-image", image, "--model", str(four), "--steps", "2", "--out", str(tmp_path / "a"), "--quiet"]) == 0
    assert mode(tmp_path / "a" / "t01.png") == "RGB"
    with np.load(tmp_path / "a" / "t01.npz") as held:
        assert held["size"].tolist() == [48, 48]


def test_masks_of_a_run_lie_where_its_images_lie(four, tmp_path):
    assert main(["convert", "masks", "--run", str(four), "--to", "geotiff", "--out", str(tmp_path / "gis"), "--quiet"]) == 0
    for at in range(12):
        with rasterio.open(tmp_path / "gis" / f"t{at:02}.tif") as file:
            expected = np.asarray(Image.open(four / "3-refine" / "masks" / f"t{at:02}.png")).copy()
            expected[:3, :3] = 255
            assert np.array_equal(file.read(1), expected)
            assert file.transform == place(at)


def test_a_network_of_one_channel(tiles, tmp_path):
    data = ["--images", tiles / "images", "--labels", tiles / "labels.csv", "--bands", "4", "--one-channel", "--range", "data"]
    assert main(["run", *map(str, data), "--out", str(tmp_path / "one"), *SMALL, "--method", "pamr"]) == 0
    made = json.loads((tmp_path / "one" / "4-segment" / "model.json").read_text())
    assert (made["backbone"]["channels"], made["reading"]["one_channel"]) == (1, True)
    out = ["--out", str(tmp_path / "predicted"), "--quiet"]
    assert main(["predict", "--model", str(tmp_path / "one" / "4-segment"), "--images", str(tiles / "images"), *out]) == 0
    assert len(list((tmp_path / "predicted").glob("*.png"))) == 12


def test_a_long_side_that_shrinks_by_more_than_two_is_said_once(tiles, four, tmp_path, capsys):
    size = ["--out", str(tmp_path / "predicted"), "--long-side", "32"]
    model = ["predict", "--model", str(four / "4-segment"), "--images", str(tiles / "images")]
    assert main([*model, *size]) == 0
    assert "shrunk" not in capsys.readouterr().err
    (tmp_path / "large").mkdir()
    with rasterio.open(tiles / "images" / "t01.tif") as file:
        large = np.kron(file.read(), np.ones((1, 2, 2))).astype(np.uint16)
    tifffile.imwrite(tmp_path / "large" / "x.tif", large, photometric="minisblack", planarconfig="separate")
    assert main([*model[:3], "--images", str(tmp_path / "large"), "--out", str(tmp_path / "p"), "--long-side", "32"]) == 0
    said = "1 of 1 images are shrunk by more than two, up to 96x96 to 32x32 pixels: a --long-side of 32 does it"
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--bands", "all", "--mean", "0.5,0.5,0.5"],
            "--mean and --std have a number for each of 4 channels; got (0.5, 0.5, 0.5)",
        ),
        (["--bands", "1,2,3,9"], "has 4 bands, and --bands asks for 1,2,3,9"),
        (["--bands", "all", "--one-channel"], "--one-channel is for one band"),
        (["--bands", "all", "--backbone-option", "in_chans=4"], "'in_chans' is not taken: --bands and --one-channel say"),
        ([], "has 4 bands; say which are red, green and blue"),
    ],
)
def test_what_does_not_fit_is_said(tiles, options, message, tmp_path, capsys):
    data = ["--images", str(tiles / "images"), "--labels", str(tiles / "labels.csv"), "--range", "data"]
    assert main(["run", *data, "--out", str(tmp_path / "x"), *SMALL, *options]) == 2
    assert message in capsys.readouterr().err


OWN = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    body = [nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
"""


def test_a_classifier_of_ones_own_and_weights_of_three_channels(tiles, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "own.py").write_text(OWN)
    data = ["--images", str(tiles / "images"), "--labels", str(tiles / "labels.csv"), "--range", "data", "--bands", "all"]
    own = ["--classifier", f"{tmp_path / 'own.py'}:make"]
    assert main(["classify", "--run", str(tmp_path / "own"), *data, *own]) == 0
    assert "own.py:make: has 4 channels as input, (image / 255 - mean) / std with mean" in capsys.readouterr().err
    assert main(["climb", "--run", str(tmp_path / "own"), "--steps", "2", "--quiet"]) == 0
    assert len(list((tmp_path / "own" / "2-climb" / "maps").iterdir())) == 12
    torch.save(Backbone("test_resnet").create(num_classes=7).state_dict(), tmp_path / "rgb.pt")
    small = [*SMALL[: SMALL.index("--quiet")], "--quiet"]
    small.remove("--from-scratch")
    assert main(["classify", "--run", str(tmp_path / "rgb"), *data, *small, "--weights", str(tmp_path / "rgb.pt")]) == 0
