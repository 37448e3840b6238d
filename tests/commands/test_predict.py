"""A trained network on images and folders: views, windows, CRF, and what stands in the folder afterwards."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import nn

from advcam.cli import main
from advcam.commands import Session
from advcam.commands.predict import PredictConfig, run
from advcam.data import Normalisation, fit_within, scene
from advcam.errors import DataError, ImageError, NetworkError, RunError, SettingsError
from advcam.models.cct import CCT
from advcam.models.classifiers import Backbone
from advcam.progress import Reporter
from advcam.refinement import argmax_mask, dense_crf, unary_from_probabilities
from advcam.runtime import Runtime
from advcam.segmenter import Segmenter, build_network, read_record
from advcam.store import write_bytes, write_json

PLACES = {"model": Path("model"), "images": Path("images"), "out": Path("out")}
CPU, QUIET = Runtime("cpu"), Reporter(quiet=True)
DEVICE = torch.device("cpu")


class Pixelwise(nn.Module):
    """Scores that depend on a pixel alone: red, green, blue."""

    def __init__(self):
        super().__init__()
        self.sharp = nn.Parameter(torch.tensor(3.0))

    def forward(self, images):
        return images * self.sharp


def pixelwise(**settings):
    return Segmenter(Pixelwise(), np.array([0, 7, 2], np.uint8), Normalisation((0.5,) * 3, (0.5,) * 3), 4000, **settings)


def picture(width, height, seed=0):
    return Image.fromarray(scene(seed).image).resize((width, height))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    picture(90, 50).save(folder / "one.png")
    picture(40, 120, 1).save(folder / "sub" / "two.png")
    return folder


def taken(folder, *more):
    return ["predict", "--model", str(folder), "--device", "cpu", "--quiet", *map(str, more)]


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.3)])
@pytest.mark.parametrize("size", [(97, 61), (200, 133), (33, 40)])
def test_masks_are_those_of_before(trained, scales, size):
    """Mean of the softmaxes at the size seen, enlarged class by class, argmax: to the last bit."""
    segmenter, shown = replace(Segmenter.load(trained, DEVICE), scales=scales), picture(*size)
    small = fit_within(shown, 64)
    image = segmenter.normalise(small)[None]
    views = []
    for scale in scales:
        sides = [max(1, round(side * scale)) for side in image.shape[2:]]
        view = image if scale == 1 else F.interpolate(image, size=sides, mode="bilinear", align_corners=False)
        for mirrored in (False, True):
            one = view.flip(-1) if mirrored else view
            padded = F.pad(one, (0, -one.shape[3] % 32, 0, -one.shape[2] % 32)).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                scores = segmenter.network(padded)[:, :, : one.shape[2], : one.shape[3]]
            scores = scores.flip(-1) if mirrored else scores
            resized = F.interpolate(scores, size=(small.height, small.width), mode="bilinear", align_corners=False)
            views.append(resized.softmax(1)[0])
    expected = argmax_mask(torch.stack(views).mean(0), segmenter.ids.tolist(), -1.0, (shown.height, shown.width)).numpy()
    assert np.array_equal(segmenter(shown), expected)
    probabilities = segmenter.probabilities(shown)
    assert probabilities.shape == (4, shown.height, shown.width)
    assert torch.allclose(probabilities.sum(0), torch.ones(()), atol=1e-5)
    assert np.array_equal(segmenter.ids[probabilities.argmax(0)], expected)
    assert len(np.unique(expected)) > 1


def test_the_highest_of_the_views_instead_of_their_mean():
    shown = picture(60, 44)
    views = [pixelwise(scales=(scale,), mirror=False).probabilities(shown) for scale in (0.5, 1.0)]
    merged = {merge: pixelwise(scales=(0.5, 1.0), mirror=False, merge=merge) for merge in ("mean", "max")}
    highest = torch.maximum(*views)
    assert torch.allclose(merged["max"].probabilities(shown), highest / highest.sum(0), atol=1e-6)
    assert torch.allclose(merged["mean"].probabilities(shown), torch.stack(views).mean(0), atol=1e-6)
    assert not np.array_equal(merged["max"](shown), merged["mean"](shown))


@pytest.mark.parametrize("size", [(300, 210), (65, 64), (64, 400)])
def test_windows_put_the_image_together_again(size):
    """A network that looks at one pixel at a time cannot tell windows from the whole; other scales are resized in 8 bits."""
    shown = picture(*size)
    for settings, near in (({"scales": (1.0,)}, 1e-6), ({"scales": (1.0, 1.25), "merge": "max"}, 0.01)):
        whole, windows = pixelwise(**settings), pixelwise(**settings, window=64)
        assert torch.allclose(whole.probabilities(shown), windows.probabilities(shown), atol=near)
        assert (whole(shown) == windows(shown)).mean() > 0.99


@pytest.mark.parametrize("mirror", [False, True])
def test_blocks_of_pixels_share_logits_where_those_of_all_pixels_do_not_fit(monkeypatch, mirror):
    shown = Image.fromarray(np.kron(np.asarray(picture(75, 53)), np.ones((4, 4, 1), np.uint8)))  # 300 x 212, of blocks of 4
    made = pixelwise(scales=(1.0,), mirror=mirror, window=64)
    at_once = made(shown)
    monkeypatch.setattr("advcam.segmenter.MOST_LOGITS", len(made.ids) * 300 * 212 // 16)
    probabilities = made._merged(shown)
    assert tuple(probabilities.shape[1:]) == (53, 75)
    in_blocks = np.asarray(Image.fromarray(made.mask(probabilities)).resize((300, 212), Image.Resampling.NEAREST))
    assert np.array_equal(in_blocks, at_once)


def test_windows_see_the_image_at_its_own_size(trained):
    """Where it fits one window it is the whole image, exactly; where not, no window is larger than asked for."""
    made, shown, seen = Segmenter.load(trained, DEVICE), picture(150, 100), []
    fits = replace(made, window=160)
    assert torch.equal(fits.probabilities(shown), replace(made, long_side=150).probabilities(shown))
    with fits.network.register_forward_hook(lambda _module, given, _scores: seen.append(tuple(given[0].shape[2:]))):
        tiled = replace(fits, window=64, mirror=False).probabilities(shown)
    assert seen == [(64, 64)] * 12  # 4 across, 3 down, each over half of the next
    assert not torch.equal(tiled, made.probabilities(shown))


def test_the_crf_moves_labels_to_edges_and_nothing_where_there_is_none():
    values = np.full((40, 60, 3), (200, 40, 40), np.uint8)
    values[:, 30:] = (40, 200, 40)
    values[10, 10] = (190, 200, 40)  # a speck that the scores take for the other label
    shown = Image.fromarray(values)
    plain, refined = pixelwise(mirror=False), pixelwise(mirror=False, crf=True)
    before, after = plain(shown), refined(shown)
    assert [tuple(at) for at in np.argwhere(before != after)] == [(10, 10)]
    assert before[10, 10] == 7
    assert after[10, 10] == 0
    probabilities = refined.probabilities(shown)
    assert torch.allclose(probabilities.sum(0), torch.ones(()), atol=1e-5)
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None]
    unary = unary_from_probabilities(plain.probabilities(shown)[None].detach())
    assert torch.allclose(probabilities, dense_crf(pixels, unary, 10, (1.0, 3.0), (67.0, 3.0, 4.0))[0], atol=1e-6)
    grey = Image.new("RGB", (50, 40), (90, 90, 90))
    assert np.array_equal(plain(grey), refined(grey))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, "scales are factors from 0.1 to 10, e.g. 0.75,1,1.25"),
        ({"scales": (1.0, 0.0)}, r"got \(1.0, 0.0\)"),
        ({"merge": "median"}, "merge is one of mean, max; got 'median'"),
        ({"window": 8}, "at least 32 pixels; got 4000 and 8"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(SettingsError, match=message):
        pixelwise(**settings)


def test_the_record_decides_what_is_not_asked_for(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    more = {"predict_merge": "max", "predict_crf": True, "kind": "semi", "predict_mirror": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    made = Segmenter.load(tmp_path / "model", DEVICE)
    assert (made.merge, made.window, made.crf, made.mirror, made.scales) == ("max", None, True, False, (1.0,))
    assert (
        PredictConfig(
            **PLACES,
        ).applied(made)
        == made
    )
    asked = PredictConfig(**PLACES, scales=(0.5,), mirror=True, merge="mean", crf=False, long_side=80).applied(made)
    assert (asked.merge, asked.window, asked.crf, asked.mirror, asked.scales) == ("mean", None, False, True, (0.5,))
    assert asked.long_side == 80
    assert PredictConfig(**PLACES, window=64).applied(made).window == 64
    with pytest.raises(SettingsError, match="give --window or --long-side"):
        PredictConfig(**PLACES, window=64, long_side=80)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: "{",
            "model.json: does not describe a trained network .*truncated.*segment .or semi. --run RUN --redo",
        ),
        (lambda r: "[1]", "does not describe a trained network"),
        (
            lambda r: json.dumps({k: v for k, v in r.items() if k != "classes"}),
            r"\(Object missing required field classes\); copy the folder",
        ),
        (lambda r: json.dumps(r | {"long_side": "64"}), r"Expected int, got str - at \$.long_side"),
        (lambda r: json.dumps(r | {"classes": [{"id": 300, "name": "x"}]}), r"Expected int <= 254 - at \$.classes\[0\].id"),
        (lambda r: json.dumps(r | {"backbone": 3}), "does not describe a trained network"),
    ],
)
def test_a_damaged_record(trained, tmp_path, change, message):
    shutil.copytree(trained, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(RunError, match=message):
        Segmenter.load(tmp_path / "model", DEVICE)


def test_weights_of_another_network(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"classes": record["classes"][:2]}))
    with pytest.raises(NetworkError, match=r"model.safetensors: .*or number of classes.*copy both from one run"):
        Segmenter.load(tmp_path / "model", DEVICE)
    path.write_text(json.dumps(record | {"network": "deeplabv3plu"}))
    with pytest.raises(SettingsError, match=r"no segmentation network is called 'deeplabv3plu'; did you mean"):
        Segmenter.load(tmp_path / "model", DEVICE)


def test_probabilities_beside_the_masks(trained, pictures, tmp_path):
    out = tmp_path / "masks"
    assert main(taken(trained, "--images", pictures, "--out", out, "--scales", "0.75,1", "--merge", "max")) == 0
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(stamps) == 2
    again = taken(trained, "--images", pictures, "--out", out, "--scales", "0.75,1", "--merge", "max")
    assert main(again) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == stamps
    assert main([*again, "--probabilities"]) == 0  # what is missing is added: the masks are the same
    for name in ("one", "sub/two"):
        with (
            np.load(out / "probabilities" / f"{name}.npz", allow_pickle=False) as file,
            Image.open(out / f"{name}.png") as mask,
        ):
            assert (file["probabilities"].dtype, file["ids"].dtype) == (np.float16, np.uint8)
            assert file["probabilities"].shape == (4, mask.height, mask.width)
            assert file["ids"].tolist() == [0, 7, 2, 9]
            assert np.allclose(file["probabilities"].sum(0, dtype=np.float32), 1, atol=4e-3)
            found = file["ids"][file["probabilities"].argmax(0)]
            assert (found == np.asarray(mask)).mean() > 0.99  # float16 makes ties
    (out / "probabilities" / "one.npz").unlink()
    assert main([*again, "--probabilities"]) == 0
    assert (out / "probabilities" / "one.npz").is_file()


def predict(model, images, out, **how):
    return run(PredictConfig(model=model, images=images, out=out, **how), Session(CPU, QUIET))


def test_other_options_are_refused(trained, pictures, tmp_path, capsys):
    out = tmp_path / "masks"
    predict(trained, pictures, out)
    assert predict(trained, pictures, out, scales=(1.0,), mirror=True, merge="mean").skipped == 0
    with pytest.raises(
        RunError, match=r"masks made with other options \(merge: mean -> max, crf: False -> True\); give another"
    ):
        predict(trained, pictures, out, merge="max", crf=True)
    with pytest.raises(RunError, match=r"long_side: 64 -> None, window: None -> 64"):
        predict(trained, pictures, out, window=64)
    assert main(taken(trained, "--images", pictures, "--out", out, "--window", "64", "--long-side", "64")) == 2
    assert "give --window or --long-side" in capsys.readouterr().err
    assert main(taken(trained, "--images", pictures, "--out", out, "--scales", "0")) == 2
    assert "scales must be from 0.1 to 10" in capsys.readouterr().err


def test_known_image_labels_leave_out_other_classes(trained, pictures, tmp_path):
    """Of the classes that an image shows the likeliest is taken, also where another would be likelier."""
    names = [one["name"] for one in json.loads((trained / "model.json").read_text())["classes"]]
    labels = tmp_path / "labels.csv"
    labels.write_text(f"image,labels\none,{names[1]}\nelsewhere,\n")
    plain, given = tmp_path / "plain", tmp_path / "given"
    predict(trained, pictures, plain, probabilities=True)
    assert predict(trained, pictures, given, labels=labels).skipped == 0
    with np.load(plain / "probabilities" / "one.npz") as file, Image.open(given / "one.png") as mask:
        ids, probabilities = file["ids"], file["probabilities"][[0, 2]]
        expected = ids[[0, 2]][probabilities.argmax(0)]
        assert (np.asarray(mask) == expected).mean() > 0.99  # float16 makes ties
    assert (plain / "sub" / "two.png").read_bytes() == (given / "sub" / "two.png").read_bytes(), "no row: nothing is known"
    labels.write_text("image,labels\none,\n")
    empty = tmp_path / "empty"
    predict(trained, pictures, empty, labels=labels)
    with Image.open(empty / "one.png") as mask:
        assert not np.asarray(mask).any(), "shows none of the classes"
    with pytest.raises(RunError, match="made with other options"):
        predict(trained, pictures, given, labels=labels)
    labels.write_text("image,labels\none,no-such-class\n")
    with pytest.raises(DataError, match=r"labels.csv:2: no class is called 'no-such-class'"):
        predict(trained, pictures, tmp_path / "other", labels=labels)


def test_memory_that_does_not_suffice_for_one_image(trained, pictures, tmp_path, monkeypatch, capsys):
    """It is named and listed with what to do; the others are made; with windows it goes on."""
    picture(300, 200).save(pictures / "large.png")
    whole = Segmenter._whole

    def scarce(self, image, mirrored):
        if image.shape[2] * image.shape[3] > 64 * 64:
            torch.empty(10**14)
        return whole(self, image, mirrored)

    monkeypatch.setattr(Segmenter, "_whole", scarce)
    out = tmp_path / "masks"
    assert main(taken(trained, "--images", pictures, "--out", out, "--long-side", 300)) == 1
    assert sorted(path.stem for path in out.rglob("*.png")) == []
    listed = (out / "skipped.csv").read_text()
    assert "large,not enough memory for an image of 300x200; give --window 512" in listed.replace('"', "")
    assert main(taken(trained, "--images", pictures, "--out", tmp_path / "windows", "--window", 64)) == 0
    assert len(list((tmp_path / "windows").rglob("*.png"))) == 3
    with pytest.raises(ImageError, match="300x200"):
        replace(Segmenter.load(trained, DEVICE), long_side=300).probabilities(picture(300, 200))
    monkeypatch.setattr(Segmenter, "_whole", lambda self, image, mirrored: self.network(image[0, 0, 0]))
    with pytest.raises(Exception, match="dim|shape|unpack|expected") as other:  # another error stays what it is
        Segmenter.load(trained, DEVICE)(picture(64, 64))
    assert not isinstance(other.value, ImageError)


def test_a_broken_image_does_not_stop_the_others(trained, pictures, tmp_path, capsys):
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(taken(trained, "--images", pictures, "--out", tmp_path / "masks", "--probabilities")) == 1
    assert "1 left out" in capsys.readouterr().out
    assert "broken.jpg" in (tmp_path / "masks" / "skipped.csv").read_text()
    assert len(list((tmp_path / "masks").rglob("*.npz"))) == 2


def test_the_network_of_a_record(trained):
    record = read_record(trained)
    network = build_network(record)
    assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 4, 64, 96)


def test_a_network_trained_with_auxiliary_decoders_is_used_without(trained, tmp_path):
    record = asdict(read_record(trained)) | {"network": "cct", "output_stride": 8, "kind": "semi"}
    network = CCT(Backbone("test_resnet"), 4, 8)
    write_bytes(tmp_path / "model.safetensors", save(network.state_dict()))
    write_json(tmp_path / "model.json", record)
    made, images = Segmenter.load(tmp_path, DEVICE), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(made.network(images), network.eval()(images))
    assert sum(p.numel() for p in made.network.parameters()) < sum(p.numel() for p in network.parameters())
