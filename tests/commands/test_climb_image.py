"""``advcam climb-image``: one image, no run folder."""

import zipfile

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from advcam.cli import main
from advcam.store import load_maps

OWN = """
import timm
def build():
    return timm.create_model("test_resnet", num_classes=4)
"""


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "beach.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pt"
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    state["fc.weight"] = state["fc.weight"].abs()  # so that every class has a map to grow
    torch.save(state, path)
    return path


def climbed(image, *more):
    return main(["climb-image", str(image), "--out", str(image.parent / "out"), "--quiet", *map(str, more)])


def test_overlay_map_file_and_animation(image, weights, capsys):
    given = ("--class", 5, "--class", 2, "--steps", 6, "--step-size", 0.1)
    assert climbed(image, "--model", "timm:test_resnet", "--weights", weights, *given) == 0
    out = image.parent / "out"
    assert sorted(p.name for p in out.iterdir()) == ["beach-2.gif", "beach-5.gif", "beach.npz", "beach.png"]
    stored = load_maps(out / "beach.npz")
    assert (stored.classes, stored.size, stored.maps.shape) == ((5, 2), (90, 120), (2, 23, 30))
    with Image.open(out / "beach-5.gif") as animation:
        assert (animation.n_frames, animation.size) == (6, (120, 90))
        first = np.asarray(animation.convert("RGB"))
        animation.seek(5)
        assert (np.asarray(animation.convert("RGB")) != first).any()
    with Image.open(out / "beach.png") as overlay:
        assert overlay.size == (3 * 120 + 2 * 4, 2 * 90 + 4)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("class 5: score ")
    before, after = map(float, said[0].removeprefix("class 5: score ").split(" -> "))
    assert after > before
    assert said[-1] == f"overlay, maps, animations: {out}"


def test_an_image_in_an_archive(image, weights, capsys):
    with zipfile.ZipFile(image.parent / "photos.zip", "w") as packed:
        packed.write(image, "summer/beach.jpg")
    more = ("--model", "timm:test_resnet", "--weights", weights, "--class", 5, "--steps", 2)
    assert climbed(image, *more) == 0
    of_file = load_maps(image.parent / "out" / "beach.npz").maps
    given = ["climb-image", f"{image.parent}/photos.zip/summer/beach.jpg", "--out", str(image.parent / "zipped"), "--quiet"]
    assert main([*given, *map(str, more)]) == 0
    assert torch.equal(load_maps(image.parent / "zipped" / "beach.npz").maps, of_file)


def test_the_top_classes_where_none_is_given(image, weights, capsys):
    assert climbed(image, "--model", "timm:test_resnet", "--weights", weights, "--top", 3, "--steps", 2) == 0
    assert len(load_maps(image.parent / "out" / "beach.npz").classes) == 3


def test_a_tiny_image_is_enlarged_for_the_network(image, weights):
    Image.new("RGB", (20, 16), "red").save(image)
    assert climbed(image, "--model", "timm:test_resnet", "--weights", weights, "--class", 1, "--steps", 2) == 0
    assert load_maps(image.parent / "out" / "beach.npz").size == (16, 20)


def test_a_network_of_one_size_and_a_method(image, tmp_path):
    path = tmp_path / "vit.pt"
    torch.save(timm.create_model("test_vit", num_classes=5).state_dict(), path)
    given = ("--model", "timm:test_vit", "--weights", path, "--class", 1, "--cam-method", "layercam", "--steps", 2)
    assert climbed(image, *given) == 0
    assert load_maps(image.parent / "out" / "beach.npz").maps.shape == (1, 23, 30)


def test_one_s_own_network(image, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    assert climbed(image, "--model", f"{tmp_path / 'own.py'}:build", "--layer", "layer3", "--class", 0, "--steps", 2) == 0


def test_classes_of_a_run_have_the_ids_of_its_masks(image, finished, capsys):
    given = ("--model", finished, "--scales", 1, "--steps", 2)
    assert climbed(image, *given, "--class", 1, "--class", "triangle") == 0
    out = image.parent / "out"
    assert sorted(p.name for p in out.iterdir()) == ["beach-1.gif", "beach-5.gif", "beach.npz", "beach.png"]
    assert load_maps(out / "beach.npz").classes == (1, 5)
    said = capsys.readouterr().out
    assert "class 1 (cross): score" in said
    assert "class 5 (triangle): score" in said
    assert climbed(image, *given, "--class", 0) == 2
    assert "class 0 is out of range; the network has classes 1 to 5" in capsys.readouterr().err


def test_names_of_imagenet_s_classes(image, tmp_path, capsys):
    path = tmp_path / "imagenet.pt"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    given = ("--model", "timm:test_resnet", "--weights", path, "--steps", 1)
    assert climbed(image, *given, "--class", "golden retriever") == 0
    assert "class 207 (golden retriever): score" in capsys.readouterr().out
    assert climbed(image, *given, "--class", "golden retreiver") == 2
    assert "no class is called 'golden retreiver'; did you mean golden retriever" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--model", "timm:resnet51"], "timm has no network 'resnet51'; did you mean"),
        (["--model", "resnet50"], "--model resnet50: expected timm:NAME, FILE.py:FUNCTION, or the folder of a run"),
        (["--model", "timm:test_resnet", "--weights", "nowhere.pt"], "nowhere.pt: there is no such file of weights"),
        (["--model", "timm:test_resnet", "--class", "7"], "class 7 is out of range; the network has classes 0 to 6"),
        (["--model", "timm:test_resnet", "--class", "cat"], "no class is called 'cat'; this network's classes have no names"),
        (["--model", "timm:test_resnet", "--layer", "layer9"], "no layer 'layer9'; did you mean layer"),
        (["--model", "timm:test_resnet", "--scales", "1,2"], "an animation has one grid: give one scale, e.g. --scales 1"),
        (
            ["--model", "own.py:net", "--weights", "w.pt"],
            "--weights and --backbone-option are of --model timm:NAME; --model own.py",
        ),
        (
            ["--model", ".", "--backbone-option", "a=1"],
            "--weights and --backbone-option are of --model timm:NAME; --model . has",
        ),
        (["--model", "timm:test_resnet", "--std", "0,0,0"], "std must be above 0"),
        (["--model", "timm:test_resnet", "--top", "0"], "top must be from 1 to 1000000; got 0"),
        (["--model", "timm:vgg11"], "has no pre_logits"),
    ],
)
def test_one_clear_line_and_status_2(image, weights, capsys, given, said):
    if "timm:vgg11" in given:
        said = "weights.pt: has no head.fc.weight, so it is no classifier 'vgg11'"
    if "--weights" not in given:
        given = [*given, "--weights", str(weights)]
    assert climbed(image, *given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_not_an_image(tmp_path, weights, capsys):
    (tmp_path / "beach.jpg").write_text("no image")
    assert climbed(tmp_path / "beach.jpg", "--model", "timm:test_resnet", "--weights", weights) == 2
    assert "not an image that Pillow can read" in capsys.readouterr().err
