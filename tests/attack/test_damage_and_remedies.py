"""Files of a run that are damaged or gone: one line says so, what it advises works, and nothing is lost before."""

import io
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advcam.cli import main
from advcam.errors import StoreError
from advcam.store import load_maps, load_mask
from conftest import NETWORK, SEGMENT

REST = ["--steps", "3", *NETWORK, *SEGMENT]


@pytest.fixture
def run(finished, tmp_path):
    """A finished run of one's own to damage."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


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
    assert "files are gone" in said
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


@pytest.mark.parametrize("step", ["1-classify", "4-segment"])
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
    Image.new("L", (20_000, 20_000)).save(truth / f"{(scenes / 'eval.txt').read_text().split()[0]}.png")
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
