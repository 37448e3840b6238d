"""One plain loop for every training."""

from .loop import Plan, fit, freeze_batch_norm

__all__ = ["Plan", "fit", "freeze_batch_norm"]
