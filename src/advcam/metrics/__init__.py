"""Counts that add, and the numbers read from them. Pure: torch only."""

from .confusion import confusion, iou, mean_iou, noise
from .instances import InstanceCounts, match_instances
from .sweep import THRESHOLDS, SweepCounts, SweepResult, sweep, sweep_counts

__all__ = [
    "THRESHOLDS",
    "InstanceCounts",
    "SweepCounts",
    "SweepResult",
    "confusion",
    "iou",
    "match_instances",
    "mean_iou",
    "noise",
    "sweep",
    "sweep_counts",
]
