"""Metrics: counts that are summed over images, and the numbers computed from them. Pure: torch only."""

from .bootstrap import interval, resampled, resampled_iou, resampled_mean, resampled_seeds
from .boundary import boundary_counts, boundary_iou
from .boxes import MAP_THRESHOLDS, box_overlaps, mask_boxes
from .calibration import Calibration, finds
from .confusion import confusion, iou, mean_iou, noise
from .instances import InstanceCounts, match_instances
from .localisation import (
    BOX_IOUS,
    Best,
    BoxCounts,
    PixelCounts,
    box_counts,
    min_max,
    pixel_counts,
)
from .sweep import THRESHOLDS, SweepCounts, SweepResult, sweep, sweep_counts

__all__ = [
    "BOX_IOUS",
    "MAP_THRESHOLDS",
    "THRESHOLDS",
    "Best",
    "BoxCounts",
    "Calibration",
    "InstanceCounts",
    "PixelCounts",
    "SweepCounts",
    "SweepResult",
    "boundary_counts",
    "boundary_iou",
    "box_counts",
    "box_overlaps",
    "confusion",
    "finds",
    "interval",
    "iou",
    "mask_boxes",
    "match_instances",
    "mean_iou",
    "min_max",
    "noise",
    "pixel_counts",
    "resampled",
    "resampled_iou",
    "resampled_mean",
    "resampled_seeds",
    "sweep",
    "sweep_counts",
]
