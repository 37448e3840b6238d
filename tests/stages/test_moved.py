"""A run whose images lie somewhere else, and one whose classifier was given."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from advcam.cli import main
from advcam.pipeline import DataConfig, reopen, start
from advcam.progress import Reporter
from advcam.report.settings import _images
from advcam.runtime import Runtime
from conftest import arguments


@pytest.fixture
def elsewhere(finished, scenes, tmp_path):
    """A finished run whose images were moved; the old place is gone. Gives the run and the new folder."""
    data = shutil.copytree(scenes, tmp_path / "data")
    run = shutil.copytree(finished, tmp_path / "run")
    text = (run / "data.json").read_text().replace(str(scenes / "images"), str(data / "images"))
    (run / "data.json").write_text(text)
    (data / "images").rename(tmp_path / "moved")
    return run, tmp_path / "moved"


def kept(run):
    return {
        item["id"]: item["path"] for part in ("train", "eval") for item in json.loads((run / "data.json").read_text())[part]
    }


@pytest.mark.parametrize(
    "verb",
    [
        ["classify"], ["climb"], ["refine"], ["segment"], ["report"], ["evaluate", "--masks", "MASKS"],
        ["study", "iterations", "--masks", "MASKS", "--sample", "2", "--longest", "1", "--resamples", "20"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_any_verb_takes_the_new_place(elsewhere, scenes, verb, capsys):
    run, place = elsewhere
    words = [str(scenes / "masks") if word == "MASKS" else word for word in verb]
    assert main([*words, "--run", str(run), "--images", str(place), "--quiet"]) == 0
    assert set(kept(run).values()) == {str(path) for path in place.iterdir()}


def test_a_step_is_done_again_from_there(elsewhere, capsys):
    run, place = elsewhere
    assert main(["refine", "--run", str(run), "--redo", "--quiet"]) == 2
    assert "24 images are gone" in (said := capsys.readouterr().err)
    assert "--images DIR" in said
    assert main(["refine", "--run", str(run), "--redo", "--quiet", "--images", str(place)]) == 0
    assert main(["segment", "--run", str(run), "--quiet"]) == 0  # it was kept


def test_the_whole_run_goes_on_from_there(elsewhere, scenes, capsys):
    run, place = elsewhere
    words = arguments(scenes, run)
    words[words.index("--images") + 1] = str(place)
    assert main(words) == 0
    assert set(kept(run).values()) == {str(path) for path in place.iterdir()}


def test_the_command_on_the_page_names_the_new_place(elsewhere, scenes):
    run, place = elsewhere
    assert main(["report", "--run", str(run), "--images", str(place), "--quiet"]) == 0
    (command,) = re.findall(r"advcam run --images (\S+)", (run / "report.html").read_text())
    assert command == str(place)


@pytest.mark.parametrize(
    ("first", "now", "named"),
    [
        ("/data/photos", "/data/photos", "/data/photos"),
        ("/data/photos", "/data/photos2", "/data/photos2"),
        ("/data/photos.zip", "/data/photos.zip/photos", "/data/photos.zip"),
        ("/data/s-{0..9}.tar", "/data", "/data/s-{0..9}.tar"),
        ("/data/s-{0..9}.tar", "/other", "/other"),
    ],
)
def test_where_images_are_now(first, now, named):
    assert _images(first, now) == named


def test_other_images_are_refused(elsewhere, capsys):
    run, place = elsewhere
    before = (run / "data.json").read_text()
    name = sorted(place.iterdir())[0]
    with Image.open(name) as image:
        image.resize((80, 64)).save(name)
    assert main(["report", "--run", str(run), "--images", str(place)]) == 2
    assert f"{name}: is 80x64, the run's image of this name was 64x64" in capsys.readouterr().err
    name.unlink()
    assert main(["report", "--run", str(run), "--images", str(place)]) == 2
    assert f"lacks 1 of the run's 24 images, the first {name.name}" in capsys.readouterr().err
    assert main(["report", "--run", str(run), "--images", str(place / "none")]) == 2
    assert "there is no such folder of images" in capsys.readouterr().err
    assert (run / "data.json").read_text() == before


def test_a_given_classifier_was_not_trained_here(finished, scenes, tmp_path, capsys):
    """Neither the first line, nor the report, nor a study says that it was."""
    run = tmp_path / "run"
    files = ["--images", scenes / "images", "--labels", scenes / "labels.csv", "--classes", scenes / "classes.csv"]
    body = ["--backbone", "test_resnet", "--output-stride", "8", "--classifier", finished / "1-classify" / "model.safetensors"]
    assert main([*map(str, ["classify", "--run", run, *files, *body])]) == 0
    said = capsys.readouterr().err
    assert "24 images to make masks of (the classifier is given), 0 to score on" in said
    assert "to train on" not in said
    assert json.loads((run / "1-classify" / "metrics.json").read_text())["images"] == 24
    words = ["--sample", "2", "--longest", "2", "--resamples", "20", "--quiet"]
    assert main(["study", "growth", "--run", str(run), *words]) == 0
    about = json.loads((run / "studies" / "growth" / "study.json").read_text())
    assert "the classifier was given" in json.dumps(about)
    assert "trained on" not in json.dumps(about)
    page = (run / "report.html").read_text()
    assert "24 images to make masks of (the classifier was given)" in page


def test_a_run_begun_with_a_relative_path_is_read_from_any_folder(scenes, tmp_path, monkeypatch):
    """As the demo is."""
    monkeypatch.chdir(scenes)
    data = DataConfig(
        images=Path("images"), labels=Path("labels.csv"), classes=Path("classes.csv"), train_list=Path("train.txt"),
        eval_list=Path("eval.txt"),
    )  # fmt: skip
    start(tmp_path / "run", data, 0, Runtime(), Reporter(quiet=True))
    monkeypatch.chdir(tmp_path)
    items = reopen(tmp_path / "run", None, Runtime(), Reporter(quiet=True)).data.items
    assert all(item.path.is_absolute() and item.path.is_file() for item in items)
