"""The published recipes: what they set, and that their commands start and end, on few small images in the same layouts."""

import json
import re
import shlex
from dataclasses import asdict
from importlib.resources import files
from types import SimpleNamespace

import pytest

from advcam.attribution import PRESETS
from advcam.cli import main, recipes
from advcam.cli.options import typed
from advcam.cli.parser import parser
from advcam.errors import SettingsError
from advcam.models.classifiers import Backbone
from advcam.options import overlay
from advcam.stages.table import STEPS
from conftest import arguments
from layouts import write_coco, write_voc

README = (files("advcam.recipes") / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"^\| `([\w-]+)` \| `advcam ([^`]+)`", README, re.MULTILINE))
SHRUNK = """
--backbone test_resnet --from-scratch --epochs 1 --batch 4 --crop 64 --lr 1e-3 --head-lr 1e-2
--classify-option long_sides=(48,64) --steps 2 --scales 1
--refine-option epochs=1 --refine-option batch=2 --refine-option crop=80
--refine-option foreground=0.95 --refine-option background=0.9
--segment-option steps=2 --segment-option encoder='' --segment-crop 64 --segment-batch 2 --predict-scales 1
--workers 0 --quiet
"""


def steps(recipe, *more):
    """The configs of a run, by step."""
    args, tables = parser(False).parse_args(["run", "--labels", "x", "--out", "y", *more]), recipes.tables(recipe)
    found = {}
    for name in ("classify", "climb", "refine", "segment"):
        kind = STEPS[name].config
        pairs, flags = typed(args, name, kind.options())
        found[name] = overlay(kind, tables.get(name), None, pairs, flags)
    return SimpleNamespace(**found)


def test_every_recipe_is_in_the_table_and_says_what_it_is():
    assert set(COMMANDS) == set(recipes.names())
    for name in recipes.names():
        text = (files("advcam.recipes") / f"{name}.toml").read_text(encoding="utf-8")
        assert text.startswith('about = """')
    for name in ("voc2012", "coco2014"):
        about = (files("advcam.recipes") / f"{name}.toml").read_text(encoding="utf-8").split('"""')[1]
        assert f"advcam {COMMANDS[name]}" in about, "one command, in the recipe and in the table"
        assert all(word in about for word in ("Expected", "Not run here", "Hours"))


def test_voc2012_is_as_published():
    made = steps("voc2012")
    classify = made.classify.record()
    assert made.classify.network == Backbone("resnet50.tv_in1k", dilated=False)
    published = {
        "epochs": 5, "batch": 16, "optimizer": "sgd", "lr": 0.1, "head_lr": 1.0, "momentum": 1e-4, "weight_decay": 1e-4,
        "crop": 512, "long_sides": (320, 640), "frozen": ("conv1", "bn1"),
    }  # fmt: skip
    assert classify == classify | published
    plan = made.classify.plan()
    assert (plan.schedule, plan.batch_norm) == ("poly", "statistics")
    assert asdict(made.climb.settings()) == PRESETS["official"]
    refine = asdict(made.refine.settings())
    assert made.refine.method == "irn"
    assert refine == refine | {
        "foreground": 0.35, "background": 0.15, "threshold": 0.25, "power": 1.5, "beta": 10.0, "log2_steps": 8, "radius": 5,
        "pair_radius": 10, "epochs": 3, "batch": 32, "crop": 512, "scales": (0.5, 1.5), "frozen": True,
    }  # fmt: skip
    assert made.segment == steps("deeplab-v2").segment
    assert (made.segment.network, made.segment.steps, made.segment.batch, made.segment.lr) == ("deeplabv2", 30000, 10, 2.5e-4)


def test_coco2014_differs_where_it_says():
    voc, coco = steps("voc2012"), steps("coco2014")
    assert (coco.classify, coco.climb) == (voc.classify, voc.climb)
    changed = {name for name, value in asdict(coco.refine.settings()).items() if value != getattr(voc.refine.settings(), name)}
    assert changed == {"background", "threshold", "power"}
    assert asdict(coco.segment) == asdict(voc.segment) | {"steps": 100000}


def test_flags_win():
    made = steps(
        "voc2012", "--backbone", "test_resnet", "--output-stride", "8", "--epochs", "2", "--classify-option", "momentum=0.9",
        "--classify-option", "dilated=True", "--steps", "3", "--threshold", "0.3", "--segment-option", "steps=7",
    )  # fmt: skip
    backbone = made.classify.network
    assert (backbone.name, backbone.output_stride, backbone.dilated) == ("test_resnet", 8, True)
    assert (made.classify.epochs, made.classify.momentum, made.classify.lr) == (2, 0.9, 0.1)
    assert (made.climb.settings().steps, made.climb.settings().scales) == (3, (1.0, 0.5, 1.5, 2.0))
    assert (made.refine.settings().threshold, made.refine.settings().power, made.segment.steps) == (0.3, 1.5, 7)
    assert asdict(steps("voc2012", "--preset", "paper").climb.settings()) == PRESETS["paper"]
    assert steps("voc2012", "--method", "crf").refine.changes == {}


def mine(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    return str(tmp_path / "mine.toml")


def test_a_recipe_like_another(tmp_path):
    made = steps(mine(tmp_path, 'climb = "voc2012"\n[segment]\nlike = "deeplab-v2"\nbatch = 4\n'))
    assert made.climb.preset == "official"
    assert (made.segment.batch, made.segment.network) == (4, "deeplabv2")
    assert made.classify == steps("deeplab-v2").classify, "what it does not name stays"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[clasify]\nepochs = 1\n", "has 'clasify', which is not a table of a step; did you mean classify"),
        ('segment = "cct"\n', r"\[segment\] is like 'cct', which has no table \[segment\] of its own"),
        ('segment = "nothing"\n', "no recipe is called 'nothing'"),
        ('segment = "coco2014"\n', r"\[segment\] is like 'coco2014', which has no table \[segment\] of its own"),
        ("classify = 3\n", "has 'classify', which is not a table of a step"),
        ("[classify]\nepoch = 1\n", "there is no setting 'epoch'; did you mean epochs"),
        ("[classify]\nlong_sides = 320\n", "long_sides is two numbers such as 320,640; got 320"),
        ("[classify]\nfrozen = [1]\n", r"frozen is words such as conv1,bn1; got \[1\]"),
        ("[classify]\nbackbone = 50\n", "backbone is a word such as resnet50; got 50"),
        ('[classify]\noptimizer = "adam"\n', "optimizer is one of adamw, sgd; got 'adam'"),
        ("[climb]\nstep = 1\n", "there is no setting 'step'; did you mean steps"),
        ("[refine]\npower = 1.5\n", "affinity has no setting 'power'"),
    ],
)
def test_recipes_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        steps(mine(tmp_path, text))


def test_a_step_that_the_recipe_has_nothing_for(capsys, tmp_path):
    assert main(["classify", "--run", str(tmp_path / "no"), "--recipe", "deeplab-v2"]) == 2
    assert "--recipe deeplab-v2: has settings for segment, none for classify" in capsys.readouterr().err


def test_what_is_frozen_must_be_there(tmp_path, capsys):
    root = write_voc(tmp_path)
    line = [*SHRUNK.split(), "--backbone", "vit_tiny_patch16_224", "--backbone-option", "img_size=64"]
    assert main(["run", "--recipe", "voc2012", "--labels", str(root), "--out", str(tmp_path / "run"), *line]) == 2
    assert "frozen: no parameter of the backbone begins with 'conv1'" in capsys.readouterr().err


@pytest.mark.slow
def test_voc2012_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_voc(tmp_path / "VOCdevkit")
    (tmp_path / "trainaug.txt").write_text((root / "ImageSets" / "Segmentation" / "trainaug.txt").read_text())
    assert main([*shlex.split(COMMANDS["voc2012"]), *shlex.split(SHRUNK)]) == 0
    state = json.loads((tmp_path / "runs" / "voc" / "run.json").read_text())
    made = {name: step["config"] for name, step in state["steps"].items()}
    assert {name: step["state"] for name, step in state["steps"].items() if step["state"] != "done"} == {"semi": "planned"}
    assert (made["classify"]["optimizer"], made["classify"]["momentum"], made["classify"]["dilated"]) == (
        "sgd", 1e-4, False,
    )  # fmt: skip
    assert (made["climb"]["weights"], made["refine"]["method"], made["segment"]["balanced"]) == ("gradient", "irn", True)
    judge = ["evaluate", "--run", "runs/voc", "--masks", "VOCdevkit/VOC2012/SegmentationClass", "--quiet"]
    assert main(judge) == 0
    found = json.loads((tmp_path / "runs" / "voc" / "metrics.json").read_text())
    assert {"seed_advcam", "masks", "predictions"} <= found.keys()
    assert found["predictions"]["split"] == "val.txt, 3 images"
    assert main([*judge, "--list", "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"]) == 0
    found = json.loads((tmp_path / "runs" / "voc" / "metrics.json").read_text())
    assert found["masks"]["split"] == "train.txt, 6 images"
    assert "predictions" not in found, "the network predicts what is scored on"
    again = ["climb", "--run", "runs/voc", "--quiet"]
    assert main(again) == 0, "a step's own verb has the recipe and what was typed, and finds it done"
    assert main([*again, "--redo", "--steps", "1"]) == 0
    made = json.loads((tmp_path / "runs" / "voc" / "run.json").read_text())["steps"]["climb"]["config"]
    assert (made["steps"], made["weights"], made["scales"]) == (1, "gradient", [1.0])


@pytest.mark.slow
def test_coco2014_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path)
    assert main(["data", "convert", "--labels", "coco", "--out", "coco-masks", "--quiet"]) == 0
    assert main([*shlex.split(COMMANDS["coco2014"]), *shlex.split(SHRUNK)]) in (0, 1)
    assert main(["evaluate", "--run", "runs/coco", "--masks", "coco-masks/masks", "--quiet"]) == 0
    found = json.loads((tmp_path / "runs" / "coco" / "metrics.json").read_text())
    assert found["predictions"]["split"] == "val2014.txt, 3 images"


def test_a_recipe_for_one_step_leaves_the_others_their_verbs(scenes, tmp_path):
    """A run remembers a recipe for the steps that it has settings of."""
    recipe = tmp_path / "part.toml"
    recipe.write_text('[refine]\nmethod = "threshold"\n')
    run = tmp_path / "run"
    assert main(arguments(scenes, run, "--recipe", str(recipe))) == 0
    assert main(["climb", "--run", str(run), "--redo", "--steps", "2", "--quiet"]) == 0
    assert main(["refine", "--run", str(run), "--refine-option", "threshold=0.4", "--quiet"]) == 0
    made = json.loads((run / "run.json").read_text())["steps"]
    assert made["climb"]["config"]["steps"] == 2
    assert made["refine"]["config"]["method"] == "threshold"


TRAIN = ("demo", "run", "classify", "refine", "segment", "semi")
CLIMB = ("demo", "run", "climb", "refine", "study")
LIMITS = {"--workers": TRAIN, "--accumulate": TRAIN, "--tensorboard": TRAIN, "--max-pixels": (*CLIMB, "report")}
VERBS = (
    "demo",
    "run",
    "classify",
    "climb",
    "refine",
    "segment",
    "semi",
    "report",
    "evaluate",
    "study",
    "predict",
    "export",
    "climb-image",
)


@pytest.mark.parametrize("verb", VERBS)
def test_a_limit_is_offered_where_there_is_something_to_limit(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help-all"])
    said = capsys.readouterr().out
    assert {flag for flag in LIMITS if flag in said} == {flag for flag, verbs in LIMITS.items() if verb in verbs}
    assert all(flag in said for flag in ("--device", "--seed", "--quiet", "--debug"))
