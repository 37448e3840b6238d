"""What tests share. The shapes in the signatures of the climb are checked while the tests run."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

AS_IT_IS = dict(os.environ)
"""The environment for programs that shall see the processor as it is."""
# oneDNN's units for bfloat16 are hidden from the tests and their processes: precision auto is float32 on every processor.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")

os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="advcam-tests-")  # code that tests ask for is kept there

ATTRIBUTION = [f"advcam.attribution.{name}" for name in ("climb", "maps", "objective", "views")]
with install_import_hook(ATTRIBUTION, "beartype.beartype"):
    import advcam  # noqa: F401

import torch
from safetensors.torch import save
from torch import nn

from advcam.cli import main
from advcam.data import SceneSettings, write_dataset
from advcam.models.classifiers import Backbone
from advcam.models.segmentation import segmentation_network
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.store import write_bytes, write_json

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def parity():
    """The folder of the published code's inputs and outputs."""
    if not (SHARED / "parity").is_dir():
        pytest.skip(f"{SHARED / 'parity'} is not there: the published code's outputs lie beside the repository, not in it")
    return SHARED / "parity"


@pytest.fixture(scope="session")
def photos():
    """The folder of real photographs."""
    if not (SHARED / "photos").is_dir():
        pytest.skip(f"{SHARED / 'photos'} is not there: the photographs may not be distributed and lie beside the repository")
    return SHARED / "photos"


@pytest.fixture
def run_code(tmp_path):
    """Runs code that stands in a document or a message, with names given to it; gives the names that it leaves."""

    def run(code, **given):
        (tmp_path / "code.py").write_text(code)
        return runpy.run_path(str(tmp_path / "code.py"), given)

    return run


def python(code, environment):
    """What a Python of its own says, in JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def contents(run, *folders):
    """The bytes of all files of folders of a run, by name."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted((run / folder).rglob("*"))
        if path.is_file()
    }


def free_port():
    """A port that nobody listens at, and none of those that the system gives to whoever asks for any: it stays free."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("", port))
            return str(port)


@pytest.fixture(scope="session")
def kernels():
    """Settings of notebooks whose kernels listen at files; ports would be chosen some time before a kernel takes them."""
    from traitlets.config import Config

    with tempfile.TemporaryDirectory() as folder:  # of a short name, as such files need
        yield Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})


class SmallNet(nn.Module):
    """Two convolutions, global average pooling, a linear head."""

    def __init__(self, classes: int = 4, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(16, classes, bias=bias)

    def forward(self, x):
        return self.fc(self.drop(self.pool(self.body(self.stem(x))).flatten(1)))


@pytest.fixture
def net():
    return SmallNet()


@pytest.fixture
def images():
    return torch.randn(3, 3, 40, 56, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A data set of 24 small scenes, 16 to train on and 8 for scoring."""
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(folder, 16, 8, 0, SceneSettings(size=64))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a segmentation network of 3 classes, as a run's segment step leaves it; weights random, labels decided."""
    folder = tmp_path_factory.mktemp("trained") / "4-segment"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = Backbone("test_resnet")
        network = segmentation_network("deeplabv3plus", backbone, 4)
        network.segmentation_head[0].weight.data *= 30
        write_bytes(folder / "model.safetensors", save(network.state_dict()))
    write_json(
        folder / "model.json",
        {
            "network": "deeplabv3plus",
            "backbone": backbone.record(),
            "output_stride": None,
            "classes": [{"id": i, "name": name} for i, name in ((7, "ring"), (2, "disc"), (9, "cross"))],
            "long_side": 64,
            "predict_scales": [1.0],
            "predict_mirror": True,
            "predict_merge": "mean",
            "predict_crf": False,
        },
    )
    return folder


NETWORK = [
    "--backbone", "test_resnet", "--output-stride", "8", "--from-scratch", "--epochs", "2", "--crop", "64", "--batch", "8",
    "--lr", "3e-3", "--workers", "0", "--quiet",
]  # fmt: skip
CLIMB = ["--preset", "default", "--steps", "3"]
SEGMENT = ["--segment-epochs", "1", "--segment-crop", "64", "--segment-batch", "8"]


def arguments(scenes, out, *more):
    files = {
        "images": "images",
        "labels": "labels.csv",
        "classes": "classes.csv",
        "train-list": "train.txt",
        "eval-list": "eval.txt",
    }
    given = [part for name, file in files.items() for part in (f"--{name}", str(scenes / file))]
    return ["run", *given, "--out", str(out), *NETWORK, *SEGMENT, *CLIMB, "--threshold", "0.3", *more]


@pytest.fixture(scope="session")
def finished(scenes, tmp_path_factory):
    """A finished, evaluated run."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert main(arguments(scenes, out)) == 0
    assert main(["evaluate", "--run", str(out), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    return out


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, to be changed and spoiled."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def context(finished):
    """The finished run, opened; to be looked at alone."""
    return reopen(finished, None, Runtime(), Reporter(quiet=True))


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Commands in forks of one process, with a signal at a chosen moment; for the tests in ``attack``."""
    from forked import Forks

    made = Forks(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()
