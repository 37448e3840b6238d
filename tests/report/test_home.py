"""A page that is shared does not say whose home folder it was made in, and a run that is moved finds its ground truth."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from test_page import Read, reported

from advcam.cli import main
from advcam.report import gallery
from advcam.report.home import command, without_home


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder of a person whose name nobody shall read."""
    home = tmp_path / "Alice & 'Bob'"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def at_home(home, run, scenes):
    """A run on images in the home folder, its ground truth, and an image of the run that is gone."""
    shutil.copytree(scenes, home / "data")
    (home / "all runs").mkdir()
    run = run.rename(home / "all runs" / "first one")
    for file in ("data.json", "run.json"):
        path = run / file
        path.write_text(path.read_text().replace(json.dumps(str(scenes))[1:-1], json.dumps(str(home / "data"))[1:-1]))
    shutil.rmtree(run / "report")
    (home / "data" / "images" / "scene-00003.png").unlink()
    return run


def test_no_file_of_the_page_names_the_home_folder(home, at_home, monkeypatch):
    monkeypatch.setattr(gallery, "INSIDE", 4)
    assert main(["report", "--run", str(at_home), "--masks", str(home / "data" / "masks"), "--quiet"]) == 0
    files = [at_home / "report.html", *(at_home / "report").rglob("*")]
    assert len(files) > 3
    for file in files:
        assert not file.is_file() or b"Alice" not in file.read_bytes(), file
    read = Read(at_home / "report.html")
    assert "of 8 images (~/data/masks)" in read.text
    notes = " ".join(note for all_of_it in read.data["index"]["notes"].values() for note in all_of_it)
    assert "~/data/images/scene-00003.png" in notes


def test_its_commands_are_right_where_it_was_made(home, at_home):
    read = reported(at_home)
    again = next(words for words in read.commands if words.startswith("advcam run"))
    for line in (*read.commands[:3], again):
        said = subprocess.run(["/bin/sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True).stdout
        assert str(at_home) in said
        assert "~" not in said
    assert str(home / "data" / "images") in said.splitlines()
    assert f"{at_home}-again" in said.splitlines()


def test_paths_are_replaced_where_a_path_begins(home):
    assert without_home(f"{home}/a b, ({home}) {home}2/a /data{home}/a {home}-old") == (
        f"~/a b, (~) {home}2/a /data{home}/a {home}-old"
    )
    assert without_home("Alice &amp; &#39;Bob&#39;") == "Alice &amp; &#39;Bob&#39;"


@pytest.mark.parametrize(
    "word", ["{}", "{}/", "{}/a b/c", "weights={}/it's", "{}/a:{}/b", "/data{}/x", "plain", "two words", ""]
)
def test_a_shell_reads_each_word_as_it_was(home, word):
    word = word.replace("{}", str(home))
    line = command([word])
    assert subprocess.run(["/bin/sh", "-c", f"printf %s {line}"], capture_output=True, text=True, check=True).stdout == word
    assert "Alice" not in line or word.startswith("/data")


@pytest.mark.parametrize("name", ["/", ""])
def test_a_home_that_is_the_root_is_no_home(monkeypatch, name):
    monkeypatch.setenv("HOME", name)
    assert without_home("/data/masks and /etc") == "/data/masks and /etc"
    assert command(["/data/my masks"]) == "'/data/my masks'"


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("project/runs/first/corrected/masks", "corrected/masks"), ("project/runs/truth", "../truth"),
        ("project/truth", "../../truth"), ("elsewhere/truth", "~/elsewhere/truth"),
    ],
)  # fmt: skip
def test_where_the_truth_is_remembered(home, run, scenes, place, kept):
    (home / "project" / "runs").mkdir(parents=True)
    run = run.rename(home / "project" / "runs" / "first")
    shutil.copytree(scenes / "masks", home / place)
    assert main(["report", "--run", str(run), "--masks", str(home / place), "--quiet"]) == 0
    assert json.loads((run / "report" / "truth.json").read_text()) == {"masks": kept, "mask_colours": None}
    assert "truth" in reported(run).data["index"]["layers"]


def test_a_project_that_is_moved_finds_its_truth_and_colours(run, scenes, tmp_path):
    (tmp_path / "project" / "runs").mkdir(parents=True)
    run = run.rename(tmp_path / "project" / "runs" / "first")
    shutil.copytree(scenes / "masks", tmp_path / "project" / "truth")
    (tmp_path / "project" / "colours.csv").write_text("id,colour\n1,#ff0000\n")
    words = ["--masks", str(tmp_path / "project" / "truth"), "--mask-colours", str(tmp_path / "project" / "colours.csv")]
    assert main(["report", "--run", str(run), *words, "--quiet"]) == 0
    moved = (tmp_path / "project").rename(tmp_path / "moved")
    read = reported(moved / "runs" / "first")
    assert "truth" in read.data["index"]["layers"]
    alone = (moved / "runs" / "first").rename(tmp_path / "alone")
    read = reported(alone)
    assert "truth" not in read.data["index"]["layers"]
    assert "truth: the ground truth shown before is no longer there; --masks DIR says where it is" in read.text


def test_a_record_of_an_earlier_version_still_holds(run, scenes):
    (run / "report" / "truth.json").write_text(
        json.dumps({"masks": str(Path(scenes / "masks").resolve()), "mask_colours": None})
    )
    assert "truth" in reported(run).data["index"]["layers"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r'"of \u0027HOME/my run\u0027"', r'"of \u0027~/my run\u0027"'),
        (r'"first\nHOME/x"', r'"first\n~/x"'),
        ("file://HOME/x", "file://~/x"),
        ("it lies in HOME.", "it lies in ~."),
        ("/mntHOME/x and HOME.old/x", "/mntHOME/x and HOME.old/x"),
    ],
)
def test_the_home_folder_is_found_wherever_a_path_may_begin(tmp_path, monkeypatch, text, shown):
    home = tmp_path / "jane"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert without_home(text.replace("HOME", str(home))) == shown.replace("HOME", str(home))
