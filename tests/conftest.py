"""What tests share. The shapes in the signatures of the climb are checked while the tests run."""

from __future__ import annotations

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

ATTRIBUTION = [f"advcam.attribution.{name}" for name in ("climb", "maps", "objective", "views")]
with install_import_hook(ATTRIBUTION, "beartype.beartype"):
    import advcam  # noqa: F401

import torch
from torch import nn

from advcam.data import SceneSettings, write_dataset

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
