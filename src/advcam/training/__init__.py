"""The training loop, its plan and its losses."""

from .loop import accelerate, fit
from .losses import KINDS, ImageLoss, Objective, PixelLoss
from .plan import Plan

__all__ = ["KINDS", "ImageLoss", "Objective", "PixelLoss", "Plan", "accelerate", "fit"]
