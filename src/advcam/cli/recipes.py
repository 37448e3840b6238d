"""Settings of a step from a recipe, from ``KEY=VALUE`` options and from flags, the later ones winning."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from advcam.data.labels import read_text
from advcam.errors import SettingsError, known

Config = TypeVar("Config")
STEPS = ("segment", "semi")
"""The steps that a recipe may hold settings of."""


def names() -> list[str]:
    """The recipes that come with advcam."""
    return sorted(Path(entry.name).stem for entry in files("advcam.recipes").iterdir() if entry.name.endswith(".toml"))


def recipe(reference: str | None, step: str) -> dict[str, Any]:
    """A step's settings in a recipe: one that comes with advcam, or a TOML file with a table ``[segment]`` or ``[semi]``.

    Raises:
        SettingsError: no such recipe, not TOML, a table that is no step, or none for this step.
    """
    if reference is None:
        return {}
    if reference.endswith(".toml"):
        path = Path(reference)
        if not path.is_file():
            raise SettingsError(f"--recipe {reference}: there is no such file")
        text = read_text(path, "recipe")
    elif reference in names():
        text = (files("advcam.recipes") / f"{reference}.toml").read_text(encoding="utf-8")
    else:
        raise SettingsError(f"no recipe is called {reference!r}, and it is no .toml file; {known(reference, names())}")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"--recipe {reference}: not TOML: {error}") from None
    held = {name: table for name, table in tables.items() if name != "about"}
    for name, table in held.items():
        if name not in STEPS or not isinstance(table, dict):
            raise SettingsError(f"--recipe {reference}: has {name!r}, which is no table of a step; {known(name, STEPS)}")
    if step not in held:
        raise SettingsError(f"--recipe {reference}: has settings for {', '.join(held) or 'no step'}, none for {step}")
    return dict(held[step])


def configured(config: type[Config], *layers: dict[str, Any]) -> Config:
    """A config with the settings of each layer, the later ones winning; None leaves a setting as it was.

    Raises:
        SettingsError: a name that the config does not have, or a value of another kind.
    """
    chosen: dict[str, Any] = {}
    defaults = asdict(config())  # type: ignore[call-overload]
    for layer in layers:
        for name, value in layer.items():
            if name not in defaults:
                raise SettingsError(f"there is no setting {name!r}; {known(name, [f.name for f in fields(config)])}")  # type: ignore[arg-type]
            if value is not None:
                chosen[name] = _of_kind(name, value, defaults[name])
    return config(**chosen)


def _of_kind(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, (tuple, list)):
        numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)  # "1" is a list of one number
        pair = name == "scales"
        if not all(type(number) in (int, float) for number in numbers) or (pair and len(numbers) != 2):
            raise SettingsError(
                f"{name} is {'two ' if pair else ''}numbers such as {','.join(map(str, default))}; got {value!r}"
            )
        return numbers
    kind = int if default is None else type(default)  # what may be left open is a number
    if type(value) not in ((int, float) if kind is float else (kind,)):
        what = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}[kind]
        raise SettingsError(f"{name} is {what}{'' if default is None else f' such as {default}'}; got {value!r}")
    return value
