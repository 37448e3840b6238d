"""What other systems do differently, as far as it can be made here: file systems, terminals, containers, start methods."""

import csv
import io
import json
import os
import runpy
import shutil
import stat
import subprocess
import sys
import threading
import types

import pytest
import torch
from PIL import Image

from advcam.cells import as_read, as_text
from advcam.cli import main
from advcam.data import list_images, load, opening, read_image
from advcam.errors import DataError
from advcam.runtime import is_distributed
from advcam.store import atomic, lock, write_bytes
from advcam.training import batches
from conftest import NETWORK, arguments

SLOW = pytest.mark.slow
SLOW_START = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*args, **options):
    options = {"env": SLOW_START, "capture_output": True, "text": True, "check": False} | options
    return subprocess.run([sys.executable, "-m", "advcam", *map(str, args)], **options)


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o002])
def test_files_have_the_rights_that_the_umask_leaves(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_only_what_is_open_for_writing_is_synced(tmp_path, monkeypatch):
    """Windows refuses others."""
    import fcntl

    synced = []

    def fsync(handle):
        assert fcntl.fcntl(handle, fcntl.F_GETFL) & (os.O_RDWR | os.O_WRONLY)
        synced.append(handle)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    write_bytes(tmp_path / "file", b"x")
    assert len(synced) == 1
    assert (tmp_path / "file").read_bytes() == b"x"


def test_nothing_that_is_open_is_renamed_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "os", types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os)} | {"name": "nt"}))
    closed = []
    monkeypatch.setattr(atomic.os, "close", lambda handle: (closed.append(handle), os.close(handle)))
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, to: (len(closed) == 1) and os.replace(self, to))
    write_bytes(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_locks_of_windows_leave_what_the_file_says_to_be_read(tmp_path, monkeypatch):
    """The module for Windows, with msvcrt as its documentation has it: it locks bytes from where the file stands."""
    calls = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(
        sys.modules, "msvcrt",
        types.SimpleNamespace(LK_NBLCK=2, locking=lambda handle, *what: calls.append((os.lseek(handle, 0, 1), *what))),
    )  # fmt: skip
    windows = runpy.run_path(lock.__file__)
    with (tmp_path / "file").open("w+b") as file:
        assert windows["lock"](file.fileno())
    assert calls == [(2**30, 2, 1)]


@pytest.mark.parametrize("names", [("a.png", "A.png"), ("x/a.png", "X/a.png"), ("straße.png", "STRASSE.png")])
def test_names_that_differ_by_case_alone_are_refused_at_the_look(names, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    with pytest.raises(DataError, match="upper and lower case"):
        list_images(tmp_path)


def test_a_name_that_is_no_text_is_refused_at_the_look(tmp_path):
    try:
        Image.new("RGB", (32, 32)).save(os.fsencode(tmp_path) + b"/\xff.png")
    except (OSError, ValueError):
        pytest.skip("this file system takes only names that are text")
    with pytest.raises(DataError, match="not UTF-8"):
        list_images(tmp_path)


@pytest.fixture
def long_named(scenes, tmp_path):
    """Makes a data set with an image whose name is so long."""

    def made(length):
        data, long = tmp_path / "data", "n" * length
        shutil.copytree(scenes, data)
        (data / "images" / "scene-00000.png").rename(data / "images" / f"{long}.png")
        for name in ("labels.csv", "train.txt"):
            (data / name).write_text((data / name).read_text().replace("scene-00000", long))
        return data

    return made


def test_a_name_too_long_for_masks_is_refused_before_anything_is_trained(long_named, tmp_path, capsys):
    assert main(arguments(long_named(250), tmp_path / "run")) == 2
    assert "the name is too long" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_longest_name_that_is_taken_goes_the_whole_way(long_named, tmp_path):
    assert main(arguments(long_named(240), tmp_path / "run")) == 0
    assert (tmp_path / "run" / "3-refine" / "masks" / f"{'n' * 240}.png").is_file()


@pytest.mark.parametrize("encoding", ["ascii", *(pytest.param(encoding, marks=SLOW) for encoding in ("cp1252", "utf-8"))])
def test_a_name_that_the_terminal_cannot_print_ends_no_finished_work(encoding, trained, scenes, tmp_path):
    images, out = tmp_path / "images", tmp_path / "Masken 猫 ☃"
    images.mkdir()
    shutil.copy(scenes / "images" / "scene-00000.png", images / "猫 ☃.png")
    (images / "broken ☃.png").write_bytes(b"x")
    done = command(
        "predict", "--model", trained, "--images", images, "--out", out,
        env=SLOW_START | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}, text=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (out / "猫 ☃.png").is_file()


@pytest.mark.parametrize(
    "shell", ["{} | true", *(pytest.param(s, marks=SLOW) for s in ("{} >&-", "{} 2>&-", "{} 2>/dev/full", "{} 2>&1 | head -1"))]
)
def test_a_reader_that_goes_away_ends_no_finished_work(shell, trained, scenes, tmp_path):
    words = f"{sys.executable} -m advcam predict --model {trained} --images {scenes / 'images'} --out {tmp_path / 'out'}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell.format(words)], env=SLOW_START, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "BrokenPipe" not in done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 24


def test_little_shared_memory_is_no_reason_to_stop(finished, scenes, tmp_path, monkeypatch, capsys):
    """Docker's 64 MB: the images are read in the training process, and a line says so."""
    usage = types.SimpleNamespace(free=1_000)
    monkeypatch.setattr(batches, "shutil", types.SimpleNamespace(disk_usage=lambda _: usage))
    out = tmp_path / "run"
    started = [a for a in arguments(scenes, out) if a != "--quiet"]
    started[started.index("--workers") + 1] = "2"
    assert main(started) == 0
    said = capsys.readouterr().err
    assert "images are read in the training process: 2 workers need" in said
    assert "--shm-size" in said
    name = "1-classify/model.safetensors"
    assert (out / name).read_bytes() == (finished / name).read_bytes()


@SLOW
def test_a_small_shared_memory_in_a_container_is_no_reason_to_stop(scenes, tmp_path):
    script = 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"'
    if subprocess.run(["unshare", "-rm", "bash", "-c", script, "-", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no one mount another /dev/shm (unshare -rm mount -t tmpfs)")
    started = arguments(scenes, tmp_path / "run")
    started[started.index("--workers") + 1] = "2"
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "-", sys.executable, "-m", "advcam", *started],
        env=SLOW_START, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_processes_that_are_spawned_read_as_forked_ones_do(scenes, tmp_path):
    """As on Windows and macOS, where nothing is forked."""
    data = arguments(scenes, tmp_path / "run")[1:11]
    started = ["classify", *data, "--run", str(tmp_path / "run"), *NETWORK]
    started[started.index("--workers") + 1] = "1"
    code = (
        "import multiprocessing, sys\nfrom advcam.cli import main\n"
        "if __name__ == '__main__':\n    multiprocessing.set_start_method('spawn')\n    sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "spawned.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "spawned.py", *started], env=SLOW_START, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"]["classify"]["state"] == "done"


@pytest.mark.parametrize("said", ["8", "many", "", "-1"])
def test_a_clusters_world_size_is_no_launcher(said, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", said)
    assert not is_distributed()


def test_large_images_are_not_decoded_all_at_once(tmp_path, monkeypatch):
    """Of four threads, so many decode at once as the limit has room for; a larger image alone."""
    sides = [64, 64, 64, 64, 100, 100, 300, 64]
    for at, side in enumerate(sides):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (side, side)).save(tmp_path / "images" / f"{at}.png")
    (tmp_path / "labels.csv").write_text("image,labels\n" + "".join(f"{at},cat\n" for at in range(len(sides))))
    held, most, real, lock, two = [], [], opening.look_at, threading.Lock(), threading.Barrier(2)

    def look_at(path, *rest):
        side = sides[int(path.stem)]
        with lock:
            held.append(side * side)
            most.append(list(held))
            first = len(most) <= 2
        if first:
            two.wait(60)  # the second is let in while the first is at work, or this breaks
        found = real(path, *rest)
        with lock:
            held.remove(side * side)
        return found

    monkeypatch.setattr(opening, "look_at", look_at)
    monkeypatch.setattr(opening, "usable_cores", lambda: 4)
    monkeypatch.setattr(opening, "MAX_PIXELS_AT_ONCE", 12_000)
    assert len(load(tmp_path / "images", tmp_path / "labels.csv").items) == len(sides)
    assert all(sum(at_once) <= 12_000 or len(at_once) == 1 for at_once in most)
    assert max(map(len, most)) == 2


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1"]


def test_what_a_spreadsheet_would_run_is_marked_as_text_and_read_back():
    for text in [*FORMULAS, "cat", "'tis", "-0.5", "", "'", "''=1"]:
        assert as_read(as_text(text)) == text
    assert all(as_text(text).startswith("'") for text in FORMULAS)
    assert as_text(-0.5) == "-0.5"
    assert as_text("1e-5") == "1e-5"


def test_no_cell_of_any_csv_is_a_formula(scenes, tmp_path, capsys):
    """Names of images and classes that begin as formulas, through the whole flow, and back."""
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(scenes, data)
    names = {"scene-00000": "=1+1", "scene-00017": "@x", "scene-00018": "-2+3"}
    classes = {"ring": "=ring()", "cross": "+cross"}
    for old, new in names.items():
        for part in ("images", "masks"):
            (data / part / f"{old}.png").rename(data / part / f"{new}.png")
    for file in ("labels.csv", "classes.csv", "train.txt", "eval.txt"):
        text = (data / file).read_text()
        for old, new in (names | classes).items():
            text = text.replace(old, new)
        (data / file).write_text(text)
    (data / "images" / "@x.png").write_bytes(b"broken")
    assert main(arguments(data, run)) == 1
    assert main(["evaluate", "--run", str(run), "--masks", str(data / "masks"), "--quiet"]) in (0, 1)
    assert main(["report", "--run", str(run), "--quiet"]) == 0
    assert "-2+3" in (run / "report.html").read_text()
    for path in run.rglob("*.csv"):
        for row in csv.reader(io.StringIO(path.read_text())):
            assert not any(cell[:1] in ("=", "+", "@", "\t", "\r") or cell[:2] == "-2" for cell in row), (path, row)
    capsys.readouterr()


def test_class_names_are_no_html_and_no_markdown_in_the_card(scenes, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(scenes, data)
    for file in ("labels.csv", "classes.csv"):
        (data / file).write_text((data / file).read_text().replace("ring", "<img src=x onerror=alert(1)>|[a](http://x)"))
    assert main(arguments(data, run)) == 0
    assert main(["evaluate", "--run", str(run), "--masks", str(data / "masks"), "--quiet"]) == 0
    card = (run / "4-segment" / "README.md").read_text()
    assert "<img" not in card
    assert "\\[a\\](http" in card
    assert "&lt;img src=x" in card
    assert "<img src=x" not in (run / "report.html").read_text()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", b"%PDF-1.4\n", b"<svg xmlns='x'/>"]
)
def test_no_image_starts_a_program(content, suffix, tmp_path, monkeypatch):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(subprocess, "check_call", None)
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(DataError):
        read_image(path)


COUNTS = [
    [2**62] * 4 + [4096],
    [2**63, 2**63],
    [2**64],
    [-1, 4097],
    [4096, 2**62, -(2**62)],
    [10**30, 4096],
    [1.5, 4094.5],
    [4097],
]


@pytest.mark.parametrize("counts", COUNTS)
def test_run_lengths_of_no_mask_are_refused(counts, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "a.png")
    file = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 64}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": {"size": [64, 64], "counts": counts}}
        ],
    }  # fmt: skip
    (tmp_path / "instances_train.json").write_text(json.dumps(file))
    status = main(
        ["data", "convert", "--labels", str(tmp_path / "instances_train.json"), "--out", str(tmp_path / "out"), "--quiet"]
    )
    said = capsys.readouterr()
    assert status in (1, 2), said
    assert "unexpected" not in said.err


def test_everything_is_read_with_two_threads_and_one(scenes, monkeypatch):
    """The look gives the same whatever the number of threads."""
    both = []
    for cores in (1, 4):
        monkeypatch.setattr("advcam.data.opening.usable_cores", lambda cores=cores: cores)
        both.append(load(scenes / "images", scenes / "labels.csv"))
    assert both[0] == both[1]
    assert torch.get_num_threads() >= 1


@pytest.mark.parametrize("names", [("x", "x.png/y"), ("x", "x.npz/y"), ("a/x", "a/x.json/y/z")])
def test_an_image_whose_files_would_be_a_folder_of_anothers_is_refused_at_the_look(names, tmp_path, capsys):
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "images" / f"{name}.bmp")
    (tmp_path / "labels.csv").write_text("image,labels\n" + "".join(f"{name}.bmp,cat\n" for name in names))
    data = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels.csv")]
    assert main(["run", *data, "--out", str(tmp_path / "run"), *NETWORK]) == 2
    assert "rename one" in capsys.readouterr().err


def test_classes_that_differ_by_case_alone_are_two(scenes, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(scenes, data)
    for file in ("labels.csv", "classes.csv"):
        (data / file).write_text((data / file).read_text().replace("ring", "CROSS"))
    assert main(arguments(data, run)) == 0
    assert main(["report", "--run", str(run), "--quiet"]) == 0
    assert main(["refine", "--run", str(run), "--redo", "--quiet"]) == 0


def test_where_the_current_folder_is_gone_a_line_says_so(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f"cd {tmp_path / 'gone'} && rmdir {tmp_path / 'gone'} && {sys.executable} -m advcam report --run x"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "advcam: the current folder is gone; cd to another\n")
