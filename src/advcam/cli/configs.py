"""What was said on the command line as the configs of steps: a recipe, ``KEY=VALUE`` options, flags; the later ones win."""

from __future__ import annotations

import ast
from argparse import Namespace
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from advcam.data import images_of
from advcam.errors import SettingsError
from advcam.flow import DataConfig, Steps
from advcam.models.classifiers import Backbone
from advcam.models.own import is_code
from advcam.picture import ClimbImageConfig
from advcam.prediction import PredictConfig
from advcam.runtime import Runtime
from advcam.stages.classify import ClassifyConfig
from advcam.stages.climb import ClimbConfig
from advcam.stages.refine import RefineConfig
from advcam.stages.segment import SegmentConfig
from advcam.stages.semi import SemiConfig

from . import recipes


def runtime(args: Namespace) -> Runtime:
    """What may be used of the machine."""
    given = {name: vars(args).get(name) for name in ("workers", "max_pixels", "accumulate", "tensorboard")}
    return Runtime(args.device, **{name: value for name, value in given.items() if value is not None})


def data(args: Namespace) -> DataConfig:
    """Where the data set is."""
    lists = {name: getattr(args, name) for name in ("classes", "train_list", "eval_list")}
    places = {name: path.resolve() for name, path in lists.items() if path}
    return DataConfig(images_of(args.images, args.labels).resolve(), args.labels.resolve(), **places)


def steps(args: Namespace) -> Steps:
    """The settings of all steps."""
    return Steps(classify(args), climb(args), refine(args), segment(args, "segment-"))


def classify(args: Namespace) -> ClassifyConfig:
    """The classify step's settings."""
    chosen = _table(args, "classify") | pairs(args.classify_option, "--classify-option")
    body = _backbone(args, chosen)
    training = _training(args, "") | {"from_scratch": args.from_scratch or None}
    config = recipes.configured(ClassifyConfig, chosen, training)
    return replace(config, backbone=body, weights=absolute(args.weights), classifier=absolute(args.classifier))


def _backbone(args: Namespace, chosen: recipes.Table) -> Backbone:
    """The backbone of flags and of a table, out of which its settings are taken."""
    made: dict[str, Any] = {"backbone": "resnet50", "output_stride": 16, "dilated": True}
    for name, default in made.items():
        typed, told = vars(args).get(name), chosen.pop(name, default)
        if type(told) is not type(default):
            raise SettingsError(f"{name} is such as {default!r}; got {told!r}")
        made[name] = told if typed is None else typed
    options = pairs(args.backbone_option, "--backbone-option")
    return Backbone(made["backbone"], options, made["output_stride"], *_normalisation(args), dilated=made["dilated"])


def climb(args: Namespace) -> ClimbConfig:
    """The climb step's settings. A preset that is typed stands for itself, without what a recipe changes in its own."""
    names = {n: n for n in ("steps", "step_size", "suppress", "restrain", "tau", "scales", "mirror", "precision")}
    names |= {"method": "cam_method"}
    given = {name: getattr(args, flag) for name, flag in names.items()}
    chosen = _table(args, "climb")
    preset = chosen.pop("preset", "default")
    kept = chosen.pop("keep", True)
    keep = vars(args).get("keep_maps", True) and kept
    changes = ({} if args.preset else _tuples(chosen)) | pairs(args.climb_option, "--climb-option")
    return ClimbConfig(args.preset or preset, changes | {n: v for n, v in given.items() if v is not None}, keep)


def refine(args: Namespace) -> RefineConfig:
    """The refine step's settings. A method that is typed goes without what a recipe sets of another."""
    chosen = _table(args, "refine")
    names = ("method", "maps", "margin", "long_side")
    given = {name: chosen.pop(name) for name in names if name in chosen}
    typed = {name: vars(args).get(name) for name in names}
    changes = {} if args.method not in (None, given.get("method")) else _tuples(chosen)
    changes |= pairs(args.refine_option, "--refine-option")
    if args.threshold is not None:
        changes["threshold"] = args.threshold
    return RefineConfig(changes=changes, **(given | {name: value for name, value in typed.items() if value is not None}))


def segment(args: Namespace, prefix: str) -> SegmentConfig:
    """The segment step's settings."""
    given = {"network": args.network, "predict_scales": args.predict_scales, **_training(args, prefix)}
    options = pairs(args.segment_option, "--segment-option")
    return recipes.configured(SegmentConfig, _table(args, "segment"), options, given)


def semi(args: Namespace) -> SemiConfig:
    """The semi step's settings."""
    given = {name: getattr(args, name) for name in ("mode", "method", "network", "predict_scales")} | _training(args, "")
    if not args.pixel_labels:
        raise SettingsError(
            "advcam semi needs --pixel-labels LIST: the training images whose masks were made by hand, one a line"
        )
    places = {"pixel_labels": args.pixel_labels, "masks": args.masks}
    given |= {name: str(Path(path).resolve()) if path else None for name, path in places.items()}
    return recipes.configured(SemiConfig, _table(args, "semi"), pairs(args.semi_option, "--semi-option"), given)


def image(args: Namespace) -> ClimbImageConfig:
    """What climb-image looks at."""
    chosen, options = climb(args), pairs(args.backbone_option, "--backbone-option")
    return ClimbImageConfig(
        args.model, args.weights, tuple(args.classes), args.top, args.long_side, args.layer, options,
        *_normalisation(args), chosen.preset, chosen.changes,
    )  # fmt: skip


def predict(args: Namespace) -> PredictConfig:
    """How a trained network is used."""
    return PredictConfig(**{field.name: getattr(args, field.name) for field in fields(PredictConfig)})


def pairs(entries: list[str], flag: str) -> dict[str, Any]:
    """``KEY=VALUE`` as a dict, values read as Python's where they can be."""
    options = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals:
            raise SettingsError(f"{flag} takes KEY=VALUE, got {entry!r}")
        options[key.strip()] = _literal(value)
    return options


def absolute(reference: str | None) -> str | None:
    """A file's name that holds from any folder."""
    return reference and str(Path(reference).resolve())


def own(args: Namespace) -> str | None:
    """The code of the run's classifier, where it was typed.

    Raises:
        SettingsError: something else was typed.
    """
    typed = vars(args).get("classifier")
    if typed and not is_code(typed):
        raise SettingsError(f"--classifier {typed}: expected FILE.py:FUNCTION; weights belong to advcam classify")
    return absolute(typed)


def _table(args: Namespace, step: str) -> recipes.Table:
    """A recipe's settings of a step. That of a whole run may have none for it."""
    recipe = vars(args).get("recipe")
    return recipes.recipe(recipe, step) if "step" in args else recipes.tables(recipe).get(step, {})


def _training(args: Namespace, prefix: str) -> dict[str, Any]:
    names = ("epochs", "batch", "crop", "long_side", "lr", "head_lr")
    given = {name: vars(args)[f"{prefix}{name}".replace("-", "_")] for name in names}
    given["precision"] = vars(args)[f"{prefix or 'train-'}precision".replace("-", "_")]
    return given | {"scales": vars(args)[f"{prefix}scales".replace("-", "_") if prefix else "train_scales"]}


def _normalisation(args: Namespace) -> tuple[Any, Any]:
    for name in ("mean", "std"):
        if getattr(args, name) and len(getattr(args, name)) != 3:
            raise SettingsError(f"--{name} takes three numbers, got {getattr(args, name)}")
    return args.mean, args.std


def _tuples(table: recipes.Table) -> recipes.Table:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):  # the last two: nested by the thousand
        return text
