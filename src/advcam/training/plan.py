"""How a network is trained: batches, optimizer, learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advcam.attribution import PRECISIONS
from advcam.errors import SettingsError
from advcam.limits import MIN_SIDE
from advcam.options import Config, check, option

CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("poly", "cosine"),
    "precision": PRECISIONS,
    "batch_norm": ("trained", "statistics", "frozen"),
}


@dataclass(frozen=True, kw_only=True)
class Training(Config):
    """What every step that trains a network lets one say of it."""

    epochs: int = option(5, "passes over the training images", flag="epochs", least=1, most=10**6, common=True)
    batch: int = option(16, "batch size, images over all processes", flag="batch", least=1, most=10**6)
    lr: float = option(1e-3, "learning rate of the pretrained layers (of all, from scratch)", flag="lr", above=0)
    weight_decay: float = option(1e-4, "weight decay", least=0)
    precision: str = option(
        "auto", "arithmetic of the training; auto: bfloat16 where the device has units for it", flag="train-precision",
        choices=PRECISIONS,
    )  # fmt: skip
    crop: int = option(320, "side of the training crops, pixels", flag="crop", least=MIN_SIDE, most=16_384)
    scales: tuple[float, float] = option(
        (0.75, 1.5), "smallest and largest factor of the training views", flag="train-scales", above=0, most=100
    )


@dataclass(frozen=True, kw_only=True)
class NetworkTraining(Training):
    """What the classifier and the segmentation networks share beside :class:`Training`."""

    head_lr: float = option(3e-3, "learning rate of the new layers", flag="head-lr", above=0)
    optimizer: str = option("adamw", "optimizer", choices=CHOICES["optimizer"])
    momentum: float = option(0.9, "momentum of sgd", least=0, below=1)
    long_side: int = option(640, "larger images are scaled down to it, pixels", flag="long-side", least=MIN_SIDE, most=10**6)


@dataclass(frozen=True)
class Plan:
    """How to train. Learning rates fall as ``(1 - i / n)^0.9`` (poly) or ``(1 + cos(pi i / n)) / 2`` over the n steps.

    Args:
        epochs: passes over the images.
        batch: images a step, over all processes and parts.
        lr: of the body.
        head_lr: of newly initialised parameters.
        weight_decay: of all weights, except the head's biases where ``bias_factor`` is not 1.
        batch_norm: of the body: ``trained``; ``statistics`` keeps the running statistics (pretrained networks); ``frozen``
            keeps weight and bias too.
        precision: of the network's arithmetic, ``float32`` or ``bfloat16`` (autocast); weights stay float32. ``auto`` is
            bfloat16 where the device has units for it.
        optimizer: ``adamw`` or ``sgd`` (with ``momentum``).
        schedule: ``poly`` or ``cosine``.
        warmup: share of the steps over which learning rates rise from zero.
        ema: largest decay of the moving average of the weights, which is then kept in their place; 0 turns it off.
            At step n the decay is ``min(ema, (1 + n) / (10 + n))``.
        steps: number of steps, in place of epochs.
        momentum: of SGD.
        bias_factor: factor of the learning rate of the head's biases, which have no weight decay where it is not 1.
    """

    epochs: int
    batch: int
    lr: float
    head_lr: float
    weight_decay: float
    batch_norm: str
    precision: str = "auto"
    optimizer: str = "adamw"
    schedule: str = "poly"
    warmup: float = 0.0
    ema: float = 0.0
    steps: int | None = None
    momentum: float = 0.9
    bias_factor: float = 1.0

    def __post_init__(self) -> None:
        check(self)
        if self.epochs < 1 or self.batch < 1 or (self.steps is not None and self.steps < 1):
            raise SettingsError(f"epochs and batch must be at least 1; got {self.epochs} and {self.batch}, steps {self.steps}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingsError(f"{name} is {' or '.join(choices)}, got {getattr(self, name)!r}")
        if not (self.lr > 0 and self.head_lr > 0 and self.weight_decay >= 0 and self.bias_factor > 0):
            raise SettingsError(f"learning rates must be positive, weight decay at least 0; got {self}")
        if not (0 <= self.ema < 1 and 0 <= self.warmup < 1 and 0 <= self.momentum < 1):
            raise SettingsError(
                f"ema, warmup and momentum are at least 0 and below 1; got {self.ema}, {self.warmup} and {self.momentum}"
            )

    def factor(self, step: int, steps: int) -> float:
        """The factor of the learning rates at a step."""
        share = min(1.0, step / steps)
        rise = min(1.0, (step + 1) / (self.warmup * steps)) if self.warmup else 1.0
        return rise * ((1 - share) ** 0.9 if self.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * share)))

    def average(self, step: int) -> float:
        """The decay of the moving average at a step: small at first, so that the initial weights are forgotten."""
        return min(self.ema, (1 + step) / (10 + step))

    def optimize(self, model: nn.Module, head: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of a model whose ``head`` is newly initialised; parameters without gradient are left out."""
        fresh = {id(p) for p in head}
        bias = {id(p) for name, p in model.named_parameters() if id(p) in fresh and name.endswith("bias")}
        bias = bias if self.bias_factor != 1 else set()
        groups: list[dict[str, Any]] = [
            {"params": [p for p in model.parameters() if p.requires_grad and id(p) not in fresh], "lr": self.lr},
            {"params": [p for p in model.parameters() if p.requires_grad and id(p) in fresh - bias], "lr": self.head_lr},
        ]
        if bias:
            biases = [p for p in model.parameters() if p.requires_grad and id(p) in bias]
            groups.append({"params": biases, "lr": self.head_lr * self.bias_factor, "weight_decay": 0.0})
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay)

    def prepare(self, body: nn.Module) -> None:
        """Freezes weight and bias of the body's BatchNorm if the plan says so; to be called before :meth:`optimize`."""
        for module in batch_norms(body) if self.batch_norm == "frozen" else ():
            module.requires_grad_(False)

    def set_mode(self, model: nn.Module, body: nn.Module) -> None:
        """Puts the model into training mode, the body's BatchNorm as the plan says."""
        model.train()
        for module in batch_norms(body) if self.batch_norm != "trained" else ():
            module.eval()


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The BatchNorm layers of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
