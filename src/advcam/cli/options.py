"""What can be said on the command line. Defaults are read from the configs; :mod:`.configs` turns it into these."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from advcam.attribution import METHODS, PRECISIONS, PRESETS
from advcam.models.segmentation import NETWORKS
from advcam.segmenter import MERGES
from advcam.stages.classify import ClassifyConfig
from advcam.stages.refine import MAPS
from advcam.stages.refine import METHODS as REFINEMENTS
from advcam.stages.segment import SegmentConfig
from advcam.stages.semi import METHODS as METHODS_OF_SEMI
from advcam.stages.semi import MODES, SemiConfig

from . import recipes


def numbers(text: str) -> tuple[float, ...]:
    """``1,1.5,2`` as numbers."""
    return tuple(float(part) for part in text.split(","))


def size(text: str) -> tuple[int, int]:
    """``480x640`` as height and width."""
    height, _, width = text.lower().partition("x")
    return int(height), int(width)


def default(config: type, name: str) -> Any:
    """What a config has where nothing is said."""
    (found,) = (f.default for f in fields(config) if f.name == name)
    return None if found is MISSING else found


TRAIN = ("demo", "run", "classify", "refine", "segment", "semi")
CLIMB = ("demo", "run", "climb", "refine", "study")
"""Verbs that train a network, and that climb: each takes the limits of what it does."""


def add_common(parser: ArgumentParser, verb: str) -> None:
    """What every command takes, and the limits of what a verb does."""
    group = parser.add_argument_group("everywhere")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    group.add_argument("--seed", type=int, help="of everything random; a run's own where there is one (default: 0)")
    group.add_argument("--quiet", action="store_true", help="no progress, only the last line and errors")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if verb in TRAIN:
        group.add_argument("--workers", type=int, help="processes that read images while a network trains")
        group.add_argument("--accumulate", type=int, metavar="N", help="take each training batch in N parts; bounds memory")
        group.add_argument(
            "--tensorboard", action="store_true", help="write TensorBoard logs of trainings into the step's folder"
        )
    if verb in CLIMB:
        group.add_argument("--max-pixels", type=int, help="most pixels in one forward pass of a climb; bounds memory")


def add_data(parser: ArgumentParser, required: bool) -> None:
    """The data set."""
    group = parser.add_argument_group("data set")
    group.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of images (default: those of a VOC or COCO folder of labels)"
    )
    group.add_argument(
        "--labels", type=Path, required=required, metavar="WHAT",
        help="CSV image,labels (';' between labels), JSON, a VOC folder, COCO's instances_*.json, a COCO or Roboflow folder",
    )  # fmt: skip
    group.add_argument(
        "--classes", type=Path, metavar="FILE",
        help="CSV id,name: the ids that masks use (default: VOC's, COCO's, or from 1, sorted)",
    )  # fmt: skip
    group.add_argument(
        "--train-list", type=Path, metavar="FILE", help="images to train on, one a line (default: all not scored on)"
    )
    group.add_argument("--eval-list", type=Path, metavar="FILE", help="images to score on and predict, one a line")


def add_moved(parser: ArgumentParser) -> None:
    """Where a run's images are now."""
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the run's images are now, if they have moved")


def add_own(parser: ArgumentParser) -> None:
    """The classifier's code, where it is the user's own."""
    parser.add_argument(
        "--classifier", metavar="FILE.py:FUNCTION",
        help="run this code where the run's classifier is code; asked for once, as long as the file is the same",
    )  # fmt: skip


def add_recipe(parser: ArgumentParser) -> None:
    """Settings under a name."""
    parser.add_argument(
        "--recipe", metavar="NAME|FILE",
        help=f"settings by name ({', '.join(recipes.names())}), or a TOML file; flags change them",
    )  # fmt: skip


def add_classify(parser: ArgumentParser) -> None:
    """The classifier."""
    group = parser.add_argument_group("classify", f"what --classify-option can set, with defaults: {_of_classify()}")
    group.add_argument("--backbone", help="a timm network (default: resnet50)")
    group.add_argument(
        "--backbone-option", action="append", default=[], metavar="KEY=VALUE", help="argument of timm.create_model"
    )
    group.add_argument("--output-stride", type=int, help="pixels per cell of the map (default: 16)")
    group.add_argument("--mean", type=numbers, help="of the input, e.g. 0.5,0.5,0.5 (default: timm's)")
    group.add_argument("--std", type=numbers, help="of the input (default: timm's)")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--weights", metavar="FILE", help="start from this file instead of timm's pretrained weights")
    source.add_argument("--from-scratch", action="store_true", help="start from no weights at all")
    group.add_argument(
        "--classifier", metavar="WHAT", help="a trained one, skips training: weights of --backbone, or FILE.py:FUNCTION"
    )
    group.add_argument("--classify-option", action="append", default=[], metavar="KEY=VALUE", help="a setting; may be repeated")
    _add_training(group, "", ClassifyConfig)


def _of_classify() -> str:
    own = [f for f in fields(ClassifyConfig) if f.name not in ("backbone", "weights", "from_scratch", "classifier")]
    return ", ".join(f"{f.name}={_plain(f.default)}" for f in own) + ", dilated=True"


def add_climb(parser: ArgumentParser) -> None:
    """The climb."""
    group = parser.add_argument_group("climb (unset: as the preset has it)")
    group.add_argument("--preset", choices=list(PRESETS), help="default: default")
    group.add_argument("--steps", type=int, help="T, maps that are summed")
    group.add_argument("--step-size", type=float, help="xi")
    group.add_argument("--suppress", type=float, help="weight of the other classes' scores")
    group.add_argument("--restrain", type=float, help="lambda, weight of the penalty")
    group.add_argument("--tau", type=float, help="share of the maximum above which a cell is discriminative")
    group.add_argument("--scales", type=numbers, help="e.g. 1,1.5,2")
    group.add_argument("--mirror", action=argparse.BooleanOptionalAction, help="climb the mirror image too")
    _add_precision(group, "--precision", "of the network's arithmetic (auto: bfloat16 where the device has units for it)")
    group.add_argument("--cam-method", choices=list(METHODS), help="how each step's map is made (default: cam)")
    group.add_argument(
        "--climb-option", action="append", default=[], metavar="KEY=VALUE",
        help="any other setting, such as emphasis=none or ceiling=0.5; may be repeated",
    )  # fmt: skip


def add_keep(parser: ArgumentParser) -> None:
    """What becomes of the maps."""
    parser.add_argument(
        "--keep-maps", action=argparse.BooleanOptionalAction, default=True,
        help="--no-keep-maps writes none: refine climbs as it makes each mask (psa and irn: once more to learn);"
        " seeds cannot be scored (default: keep)",
    )  # fmt: skip


def add_climb_image(parser: ArgumentParser) -> None:
    """One image and its network."""
    group = parser.add_argument_group("image and network")
    group.add_argument("image", type=Path, metavar="IMAGE", help="an image of any kind")
    group.add_argument("--model", required=True, help="timm:NAME, FILE.py:FUNCTION, or a run folder")
    group.add_argument("--weights", type=Path, metavar="FILE", help="of timm:NAME, instead of timm's from the hub")
    group.add_argument(
        "--backbone-option", action="append", default=[], metavar="KEY=VALUE", help="argument of timm.create_model"
    )
    group.add_argument("--mean", type=numbers, help="of the input, e.g. 0.5,0.5,0.5 (default: timm's)")
    group.add_argument("--std", type=numbers, help="of the input (default: timm's)")
    group.add_argument("--class", dest="classes", action="append", default=[], metavar="K", help="id or name; may be repeated")
    group.add_argument("--top", type=int, default=2, help="without --class: as many with the highest scores (default: 2)")
    group.add_argument("--long-side", type=int, default=512, help="larger images are scaled down to it (default: 512)")
    group.add_argument("--layer", help="whose output is the feature map (default: found)")
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help="where overlay, map file and animations go")


def add_refine(parser: ArgumentParser) -> None:
    """The masks."""
    group = parser.add_argument_group(
        "refine",
        "what --refine-option can set, with defaults:\n" + "\n".join(f"  {n}: {_listed(m)}" for n, m in REFINEMENTS.items()),
    )
    group.add_argument("--method", choices=list(REFINEMENTS), help="default: pamr")
    group.add_argument("--threshold", type=float, help="background threshold (default: the method's)")
    group.add_argument(
        "--refine-option", action="append", default=[], metavar="KEY=VALUE", help="a setting of the method; may be repeated"
    )
    group.add_argument(
        "--margin",
        type=float,
        help="pixels whose two best labels are closer become 255; in shares of the maximum, of crf and psa probabilities",
    )
    group.add_argument("--maps", choices=MAPS, help="which maps become masks (default: advcam)")


def _listed(settings: type) -> str:
    return ", ".join(f"{f.name}={_plain(f.default)}" for f in fields(settings))


def _plain(value: Any) -> str:
    return str(value).replace("(", "").replace(")", "").replace(", ", ",")


def add_segment(parser: ArgumentParser, prefix: str) -> None:
    """The segmentation network."""
    group = parser.add_argument_group(
        "segment",
        f"recipes: {', '.join(recipes.names())}\nwhat --segment-option can set, with defaults: {_listed(SegmentConfig)}",
    )
    group.add_argument("--network", choices=list(NETWORKS), help=f"default: {default(SegmentConfig, 'network')}")
    group.add_argument("--predict-scales", type=numbers, help="scales merged in predictions (default: 1)")
    group.add_argument(
        "--segment-option", action="append", default=[], metavar="KEY=VALUE", help="a setting of the training; may be repeated"
    )
    _add_training(group, prefix, SegmentConfig)


def add_semi(parser: ArgumentParser) -> None:
    """The semi-supervised network."""
    group = parser.add_argument_group("semi", f"what --semi-option can set, with defaults: {_listed(SemiConfig)}")
    group.add_argument(
        "--pixel-labels", type=Path, metavar="LIST", help="training images whose masks were made by hand, one a line"
    )
    group.add_argument("--masks", type=Path, metavar="DIR", help="with their masks ID.png (default: masks beside the list)")
    group.add_argument("--mode", choices=MODES, help="what is learnt from the other images (default: weak, the run's masks)")
    group.add_argument("--method", choices=list(METHODS_OF_SEMI), help="default: unimatch")
    group.add_argument("--network", choices=list(NETWORKS), help="unimatch only (default: deeplabv3plus)")
    group.add_argument("--predict-scales", type=numbers, help="scales merged in predictions (default: 1)")
    group.add_argument("--semi-option", action="append", default=[], metavar="KEY=VALUE", help="a setting; may be repeated")
    _add_training(group, "", SemiConfig)


def add_predict(parser: ArgumentParser) -> None:
    """How a trained network is used."""
    group = parser.add_argument_group("predict (unset: as the model was made)")
    group.add_argument("--scales", type=numbers, help="of the image, merged: e.g. 0.75,1,1.25")
    group.add_argument("--mirror", action=argparse.BooleanOptionalAction, help="merge with the mirror image too")
    group.add_argument("--merge", choices=MERGES, help="of these views' probabilities (max: DeepLab's rule)")
    side = group.add_mutually_exclusive_group()
    side.add_argument("--long-side", type=int, metavar="PX", help="larger images are scaled down to it")
    side.add_argument(
        "--window", type=int, metavar="PX", help="instead: windows of so many pixels that overlap by half, at full size"
    )
    group.add_argument("--crf", action=argparse.BooleanOptionalAction, help="a dense CRF on the image has the last word")
    _add_precision(group, "--precision", "of the network's arithmetic (auto: bfloat16 where the device has units for it)")
    group.add_argument("--probabilities", action="store_true", help="write probabilities/ID.npz too")


def _add_precision(group: Any, flag: str, about: str) -> None:
    group.add_argument(flag, choices=PRECISIONS, help=about)


def _add_training(group: Any, prefix: str, config: type) -> None:
    kinds: dict[str, Any] = {"epochs": int, "batch": int, "crop": int, "long_side": int, "lr": float, "head_lr": float}
    for name, kind in kinds.items():
        flag = f"--{prefix}{name.replace('_', '-')}"
        group.add_argument(flag, type=kind, help=f"default: {default(config, name)}")
    flag = f"--{prefix or 'train-'}precision"
    _add_precision(group, flag, f"default: {default(config, 'precision')}")
    flag = "--train-scales" if not prefix else f"--{prefix}scales"
    low, high = default(config, "scales")
    group.add_argument(flag, type=numbers, metavar="LOW,HIGH", help=f"of the training views (default: {low},{high})")


def _step(*adds: Any) -> Any:
    def add(parser: ArgumentParser) -> None:
        for one in (add_recipe, *adds):
            one(parser)

    return add


ADD = {
    "classify": _step(add_classify),
    "climb": _step(add_climb, add_keep),
    "refine": _step(add_refine),
    "segment": _step(lambda parser: add_segment(parser, "")),
    "semi": _step(add_semi),
}
"""What gives each step's verb its options."""
