"""Recipes: named settings of the steps."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from advcam.data.text import read_text
from advcam.errors import SettingsError, known
from advcam.stages.table import STEPS

Table = dict[str, Any]


def names() -> list[str]:
    """Returns the names of the recipes that come with advcam."""
    return sorted(Path(entry.name).stem for entry in files("advcam.recipes").iterdir() if entry.name.endswith(".toml"))


def tables(reference: str | None) -> dict[str, Table]:
    """Returns each step's settings in a recipe: one of advcam's, or a TOML file with tables such as ``[segment]``.

    ``segment = "deeplab-v2"`` takes that recipe's table; ``like = "deeplab-v2"`` in a table takes the settings it leaves out.

    Raises:
        SettingsError: no such recipe, invalid TOML, or a table that is not a step's.
    """
    if reference is None:
        return {}
    held = {name: table for name, table in _read(reference).items() if name != "about"}
    return {step: _table(reference, step, table) for step, table in held.items()}


def recipe(reference: str | None, step: str) -> Table:
    """Returns a step's settings in a recipe.

    Raises:
        SettingsError: as in :func:`tables`, or the recipe has no settings for this step.
    """
    held = tables(reference)
    if reference is not None and step not in held:
        raise SettingsError(f"--recipe {reference}: has settings for {', '.join(held) or 'no step'}, none for {step}")
    return held.get(step, {})


def _read(reference: str) -> dict[str, Any]:
    if reference.endswith(".toml"):
        path = Path(reference)
        if not path.is_file():
            raise SettingsError(f"--recipe {reference}: there is no such file")
        text = read_text(path, "recipe")
    elif reference in names():
        text = (files("advcam.recipes") / f"{reference}.toml").read_text(encoding="utf-8")
    else:
        raise SettingsError(f"no recipe is called {reference!r}, and it is not a .toml file; {known(reference, names())}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"--recipe {reference}: not TOML: {error}") from None
    except (ValueError, RecursionError):  # more digits or deeper nesting than Python parses
        raise SettingsError(
            f"--recipe {reference}: not TOML that can be read: a number is too long, or it is nested too deeply"
        ) from None


def _table(reference: str, step: str, table: Any) -> Table:
    if step not in STEPS or not isinstance(table, (dict, str)):
        raise SettingsError(f"--recipe {reference}: has {step!r}, which is not a table of a step; {known(step, STEPS)}")
    own = {"like": table} if isinstance(table, str) else table
    if "like" not in own:
        return dict(own)
    if not isinstance(own["like"], str):
        raise SettingsError(f"--recipe {reference}: [{step}] is like {own['like']!r:.60}: expected the name of a recipe")
    other = _read(own["like"]).get(step)
    if not isinstance(other, dict) or "like" in other:
        raise SettingsError(f"--recipe {reference}: [{step}] is like {own['like']!r}, which has no table [{step}] of its own")
    return other | {name: value for name, value in own.items() if name != "like"}
