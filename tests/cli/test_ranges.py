"""Images of more than 8 bits in a whole run: their range is found once, recorded, and used again."""

import json

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from conftest import CLIMB, NETWORK, SEGMENT


@pytest.fixture(scope="module")
def twelve_bits(scenes, tmp_path_factory):
    """The scenes as grey images of 12 bits."""
    folder = tmp_path_factory.mktemp("deep")
    for path in sorted((scenes / "images").iterdir()):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(folder / f"{path.stem}.png")
    return folder


@pytest.fixture(scope="module")
def run(scenes, twelve_bits, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "deep"
    words = ["run", "--images", twelve_bits, "--labels", scenes / "labels.csv", "--out", out, *NETWORK, *SEGMENT, *CLIMB]
    assert main([*map(str, words), "--threshold", "0.3"]) == 0
    return out


def test_a_prediction_has_the_range_of_its_run(run, twelve_bits, tmp_path):
    reading = json.loads((run / "data.json").read_text())["reading"]
    low, high = reading["window"]
    assert 0 <= low < 600 < 2000 < high <= 4080
    assert json.loads((run / "4-segment" / "model.json").read_text())["reading"] == reading
    for folder in ("deep", "eight"):
        (tmp_path / folder).mkdir()
    path = next(twelve_bits.iterdir())
    values = np.asarray(Image.open(path)).astype(float)
    (tmp_path / "deep" / "a.png").write_bytes(path.read_bytes())
    shown = np.clip((values - low) * 255 / (high - low) + 1e-6, 0, 255).astype(np.uint8)
    Image.fromarray(shown).save(tmp_path / "eight" / "a.png")
    found = []
    for folder in ("deep", "eight"):
        words = ["predict", "--model", run / "4-segment", "--images", tmp_path / folder, "--out", tmp_path / f"{folder}-masks"]
        assert main(list(map(str, words))) == 0
        found.append(np.asarray(Image.open(tmp_path / f"{folder}-masks" / "a.png")))
    assert np.array_equal(*found)


def test_another_range_is_another_run(run, scenes, twelve_bits, capsys):
    words = ["run", "--images", twelve_bits, "--labels", scenes / "labels.csv", "--out", run, "--range", "0,4095"]
    assert main(list(map(str, words))) == 2
    assert "holds a run made from other data (reading: null -> " in capsys.readouterr().err


def test_one_image_by_a_run(run, twelve_bits, tmp_path):
    words = ["climb-image", next(twelve_bits.iterdir()), "--model", run, "--scales", "1", "--steps", "2", "--out", tmp_path]
    assert main(list(map(str, words))) == 0
