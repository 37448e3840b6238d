"""One plain loop for every training, its plan and its losses."""

from .loop import accelerate, fit
from .losses import KINDS, Objective, OfPictures, OfPixels
from .plan import Plan

__all__ = ["KINDS", "Objective", "OfPictures", "OfPixels", "Plan", "accelerate", "fit"]
