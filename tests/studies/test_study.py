"""``advcam study`` as people use it, on a run of small scenes."""

import csv
import json
import shutil

import pytest
from PIL import Image

from advcam.cli import main
from advcam.extractor import AdvCAM
from advcam.stages.climb import ClimbConfig
from advcam.studies import STUDIES
from advcam.studies.study import identity

FAST = ["--sample", "4", "--resamples", "20", "--quiet"]
FILES = {"study.json", "rows.csv", "figure.png", "paragraph.txt"}


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """A copy of the finished run, whose studies may be made and thrown away."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("studies") / "run")


def rows(run, name, file="rows.csv"):
    with (run / "studies" / name / file).open(newline="") as opened:
        return list(csv.DictReader(opened))


def study(run, scenes, name, *more):
    return main(["study", name, "--run", str(run), "--masks", str(scenes / "masks"), *FAST, *more])


def test_iterations(run, scenes, capsys):
    assert (
        main(["study", "iterations", "--run", str(run), "--masks", str(scenes / "masks"), "--resamples", "20", "--quiet"]) == 0
    )
    folder = run / "studies" / "iterations"
    assert capsys.readouterr().out == f"study: {folder}\n"
    assert {path.name for path in folder.iterdir()} == FILES
    found = rows(run, "iterations")
    assert [row["regularisation"] for row in found[::6]] == ["none", "suppress", "restrain", "both"]
    assert [row["steps"] for row in found[:6]] == list("123456")
    metrics = json.loads((run / "metrics.json").read_text())
    for row, name in ((found[0], "seed_plain"), (found[2], "seed_advcam")):  # the whole list, the run's own climb of 3 steps
        assert float(row["mean_iou"]) == pytest.approx(metrics[name]["mean_iou"], abs=1e-3)
        assert float(row["noise"]) == pytest.approx(metrics[name]["noise"], abs=1e-3)
    assert len({row["mean_iou"] for row in found[::6]}) == 1  # the plain map knows no regularisation
    assert float(found[2]["difference"]) == 0
    about = json.loads((folder / "study.json").read_text())
    assert about["samples"][0]["list"] == "eval.txt"
    assert about["samples"][0]["images"] == 8
    assert "ground truth" in about["rule"]
    assert "all 8 images of eval.txt" in (folder / "paragraph.txt").read_text()
    with Image.open(folder / "figure.png") as figure:
        assert figure.size[0] > 500


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("restrain", "restrain", ["0", "2"]),
        ("tau", "tau", ["0.3", "0.5"]),
        ("step-size", "step_size", ["0.01", "0.05"]),
    ],
)
def test_sweeps(run, scenes, name, column, values):
    assert study(run, scenes, name, "--values", ",".join(values), "--step-size", "0.01", "--longest", "4") == 0
    found = rows(run, name)
    assert [row[column] for row in found] == values
    assert {row["steps"] for row in found} == {"3"}
    base = {"restrain": 0, "tau": 1, "step-size": 0}[name]
    assert float(found[base]["difference"]) == 0
    assert len(rows(run, name, "curves.csv")) == 8
    assert "4 of the 8 images of eval.txt" in (run / "studies" / name / "paragraph.txt").read_text()


def test_base_methods(run, scenes):
    assert study(run, scenes, "base", "--values", "gradcam,cam", "--scales", "1") == 0
    cam, gradcam = rows(run, "base")
    assert cam["method"] == "cam"
    for name in ("mean_iou", "plain_mean_iou"):  # behind a linear head they are the same map
        assert float(cam[name]) == pytest.approx(float(gradcam[name]), abs=1e-3)
    assert float(cam["gain"]) == pytest.approx(float(cam["mean_iou"]) - float(cam["plain_mean_iou"]), abs=1e-6)


def test_growth_counts_every_map_once_whatever_the_preset_weighs(run):
    found = []
    for words in ([], ["--climb-option", "later=1"]):
        assert main(["study", "growth", "--run", str(run), "--preset", "fast", "--steps", "2", *words, "--quiet"]) == 0
        found.append(rows(run, "growth"))
    assert found[0] == found[1]


def test_growth(run, scenes):
    assert main(["study", "growth", "--run", str(run), "--parts", str(scenes / "parts"), *FAST]) == 0
    found = rows(run, "growth")
    cells = list(dict.fromkeys(row["cells"] for row in found))
    assert cells == ["discriminative", "non-discriminative", "part", "body", "background"]
    first = [row for row in found if row["t"] == "0"]
    assert all(float(row["amplification"]) == float(row["total"]) == 1 for row in first)
    assert main(["study", "growth", "--run", str(run), *FAST]) == 0
    assert len(rows(run, "growth")) == 2 * 6


def test_landscape(run):
    assert main(["study", "landscape", "--run", str(run), "--grid", "3", *FAST]) == 0
    original, climbed, attacked = rows(run, "landscape")
    assert float(attacked["score"]) < float(original["score"]) < float(climbed["score"])
    assert float(attacked["curvature_difference"]) == 0


def test_networks(run, scenes, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    masks = ["--masks", str(scenes / "masks")]
    assert main(["study", "networks", "--run", str(run), "--runs", str(other), *masks, *masks, *FAST]) == 0
    one, two = rows(run, "networks")
    assert (one.pop("network"), two.pop("network")) == ("test_resnet (run)", "test_resnet (other)")
    assert one == two


def test_a_study_that_was_stopped_goes_on(run, scenes, tmp_path, monkeypatch):
    arguments = ["--values", "0,1", "--steps", "2", "--scales", "1"]
    whole, stopped = (shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("studies")) for name in "ab")
    climbs, climb = [], AdvCAM.iterate

    def dies(self, *given):
        climbs.append(self)
        if len(climbs) == 4:
            raise KeyboardInterrupt
        return climb(self, *given)

    assert study(whole, scenes, "restrain", *arguments) == 0
    monkeypatch.setattr(AdvCAM, "iterate", dies)
    assert study(stopped, scenes, "restrain", *arguments) == 130
    assert not (stopped / "studies" / "restrain").exists()
    assert study(stopped, scenes, "restrain", *arguments) == 0
    assert len(climbs) == 4 + 5  # three of eight were done
    for file in ("rows.csv", "curves.csv", "study.json", "paragraph.txt"):
        one, two = ((each / "studies" / "restrain" / file).read_text() for each in (whole, stopped))
        assert one == two
    assert study(stopped, scenes, "restrain", *arguments) == 0
    assert len(climbs) == 9  # nothing was left to do
    assert study(stopped, scenes, "restrain", "--values", "0,1", "--steps", "2", "--step-size", "0.05") == 0
    assert len(climbs) == 17  # other settings, other parts


def test_images_that_cannot_be_used_are_listed(run, scenes, tmp_path, capsys):
    masks, names = shutil.copytree(scenes / "masks", tmp_path / "masks"), [f"scene-{at:05d}" for at in range(16, 20)]
    Image.new("P", (10, 10)).save(masks / "scene-00017.png")
    (masks / "scene-00018.png").unlink()
    (tmp_path / "few.txt").write_text("\n".join([*names, "nothing"]))
    arguments = ["--masks", str(masks), "--list", str(tmp_path / "few.txt"), "--values", "0", "--steps", "1", *FAST]
    assert main(["study", "restrain", "--run", str(run), *arguments]) == 1
    assert "2 left out" in capsys.readouterr().out
    skipped = (run / "studies" / "restrain" / "skipped.csv").read_text()
    assert "scene-00017" in skipped
    assert "nothing" in skipped
    assert json.loads((run / "studies/restrain/study.json").read_text())["samples"][0]["images"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["iterations"], "give one --masks DIR"),
        (["iterations", "--masks", "nowhere"], "no such folder of ground-truth masks"),
        (["restrain", "--masks", "MASKS", "--values", "much"], "--values takes numbers"),
        (["base", "--masks", "MASKS", "--values", "cam,magic"], "magic"),
        (["base", "--masks", "MASKS", "--preset", "official"], "give --preset default"),
        (["landscape", "--grid", "4"], "--grid is odd"),
        (["landscape", "--preset", "official"], "give --preset default"),
        (["landscape", "--preset", "features"], "this climb moves features where it can: give --space pixels"),
        (["growth", "--parts", "nowhere"], "telling parts"),
        (["networks", "--masks", "MASKS", "--runs", "RUN"], "once for each run"),
        (["tau", "--masks", "MASKS", "--sample", "0"], "sample must be at least 1"),
        (["restrain", "--masks", "MASKS", "--values", "-1"], "at least 0"),
    ],
)
def test_what_cannot_be_done_is_said_on_one_line(run, scenes, capsys, arguments, said):
    placed = [{"MASKS": str(scenes / "masks"), "RUN": str(run)}.get(part, part) for part in arguments]
    assert main(["study", *placed, "--run", str(run), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_without_a_classifier_is_told_how_to_get_one(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("studies"))
    state = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(state | {"steps": {}}))
    assert main(["study", "growth", "--run", str(copy), "--quiet"]) == 2
    assert "advcam classify" in capsys.readouterr().err


def test_an_unknown_study_lists_the_known_ones(run, capsys):
    with pytest.raises(SystemExit):
        main(["study", "weather", "--run", str(run)])
    error = capsys.readouterr().err
    assert all(name in error for name in STUDIES)


def test_masks_changed_in_place_are_measured_anew(context, scenes, tmp_path):
    masks = tmp_path / "masks"
    shutil.copytree(scenes / "masks", masks)
    climb = ClimbConfig().settings()
    before = identity(context, "seeds", climb, masks=masks)
    assert identity(context, "seeds", climb, masks=masks) == before
    next(masks.iterdir()).write_bytes(b"another")
    assert identity(context, "seeds", climb, masks=masks) != before
