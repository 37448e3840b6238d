"""The commands that need no run folder, in one literal table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from advcam.options import Config
from advcam.stages.table import CLIMBING, SHARED, TRAINING

from . import check, climb_image, convert, convert_masks, demo, explore, export, predict
from .session import Outcome, Session


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        config: its settings.
        run: runs it.
        about: what it does, in a sentence.
        example: example of its arguments.
        limits: fields of :class:`~advcam.runtime.Runtime` that bound it.
    """

    config: type[Config]
    run: Callable[[Any, Session], Outcome]
    about: str
    example: str
    limits: tuple[str, ...] = ()


GROUPS = {
    "data": "Check a data set, or convert it, before a long run.",
    "convert": "Write masks for other tools, and read them back.",
}
"""What the commands below a word do, such as ``data check`` and ``data convert``."""

COMMANDS: dict[str, Command] = {
    "demo": Command(
        demo.DemoConfig, demo.run, "Run everything on generated images, in a few minutes.", "--out demo", TRAINING + CLIMBING
    ),
    "predict": Command(
        predict.PredictConfig, predict.run, "Make masks of any images with a trained network.",
        "--model runs/first/4-segment --images photos --out masks", SHARED,
    ),
    "export": Command(
        export.ExportConfig, export.run, "Write a trained network as one file for other programs, compared with the original.",
        "--model runs/first/4-segment --out model.onnx",
    ),
    "data check": Command(
        check.CheckConfig, check.run, "Check a data set: images, classes, sizes, what a run would leave out, ground truth.",
        "--labels VOCdevkit/VOC2012 --masks VOCdevkit/VOC2012/SegmentationClass",
    ),
    "data convert": Command(
        convert.ConvertConfig, convert.run,
        "Write VOC or COCO as labels.csv, classes.csv and lists; COCO's regions as masks.", "--labels coco --out coco-masks",
    ),
    "convert masks": Command(
        convert_masks.ConvertMasksConfig, convert_masks.run,
        "Write masks in the format of another tool, or read what it made of them.",
        "--run runs/first --to coco --out masks.json",
    ),
    "climb-image": Command(
        climb_image.ClimbImageConfig, climb_image.run,
        "Climb one image: overlay, map file, and an animation of the map growing over the steps.",
        "cat.jpg --model timm:resnet50 --class tabby --steps 20 --out cat",
    ),
    "explore": Command(
        explore.ExploreConfig, explore.run, "Open a local page: see maps grow as they are computed, and correct a run's masks.",
        "--run runs/first", CLIMBING,
    ),
}  # fmt: skip
