"""The whole flow as people use it: ``python -m advcam`` on a folder of small scenes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.stages.classify import ClassifyConfig
from advcam.stages.table import STEPS
from conftest import CLIMB, NETWORK, SEGMENT, arguments


def command(*args, **options):
    """As a process of its own, from outside."""
    return subprocess.run(
        [sys.executable, "-m", "advcam", *map(str, args)], capture_output=True, text=True, check=False, **options
    )


def names(folder):
    return sorted(p.stem for p in folder.iterdir())


def test_everything_promised_is_in_the_folder(finished, scenes):
    everything = names(scenes / "images")
    assert names(finished / "2-climb" / "maps") == names(finished / "2-climb" / "cam") == everything
    assert names(finished / "3-refine" / "masks") == everything
    assert names(finished / "4-segment" / "predictions") == (scenes / "eval.txt").read_text().split()
    for name in (
        "run.json",
        "1-classify/model.safetensors",
        "1-classify/metrics.json",
        "4-segment/model.safetensors",
        "report.html",
    ):
        assert (finished / name).is_file()
    assert not (finished / "skipped.csv").exists()
    run = json.loads((finished / "run.json").read_text())
    assert [step["state"] for step in run["steps"].values()] == ["done"] * 4
    assert run["about"]["seed"] == 0
    assert {"torch", "timm", "advcam"} <= run["versions"].keys()


def test_maps_and_masks_have_the_promised_form(finished, scenes):
    rows = dict(line.split(",") for line in (scenes / "labels.csv").read_text().split()[1:])
    ids = {name: int(i) for i, name in (line.split(",") for line in (scenes / "classes.csv").read_text().split()[1:])}
    for name, labels in rows.items():
        with np.load(finished / "2-climb" / "maps" / f"{name}.npz", allow_pickle=False) as file:
            assert sorted(file["classes"].tolist()) == sorted(ids[label] for label in labels.split(";"))
            assert file["maps"].shape == (len(file["classes"]), 16, 16)
            assert file["size"].tolist() == [64, 64]
            assert all(peak in (0, 1) for peak in file["maps"].max((1, 2)).tolist())
        with Image.open(finished / "3-refine" / "masks" / f"{name}.png") as mask:
            assert (mask.mode, mask.size) == ("P", (64, 64))
            assert set(np.unique(mask).tolist()) <= {0, 255, *(ids[label] for label in labels.split(";"))}


def test_every_number_says_its_split_and_rule(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics.keys() == {
        "seed_plain",
        "seed_advcam",
        "masks",
        "predictions",
        "localisation",
        "average_precision",
        "ground_truth",
        "confidence",
    }
    for entry in metrics.values():
        assert "8 images" in entry["split"] or entry["images"] == 8
        assert entry["rule"]
    assert "chosen with the ground truth" in metrics["seed_advcam"]["rule"]
    assert metrics["masks"]["rule"] == "affinity, background threshold 0.3 as given; image labels given"
    assert 0 <= metrics["predictions"]["mean_iou"] <= 1
    assert len((finished / "per-image.csv").read_text().split()) == 9


def test_a_finished_run_is_not_done_again(finished, scenes, capsys):
    stamps = {p: p.stat().st_mtime_ns for p in finished.rglob("*.npz")}
    assert main(arguments(scenes, finished)) == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in finished.rglob("*.npz")}
    assert capsys.readouterr().out.strip() == f"report: {(finished / 'report.html').resolve()}"


def test_other_settings_are_refused(finished, scenes, capsys):
    assert main(arguments(scenes, finished, "--mirror")) == 2
    assert re.search(
        r"advcam: .*2-climb: was made with other settings \(mirror: false -> true.*--redo", capsys.readouterr().err
    )
    assert main(arguments(scenes, finished, "--seed", "1")) == 2
    assert "made from other data (seed: 0 -> 1)" in capsys.readouterr().err


def test_one_step_again_with_other_settings(finished, scenes, tmp_path, capsys):
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    assert main(["refine", "--run", str(run), "--quiet", "--redo", "--method", "threshold"]) == 0
    assert not (run / "4-segment").exists()
    assert names(run / "3-refine" / "masks") == names(scenes / "images")
    assert main(["report", "--run", str(run), "--quiet"]) == 0
    assert main(["segment", "--run", str(run), "--seed", "5", "--quiet"]) == 2
    assert "was started with --seed 0" in capsys.readouterr().err


def test_a_run_goes_on_with_what_one_step_was_redone_with(run, scenes, capsys):
    """Options that are not typed are as the run has them; typed ones that differ are refused, and nothing is deleted."""
    assert main(["refine", "--run", str(run), "--quiet", "--redo", "--method", "threshold"]) == 0
    words = [word for word in arguments(scenes, run) if word not in ("--threshold", "0.3")]  # which --method replaced
    assert main(words) == 0
    assert (run / "4-segment" / "predictions").is_dir()
    assert json.loads((run / "run.json").read_text())["steps"]["refine"]["config"]["method"] == "threshold"
    assert main([*words, "--method", "pamr"]) == 2
    assert "leave these options out to go on with what is there" in capsys.readouterr().err
    assert (run / "4-segment" / "predictions").is_dir()


def test_other_labels_than_the_run_has_read(scenes, finished, tmp_path, capsys):
    """A classifier trained anew learns the labels that the run has read; the user hears that the file is another now."""
    labels = tmp_path / "labels.csv"
    shutil.copy(scenes / "labels.csv", labels)
    words = arguments(scenes, tmp_path / "run")
    words[words.index("--labels") + 1] = str(labels)
    starts = ["classify", "--run", str(tmp_path / "run"), *words[1 : words.index("--out")], *NETWORK]
    assert main(starts) == 0
    labels.write_text(labels.read_text() + "\n")
    capsys.readouterr()
    again = ["classify", "--run", str(tmp_path / "run"), "--redo"]
    assert main(again) == 0
    assert "labels.csv: has changed since this run read it, and a run keeps its labels" in capsys.readouterr().err
    shutil.copy(scenes / "labels.csv", labels)
    assert main(again) == 0
    assert "has changed" not in capsys.readouterr().err


def test_an_unknown_option_comes_before_a_missing_one(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--imgs", "photos"])
    assert "there is no option --imgs; did you mean --images" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "check", "--qqqqqqqq"])
    assert "there is no option --qqqqqqqq; see --help-all" in capsys.readouterr().err


def test_predict(finished, scenes, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.open(next((scenes / "images").iterdir())).resize((90, 50)).save(images / "größe.png")
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = command("predict", "--model", finished / "4-segment", "--images", images, "--out", tmp_path / "masks", "--quiet")
    assert done.returncode == 1
    assert done.stdout.strip().splitlines()[-1] == f"1 left out, listed with reasons in {tmp_path / 'masks' / 'skipped.csv'}"
    with Image.open(tmp_path / "masks" / "größe.png") as mask:
        assert (mask.mode, mask.size) == ("P", (90, 50))
    assert "broken" in (tmp_path / "masks" / "skipped.csv").read_text()
    none = command("predict", "--model", tmp_path, "--images", images, "--out", tmp_path / "masks")
    assert none.returncode == 2
    assert "expected model.json and model.safetensors" in none.stderr


def test_a_trained_classifier_skips_training(finished, scenes, tmp_path):
    """The method is post hoc: weights of a timm network, or a network from the user's own file."""
    weights = finished / "1-classify" / "model.safetensors"
    own = tmp_path / "mine.py"
    own.write_text(
        "from safetensors.torch import load_file\nimport timm\n"
        "def build():\n    net = timm.create_model('test_resnet', num_classes=5, output_stride=8)\n    net.fc.bias = None\n"
        f"    net.load_state_dict(load_file({str(weights)!r}))\n    return net\n"
    )
    maps = {}
    for name, what in (("weights", str(weights)), ("own", f"{own}:build")):
        out = tmp_path / name
        arguments_ = ["classify", "--run", out, "--images", scenes / "images", "--labels", scenes / "labels.csv",
                      "--classes", scenes / "classes.csv", "--classifier", what, *NETWORK]  # fmt: skip
        assert main([str(a) for a in arguments_]) == 0
        assert main(["climb", "--run", str(out), *CLIMB, "--quiet"]) == 0
        maps[name] = {p.name: np.load(p)["maps"] for p in (out / "2-climb" / "maps").iterdir()}
        assert json.loads((out / "1-classify" / "metrics.json").read_text())["history"] == []
    reference = {p.name: np.load(p)["maps"] for p in (finished / "2-climb" / "maps").iterdir()}
    for name, expected in reference.items():
        assert np.allclose(maps["weights"][name], expected, atol=2e-2)
        assert np.allclose(maps["own"][name], expected, atol=2e-2)
    own.write_text(own.read_text().replace("return net", "net.fc.weight.data.neg_()\n    return net"))
    again = ["climb", "--run", str(tmp_path / "own"), "--steps", "3", "--redo", "--quiet"]
    assert main(again) == 0  # what was measured and kept is climbed, whatever has become of the user's file
    assert all(
        np.array_equal(np.load(p)["maps"], maps["own"][p.name]) for p in (tmp_path / "own" / "2-climb" / "maps").iterdir()
    )


def test_killed_in_the_climb_it_ends_with_the_same_result(finished, scenes, tmp_path):
    out = tmp_path / "killed"
    out.mkdir()
    for name in ("run.json", "data.json"):
        shutil.copy(finished / name, out / name)
    shutil.copytree(finished / "1-classify", out / "1-classify")
    state = json.loads((out / "run.json").read_text())
    state["steps"] = {"classify": state["steps"]["classify"]}
    (out / "run.json").write_text(json.dumps(state))
    shutil.copytree(out, tmp_path / "whole")
    words = [sys.executable, "-m", "advcam", "climb", "--run", out, "--steps", "3", "--max-pixels", "8192", "--quiet"]
    running = subprocess.Popen([str(w) for w in words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    maps = out / "2-climb" / "maps"
    while not (maps.is_dir() and len(list(maps.glob("[!.]*.npz"))) >= 2) and running.poll() is None:
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    plain = names(out / "2-climb" / "cam")
    early = {p.name: p.stat().st_mtime_ns for p in maps.glob("[!.]*.npz") if p.stem in plain}  # images with both files
    assert early
    assert main([str(w) for w in words[3:]]) == 0
    kept = [name for name, stamp in early.items() if (maps / name).stat().st_mtime_ns == stamp]
    assert len(kept) >= len(early) - 1  # two images a batch; a half-done batch is done again
    words[words.index(out)] = tmp_path / "whole"
    assert main([str(w) for w in words[3:]]) == 0
    whole = tmp_path / "whole" / "2-climb" / "maps"
    assert names(maps) == names(whole) == names(finished / "2-climb" / "maps")
    for path in whole.iterdir():
        assert np.array_equal(np.load(maps / path.name)["maps"], np.load(path)["maps"])  # to the last bit


def test_what_cannot_be_used_is_listed(scenes, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    (data / "images" / "scene-00003.png").write_bytes((data / "images" / "scene-00003.png").read_bytes()[:900])
    Image.new("RGB", (64, 64)).save(data / "images" / "nobody.png")
    with (data / "labels.csv").open("a") as labels:
        labels.write("ghost,ring\n")
    with (data / "classes.csv").open("a") as classes:
        classes.write("6,hexagon\n")
    words = arguments(data, tmp_path / "run")
    assert main(["classify", *words[1 : words.index("--out")], "--run", str(tmp_path / "run"), *NETWORK]) == 1
    listed = (tmp_path / "run" / "skipped.csv").read_text()
    for word in ("ghost", "hexagon", "scene-00003"):
        assert word in listed
    assert "nobody" not in listed  # no label: no part of the data set
    assert capsys.readouterr().out.splitlines()[-1] == f"3 left out, listed with reasons in {tmp_path / 'run' / 'skipped.csv'}"
    assert main(["evaluate", "--run", str(tmp_path / "run"), "--masks", str(data / "masks"), "--quiet"]) == 2
    assert "has no maps yet; `advcam climb" in capsys.readouterr().err
    assert main(["climb", "--run", str(tmp_path / "run"), "--steps", "2", "--quiet"]) == 1
    (data / "masks" / "scene-00016.png").unlink()
    Image.new("L", (3, 3)).save(data / "masks" / "scene-00017.png")
    assert main(["evaluate", "--run", str(tmp_path / "run"), "--masks", str(data / "masks"), "--quiet"]) == 1
    listed = (tmp_path / "run" / "skipped-evaluate.csv").read_text()
    assert "there is no such mask" in listed
    assert "is 3x3, its image 64x64" in listed


def test_a_run_ends_as_its_steps_do_where_they_have_left_images_out(run, scenes, capsys):
    """Whether that was now or before."""
    words = [*arguments(scenes, run), "--quiet"]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [f"report: {run / 'report.html'}"]
    lists = [run / "3-refine" / "skipped.csv", run / "4-segment" / "skipped.csv"]
    lists[0].write_text("image,reason\nscene-00003,the climb has left it out\nscene-00001,the climb has left it out\n")
    assert main(words) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"2 left out, listed with reasons in {lists[0]}"
    lists[1].write_text("image,reason\nscene-00017,the process that made it died 3 times\n")
    assert main(words) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"2 left out, listed with reasons in {lists[0]}",
        f"report: {run / 'report.html'}",
        f"1 left out, listed with reasons in {lists[1]}",
    ]


def run_with(scenes, out, **changes):
    words = arguments(scenes, out)
    for flag, value in changes.items():
        at = words.index(f"--{flag.replace('_', '-')}")
        words[at : at + 2] = [words[at], str(value)] if value is not None else []
    return words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "/nowhere"}, "/nowhere: there is no such folder of images; check --images"),
        ({"labels": "/nowhere.csv"}, "/nowhere.csv: there is no such labels file"),
        ({"backbone": "resnet51"}, "timm has no network 'resnet51'; did you mean"),
        ({"eval_list": "/nowhere.txt"}, "there is no such list of images"),
        ({"epochs": 0}, "epochs must be from 1 to 1000000; got 0"),
        ({"segment_epochs": 0}, "epochs must be from 1 to 1000000; got 0"),
        ({"backbone": "crossvit_tiny_240"}, "CrossVit has no single layer"),
        ({"backbone": "cait_xxs24_224"}, "fails on an image (1, 3, 128, 128)"),
        ({"backbone": "densenet121"}, "choose another --backbone"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
    ],
)
def test_one_clear_line_and_status_2(scenes, tmp_path, changes, message, capsys):
    assert main(run_with(scenes, tmp_path / "run", **changes)) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("advcam: ")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "1-classify").exists()  # before any work is done


def test_a_step_alone_has_the_options_of_its_run(finished, scenes, tmp_path, capsys):
    """What is not typed is as `advcam run` was given it, also after the step was dropped with one before it."""
    for step in ("classify", "climb", "refine", "segment"):
        assert main([step, "--run", str(finished), "--quiet"]) == 0
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = json.loads((run / "run.json").read_text())["steps"]
    assert main(["climb", "--run", str(run), "--redo", "--mirror", "--quiet"]) == 0
    for step in ("refine", "segment"):
        assert main([step, "--run", str(run), "--quiet"]) == 0
    after = json.loads((run / "run.json").read_text())["steps"]
    assert after["climb"]["config"] == before["climb"]["config"] | {"mirror": True}
    assert after["climb"]["config"]["steps"] == 3
    assert after["segment"]["config"] == before["segment"]["config"]
    assert main(["climb", "--run", str(run), "--redo", "--preset", "fast", "--quiet"]) == 0
    fast = json.loads((run / "run.json").read_text())["steps"]["climb"]["config"]
    assert (fast["steps"], fast["mirror"], fast["precision"]) == (2, False, "auto")
    assert (
        main(["classify", "--run", str(run), "--redo", "--backbone", "resnet10t", "--from-scratch", "--epochs", "1", "--quiet"])
        == 0
    )
    other = json.loads((run / "run.json").read_text())["steps"]["classify"]["config"]
    assert (other["backbone"], other["output_stride"], other["crop"]) == ("resnet10t", 16, 64)
    capsys.readouterr()


def test_images_that_went_away_drop_nothing(finished, scenes, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    data["train"][0]["path"] = "/gone.png"
    (tmp_path / "run" / "data.json").write_text(json.dumps(data))
    assert main(["climb", "--run", str(tmp_path / "run"), "--redo", "--quiet"]) == 2
    assert re.search(r"1 of its \d+ images are gone or have changed, the first /gone.png: is gone", capsys.readouterr().err)
    assert names(tmp_path / "run" / "2-climb" / "maps") == names(finished / "2-climb" / "maps")


def test_a_mistake_in_redo_costs_nothing(finished, scenes, tmp_path, capsys):
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    for wrong in (["--weights", "/nowhere.pt"], ["--backbone", "crossvit_tiny_240", "--from-scratch"]):
        assert main(["classify", "--run", str(run), "--redo", "--quiet", *wrong]) == 2
        assert "Error" not in capsys.readouterr().err
    assert names(run / "4-segment" / "predictions")
    assert (run / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("classify --classify-option weights=", "weights is a word; got ''"),
        ("classify --classify-option classifier=", "classifier is a word; got ''"),
        ("classify --batch 1", "classify: a batch of 1 cannot be divided over 1 processes"),
        ("classify --std 0,1,1", "std must be above 0"),
        ("classify --mean 0.5,0.5,2", "mean must be from 0 to 1"),
        ("classify --classify-option frozen=", "frozen is words such as conv1,bn1; got ''"),
        ("classify --classify-option frozen=conv1,bn1,layer,fc", "no parameter of test_resnet is left to train"),
        ("classify --backbone-option num_classes=3", "backbone option 'num_classes' is not taken"),
        ("classify --classes nowhere.csv", "--classes starts a run, so --labels goes with it"),
        ("classify --seed -1", "--seed must be from 0 to"),
        ("refine --method psa --refine-option crop=96 --accumulate 5", "psa: a batch of 16 cannot be divided"),
        ("segment --accumulate 3", "segment: a batch of 8 cannot be divided over 1 processes in 3 parts"),
        ("segment --segment-option encoder_weights=7.pt", "encoder_weights is the file of an encoder's weights: give encoder="),
        ("segment --segment-option encoder=test_resnet --segment-option encoder_weights=7", "7: there is no such file"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_dropped(finished, tmp_path, capsys, words, message):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    step, *typed = words.split()
    assert main([step, "--run", str(run), "--redo", "--quiet", *typed]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "unexpected" not in said
    assert len(said.splitlines()) == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_an_encoder_is_what_its_file_holds(tmp_path):
    """Another file under the same name is another network; the same under another is the same."""
    kind = STEPS["segment"].config
    for name, held in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(held)
    a, b, c = (kind(encoder="resnet18", encoder_weights=str(tmp_path / name)).identity() for name in ("a.pt", "b.pt", "c.pt"))
    assert a == b != c


@pytest.mark.parametrize("verb", [["run"], ["data", "check"], ["segment"]])
def test_h_is_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*verb, "-h"])
    assert ended.value.code == 0
    assert "example:" in capsys.readouterr().out


def test_the_remedy_of_an_error_is_taken(scenes, tmp_path, capsys):
    """The learning rate was too high: the same command with a lower one goes on."""
    words = arguments(scenes, tmp_path / "run")
    words[words.index("3e-3")] = "1e30"
    assert main(words) == 2
    assert "lower the learning rate" in capsys.readouterr().err
    assert main(["classify", *arguments(scenes, "")[1:11], "--run", str(tmp_path / "run"), *NETWORK]) == 0


def test_one_class_and_a_few_images(scenes, tmp_path):
    """A data set of five images and one class, no lists, no class list, in sub-folders, some showing nothing."""
    folder = tmp_path / "images" / "sub"
    folder.mkdir(parents=True)
    images = sorted((scenes / "images").iterdir())[:5]
    for at, path in enumerate(images):
        Image.open(path).resize((40 + 8 * at, 64)).save(folder / f"{at}.jpg")
    (tmp_path / "labels.csv").write_text("image,labels\n" + "".join(f"sub/{at},{'thing' if at else ''}\n" for at in range(5)))
    out = tmp_path / "run"
    words = ["run", "--images", tmp_path / "images", "--labels", tmp_path / "labels.csv", "--out", out, *NETWORK, *SEGMENT]
    assert main([str(word) for word in words]) == 0
    with Image.open(out / "3-refine" / "masks" / "sub" / "0.png") as mask:
        assert set(np.unique(mask)) == {0}  # it shows no class
    assert len(list((out / "4-segment" / "predictions" / "sub").iterdir())) == 5
    assert json.loads((out / "run.json").read_text())["classes"] == [{"id": 1, "name": "thing"}]


def test_a_classifier_with_classes_that_no_image_has(finished, scenes, tmp_path, capsys):
    rows = (scenes / "labels.csv").read_text().split()
    some = [rows[0], *(row for row in rows[1:] if "ring" in row or "cross" in row)]
    (tmp_path / "labels.csv").write_text("\n".join(some))
    words = ["classify", "--images", scenes / "images", "--labels", tmp_path / "labels.csv", "--classifier",
             finished / "1-classify" / "model.safetensors", *NETWORK]  # fmt: skip
    assert main([str(w) for w in [*words, "--classes", scenes / "classes.csv", "--run", tmp_path / "all"]]) == 0
    capsys.readouterr()
    (tmp_path / "labels.csv").write_text("image,labels\nscene-00001,ring\nscene-00002,cross\n")
    assert main([str(w) for w in [*words, "--run", tmp_path / "two"]]) == 2
    assert "or number of classes" in capsys.readouterr().err


def test_predict_does_not_mix_models_or_overwrite_images(finished, scenes, tmp_path, capsys):
    words = ["predict", "--model", str(finished / "4-segment"), "--images", str(scenes / "images"), "--quiet"]
    out = tmp_path / "out"

    def refused(where, message):
        assert main([*words, "--out", str(where)]) == 2
        assert message in capsys.readouterr().err

    refused(scenes / "images", "is in the folder of images")
    refused(scenes / "images" / "masks", "is in the folder of images")
    refused(scenes / "masks", "holds images that `advcam predict` did not make")
    assert main([*words, "--out", str(out)]) == 0
    assert main([*words, "--out", str(out)]) == 0
    shutil.copytree(scenes / "images", tmp_path / "others")
    name = next((scenes / "images").iterdir()).stem
    Image.new("RGB", (50, 40)).save(tmp_path / "others" / f"{name}.png")
    own = [*words[:3], "--images", str(tmp_path / "others"), "--quiet", "--out", str(tmp_path / "own")]
    assert main(own) == 0
    Image.new("RGB", (60, 40)).save(tmp_path / "others" / f"{name}.png")  # another image of the same name
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "own").glob("*.png")}
    assert main(own) == 0
    changed = [p.stem for p in (tmp_path / "own").glob("*.png") if p.stat().st_mtime_ns != stamps[p.name]]
    assert changed == [name]
    with Image.open(tmp_path / "own" / f"{name}.png") as mask:
        assert mask.size == (60, 40)
    words[words.index(str(scenes / "images"))] = str(tmp_path / "others")
    refused(out, "holds masks of another folder of images")
    made = json.loads((out / "predict.json").read_text())
    (out / "predict.json").write_text(json.dumps(made | {"model.safetensors": "another"}))
    refused(out, "holds masks of another model")


def test_a_run_refused_before_its_first_step_gives_way(scenes, tmp_path, capsys):
    """``--classes FILE`` is a remedy that errors name: it may be added to the same command."""
    words = arguments(scenes, tmp_path / "run")
    at = words.index("--classes")
    fewer, kept = words[:at] + words[at + 2 :], words[at : at + 2]
    assert (
        main(
            ["classify", *fewer[1 : fewer.index("--out")], "--run", str(tmp_path / "run"), "--classifier", "/none.pt", *NETWORK]
        )
        == 2
    )
    capsys.readouterr()
    assert main(["classify", *fewer[1 : fewer.index("--out")], *kept, "--run", str(tmp_path / "run"), *NETWORK]) == 0


def test_nothing_to_score_on_is_not_scored_on_the_training_images(scenes, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    for name in (data / "eval.txt").read_text().split():
        (data / "images" / f"{name}.png").write_bytes(b"")
    assert main(arguments(data, tmp_path / "run")) == 2
    assert "eval.txt: none of its images can be opened" in capsys.readouterr().err


def test_a_mask_of_nothing_that_counts(finished, scenes, tmp_path):
    """An image whose truth is all 255 has no score of its own, and the report still orders the others."""
    shutil.copytree(scenes / "masks", tmp_path / "masks")
    shutil.copytree(finished, tmp_path / "run")
    name = (scenes / "eval.txt").read_text().split()[0]
    with Image.open(tmp_path / "masks" / f"{name}.png") as mask:
        mask.point(lambda _: 255).save(tmp_path / "masks" / f"{name}.png")
    assert main(["evaluate", "--run", str(tmp_path / "run"), "--masks", str(tmp_path / "masks"), "--quiet"]) == 0
    assert f"{name},,,,,\n" in (tmp_path / "run" / "per-image.csv").read_text()


def test_debug_shows_the_traceback(scenes, tmp_path, capsys):
    assert main([*run_with(scenes, tmp_path / "run", images="/nowhere"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_device_that_is_not_there(scenes, tmp_path, capsys):
    assert main(arguments(scenes, tmp_path / "run", "--device", "tpu")) == 2
    assert "--device is one of auto, cuda, mps, cpu; got 'tpu'" in capsys.readouterr().err


def test_no_hub_and_no_weights(scenes, tmp_path):
    """Without a network the pretrained weights cannot be downloaded; the error says what to do."""
    words = [w for w in arguments(scenes, tmp_path / "run") if w != "--from-scratch"]
    words[words.index("test_resnet")] = "resnet18"
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = command(*words, env=offline)
    assert done.returncode == 2
    assert "cannot be downloaded" in done.stderr
    assert "--weights FILE" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_evaluate_says_its_numbers(finished, scenes):
    done = command("evaluate", "--run", finished, "--masks", scenes / "masks")
    for what in ("seed_plain", "seed_advcam", "masks", "predictions"):
        ends = r"( \[\d+\.\d, \d+\.\d\])?( of the \d of \d classes that occur)?(, boundary IoU \d+\.\d %)?"
        assert re.search(rf"^{what}: mIoU \d+\.\d %{ends}, noise", done.stderr, re.MULTILINE)
    assert done.stdout == f"metrics: {finished / 'metrics.json'}\n"


def test_evaluate_without_truth(finished, tmp_path, capsys):
    assert main(["evaluate", "--run", str(finished), "--masks", str(tmp_path / "none"), "--quiet"]) == 2
    assert "there is no such folder of ground-truth masks" in capsys.readouterr().err
    assert main(["evaluate", "--run", str(finished), "--masks", str(tmp_path), "--quiet"]) == 2
    assert "no ground-truth mask for any of 8 images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_done(finished, tmp_path):
    """On a real file system of 400 kB: the climb stops with one line, the maps made before are whole, and it goes on."""
    run = tmp_path / "small"
    script = f"""
        set -e
        mkdir {run}; mount -t tmpfs -o size=400k none {run}
        cp {finished}/data.json {run}/; cp -r {finished}/1-classify {tmp_path}/classify
        ln -s {tmp_path}/classify {run}/1-classify
        {sys.executable} - <<'EOF'
import json
state = json.load(open("{finished}/run.json")); state["steps"] = {{"classify": state["steps"]["classify"]}}
json.dump(state, open("{run}/run.json", "w"))
EOF
        dd if=/dev/zero of={run}/filler bs=1k count=350 2>/dev/null
        set +e
        {sys.executable} -m advcam climb --run {run} --steps 2 --quiet; echo status $?
        ls {run}/2-climb/maps | wc -l
        rm {run}/filler
        {sys.executable} -m advcam climb --run {run} --steps 2 --quiet; echo status $?
    """
    if subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine lets no one mount a small file system (unshare -rm mount -t tmpfs)")
    done = subprocess.run(["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True, check=False)
    assert "the disk is full" in done.stderr, done
    assert "what is done is kept" in done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.split("\n")
    assert lines[0] == "status 2"
    assert 0 < int(lines[1]) < 24
    assert "status 0" in lines


@pytest.mark.parametrize(
    "verb",
    ["demo", "run", "classify", "climb", "refine", "segment", "semi", "report", "evaluate", "study", "predict", "export"],
)
def test_help_has_an_example(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    assert f"example:\n  advcam {verb} " in capsys.readouterr().out


def test_a_run_of_another_version_is_refused_with_one_line(finished, tmp_path, capsys):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    state = json.loads((run / "run.json").read_text())
    del state["layout"]
    for made in state["steps"].values():
        made["settings"] = made.pop("config")
    (run / "run.json").write_text(json.dumps(state | {"options": {}}))
    before = sorted(run.rglob("*"))
    for verb in ("climb", "refine", "report"):
        assert main([verb, "--run", str(run), "--quiet"]) == 2
        said = capsys.readouterr().err
        assert "made by another version of advcam" in said
        assert "start another run" in said
        assert len(said.splitlines()) == 1
    assert sorted(run.rglob("*")) == before


def test_what_is_on_record_makes_each_step_again(finished, tmp_path):
    """`config` is replayable, paths included, and `key` is of what changes the result: not of where a file lies."""
    state = json.loads((finished / "run.json").read_text())
    for name in ("classify", "climb", "refine", "segment"):
        made, kind = state["steps"][name], STEPS[name].config
        assert kind.from_record(made["config"]).record() == kind.from_record(kind.from_record(made["config"]).record()).record()
        assert set(made["given"]) <= set(kind.options())
        assert made["key"]
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        shutil.copy(finished / "1-classify" / "model.safetensors", tmp_path / place / "w.safetensors")
    one, other = (ClassifyConfig(weights=str(tmp_path / place / "w.safetensors")) for place in ("here", "there"))
    assert one.record() != other.record()
    assert one.identity() == other.identity()


def test_a_typed_choice_says_what_it_takes_the_place_of(finished, tmp_path, capsys):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert main(["climb", "--run", str(run), "--redo", "--preset", "fast"]) == 0
    assert "climb: preset replaces what was given for this run before: steps" in capsys.readouterr().err
    assert main(["refine", "--run", str(run), "--refine-option", "restart=0.1"]) == 0
    assert main(["refine", "--run", str(run), "--redo", "--method", "threshold"]) == 0
    assert "refine: method replaces what was given for this run before: threshold, restart" in capsys.readouterr().err
    assert main(["refine", "--run", str(run), "--redo", "--refine-option", "restart=0.1"]) == 2
    assert "threshold has no setting 'restart'" in capsys.readouterr().err


def test_a_recipe_typed_later_replaces_what_was_typed_for_the_run_and_says_so(finished, tmp_path, capsys):
    """As published is as published: nothing typed before stays, but for the files."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[climb]\nmirror = true\n[classify]\nepochs = 1\ncrop = 64\nbatch = 8\nbackbone = "test_resnet"\n')
    assert main(["climb", "--run", str(run), "--redo", "--recipe", str(recipe)]) == 0
    made = json.loads((run / "run.json").read_text())["steps"]["climb"]
    assert (made["config"]["steps"], made["config"]["mirror"], made["given"]) == (4, True, [])
    assert "climb: recipe replaces what was given for this run before: preset, steps" in capsys.readouterr().err
    assert main(["climb", "--run", str(run), "--redo", "--recipe", str(recipe), "--steps", "2", "--quiet"]) == 0
    made = json.loads((run / "run.json").read_text())["steps"]["climb"]["config"]
    assert (made["steps"], made["mirror"]) == (2, True)
    assert main(["classify", "--run", str(run), "--redo", "--recipe", str(recipe), "--workers", "0", "--quiet"]) == 0
    made = json.loads((run / "run.json").read_text())["steps"]["classify"]["config"]
    assert (made["from_scratch"], made["output_stride"], made["epochs"]) == (True, 16, 1)


def test_files_of_a_recipe_are_found_from_any_folder(finished, tmp_path, monkeypatch):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.copy(finished / "1-classify" / "model.safetensors", tmp_path / "7")
    (tmp_path / "mine.toml").write_text('[segment]\nencoder = "test_resnet"\nencoder_weights = "7"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["segment", "--run", str(run), "--redo", "--quiet", "--recipe", "mine.toml"]) == 0
    monkeypatch.chdir(run)
    assert main(["segment", "--run", ".", "--redo", "--quiet"]) == 0
    made = json.loads((run / "run.json").read_text())["steps"]["segment"]["config"]
    assert made["encoder_weights"] == str(tmp_path / "7")


def test_help_is_answered_without_loading_torch():
    code = "import sys; sys.argv = ['advcam', 'run', '--help']; import advcam"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: advcam run ")
    assert " torch\n" not in done.stderr


def test_completion_of_a_shell(capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "refine" in script
    assert "--method" in script
