"""A small transformer that two cores can train: the first layers of an ImageNet MobileNetV2, then transformer blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import advcam.models  # noqa: F401  # isort: skip  (timm cannot be imported before it beside a CPU-only torch)

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from advcam.data import Augmentation, Normalisation, TrainingViews
from advcam.stages.context import Context
from advcam.store import write_bytes
from advcam.training import ImageLoss, Plan, fit

from .data import SHARED

MEAN = (0.5, 0.5, 0.5)

WEIGHTS = SHARED / "photos" / "mobilenetv2_100.imagenet.safetensors"


class Hybrid(nn.Module):
    """MobileNetV2 to stride 16 (96 channels), four transformer blocks of width 192, mean over tokens, a head without bias.

    The position of a token is a 3x3 depthwise convolution, so images may have any size.

    Args:
        classes: number of classes.
        width: of the tokens.
        depth: number of transformer blocks.
    """

    def __init__(self, classes: int, width: int = 192, depth: int = 4) -> None:
        super().__init__()
        body = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=0)
        self.stem = nn.Sequential(body.conv_stem, body.bn1, body.blocks[:5])
        self.project = nn.Conv2d(96, width, 1)
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.blocks = nn.Sequential(*(Block(width, 3, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W] to logits [N, K]."""
        cells = self.project(self.stem(x))
        tokens = (cells + self.position(cells)).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits


def untrained(classes: int) -> Hybrid:
    """ImageNet weights in the convolutions, random ones in the rest."""
    torch.manual_seed(0)
    model = Hybrid(classes)
    state = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    renamed = {
        f"stem.{part}.{name.split('.', 1)[1]}": value
        for name, value in state.items()
        for part, prefix in ((0, "conv_stem."), (1, "bn1."), (2, "blocks."))
        if name.startswith(prefix)
    }
    found = model.state_dict()
    model.load_state_dict({name: value for name, value in renamed.items() if name in found}, strict=False)
    return model


def train(context: Context, settings: dict[str, Any], weights: Path) -> None:
    """Trains it on the image labels of a run's data set, as ``advcam classify`` trains a timm network; writes its weights."""
    model = untrained(len(context.data.classes))
    normalise, augment = Normalisation(MEAN, MEAN), Augmentation(settings["crop"], settings["scales"], 640, None)
    views = TrainingViews(list(context.data.train), augment, normalise, context.seed, len(context.data.classes))
    fresh = [parameter for name, parameter in model.named_parameters() if not name.startswith("stem")]
    plan = Plan(settings["epochs"] + 1, 16, 1e-4, 5e-4, 1e-4, "statistics", warmup=0.05)
    work = weights.parent / f"{weights.stem}-training"
    work.mkdir(parents=True, exist_ok=True)
    loss = ImageLoss(F.multilabel_soft_margin_loss)
    state, _ = fit(
        model, None, fresh, views, loss, plan, lambda _network: {}, None, work, context.runtime, context.reporter, "hybrid"
    )  # fmt: skip
    write_bytes(weights, save(state))


def written(weights: Path, classes: int) -> str:
    """``FILE.py:make``, a file beside the weights whose function gives the trained network."""
    file = weights.with_suffix(".py")
    file.write_text(
        "from safetensors.torch import load_file\n\nfrom benchmarks.quality.hybrid import Hybrid\n\n\n"
        f"def make():\n    model = Hybrid({classes})\n    model.load_state_dict(load_file({str(weights.resolve())!r}))\n"
        "    return model.eval()\n"
    )
    return f"{file.resolve()}:make"
