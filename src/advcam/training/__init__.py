"""The training loop, its plan and its losses."""

from .loop import accelerate, divided, fit
from .losses import KINDS, ImageLoss, Objective, PixelLoss
from .plan import CHOICES, NetworkTraining, Plan, Training

__all__ = [
    "CHOICES",
    "KINDS",
    "ImageLoss",
    "NetworkTraining",
    "Objective",
    "PixelLoss",
    "Plan",
    "Training",
    "accelerate",
    "divided",
    "fit",
]
