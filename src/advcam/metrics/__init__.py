"""Counts that add, and the numbers read from them. Pure: torch only."""

from .confusion import confusion, iou, mean_iou, noise
from .sweep import THRESHOLDS, SweepCounts, SweepResult, sweep, sweep_counts

__all__ = [
    "THRESHOLDS",
    "SweepCounts",
    "SweepResult",
    "confusion",
    "iou",
    "mean_iou",
    "noise",
    "sweep",
    "sweep_counts",
]
