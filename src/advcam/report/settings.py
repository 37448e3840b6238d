"""The settings of a run's steps beside their defaults, and the commands that make the run again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advcam.data import Dataset, ReadingConfig
from advcam.errors import SettingsError
from advcam.options import Config, literal, plain
from advcam.stages.moved import folder_of
from advcam.stages.table import STEPS
from advcam.store import RESTORE, RunFolder, read_json
from advcam.store.records import DataRecord

from .home import command

LISTS = {"classes": "classes", "train_list": "train-list", "eval_list": "eval-list"}
"""Files of a data set that may be given, and their flags."""


@dataclass(frozen=True)
class Setting:
    """A setting of a step.

    Args:
        name: of the setting.
        value: as it is typed.
        default: as it is typed.
        differs: whether the value is not the default.
        help: what it is.
    """

    name: str
    value: str
    default: str
    differs: bool
    help: str


def settings_of(run: RunFolder, step: str) -> list[Setting]:
    """Returns a step's settings, those first that differ from the default."""
    asked, made, base = run.asked(step), run.config(step), _defaults(run, step)
    options = STEPS[step].config.options()
    found = []
    for name, value in asked.items():
        shown = _shown(value) + (f" ({made[name]})" if made.get(name) != value else "")
        known = name in base
        about = options[name].help if name in options else ""
        found.append(Setting(name, shown, _shown(base[name]) if known else "", not known or base[name] != value, about))
    return sorted(found, key=lambda setting: not setting.differs)


def again(run: RunFolder, dataset: Dataset) -> tuple[list[str], list[str]]:
    """Returns the commands that make the run again in a folder beside it, and the files whose paths the run did not keep.

    Args:
        run: the run folder.
        dataset: its data set, which says where the images are now.
    """
    root = run.root.resolve()
    out = root.with_name(f"{root.name}-again")
    data, unknown = _data(run, dataset)
    begun = [step for step in run.order if run.begun(step)]
    whole = [step for step, about in STEPS.items() if not about.optional]
    commands = []
    if {*whole} <= {*begun}:
        commands.append(["advcam", "run", *data, "--out", str(out), *(word for step in whole for word in _pairs(run, step))])
        begun = [step for step in begun if step not in whole]
    for step in begun:
        commands.append(["advcam", step, "--run", str(out), *(data if STEPS[step].needs is None else ()), *_pairs(run, step)])
    return [command(words) for words in commands], unknown


def _data(run: RunFolder, dataset: Dataset) -> tuple[list[str], list[str]]:
    """The options that name the data set and the seed, and the files that are not known."""
    about, kept = run.state()["about"], read_json(run.root / "data.json", DataRecord, RESTORE)
    files = kept.get("files", {})
    words = ["--images", _images(about["images"], str(folder_of(dataset))), "--labels", kept.get("labels_file") or "LABELS"]
    unknown = [] if kept.get("labels_file") else ["LABELS"]
    for name, flag in LISTS.items():
        if about.get(name) is not None:
            words += [f"--{flag}", files.get(name) or name.upper()]
            unknown += [] if name in files else [name.upper()]
    return [*words, *_reading(about.get("reading") or {}), "--seed", str(about["seed"])], unknown


def _images(first: str, now: str) -> str:
    """Where the images are: the place that the run began with, unless they have moved to another folder."""
    of_pattern = "{" in first and now == os.path.dirname(first)  # archives, whose names are in those of the images
    return first if f"{now}/".startswith(f"{first}/") or of_pattern else now


def _reading(kept: Mapping[str, Any]) -> list[str]:
    """The options that say how images are read, where that is not as usual."""
    usual = ReadingConfig()
    words = ["--one-channel"] if kept.get("one_channel") else []
    for name, given in (("range", kept.get("window")), ("bands", kept.get("bands")), ("page", kept.get("page"))):
        text = ",".join(map(str, given)) if isinstance(given, (list, tuple)) else given
        if given is not None and text != getattr(usual, name):
            words += [f"--{name}", str(text)]
    return words


def _pairs(run: RunFolder, step: str) -> list[str]:
    """A step's settings that are not the default, as words."""
    asked, base = run.asked(step), _defaults(run, step)
    differ = {name: value for name, value in asked.items() if name not in base or base[name] != value}
    return [word for name, value in differ.items() for word in (f"--{step}-option", f"{name}={_typed(value)}")]


def _defaults(run: RunFolder, step: str) -> dict[str, Any]:
    """The defaults of a step's settings, as ``run.json`` has them: those of a preset or a method are as it has them."""
    kind, asked = STEPS[step].config, run.asked(step)
    switches = [name for name, about in kind.options().items() if about.choices and about.replaces and name in asked]
    try:
        usual, base = _record(kind, {}), _record(kind, {name: asked[name] for name in switches})
    except SettingsError:
        return {}
    return base | {name: usual[name] for name in switches}


def _record(kind: type[Config], changed: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(kind.from_record(dict(changed)).record(), default=str))
    return made


def _typed(value: Any) -> str:
    """A value as ``KEY=VALUE`` takes it."""
    if isinstance(value, str):
        return value if value and literal(value) == value else repr(value)
    return repr(tuple(value) if isinstance(value, list) else value)


def _shown(value: Any) -> str:
    return "none" if value in (None, {}, [], "") else plain(value)
