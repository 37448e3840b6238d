"""The steps in one literal table, which the command line, the run folder and the pipeline read."""

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
        needs: the step that it usually needs.
        preflight: raises errors that would otherwise show hours later, or after files were deleted.
        run: runs the step; returns the images left out.
        about: what it does, in a sentence.
        limits: fields of :class:`~advcam.runtime.Runtime` that bound it.
        optional: whether ``advcam run`` skips it.
        example: what is typed after its verb.
    """

    config: type[Config]
    needs: str | None
    preflight: Callable[[Context, Any, Start], None]
    run: Callable[[Context, Any], list[Skip]]
    about: str
    limits: tuple[str, ...]
    optional: bool = False
    example: str = "--run runs/first"


TRAINING = ("workers", "accumulate", "tensorboard")
"""Limits of steps that train a network."""

CLIMBING = ("max_pixels",)
"""Limits of steps that climb."""

SHARED = ("engine", "address", "actors")
"""What shares out the images of a step."""

STEPS: dict[str, Step] = {
    "classify": Step(
        classify.ClassifyConfig, None, classify.preflight, classify.run,
        "Train (or load) the classifier; starts a run if --images and --labels are given.", TRAINING,
    ),
    "climb": Step(
        ClimbConfig, "classify", climb.preflight, climb.run, "Make a map for every class of every image.",
        CLIMBING + SHARED,
    ),
    "refine": Step(
        refine.RefineConfig, "climb", refine.preflight, refine.run, "Make masks from the maps.",
        TRAINING + CLIMBING + SHARED,
    ),
    "segment": Step(
        segment.SegmentConfig, "refine", segment.preflight, segment.run,
        "Train a segmentation network on the masks, and predict.", TRAINING + SHARED,
    ),
    "semi": Step(
        semi.SemiConfig, "refine", semi.preflight, semi.run,
        "Train a segmentation network on few masks made by hand and the run's masks of the rest, and predict.",
        TRAINING + SHARED, optional=True, example="--run runs/first --pixel-labels few.txt --masks truth",
    ),
}  # fmt: skip

ORDER = {name: step.needs for name, step in STEPS.items()}
"""Every step with the step it needs, as run folders take them."""


def open_run(root: Path) -> RunFolder:
    """Opens an existing run.

    Raises:
        RunError: the folder is not a run.
    """
    return RunFolder.open(root, ORDER)
