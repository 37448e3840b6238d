"""The climb step in windows: images larger than a window, at their own size."""

import shutil

import numpy as np
import pytest

from advcam.cli import main
from advcam.data import SceneSettings, write_dataset
from advcam.store import load_maps
from conftest import arguments


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A run of images of 192 pixels, whose classifier sees 96, climbed in windows of 128; and its images."""
    folder = tmp_path_factory.mktemp("large")
    write_dataset(folder / "data", 12, 4, 0, SceneSettings(size=192))
    assert main(arguments(folder / "data", folder / "run", "--long-side", "96", "--window", "128")) == 0
    return folder


@pytest.fixture
def copied(large, tmp_path):
    return shutil.copytree(large / "run", tmp_path / "run")


def maps(run):
    return {path.stem: load_maps(path) for path in sorted((run / "2-climb" / "maps").iterdir())}


def test_maps_are_those_of_the_image_at_its_own_size(copied):
    of_windows = maps(copied)
    assert main(["climb", "--run", str(copied), "--redo", "--window", "192", "--quiet"]) == 0  # at once, at the same size
    at_once = maps(copied)
    assert main(["climb", "--run", str(copied), "--redo", "--climb-option", "window=None", "--quiet"]) == 0  # at the long side
    shrunk = maps(copied)
    near, far = (
        np.mean([float((one.maps - of[name].maps).abs().mean()) for name, one in of_windows.items() if len(one.classes)])
        for of in (at_once, shrunk)
    )
    assert near < far


def test_a_window_that_does_not_suit_the_network_is_refused_before_anything_is_dropped(copied, capsys):
    before = sorted(path.relative_to(copied) for path in copied.rglob("*"))
    assert main(["climb", "--run", str(copied), "--redo", "--window", "100", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "window" in said
    assert "100" in said
    assert sorted(path.relative_to(copied) for path in copied.rglob("*")) == before


def test_a_window_larger_than_all_images_is_not_needed(copied):
    assert main(["climb", "--run", str(copied), "--redo", "--window", "1000000", "--quiet"]) == 0
    assert {one.size for one in maps(copied).values()} == {(192, 192)}


def test_a_climb_that_was_stopped_makes_what_is_missing_alone(copied):
    before = maps(copied)
    gone = next(name for name, one in before.items() if len(one.classes))
    for kind in ("maps", "cam"):
        (copied / "2-climb" / kind / f"{gone}.npz").unlink()
    assert main(["climb", "--run", str(copied), "--quiet"]) == 0
    assert all((before[name].maps == one.maps).all() for name, one in maps(copied).items())


def test_the_report_does_not_grow_what_was_climbed_in_windows(copied, capsys):
    assert main(["report", "--run", str(copied), "--grow", "2"]) == 0
    assert "2 images were climbed in windows" in capsys.readouterr().err
    assert not list((copied / "report").glob("growth/*"))


def test_a_study_says_that_it_climbs_whole_images(large, copied, capsys):
    masks = str(large / "data" / "masks")
    assert main(["study", "iterations", "--run", str(copied), "--masks", masks, "--sample", "2", "--longest", "2"]) == 0
    assert "a study climbs them whole" in capsys.readouterr().err
