"""The options of a run, kept in its folder: a step's own verb starts from them, so only what changes is typed."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from advcam.errors import SettingsError

from . import recipes
from .configs import absolute, pairs
from .options import ADD

TRAINING = ("epochs", "batch", "crop", "long_side", "lr", "head_lr", "train_precision", "train_scales")

DECIDES = {
    "backbone": ("backbone_option", "output_stride", "mean", "std", "weights", "from_scratch", "classifier"),
    "weights": ("from_scratch", "classifier"),
    "from_scratch": ("weights", "classifier"),
    "method": ("threshold", "refine_option"),
    "preset": (
        "steps",
        "step_size",
        "suppress",
        "restrain",
        "tau",
        "scales",
        "mirror",
        "precision",
        "cam_method",
        "climb_option",
    ),
}
"""What an option decides: these are not taken from the run where it is typed."""

DECIDES["recipe"] = (
    "backbone", "backbone_option", "output_stride", "mean", "std", "classify_option", "preset", *DECIDES["preset"],
    "method", *DECIDES["method"], "margin", "maps", "mode", "network", "predict_scales", "segment_option", "semi_option",
    *TRAINING,
)  # fmt: skip


def given(args: Namespace, step: str) -> dict[str, Any]:
    """The options of a step as plain data, under the names that the step's own verb has for them."""
    prefix = "segment_" if step == "segment" and "segment_epochs" in args else ""
    found = {flag: getattr(args, _prefixed(flag, prefix)) for flag in _options(step)}
    if "step" not in args:
        found["recipe"] = args.recipe if step in recipes.tables(args.recipe) else None
    return {flag: _remembered_as(flag, value) for flag, value in found.items()}


def check(step: str, options: dict[str, Any]) -> None:
    """Sees that a run's options for a step are such as its verb takes.

    Raises:
        SettingsError: one that the verb does not have, or a value of another kind.
    """
    known = _options(step)
    for name, value in options.items():
        if name not in known:
            raise SettingsError(f"options of {step}: {name!r} is none")
        if value is not None and not _fits(known[name], value):
            raise SettingsError(f"options of {step}: {name} cannot be {value!r:.60}")


def _options(step: str) -> dict[str, Action]:
    """What a step's own verb can be told, by name."""
    parser = ArgumentParser()
    ADD[step](parser)
    return {action.dest: action for action in parser._actions if action.dest != "help"}


def _fits(action: Action, value: Any) -> bool:
    """Whether a value is of the kind that an option has once it is parsed."""
    if isinstance(action.default, list):
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if action.nargs == 0:
        return isinstance(value, bool)
    if action.choices:
        return value in action.choices
    if action.type in (int, float):
        return type(value) is int or type(value) is action.type
    if action.type in (None, Path):
        return isinstance(value, str)
    return isinstance(value, list) and all(type(entry) in (int, float) for entry in value)


def remembered(args: Namespace, options: dict[str, Any]) -> dict[str, Any]:
    """A run's options for a step, as far as those typed now leave them: what a typed one excludes or decides is forgotten."""
    forgotten = {name for typed, names in DECIDES.items() if vars(args).get(typed) for name in names}
    for typed in ("classify_option", "refine_option", "segment_option", "semi_option"):
        keys = pairs(vars(args).get(typed) or [], f"--{typed.replace('_', '-')}")
        forgotten |= {{"scales": "train_scales", "precision": "train_precision"}.get(key, key) for key in keys}
    climb = pairs(vars(args).get("climb_option") or [], "--climb-option")
    forgotten |= {{"method": "cam_method"}.get(key, key) for key in climb}
    return {name: value for name, value in options.items() if name not in forgotten}


def _remembered_as(flag: str, value: Any) -> Any:
    """Plain data that holds from any folder."""
    if isinstance(value, list):
        return list({str(entry).partition("=")[0]: entry for entry in value}.values())  # the last of each key
    if isinstance(value, Path):
        return str(value.resolve())
    return absolute(value) if flag in ("weights", "classifier") or str(value).endswith(".toml") else value


def _prefixed(flag: str, prefix: str) -> str:
    own = ("network", "predict_scales", "segment_option", "recipe")
    return flag if not prefix or flag in own else prefix + flag.removeprefix("train_")
