"""Images that change under a run, and other processes that work in it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.errors import RunError
from advcam.store import alone, atomic_write, made_of, sweep
from conftest import arguments


@pytest.fixture
def mine(scenes, tmp_path):
    """A data set of one's own, and where its run will be."""
    shutil.copytree(scenes, tmp_path / "data")
    return tmp_path / "data", tmp_path / "run"


@pytest.fixture
def climbed(mine):
    """A run of it, with maps."""
    data, run = mine
    start = [a.replace("run", "classify", 1) if a == "run" else "--run" if a == "--out" else a for a in arguments(data, run)]
    assert main(start[: start.index("--segment-epochs")]) == 0
    assert main(["climb", "--run", str(run), "--steps", "2", "--quiet"]) == 0
    return data, run


def repainted(path, keep_stamp=False):
    """Another image of the same size under the same name."""
    before = path.stat()
    with Image.open(path) as image:
        size = image.size
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)
    if keep_stamp:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "other pixels": repainted,
    "other pixels at the same time": lambda path: repainted(path, keep_stamp=True),
    "another size": lambda path: Image.new("RGB", (80, 48)).save(path),
    "one bit": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("step", ["climb", "refine", "segment"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_step_stops_before_it_uses_or_drops_anything_and_names_what_changed(change, step, climbed, capsys):
    data, run = climbed
    if step == "segment":
        assert main(["refine", "--run", str(run), "--quiet"]) == 0
    path = data / "images" / "scene-00004.png"
    good, before = path.read_bytes(), sorted(run.rglob("*"))
    CHANGES[change](path)
    again = [step, "--run", str(run), "--quiet", *(["--redo"] if step == "climb" else [])]
    assert main(again) == 2
    said = capsys.readouterr().err
    assert "1 of its 24 images are gone or have changed" in said
    assert "restore them and give the same command again" in said
    assert "--out ANOTHER" in said
    with (run / "changed.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["scene-00004"]
    assert sorted(run.rglob("*")) == sorted([*before, run / "changed.csv"])
    path.write_bytes(good)
    os.utime(path)  # a copy of it is as good
    assert main(["refine", "--run", str(run), "--quiet", *(["--redo"] if step == "segment" else [])]) == 0
    assert not (run / "changed.csv").exists()


def test_when_all_images_become_larger_the_run_stops(climbed, capsys):
    data, run = climbed
    for path in (data / "images").iterdir():
        with Image.open(path) as image:
            image.resize((96, 96)).save(path)
    assert main(["climb", "--run", str(run), "--redo", "--quiet"]) == 2
    assert "24 of its 24 images are gone or have changed" in capsys.readouterr().err


def test_studies_and_evaluations_pass_over_what_changed_and_list_it(climbed, capsys):
    data, run = climbed
    labels = dict(line.split(",") for line in (data / "labels.csv").read_text().split())
    name = next(name for name in (data / "eval.txt").read_text().split() if ";" not in labels[name])  # top-1 looks at those
    repainted(data / "images" / f"{name}.png")
    truth = ["--masks", str(data / "masks"), "--quiet"]
    assert main(["evaluate", "--run", str(run), *truth]) == 1
    assert f"{name}.png: has changed" in (run / "skipped-evaluate.csv").read_text()
    assert (
        main(["study", "step-size", "--run", str(run), *truth, "--longest", "1", "--values", "0.01", "--resamples", "20"]) == 1
    )
    assert f"{name}.png: has changed" in (run / "studies" / "step-size" / "skipped.csv").read_text()
    assert main(["report", "--run", str(run), "--quiet"]) == 0


def test_an_image_that_changes_while_a_step_reads_it_stops_the_step(climbed, monkeypatch, capsys):
    """What is compared is what is decoded, not what lay there a moment before."""
    from advcam import preflight

    data, run = climbed
    monkeypatch.setattr(preflight, "check_images", lambda context: repainted(data / "images" / "scene-00004.png"))
    assert main(["climb", "--run", str(run), "--redo", "--quiet"]) == 2
    assert "scene-00004.png: has changed since this run looked at it" in capsys.readouterr().err


def test_predictions_are_made_again_for_other_content_alone(trained, scenes, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(scenes / "images", images)
    names = sorted(path.name for path in images.iterdir())
    os.utime(images / names[0], (4e9, 4e9))  # an image from the future
    predict = ["predict", "--model", str(trained), "--images", str(images), "--out", str(out), "--quiet"]
    assert main(predict) == 0
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    for name in names[:3]:
        os.utime(images / name, (5e9, 5e9))
    repainted(images / names[5], keep_stamp=True)
    assert main(predict) == 0
    again = {path.name for path in out.glob("*.png") if path.stat().st_mtime_ns != stamps[path.name]}
    assert again == {names[5]}
    assert made_of(out / names[5]) != made_of(out / names[4])


HOLD = """
import sys
from pathlib import Path
from advcam.store import alone

with alone(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""

AT_ONCE = """
import sys
from pathlib import Path
from advcam.errors import RunError
from advcam.store import alone

print("ready", flush=True)
sys.stdin.readline()
try:
    with alone(Path(sys.argv[1])):
        print("in", flush=True)
        sys.stdin.read()  # until the others have been told
except RunError:
    print("out", flush=True)
"""


@pytest.fixture
def neighbour(tmp_path):
    """A process that works in a run folder."""
    run = tmp_path / "held"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    yield run, process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_second_process_is_told_who_works_there(neighbour, scenes, capsys):
    run, process = neighbour
    assert main(arguments(scenes, run)) == 2
    said = capsys.readouterr().err
    assert f"{run}: process {process.pid} on " in said
    assert "wait until it has ended, or stop it" in said
    assert sorted(path.name for path in run.iterdir()) == [".lock"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_an_owner_that_died_is_taken_over(how, neighbour):
    run, process = neighbour
    process.send_signal(how)
    process.wait()
    assert (run / ".lock").is_file()
    with alone(run):
        assert json.loads((run / ".lock").read_text())["process"] == os.getpid()
    assert not run.exists() or not list(run.iterdir())


def test_a_stopped_owner_still_holds_its_lock(neighbour):
    run, process = neighbour
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(RunError, match=f"process {process.pid}"), alone(run):
        pass
    process.send_signal(signal.SIGCONT)


def test_of_many_at_once_one_gets_in(tmp_path):
    """All begin at the same moment; one works, the others are told while it does."""
    call = [sys.executable, "-c", AT_ONCE, str(tmp_path / "run")]
    many = [subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.stdout.readline() for process in many] == ["ready\n"] * 4
    for process in many:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(process.stdout.readline() for process in many) == ["in\n", "out\n", "out\n", "out\n"]
    assert [process.communicate()[0] for process in many] == [""] * 4
    assert not (tmp_path / "run").exists()


def test_what_a_killed_process_left_half_written_is_swept_and_what_another_writes_is_not(climbed):
    run = climbed[1]
    left = [run / ".advcam-1234.json", run / "2-climb" / "maps" / ".advcam-ab.npz"]
    for path in left:
        path.write_text("half")
    with atomic_write(run / "report.html") as written:  # as another process would
        written.write_text("page")
        subprocess.run([sys.executable, "-m", "advcam", "climb", "--run", run, "--quiet"], check=True)
        assert not any(path.exists() for path in left)
        assert written.exists()
    assert (run / "report.html").read_text() == "page"


def test_sweeping_follows_no_link(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir(), inside.mkdir()
    (outside / ".advcam-1.txt").write_text("mine")
    (inside / "link").symlink_to(outside)
    (inside / ".advcam-2.txt").symlink_to(outside / ".advcam-1.txt")
    sweep(inside)
    assert (outside / ".advcam-1.txt").read_text() == "mine"


def test_another_number_of_threads_is_said(mine):
    """Begun with two threads and stopped, it goes on with one: the record says so, and so does the command."""
    data, run = mine
    start = [a.replace("run", "classify", 1) if a == "run" else "--run" if a == "--out" else a for a in arguments(data, run)]
    assert main(start[: start.index("--segment-epochs")]) == 0
    state = json.loads((run / "run.json").read_text())
    assert state["steps"]["classify"]["threads"] >= 1
    state["steps"]["classify"] |= {"threads": 7, "state": "running"}
    (run / "run.json").write_text(json.dumps(state))
    (run / "1-classify" / "model.json").unlink()
    said = subprocess.run(
        [sys.executable, "-m", "advcam", "classify", "--run", run, "--workers", "0"], capture_output=True, text=True, check=True
    )
    assert "was started with 7 threads" in said.stderr
    assert "OMP_NUM_THREADS=7 avoids that" in said.stderr
