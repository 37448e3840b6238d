"""The demo as README gives it: climbing does on generated scenes what it does on photographs, in this processor's precision."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from conftest import AS_IT_IS


def advcam(*words):
    """A command on the processor as it is."""
    done = subprocess.run([sys.executable, "-m", "advcam", *map(str, words)], capture_output=True, text=True, env=AS_IT_IS)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_demo(tmp_path):
    """``ADVCAM_DEMO`` names a demo that was made just now, by ``make demo``."""
    report = tmp_path / "demo" / "run" / "report.html"
    if made := os.environ.get("ADVCAM_DEMO"):
        shutil.copytree(made, tmp_path / "demo")
    else:
        assert advcam("demo", "--out", tmp_path / "demo", "--quiet") == f"report: {report.resolve()}"
    assert report.is_file()
    metrics = json.loads((tmp_path / "demo" / "run" / "metrics.json").read_text())
    gain = metrics["seed_advcam"]["mean_iou"] - metrics["seed_plain"]["mean_iou"]
    assert metrics["average_precision"]["mean"] > 0.9  # the classifier works, and yet
    assert metrics["seed_plain"]["threshold"] < 0.3  # its plain map covers the part: little else comes near its maximum
    assert gain >= 0.03
    assert metrics["masks"]["mean_iou"] > metrics["seed_plain"]["mean_iou"]
    few_masks(tmp_path, metrics["predictions"])


def few_masks(folder, predictions):
    """Masks by hand of 60 scenes teach the network that learned from AdvCAM's masks of all what those did not know."""
    data, run = folder / "demo" / "data", folder / "demo" / "run"
    (folder / "few.txt").write_text("\n".join((data / "train.txt").read_text().split()[:60]))
    words = ["semi", "--run", run, "--pixel-labels", folder / "few.txt", "--masks", data / "masks", "--quiet"]
    advcam(*words, "--crop", "128", "--semi-option", "start=segment", "--semi-option", "steps=150")
    advcam("evaluate", "--run", run, "--masks", data / "masks", "--quiet")
    found = json.loads((run / "metrics.json").read_text())["semi"]
    assert "mode weak" in found["rule"]
    assert found["mean_iou"] > predictions["mean_iou"] - 0.02  # another processor rounds otherwise
    assert found["noise"] < predictions["noise"] - 0.01  # the masks by hand do not spill over
