"""Units, their shares among the processes of torchrun, and images that cannot be read."""

import os
import shutil
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from advcam import preflight
from advcam.cli import main
from advcam.data import Item
from advcam.engines import Row, Unit, attempt, reading, rows, work
from advcam.errors import ImageError, StoreError
from advcam.runtime import Runtime
from advcam.stages import climb
from conftest import arguments, contents, free_port

BATCHES = ["--max-pixels", "16384"]
"""Four images of 64x64 a batch."""


def refusing(*names):
    """Work that cannot read some images; a batch with one of them writes nothing."""
    made = []

    def work(unit):
        if odd := [name for name in unit.wanted if name in names]:
            raise ImageError(f"{odd[0]}.png: cannot\nbe read")
        made.extend(unit.wanted)
        return [Row(name, value=float(len(unit.ids))) for name in unit.wanted]

    return work, made


def test_an_image_that_cannot_be_read_does_not_take_its_batch_with_it():
    work, made = refusing("b", "x")
    parts = [Unit(tuple("abcd"), tuple("abd")), Unit.single("x"), Unit.single("y")]
    found = {row.id: row for row in rows(parts, lambda: work, Runtime(), Path())}
    assert {name: (row.error, row.value) for name, row in found.items()} == {
        "a": ("", 4.0), "b": ("b.png: cannot be read", None), "d": ("", 4.0),
        "x": ("x.png: cannot be read", None), "y": ("", 1.0),
    }  # fmt: skip
    assert made == ["a", "d", "y"]
    assert all(row.seconds >= 0 for row in found.values())


def test_one_image_that_cannot_be_read_costs_its_batch_few_times_over():
    names = tuple(f"{n}" for n in range(256))
    work, made = refusing("77")
    calls = []
    found = attempt(lambda unit: calls.append(unit) or work(unit), Unit(names, names))
    assert [row.id for row in found if row.error] == ["77"]
    assert sorted(made) == sorted(set(names) - {"77"})
    assert len(calls) == 1 + 2 * 8


def test_rows_say_what_of_their_time_was_spent_reading(monkeypatch):
    """What a unit that cannot be read, or another one, has waited is not theirs."""
    now = 0.0
    monkeypatch.setattr(work, "time", types.SimpleNamespace(perf_counter=lambda: now))

    def slow(unit):
        nonlocal now
        with reading():
            now += 3
            if "b" in unit.wanted:
                raise ImageError("b.png: cannot be read")
        now += 1
        return [Row(name) for name in unit.wanted]

    found = attempt(slow, Unit(("a", "c"), ("a", "c"))) + attempt(slow, Unit(("b", "d"), ("b", "d")))
    assert [(row.id, row.waited, row.seconds) for row in found] == [
        ("a", 1.5, 2.0), ("c", 1.5, 2.0), ("b", 3.0, 3.0), ("d", 3.0, 4.0),
    ]  # fmt: skip
    assert [row.waited for row in attempt(lambda unit: [Row("a")], Unit.single("a"))] == [None]


def test_a_climb_says_how_long_it_waited_for_images(run, monkeypatch, capsys):
    """On a clock that goes on by a second where an image is read, and where maps are written: twice for each."""
    now = 0.0

    def takes_a_second(call):
        def later(*given):
            nonlocal now
            now += 1
            return call(*given)

        return later

    monkeypatch.setattr(work, "time", types.SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(Item, "read", takes_a_second(Item.read))
    monkeypatch.setattr(climb, "save_maps", takes_a_second(climb.save_maps))
    assert main(["climb", "--run", str(run), "--redo", *BATCHES]) == 0
    assert "climb: waited for images 33 % of the time" in capsys.readouterr().err.splitlines()


def test_other_errors_stop_the_work():
    def full(unit):
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        attempt(full, Unit.single("a"))


def test_nothing_is_loaded_where_nothing_is_wanted():
    assert list(rows([], partial(pytest.fail, "it was opened"), Runtime(), Path())) == []


def test_the_units_apart_are_of_the_same_batch():
    assert Unit(("a", "b", "c"), ("a", "c")).apart() == [Unit(("a", "b", "c"), ("a",)), Unit(("a", "b", "c"), ("c",))]


def test_an_image_that_has_changed_stops_the_climb_after_the_others(run, scenes, tmp_path, monkeypatch, capsys):
    """Its batch keeps its bytes, the others are kept, and the same command makes what is missing."""
    images = Path(shutil.copytree(scenes / "images", tmp_path / "images"))
    words = ["climb", "--run", str(run), "--images", str(images), "--quiet", *BATCHES]
    assert main([*words, "--redo"]) == 0
    whole = contents(run, "2-climb")
    for name in ("maps", "cam"):
        shutil.rmtree(run / "2-climb" / name)
    monkeypatch.setattr(preflight, "check_images", lambda context: None)
    original = (images / "scene-00006.png").read_bytes()
    Image.new("RGB", (64, 64), (9, 9, 9)).save(images / "scene-00006.png")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "climb: 1 images could not be made, the first because" in said
    assert "scene-00006.png: has changed since this run looked at it" in said
    assert (run / "2-climb" / "failed.csv").read_text().splitlines()[1].startswith("scene-00006,")
    gone = {f"2-climb/{name}/scene-00006.npz" for name in ("maps", "cam")}
    kept = {name: data for name, data in contents(run, "2-climb").items() if not name.endswith(".csv")}
    assert kept == {name: data for name, data in whole.items() if name not in gone}
    assert main(["refine", "--run", str(run), "--quiet"]) == 2
    assert "refine needs climb, which is not done" in capsys.readouterr().err
    given = arguments(scenes, run)
    given[given.index("--images") + 1] = str(images)
    assert main(given) == 2, "`advcam run` ends as the step does"
    assert "climb: 1 images could not be made, the first because" in capsys.readouterr().err
    (images / "scene-00006.png").write_bytes(original)
    assert main(words) == 0
    assert contents(run, "2-climb") == whole


@pytest.mark.slow
def test_two_processes_climb_and_refine_to_the_bytes_of_one(run):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    folders = ("2-climb", "3-refine")
    alone = [sys.executable, "-m", "advcam"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"]
    found = {}
    for name, started in (("one", lambda: alone), ("two", lambda: [*launcher, free_port(), "-m", "--", "advcam"])):
        for words in (["climb", "--redo", *BATCHES], ["refine"]):
            command = [*started(), words[0], "--run", str(run), *words[1:]]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
            assert done.returncode == 0, done.stderr[-2000:]
            assert done.stdout.count(f"{words[0]}: ") == 1, "the first process speaks"
        found[name] = contents(run, *folders)
    assert len(found["one"]) > 24 * 4
    assert found["one"] == found["two"]


@pytest.mark.slow
def test_two_processes_train_no_refinement(run):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port(),
        "-m", "--", "advcam", "refine", "--run", str(run), "--redo", "--method", "irn",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600)
    assert done.returncode != 0
    assert "irn trains a network, which several processes cannot share" in done.stderr


WAITING = """
import os
import torch
from advcam.runtime import Runtime

runtime = Runtime(device="cpu")
first = runtime.first
group = torch.distributed.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
said = open(os.environ["RANK"], "w", buffering=1)  # one file for each: lines of two processes mix in one pipe
print(f"waits {group.options._timeout.days} days", file=said)
runtime.wait()
if not first:
    os._exit(7)
runtime.wait()
print("went on", file=said)
"""


@pytest.mark.slow
def test_a_process_waits_for_the_share_of_another_but_not_for_one_that_is_gone(tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "waiting.py"], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=600)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["waits 30 days\n"] * 2
    assert done.returncode != 0
    assert "exitcode  : 7" in done.stderr
