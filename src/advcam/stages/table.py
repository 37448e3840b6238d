"""The steps, in one literal table: all that the command line, the run folder and the pipeline know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.data import Skip
from advcam.options import Config
from advcam.store import RunFolder

from . import classify, climb, refine, segment, semi
from .context import Context
from .maps import ClimbConfig
from .start import Start


@dataclass(frozen=True)
class Step:
    """A step of a run.

    Args:
        config: its settings.
        needs: the step that it is usually applied to.
        preflight: raises at once what would fail after hours, or after something was dropped.
        run: takes the step; returns what was left out.
        about: what it does, in a sentence.
        limits: fields of :class:`~advcam.runtime.Runtime` that bound it.
        optional: whether ``advcam run`` goes without it.
    """

    config: type[Config]
    needs: str | None
    preflight: Callable[[Context, Any, Start], None]
    run: Callable[[Context, Any], list[Skip]]
    about: str
    limits: tuple[str, ...]
    optional: bool = False


TRAINING = ("workers", "accumulate", "tensorboard")
"""Limits of what trains a network."""

CLIMBING = ("max_pixels",)
"""Limits of what climbs."""

STEPS: dict[str, Step] = {
    "classify": Step(
        classify.ClassifyConfig, None, classify.preflight, classify.run,
        "Train (or take) the classifier; starts a run where --images and --labels are given.", TRAINING,
    ),
    "climb": Step(
        ClimbConfig, "classify", climb.preflight, climb.run, "Make a map for every class of every image.", CLIMBING
    ),
    "refine": Step(
        refine.RefineConfig, "climb", refine.preflight, refine.run, "Make masks of the maps.", TRAINING + CLIMBING
    ),
    "segment": Step(
        segment.SegmentConfig, "refine", segment.preflight, segment.run,
        "Train a segmentation network on the masks, and predict.", TRAINING,
    ),
    "semi": Step(
        semi.SemiConfig, "refine", semi.preflight, semi.run,
        "Train a segmentation network on few masks made by hand and the run's masks of the rest, and predict.", TRAINING,
        optional=True,
    ),
}  # fmt: skip

ORDER = {name: step.needs for name, step in STEPS.items()}
"""Every step with the one that it is applied to, as a run folder has them."""


def open_run(root: Path) -> RunFolder:
    """An existing run.

    Raises:
        RunError: the folder is not a run.
    """
    return RunFolder.open(root, ORDER)
