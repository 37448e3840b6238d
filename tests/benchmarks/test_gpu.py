"""benchmarks/gpu.sh as far as a CPU can check it; nothing of it has a GPU to run on here."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import advcam

ROOT = Path(__file__).resolve().parents[2]


def run(*given):
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", "--no-install", *map(str, given)], capture_output=True, text=True,
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"))


@pytest.mark.slow
def test_a_cpu_checks_all_of_it(tmp_path):
    done = run("--cpu", "--small", "--out", tmp_path / "found.json", "--tests", "tests/data/test_ahead.py")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["seconds"] > 0
    assert {(row["recipe"], row["precision"]) for row in found["throughput"]} >= {
        ("default", "float32"),
        ("official", "float32"),
    }
    for row in found["throughput"]:
        assert row["images"] == 4
        peak = found["peaks"][row["precision"]]  # of a CPU that tests share it may be lower than the climb's own rate
        assert row["share of peak"] == pytest.approx(row["TFLOP/s"] / peak)
        assert 0 <= row["waited"] < 1
        assert row["TFLOP an image"] > 0
        assert row["minutes for VOC train_aug"] == pytest.approx(10582 / row["images a second"] / 60)
    by_recipe = {row["recipe"]: row["TFLOP an image"] for row in found["throughput"]}
    assert by_recipe["official"] > 5 * by_recipe["default"]  # four scales, mirror images
    assert all(0 < row["maps"] <= 1e-3 for row in found["apart"] if row["precision"] == "float32")
    assert found["tests"]["status"] == 0
    assert " passed" in found["tests"]["said"]
    heads, _, *lines = done.stdout.splitlines()
    assert heads.startswith("| recipe | precision |")
    assert len([line for line in lines if line.startswith("|")]) == len(found["throughput"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_gpu_it_says_so(tmp_path):
    done = run("--out", tmp_path / "found.json")
    assert done.returncode == 2
    assert "torch sees no CUDA device here; --cpu checks what a CPU can" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_python_without_torch_is_refused(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh"], capture_output=True, text=True, env=os.environ | {"PYTHON": str(tmp_path / "python")}
    )
    assert done.returncode == 2
    assert "has no torch and torchvision" in done.stderr


@pytest.mark.parametrize(
    ("preset", "changes"),
    [("default", {"steps": 5}), ("official", {"steps": 4, "scales": (1.0, 0.5)}), ("multiscale", {"steps": 3})],
)
def test_operations_are_counted_as_all_steps_would_be(script, net, images, preset, changes):
    targets = [[0, 3], [1], [2]]
    adv = advcam.AdvCAM(net, preset, **changes)
    adv(images, targets)
    with FlopCounterMode(display=False) as counter:
        adv(images, targets)
    assert script["flops"](net, preset, changes, images, targets) == counter.get_total_flops()


def test_operations_of_one_layer_by_hand(script):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    cells, weights = 14 * 14, 8 * 3 * 3 * 3
    a_map = 2 * cells * 8  # a sum over channels; the first is made once more, for the unit of the penalty
    forward = 2 * cells * weights + 2 * 8 * 4 + a_map
    backward = 2 * cells * weights + 2 * 8 * 4  # in the input alone
    counted = script["flops"](net, "default", {"steps": 2}, torch.rand(1, 3, 16, 16), [[0]])
    assert counted == 2 * forward + backward + a_map


def test_batches_are_of_one_size_and_within_the_pixels(script):
    files = [(at, [0]) for at in range(17)]
    made = script["batches"](files, (30, 40), 4 * 30 * 40)
    assert sorted(file for batch in made for file, _ in batch) == list(range(17))
    assert max(map(len, made)) == 4
    assert all(len({at % 4 == 0 for at, _ in batch}) == 1 for batch in made)
