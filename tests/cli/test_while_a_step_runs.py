"""Reading a run on which another process works at this moment: harmless, and said."""

import json
import subprocess
import sys

import numpy as np
import pytest

from advcam.cli import main
from advcam.store import at_work, load_mask

HOLD = """
import sys, time
from pathlib import Path
from advcam.store import alone, save_mask, load_mask
run = Path(sys.argv[1])
masks = {path: load_mask(path) for path in sorted((run / "3-refine" / "masks").glob("[!.]*.png"))}
with alone(run):
    print("works", flush=True)
    while True:
        for path, ids in masks.items():
            save_mask(path, ids)
        time.sleep(0.002)
"""


@pytest.fixture
def busy(run):
    """A run whose masks another process writes again and again."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "works\n"
        yield run
        other.kill()


@pytest.mark.parametrize(
    "verb",
    [
        ["report"], ["evaluate", "--masks", "MASKS"],
        ["study", "restrain", "--masks", "MASKS", "--sample", "2", "--resamples", "20", "--values", "0", "--steps", "1"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_it_is_read_and_who_works_there_is_said(busy, scenes, verb, capsys):
    before = json.loads((busy / "metrics.json").read_text())
    words = [str(scenes / "masks") if word == "MASKS" else word for word in verb]
    assert main([*words, "--run", str(busy), "--quiet"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"warning: {busy}: process " in said
    assert "works there, and what it has not made yet is left out here: give this command again when it has ended" in said
    assert json.loads((busy / "metrics.json").read_text()) == before  # scored on the same masks, each of them whole
    masks = (busy / "3-refine" / "masks").glob("[!.]*.png")  # not those that are being written
    assert all(set(np.unique(load_mask(path))) <= {*range(6), 255} for path in masks)


def test_a_step_does_not_wait_for_it(busy, capsys):
    assert main(["refine", "--run", str(busy), "--quiet"]) == 2
    assert "works there; wait until it has ended, or stop it" in capsys.readouterr().err


def test_the_lock_of_a_process_that_was_killed_is_nobody_s(run, capsys):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        other.kill()
    assert (run / ".lock").is_file()
    assert at_work(run) == ""
    assert main(["report", "--run", str(run), "--quiet"]) == 0
    assert "works there" not in capsys.readouterr().err


def test_nobody_works_in_a_run_without_a_lock(run, tmp_path, capsys):
    assert at_work(run) == ""
    assert at_work(tmp_path / "none") == ""
    assert main(["report", "--run", str(run), "--quiet"]) == 0
    assert "works there" not in capsys.readouterr().err
    (run / ".lock").symlink_to(tmp_path / "elsewhere")
    assert at_work(run) == ""
    assert not (tmp_path / "elsewhere").exists()
