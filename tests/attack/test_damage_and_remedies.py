"""Files of a run that are damaged or gone: one line says so, what it advises works, and nothing is lost before."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advcam.cli import main
from advcam.errors import StoreError
from advcam.store import load_maps, load_mask
from conftest import arguments


def follow(said):
    """Does what a message advises: deletes what is to be deleted, gives the commands in backticks."""
    if "delete it" in said:
        Path(re.match(r"advcam: (/\S+): ", said)[1]).unlink()
    for path in re.findall(r"delete (/\S+) and", said):
        Path(path).unlink()
    commands = re.findall(r"`advcam ([^`]+)`", said)
    for command in commands:
        assert main([*shlex.split(command), "--quiet"]) == 0, command
    assert commands or "delete" in said, said


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)


def bomb(path, shape):
    """A map file of a few kilobytes that says it unpacks to so many values."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    npz(path, classes=np.array([1], np.int16), size=np.array([64, 64], np.int32))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps.npy", header.getvalue() + bytes(1000))


SIZE, ONE = np.array([64, 64], np.int32), np.array([1], np.int16)
MAPS = {
    "two dimensions": lambda p: npz(p, classes=ONE, maps=np.zeros((16, 16), np.float16), size=SIZE),
    "no dimension": lambda p: npz(p, classes=ONE, maps=np.float16(1), size=SIZE),
    "complex": lambda p: npz(p, classes=ONE, maps=np.zeros((1, 16, 16), np.complex64), size=SIZE),
    "NaN": lambda p: npz(p, classes=ONE, maps=np.full((1, 16, 16), np.nan, np.float16), size=SIZE),
    "infinite": lambda p: npz(p, classes=ONE, maps=np.full((1, 16, 16), np.inf, np.float16), size=SIZE),
    "words": lambda p: npz(p, classes=np.array(["cat"]), maps=np.zeros((1, 16, 16), np.float16), size=SIZE),
    "objects": lambda p: npz(p, classes=ONE, maps=np.array([{"x": 1}], object), size=SIZE),
    "size of three": lambda p: npz(p, classes=ONE, maps=np.zeros((1, 16, 16), np.float16), size=np.array([1, 64, 64])),
    "size below zero": lambda p: npz(p, classes=ONE, maps=np.zeros((1, 16, 16), np.float16), size=-SIZE),
    "more maps than classes": lambda p: npz(p, classes=ONE, maps=np.zeros((2, 16, 16), np.float16), size=SIZE),
    "no classes": lambda p: npz(p, maps=np.zeros((1, 16, 16), np.float16), size=SIZE),
    "another grid": lambda p: npz(p, classes=ONE, maps=np.zeros((1, 4000, 4000), np.float16), size=SIZE),
    "size of no dimension": lambda p: npz(p, classes=ONE, maps=np.zeros((1, 16, 16), np.float16), size=np.int32(64)),
    "unpacks to terabytes": lambda p: bomb(p, (10**4, 10**4, 10**4)),
    "unpacks to less than it says": lambda p: bomb(p, (1, 10**4, 10**4)),
    "below zero values": lambda p: bomb(p, (-1, 16, 16)),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("maps"),
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-40]),
    "another array file": lambda p: p.write_bytes(np.lib.format.magic(1, 0) + bytes(100)),
    "gone": lambda p: p.unlink(),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("damage", MAPS)
def test_a_map_file_that_is_none_is_refused_and_the_remedy_makes_it_again(damage, run, capsys):
    path = run / "2-climb" / "maps" / "scene-00003.npz"
    good, masks = path.read_bytes(), {p.name: p.read_bytes() for p in (run / "3-refine" / "masks").iterdir()}
    MAPS[damage](path)
    with pytest.raises(StoreError):
        load_maps(path)
    redo = ["refine", "--run", str(run), "--redo", "--method", "threshold", "--quiet"]
    assert main(redo) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(path) in said
    assert {p.name: p.read_bytes() for p in (run / "3-refine" / "masks").iterdir()} == masks  # nothing was dropped
    follow(said)
    assert path.read_bytes() == good
    assert main(redo) == 0


@pytest.mark.parametrize("verb", ["report", "evaluate"])
def test_other_verbs_refuse_damaged_maps_with_the_same_remedy(verb, run, scenes, capsys):
    path = run / "2-climb" / "maps" / f"{(scenes / 'eval.txt').read_text().split()[0]}.npz"
    path.write_bytes(b"PK")
    command = [verb, "--run", str(run), "--quiet", *(["--masks", str(scenes / "masks")] if verb == "evaluate" else [])]
    assert main(command) == 2
    follow(capsys.readouterr().err)
    assert main(command) == 0


DONE = {
    "1-classify/model.safetensors": ("climb", "classify"),
    "1-classify/model.json": ("climb", "classify"),
    "1-classify/metrics.json": (None, "classify"),
    "2-climb/cam/scene-00003.npz": (None, "climb"),
    "3-refine/masks/scene-00003.png": ("segment", "refine"),
    "4-segment/predictions/scene-00020.png": (None, "segment"),
    "4-segment/model.safetensors": (None, "segment"),
    "4-segment/model.json": (None, "segment"),
}  # fmt: skip


@pytest.mark.parametrize("name", DONE)
def test_a_step_that_is_done_makes_again_what_is_gone(name, run, capsys):
    """To the last byte; and a step that needs it says so and drops nothing."""
    path, (user, maker) = run / name, DONE[name]
    good = path.read_bytes()
    path.unlink()
    if user:
        before = sorted(run.rglob("*"))
        assert main([user, "--run", str(run), "--redo", "--quiet"]) == 2
        assert str(path.parent) in capsys.readouterr().err
        assert sorted(run.rglob("*")) == before
    assert main([maker, "--run", str(run)]) == 0
    said = capsys.readouterr().err
    assert "files are missing" in said
    assert path.read_bytes() == good
    assert main([maker, "--run", str(run)]) == 0
    assert "was done already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "metrics.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04.", b'{"x": 1}'])
def test_a_damaged_classifier_is_named_with_a_remedy_that_works(name, content, run, scenes, capsys):
    path = run / "1-classify" / name
    path.write_bytes(content)
    climb = ["climb", "--run", str(run), "--redo", "--quiet"]
    if name == "metrics.json":
        climb = ["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]
    assert main(climb) == 2
    said = capsys.readouterr().err
    assert (run / "2-climb" / "maps" / "scene-00003.npz").is_file()
    follow(said.splitlines()[-1])
    assert main(["climb", "--run", str(run), "--quiet"]) == 0


def states(good):
    """A training's state, damaged in every way that was found."""
    held = torch.load(io.BytesIO(good), weights_only=True)

    def saved(value):
        stream = io.BytesIO()
        torch.save(value, stream)
        return stream.getvalue()

    yield b""
    yield b"text"
    yield good[: len(good) // 2]
    yield good[:-30] + bytes(30)
    yield saved([1, 2])
    yield saved({})
    yield saved({name: value for name, value in held.items() if name != "history"})
    yield saved(held | {"history": "x"})
    yield saved(held | {"history": []})
    yield saved(held | {"best": {"x": 3}})
    yield saved(held | {"optimizer": {}})
    yield saved(held | {"optimizer": [1]})
    yield saved(held | {"schedule": {"x": 1}} | {"model": {}})


@pytest.mark.parametrize("step", ["1-classify", pytest.param("4-segment", marks=pytest.mark.slow)])
def test_a_damaged_training_state_is_named_with_a_remedy_that_works(step, run, capsys):
    path, weights = run / step / "training.pt", run / step / "model.safetensors"
    good, best = path.read_bytes(), weights.read_bytes()
    for state in states(good):
        weights.unlink()
        path.write_bytes(state)
        again = [step[2:], "--run", str(run), "--quiet"]
        assert main(again) == 2, state[:40]
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(path) in said
        follow(said)
        assert main(again) == 0
        assert weights.read_bytes() == best


def test_a_mask_of_more_pixels_than_any_image_is_refused_before_it_is_decoded(run, scenes, tmp_path, capsys):
    path = run / "3-refine" / "masks" / "scene-00003.png"
    Image.new("1", (40_000, 40_000)).save(path)
    with pytest.raises(StoreError, match="megapixels"):
        load_mask(path)
    assert main(["segment", "--run", str(run), "--redo", "--quiet"]) == 2
    assert "megapixels" in capsys.readouterr().err
    truth = tmp_path / "truth"
    shutil.copytree(scenes / "masks", truth)
    Image.new("L", (13_000, 13_000)).save(truth / f"{(scenes / 'eval.txt').read_text().split()[0]}.png")
    assert main(["evaluate", "--run", str(run), "--masks", str(truth), "--quiet"]) == 1
    assert "megapixels" in (run / "skipped-evaluate.csv").read_text()


def test_semi_drops_nothing_where_what_it_would_need_is_not_done(run, scenes, tmp_path, capsys):
    few = tmp_path / "few.txt"
    few.write_text("\n".join((scenes / "train.txt").read_text().split()[:6]))
    semi = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(scenes / "masks"), "--epochs", "1",
            "--crop", "64", "--batch", "4", "--workers", "0", "--quiet"]  # fmt: skip
    assert main([*semi, "--mode", "labelled"]) == 0
    good = (run / "5-semi" / "model.safetensors").read_bytes()
    assert main(["refine", "--run", str(run), "--redo", "--method", "threshold", "--quiet"]) == 0
    assert main([*semi, "--redo", "--mode", "weak", "--semi-option", "start=segment"]) == 2
    assert "semi needs segment" in capsys.readouterr().err
    assert (run / "5-semi" / "model.safetensors").read_bytes() == good


def test_arrays_that_nobody_asked_for_are_not_unpacked(tmp_path):
    path, asked = tmp_path / "m.npz", {"classes": ONE, "maps": np.zeros((1, 16, 16), np.float16), "size": SIZE}
    npz(path, more=np.zeros(2**25), **asked)
    tracemalloc.start()
    assert load_maps(path).classes == (1,)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


IMPOSSIBLE = ["lr=1e300", "lr=inf", "lr=nan", f"crop={10**18}", "crop=100000", "scales=(1e300,1e300)", "weight_decay=1e300",
              f"epochs={10**18}", f"batch={10**18}", "lr=[1]", "lr='x'", "crop=True", "scales=()", "precision=[1]"]  # fmt: skip


@pytest.mark.parametrize("option", IMPOSSIBLE)
def test_what_cannot_work_is_said_before_anything_is_dropped(option, run, capsys):
    before = sorted(run.rglob("*"))
    for words in (
        ["classify", "--classify-option"],
        ["segment", "--segment-option"],
        ["refine", "--method", "irn", "--refine-option"],
    ):
        assert main([words[0], "--run", str(run), "--redo", "--quiet", *words[1:], option]) == 2
        said = capsys.readouterr().err
        assert "unexpected" not in said
        assert said.count("\n") == 1
    assert sorted(run.rglob("*")) == before


ENVIRONMENTS = {
    "a cluster": ({"WORLD_SIZE": "2", "SLURM_PROCID": "0"}, 0), "no numbers": ({"WORLD_SIZE": "x", "RANK": "y"}, 0),
    "mpi": ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, 0), "dynamo": ({"ACCELERATE_DYNAMO_BACKEND": "zzz"}, 2),
    "deepspeed": ({"ACCELERATE_USE_DEEPSPEED": "true"}, 2),
}  # fmt: skip


SOME = ("a cluster", "dynamo")  # one that trains, one that cannot


@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.slow) for n in ENVIRONMENTS])
def test_an_environment_that_cannot_train_drops_no_network(name, run):
    variables, status = ENVIRONMENTS[name]
    done = subprocess.run(
        [sys.executable, "-m", "advcam", "segment", "--run", run, "--redo", "--quiet"],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "unexpected" not in done.stderr
    assert (run / "4-segment" / "model.safetensors").is_file()


SEEDS = ["-1", str(2**32), str(2**63), "9" * 30]


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_out_of_range_are_refused(seed, scenes, tmp_path, capsys):
    assert main([*arguments(scenes, tmp_path / "run"), "--seed", seed]) == 2
    assert "--seed must be from 0 to 4294967295" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "option", ["x={[]:1}", "x=" + "(" * 3000, "preset=quick", f"steps={10**18}", "steps=1e300", "scales=[[1]]"]
)
def test_options_that_no_climb_has_drop_nothing(option, run, capsys):
    before = sorted(run.rglob("*"))
    assert main(["climb", "--run", str(run), "--redo", "--quiet", "--climb-option", option]) == 2
    assert "unexpected" not in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


RECIPES = [
    "[climb]\nlike = 5",
    '[climb]\nlike = ["a"]',
    "[climb]\nsteps = " + "9" * 5000,
    "[climb]\nx = " + "[" * 2000,
    "[climb]\npreset = [1]",
    "[climb]\nkeep = 'no'",
    "[climb]\nsteps = 'x'",
    "[climb]\nscales = 'x'",
    "climb = 3",
]


@pytest.mark.parametrize("text", RECIPES, ids=range(len(RECIPES)))
def test_recipes_of_no_climb_drop_nothing(text, run, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(text)
    before = sorted(run.rglob("*"))
    assert main(["climb", "--run", str(run), "--redo", "--quiet", "--recipe", str(tmp_path / "mine.toml")]) == 2
    assert "unexpected" not in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


def test_paths_longer_than_the_system_takes_are_said(run, scenes, capsys):
    long = "a" * 300
    for command in (
        ["climb", "--run", long], arguments(scenes, long), ["evaluate", "--run", str(run), "--masks", long],
        ["predict", "--model", long, "--images", str(scenes / "images"), "--out", "x"],
        ["report", "--run", str(run), "--images", long], ["refine", "--run", str(run), "--redo", "--recipe", f"{long}.toml"],
    ):  # fmt: skip
        assert main([*command, "--quiet"]) == 2
        said = capsys.readouterr().err
        assert "unexpected" not in said
        assert long in said
