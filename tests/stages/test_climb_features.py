"""Runs that climb features in the place of pixels."""

import json
import shutil

import numpy as np
import pytest

from advcam.cli import main
from advcam.stages.maps import recorded
from advcam.stages.table import open_run
from advcam.store import load_maps


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def climb(run, *words):
    return main(["climb", "--run", str(run), "--redo", "--quiet", *words])


def test_the_preset_makes_other_maps_from_the_same_plain_ones(run, capsys):
    name = sorted(path.stem for path in (run / "2-climb" / "maps").glob("*.npz"))[0]
    assert climb(run, "--preset", "default") == 0
    pixels, plain = (load_maps(run / "2-climb" / folder / f"{name}.npz").maps for folder in ("maps", "cam"))
    assert climb(run, "--preset", "features") == 0
    features, again = (load_maps(run / "2-climb" / folder / f"{name}.npz").maps for folder in ("maps", "cam"))
    assert np.allclose(plain, again, atol=1e-2)
    assert not np.allclose(pixels, features, atol=0.05)
    made = json.loads((run / "run.json").read_text())["steps"]["climb"]["config"]
    assert (made["preset"], made["space"], made["step_size"]) == ("features", "features", 0.05)
    assert main(["refine", "--run", str(run), "--quiet"]) == 0


def test_a_run_made_before_features_could_be_climbed_is_not_climbed_again(run, capsys):
    state = json.loads((run / "run.json").read_text())
    config = state["steps"]["climb"]["config"]
    assert (config.pop("space"), config.pop("later")) == ("pixels", 1.0)
    (run / "run.json").write_text(json.dumps(state))
    assert main(["climb", "--run", str(run), "--quiet"]) == 0
    assert main(["climb", "--run", str(run), "--quiet", "--space", "pixels"]) == 0
    assert json.loads((run / "run.json").read_text())["steps"]["climb"]["key"] == state["steps"]["climb"]["key"]


def test_fast_is_not_climbed_again(run):
    assert climb(run, "--preset", "fast") == 0
    state = json.loads((run / "run.json").read_text())["steps"]["climb"]
    assert (state["config"]["preset"], state["config"]["space"], state["config"]["later"]) == ("fast", "auto", 3.0)
    for words in ([], ["--preset", "fast"]):
        assert main(["climb", "--run", str(run), *words, "--quiet"]) == 0
        assert json.loads((run / "run.json").read_text())["steps"]["climb"] == state


@pytest.mark.parametrize("kept", [("later",), ("later", "space")])
def test_a_run_climbed_by_a_preset_of_before_keeps_its_settings(run, capsys, kept):
    """The first preset ``fast``: four steps of pixels, before later maps had a weight."""
    assert climb(run, "--preset", "fast", "--steps", "4", "--step-size", "0.02", "--space", "pixels",
                 "--climb-option", "later=1") == 0  # fmt: skip
    state = json.loads((run / "run.json").read_text())
    for name in kept:
        del state["steps"]["climb"]["config"][name]
    state["steps"]["climb"]["given"] = ["preset"]
    (run / "run.json").write_text(json.dumps(state))
    assert main(["climb", "--run", str(run), "--quiet"]) == 0
    made = recorded(open_run(run)).settings()
    assert (made.steps, made.later, made.space) == (4, 1.0, "pixels")
    assert climb(run) == 0
    config = json.loads((run / "run.json").read_text())["steps"]["climb"]["config"]
    assert (config["steps"], config["step_size"], config["later"], config["space"]) == (4, 0.02, 1.0, "pixels")
    assert main(["climb", "--run", str(run), "--preset", "fast", "--quiet"]) == 2
    assert "later: 1.0 -> 3.0" in capsys.readouterr().err


def test_fast_moves_the_pixels_of_a_network_of_one_grid(scenes, tmp_path):
    words = ["--images", str(scenes / "images"), "--labels", str(scenes / "labels.csv"), "--quiet"]
    vit = ["--backbone", "test_vit", "--backbone-option", "dynamic_img_size=True", "--from-scratch", "--epochs", "1"]
    assert main(["classify", *words, *vit, "--run", str(tmp_path / "run")]) == 0
    assert main(["climb", "--run", str(tmp_path / "run"), "--preset", "fast", "--quiet"]) == 0
    config = json.loads((tmp_path / "run" / "run.json").read_text())["steps"]["climb"]["config"]
    assert (config["preset"], config["space"], config["later"]) == ("fast", "auto", 3.0)


def test_a_network_of_one_grid_is_refused_before_anything_is_trained_or_deleted(scenes, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--images", str(scenes / "images"), "--labels", str(scenes / "labels.csv"), "--out", str(out), "--from-scratch"]
    assert main(["run", *words, "--backbone", "test_vit", "--preset", "features", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "no features to climb: climb its pixels (space=pixels, or another preset), or name a layer" in said
    assert not (out / "1-classify" / "model.safetensors").exists()


def test_what_is_said_of_bounds_and_unknown_spaces(run, capsys):
    before = sorted((run / "2-climb").rglob("*"))
    assert climb(run, "--preset", "features", "--climb-option", "bounds=-1,1") == 2
    assert "bounds are of pixels" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        climb(run, "--space", "tokens")
    assert "invalid choice: 'tokens' (choose from 'auto', 'pixels', 'features')" in capsys.readouterr().err
    assert sorted((run / "2-climb").rglob("*")) == before
