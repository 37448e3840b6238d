"""Two processes on the CPU train the network that one trains at the same batch; the real launchers start them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import free_port

PROGRAM = """
import json
import sys
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import nn
import advcam
from safetensors.torch import save_file
from advcam.data import Augmentation, Item, Normalisation, TrainingViews
from advcam.errors import RunError
from advcam.runtime import Runtime
from advcam.progress import Reporter
from advcam.training import PixelLoss, Plan, fit

torch.set_num_threads(1)
scenes, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ELU(), nn.Conv2d(6, 6, 1))
items = [Item(p.stem, p, (), (64, 64)) for p in sorted((scenes / "images").iterdir())[:8]]
masks = [scenes / "masks" / f"{item.id}.png" for item in items]
views = TrainingViews(items, Augmentation(48, (0.5, 1.0), 640), Normalisation((0.5,) * 3, (0.5,) * 3), 0, 6, masks=masks)
plan = Plan(3, 4, 1e-2, 1e-2, 1e-4, "frozen", "float32", ema=0.9)
runtime = Runtime("cpu", workers=0)
state, history = fit(
    model, None, model[3].parameters(), views, PixelLoss(balanced=True), plan, lambda net: {"seen": 0.5}, None, out, runtime,
    Reporter(quiet=True), "test",
)
shares = runtime.share(list(range(5)))
if runtime.first:
    save_file(state, out / "state.safetensors")
    (out / "said.json").write_text(json.dumps({"losses": [row["loss"] for row in history], "shares": shares}))

def fail():
    raise RunError("of the first")

try:
    runtime.once(fail)
except RunError as error:
    assert str(error) == "of the first"
else:
    raise AssertionError("every process hears of the error")
assert runtime.once(lambda: 7) == 7
runtime.leave()
"""


def launched(launcher, scenes, out):
    out.mkdir()
    program = out / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [*launcher, str(program), str(scenes), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(out / "state.safetensors"), json.loads((out / "said.json").read_text())


@pytest.fixture(scope="module")
def alone(scenes, tmp_path_factory):
    return launched([sys.executable], scenes, tmp_path_factory.mktemp("one") / "out")


LAUNCHERS = {
    "accelerate": ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port"],
    "torchrun": ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_to_the_same_weights(scenes, tmp_path, alone, launcher):
    state, said = launched([sys.executable, *LAUNCHERS[launcher], free_port()], scenes, tmp_path / "out")
    for name, value in alone[0].items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
    assert len(said["losses"]) == 3
    assert said["losses"] == pytest.approx(alone[1]["losses"], rel=1e-5)
    assert said["shares"] == [0, 2, 4]
    assert alone[1]["shares"] == [0, 1, 2, 3, 4]
