"""What can be said on the command line, and the configs it becomes. Defaults are read from the configs."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from advcam.attribution import METHODS, PRESETS
from advcam.errors import SettingsError
from advcam.flow import DataConfig, Steps
from advcam.machine import Machine
from advcam.models.classifiers import Backbone
from advcam.models.segmentation import NETWORKS
from advcam.picture import PictureConfig
from advcam.prediction import PredictConfig
from advcam.segmenter import MERGES
from advcam.stages.classify import ClassifyConfig
from advcam.stages.climb import ClimbConfig
from advcam.stages.refine import MAPS, RefineConfig
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


def _default(config: type, name: str) -> Any:
    (found,) = (f.default for f in fields(config) if f.name == name)
    return None if found is MISSING else found


def add_common(parser: ArgumentParser) -> None:
    """What every command takes."""
    group = parser.add_argument_group("everywhere")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    group.add_argument("--workers", type=int, help="processes that read pictures while a network trains")
    group.add_argument("--max-pixels", type=int, help="most pixels in one forward pass of a climb; bounds memory")
    group.add_argument("--accumulate", type=int, metavar="N", help="take each training batch in N parts; bounds memory")
    group.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs of trainings into the step's folder")
    group.add_argument("--seed", type=int, help="of everything random; a run's own where there is one (default: 0)")
    group.add_argument("--quiet", action="store_true", help="no progress, only the last line and errors")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_data(parser: ArgumentParser, required: bool) -> None:
    """The data set."""
    group = parser.add_argument_group("data set")
    group.add_argument("--images", type=Path, required=required, metavar="DIR", help="folder of pictures")
    group.add_argument(
        "--labels", type=Path, required=required, metavar="FILE", help="CSV image,labels (';' between labels) or JSON"
    )
    group.add_argument(
        "--classes", type=Path, metavar="FILE", help="CSV id,name: the ids that masks use (default: from 1, sorted)"
    )
    group.add_argument(
        "--train-list", type=Path, metavar="FILE", help="images to train on, one a line (default: all not scored on)"
    )
    group.add_argument("--eval-list", type=Path, metavar="FILE", help="images to score on and predict, one a line")


def add_classify(parser: ArgumentParser) -> None:
    """The classifier."""
    group = parser.add_argument_group("classify")
    group.add_argument("--backbone", help="a timm network (default: resnet50)")
    group.add_argument(
        "--backbone-option", action="append", default=[], metavar="KEY=VALUE", help="argument of timm.create_model"
    )
    group.add_argument("--output-stride", type=int, default=16, help="pixels per cell of the map (default: 16)")
    group.add_argument("--mean", type=numbers, help="of the input, e.g. 0.5,0.5,0.5 (default: timm's)")
    group.add_argument("--std", type=numbers, help="of the input (default: timm's)")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--weights", metavar="FILE", help="start from this file instead of timm's pretrained weights")
    source.add_argument("--from-scratch", action="store_true", help="start from no weights at all")
    group.add_argument(
        "--classifier", metavar="WHAT", help="a trained one, skips training: weights of --backbone, or FILE.py:FUNCTION"
    )
    _add_training(group, "", ClassifyConfig)


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
    group.add_argument("--precision", choices=("float32", "bfloat16"), help="of the network's arithmetic")
    group.add_argument("--cam-method", choices=list(METHODS), help="how each step's map is made (default: cam)")


def add_keep(parser: ArgumentParser) -> None:
    """What becomes of the maps."""
    parser.add_argument(
        "--keep-maps", action=argparse.BooleanOptionalAction, default=True,
        help="--no-keep-maps writes none: refine climbs as it makes each mask (psa and irn: once more to learn);"
        " seeds cannot be scored (default: keep)",
    )  # fmt: skip


def add_picture(parser: ArgumentParser) -> None:
    """One picture and its network."""
    group = parser.add_argument_group("picture and network")
    group.add_argument("image", type=Path, metavar="IMAGE", help="a picture of any kind")
    group.add_argument("--model", required=True, help="timm:NAME, FILE.py:FUNCTION, or a run folder")
    group.add_argument("--weights", type=Path, metavar="FILE", help="of timm:NAME, instead of timm's from the hub")
    group.add_argument(
        "--backbone-option", action="append", default=[], metavar="KEY=VALUE", help="argument of timm.create_model"
    )
    group.add_argument("--mean", type=numbers, help="of the input, e.g. 0.5,0.5,0.5 (default: timm's)")
    group.add_argument("--std", type=numbers, help="of the input (default: timm's)")
    group.add_argument("--class", dest="classes", action="append", default=[], metavar="K", help="id or name; may be repeated")
    group.add_argument("--top", type=int, default=2, help="without --class: as many with the highest scores (default: 2)")
    group.add_argument("--long-side", type=int, default=512, help="larger pictures are scaled down to it (default: 512)")
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
        default=0.0,
        help="pixels whose two best labels are closer become 255; in shares of the maximum, of crf and psa probabilities",
    )
    group.add_argument("--maps", default="advcam", choices=MAPS, help="which maps become masks (default: advcam)")


def _listed(settings: type) -> str:
    return ", ".join(f"{f.name}={f.default}".replace("(", "").replace(")", "").replace(", ", ",") for f in fields(settings))


def add_segment(parser: ArgumentParser, prefix: str) -> None:
    """The segmentation network."""
    group = parser.add_argument_group(
        "segment",
        f"recipes: {', '.join(recipes.names())}\nwhat --segment-option can set, with defaults: {_listed(SegmentConfig)}",
    )
    group.add_argument("--network", choices=list(NETWORKS), help=f"default: {_default(SegmentConfig, 'network')}")
    group.add_argument("--predict-scales", type=numbers, help="scales merged in predictions (default: 1)")
    group.add_argument(f"--{prefix}recipe", metavar="NAME|FILE", help="settings by name, or a TOML file; flags change them")
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
    group.add_argument("--mode", choices=MODES, help="what is learnt from the other pictures (default: weak, the run's masks)")
    group.add_argument("--method", choices=list(METHODS_OF_SEMI), help="default: unimatch")
    group.add_argument("--network", choices=list(NETWORKS), help="unimatch only (default: deeplabv3plus)")
    group.add_argument("--predict-scales", type=numbers, help="scales merged in predictions (default: 1)")
    group.add_argument("--recipe", metavar="NAME|FILE", help="settings by name, or a TOML file; flags change them")
    group.add_argument("--semi-option", action="append", default=[], metavar="KEY=VALUE", help="a setting; may be repeated")
    _add_training(group, "", SemiConfig)


def add_predict(parser: ArgumentParser) -> None:
    """How a trained network is used."""
    group = parser.add_argument_group("predict (unset: as the model was made)")
    group.add_argument("--scales", type=numbers, help="of the picture, merged: e.g. 0.75,1,1.25")
    group.add_argument("--mirror", action=argparse.BooleanOptionalAction, help="merge with the mirror image too")
    group.add_argument("--merge", choices=MERGES, help="of these views' probabilities (max: DeepLab's rule)")
    side = group.add_mutually_exclusive_group()
    side.add_argument("--long-side", type=int, metavar="PX", help="larger pictures are scaled down to it")
    side.add_argument(
        "--window", type=int, metavar="PX", help="instead: windows of so many pixels that overlap by half, at full size"
    )
    group.add_argument("--crf", action=argparse.BooleanOptionalAction, help="a dense CRF on the picture has the last word")
    group.add_argument("--probabilities", action="store_true", help="write probabilities/ID.npz too")


def _add_training(group: Any, prefix: str, config: type) -> None:
    kinds: dict[str, Any] = {"epochs": int, "batch": int, "crop": int, "long_side": int, "lr": float, "head_lr": float}
    for name, kind in kinds.items():
        flag = f"--{prefix}{name.replace('_', '-')}"
        group.add_argument(flag, type=kind, help=f"default: {_default(config, name)}")
    flag = f"--{prefix or 'train-'}precision"
    group.add_argument(flag, choices=("float32", "bfloat16"), help=f"default: {_default(config, 'precision')}")
    flag = "--train-scales" if not prefix else f"--{prefix}scales"
    low, high = _default(config, "scales")
    group.add_argument(flag, type=numbers, metavar="LOW,HIGH", help=f"of the training views (default: {low},{high})")


def given(args: Namespace, step: str) -> dict[str, Any]:
    """The options of a step as plain data, under the names that the step's own verb has for them."""
    prefix = "segment_" if step == "segment" and "segment_epochs" in args else ""
    parser = ArgumentParser()
    ADD[step](parser)
    flags = [action.dest for action in parser._actions if action.dest != "help"]
    found = {flag: getattr(args, _prefixed(flag, prefix)) for flag in flags}
    return {flag: _remembered_as(flag, value) for flag, value in found.items()}


def _remembered_as(flag: str, value: Any) -> Any:
    """Plain data that holds from any folder."""
    if isinstance(value, list):
        return list({str(entry).partition("=")[0]: entry for entry in value}.values())  # the last of each key
    if isinstance(value, Path):
        return str(value.resolve())
    return _absolute(value) if flag in ("weights", "classifier") or str(value).endswith(".toml") else value


def remembered(args: Namespace, options: dict[str, Any]) -> dict[str, Any]:
    """A run's options for a step, as far as those typed now leave them: what a typed one excludes or decides is forgotten."""
    forgotten = {name for typed, names in DECIDES.items() if vars(args).get(typed) for name in names}
    for typed in ("segment_option", "semi_option"):
        keys = _pairs(vars(args).get(typed) or [], f"--{typed.replace('_', '-')}")
        forgotten |= {{"scales": "train_scales", "precision": "train_precision"}.get(key, key) for key in keys}
    return {name: value for name, value in options.items() if name not in forgotten}


def _prefixed(flag: str, prefix: str) -> str:
    own = ("network", "predict_scales", "segment_option")
    return flag if not prefix or flag in own else prefix + flag.removeprefix("train_")


DECIDES = {
    "backbone": ("backbone_option", "output_stride", "mean", "std", "weights", "from_scratch", "classifier"),
    "weights": ("from_scratch", "classifier"),
    "from_scratch": ("weights", "classifier"),
    "method": ("threshold", "refine_option"),
    "recipe": (
        "mode",
        "method",
        "network",
        "predict_scales",
        "segment_option",
        "semi_option",
        "epochs",
        "batch",
        "crop",
        "long_side",
        "lr",
        "head_lr",
        "train_precision",
        "train_scales",
    ),
    "preset": ("steps", "step_size", "suppress", "restrain", "tau", "scales", "mirror", "precision", "cam_method"),
}
"""What an option decides: these are not taken from the run where it is typed."""


def machine(args: Namespace) -> Machine:
    """What may be used of the machine."""
    given = {"workers": args.workers, "max_pixels": args.max_pixels, "accumulate": args.accumulate}
    chosen = {name: value for name, value in given.items() if value is not None}
    return Machine(args.device, tensorboard=args.tensorboard, **chosen)


def data(args: Namespace) -> DataConfig:
    """Where the data set is."""
    lists = {name: getattr(args, name) for name in ("classes", "train_list", "eval_list")}
    absolute = {name: path.resolve() for name, path in lists.items() if path}
    return DataConfig(args.images.resolve(), args.labels.resolve(), **absolute)


def classify(args: Namespace) -> ClassifyConfig:
    """The classify step's settings."""
    backbone = Backbone(
        args.backbone or "resnet50",
        _pairs(args.backbone_option, "--backbone-option"),
        args.output_stride,
        *_normalisation(args),
    )
    training = {name: value for name, value in _training(args, "").items() if value is not None}
    return ClassifyConfig(backbone, _absolute(args.weights), args.from_scratch, _absolute(args.classifier), **training)


def _pairs(entries: list[str], flag: str) -> dict[str, Any]:
    """``KEY=VALUE`` as a dict, values read as Python's where they can be."""
    options = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals:
            raise SettingsError(f"{flag} takes KEY=VALUE, got {entry!r}")
        options[key.strip()] = _literal(value)
    return options


def _normalisation(args: Namespace) -> tuple[Any, Any]:
    for name in ("mean", "std"):
        if getattr(args, name) and len(getattr(args, name)) != 3:
            raise SettingsError(f"--{name} takes three numbers, got {getattr(args, name)}")
    return args.mean, args.std


def climb(args: Namespace) -> ClimbConfig:
    """The climb step's settings."""
    names = {n: n for n in ("steps", "step_size", "suppress", "restrain", "scales", "mirror", "precision")} | {
        "threshold": "tau",
        "method": "cam_method",
    }
    given = {name: getattr(args, flag) for name, flag in names.items()}
    changes = {name: value for name, value in given.items() if value is not None}
    return ClimbConfig(args.preset or "default", changes, vars(args).get("keep_maps", True))


def picture(args: Namespace) -> PictureConfig:
    """What climb-image looks at."""
    chosen, options = climb(args), _pairs(args.backbone_option, "--backbone-option")
    return PictureConfig(
        args.model, args.weights, tuple(args.classes), args.top, args.long_side, args.layer, options,
        *_normalisation(args), chosen.preset, chosen.changes,
    )  # fmt: skip


def refine(args: Namespace) -> RefineConfig:
    """The refine step's settings."""
    changes = _pairs(args.refine_option, "--refine-option")
    if args.threshold is not None:
        changes["threshold"] = args.threshold
    return RefineConfig(args.method or _default(RefineConfig, "method"), changes, args.maps, args.margin)


def predict(args: Namespace) -> PredictConfig:
    """How a trained network is used."""
    return PredictConfig(**{field.name: getattr(args, field.name) for field in fields(PredictConfig)})


def segment(args: Namespace, prefix: str) -> SegmentConfig:
    """The segment step's settings."""
    chosen = recipes.recipe(vars(args)[f"{prefix}recipe".replace("-", "_")], "segment")
    given = {"network": args.network, "predict_scales": args.predict_scales, **_training(args, prefix)}
    return recipes.configured(SegmentConfig, chosen, _pairs(args.segment_option, "--segment-option"), given)


def semi(args: Namespace) -> SemiConfig:
    """The semi step's settings."""
    chosen = recipes.recipe(args.recipe, "semi")
    given = {name: getattr(args, name) for name in ("mode", "method", "network", "predict_scales")} | _training(args, "")
    if not args.pixel_labels:
        raise SettingsError(
            "advcam semi needs --pixel-labels LIST: the training images whose masks were made by hand, one a line"
        )
    places = {"pixel_labels": args.pixel_labels, "masks": args.masks}
    given |= {name: str(Path(path).resolve()) if path else None for name, path in places.items()}
    return recipes.configured(SemiConfig, chosen, _pairs(args.semi_option, "--semi-option"), given)


def steps(args: Namespace) -> Steps:
    """The settings of all steps."""
    return Steps(classify(args), climb(args), refine(args), segment(args, "segment-"))


def _training(args: Namespace, prefix: str) -> dict[str, Any]:
    names = ("epochs", "batch", "crop", "long_side", "lr", "head_lr")
    given = {name: vars(args)[f"{prefix}{name}".replace("-", "_")] for name in names}
    given["precision"] = vars(args)[f"{prefix or 'train-'}precision".replace("-", "_")]
    return given | {"scales": _pair(vars(args)[f"{prefix}scales".replace("-", "_") if prefix else "train_scales"])}


def _pair(values: tuple[float, ...] | None) -> tuple[float, float] | None:
    if values is None:
        return None
    if len(values) != 2:
        raise SettingsError(f"a range of scales is two numbers, e.g. 0.75,1.5; got {values}")
    return values[0], values[1]


def _absolute(reference: str | None) -> str | None:
    """A file's name that holds from any folder."""
    return reference and str(Path(reference).resolve())


def _add_climb_step(parser: ArgumentParser) -> None:
    add_climb(parser)
    add_keep(parser)


ADD = {
    "classify": add_classify,
    "climb": _add_climb_step,
    "refine": add_refine,
    "segment": lambda p: add_segment(p, ""),
    "semi": add_semi,
}
"""What gives each step's verb its options."""


def _literal(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
