"""Options: every one walks through all five layers, and is on the command line, in the recipes and on record by one name."""

import contextlib
import json
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch

from advcam.cli import main
from advcam.cli.options import placed, typed
from advcam.cli.parser import parser
from advcam.commands import COMMANDS
from advcam.errors import SettingsError
from advcam.options import Config, key_values, option, overlay
from advcam.pipeline import DataConfig
from advcam.runtime import Runtime
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.refine import METHODS
from advcam.stages.table import STEPS
from advcam.studies import StudyConfig

OTHER = {
    "output_stride": (8, 32),
    "network": ("unet", "fpn"),
    "encoder": ("resnet18", "resnet34"),
    "features": ("resnet18", "resnet34"),
    "features_weights": ("/a.pt", "/b.pt"),
    "start": {"segment": ("backbone", "classifier"), "semi": ("classifier", "segment")},
    "loss": ("bootstrapped", "symmetric"),
    "backbone": ("resnet18", "resnet34"),
    "backbone_option": ({"drop_rate": 0.1}, {"drop_rate": 0.2}),
    "mean": ((0.1, 0.2, 0.3), (0.2, 0.3, 0.4)),
    "std": ((0.1, 0.2, 0.3), (0.2, 0.3, 0.4)),
    "long_sides": ((64, 96), (64, 128)),
    "frozen": {"classify": (("conv1",), ("bn1",)), "refine": (False, True)},
    "scales": ((0.5, 2.0), (0.25, 1.0)),
    "predict_scales": ((0.5, 1.0), (1.0, 2.0)),
    "bounds": ((0.0, 1.0), (-1.0, 1.0)),
    "gaussian": ((2.0, 2.0), (4.0, 2.0)),
    "bilateral": ((20.0, 5.0, 4.0), (30.0, 5.0, 4.0)),
    "weights": {"classify": ("/a.pt", "/b.pt"), "climb": ("gradient", "head")},
    "classifier": ("/a.pt", "/b.pt"),
    "method": {"climb": ("layercam", "gradcam"), "refine": ("crf", "threshold"), "semi": ("cct", "unimatch")},
    "maps": ("plain", "advcam"),
    "preset": ("paper", "fast"),
    "masks": ("/a", "/b"),
    "mask_colours": ("/a.csv", "/b.csv"),
    "pixel_labels": ("/a.txt", "/b.txt"),
    "encoder_weights": ("/a.pt", "/b.pt"),
    "mode": ("labelled", "unlabelled"),
    "optimizer": ("sgd", "adamw"),
    "precision": ("float32", "bfloat16"),
    "schedule": ("poly", "cosine"),
    "batch_norm": ("trained", "frozen"),
    "predict_merge": ("max", "mean"),
    "ceiling": (0.5, 0.75),
    "background": {"refine": (0.1, 0.05)},
    "foreground": {"refine": (0.5, 0.6)},
    "long_side": (320, 960),
    "crop": (160, 224),
    "strong": (2, 1),
    "certainty": (0.6, 0.8),
    "window": (512, 1024),
}
"""Two values of each option whose kind alone does not give them."""


def two_values(step, about):
    if about.name in OTHER:
        found = OTHER[about.name]
        return found[step] if isinstance(found, dict) and step in found else found
    if about.choices:
        return [c for c in about.choices if c != about.default][:2] * 2
    if "bool" in str(about.kind):
        return not about.default, bool(about.default)
    return (3, 4) if "int" in str(about.kind) else (0.25, 0.75)


def beside(step, about):
    """What must stand beside an option for it to mean anything."""
    if step == "refine" and about.name not in ("method", "maps", "margin", "long_side", "corrected"):
        return {"method": next(name for name in reversed(METHODS) if about.name in METHODS[name].options())}
    if step == "climb" and about.name == "weights":
        return {"method": "cam"}
    return {}


CASES = [(step, name) for step in STEPS for name in STEPS[step].config.options()]


@pytest.mark.parametrize(("step", "name"), CASES, ids=[f"{step}-{name}" for step, name in CASES])
def test_every_option_through_all_five_layers(step, name):
    """Default < recipe < recorded < KEY=VALUE < flags: each layer wins over those below, and alone it is taken."""
    config = STEPS[step].config
    about = config.options()[name]
    one, other = two_values(step, about)[:2]
    more = beside(step, about)
    layers = ("recipe", "recorded", "pairs", "flags")

    def value(made):
        return made.record()[name]

    def as_kept(wanted):
        return value(config.from_record(more | {name: wanted}))

    default = value(overlay(config, recipe=more))
    assert about.default in (MISSING, None) or default == about.default
    for at, layer in enumerate(layers):
        assert value(overlay(config, **{layer: more | {name: one}})) == as_kept(one)
        for lower in layers[:at]:
            given = {lower: more | {name: other}, layer: {name: one}}
            if "dict" in str(about.kind):
                assert value(overlay(config, **given)) == other | one
            else:
                assert value(overlay(config, **given)) == as_kept(one), f"{layer} over {lower}"
    made = overlay(config, flags=more | {name: one})
    assert config.from_record(json.loads(json.dumps(made.record()))).record() == made.record(), "a record makes it again"
    assert overlay(config, recorded=json.loads(json.dumps(made.record()))).record() == made.record()


def as_text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


FLAGGED = [(step, name) for step, name in CASES if STEPS[step].config.options()[name].flag]


@pytest.mark.parametrize(("step", "name"), FLAGGED, ids=[f"{step}-{name}" for step, name in FLAGGED])
def test_every_flag_is_typed_as_its_option_says(step, name):
    """On the step's own verb, and on `advcam run`, under its own flag or with the step's name in front."""
    about = STEPS[step].config.options()[name]
    one = two_values(step, about)[0]
    for verb in ("run", step):
        if STEPS[step].optional and verb == "run":
            continue
        start = ["run", "--labels", "l.csv", "--out", "o"] if verb == "run" else [step, "--run", "o"]
        found = []
        for flag in (f"--{about.flag}", f"--{step}-{name.replace('_', '-')}"):
            if "bool" in str(about.kind):
                words = [flag if one else f"--no-{flag[2:]}"]
            elif isinstance(one, dict):
                words = [flag, "drop_rate=0.1"]
            else:
                words = [f"{flag}={as_text(one)}"]
            with contextlib.suppress(SystemExit):
                found.append(typed(parser(False).parse_args([*start, *words]), step, STEPS[step].config.options())[1])
        assert {name: one} in found


@dataclass(frozen=True, kw_only=True)
class Shot(Config):
    preset: str = option("slow", "how", choices=("slow", "quick"), replaces=("epochs",))
    epochs: int = option(3, "passes", least=1, most=9)
    frozen: tuple[str, ...] = option((), "names")
    where: dict[str, Any] = option({}, "options")


def test_what_a_choice_replaces_is_forgotten_and_said():
    said = []
    made = overlay(Shot, recorded={"epochs": 5}, flags={"preset": "quick"}, forgets=lambda *args: said.append(args))
    assert made.epochs == 3
    assert said == [("preset", ["epochs"])]
    assert overlay(Shot, recorded={"epochs": 5}, pairs={"epochs": 7}, flags={"preset": "quick"}).epochs == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 1}, "there is no setting 'epoch'; did you mean epochs"),
        ({"epochs": "x"}, "epochs is a whole number such as 3; got 'x'"),
        ({"epochs": True}, "epochs is a whole number such as 3; got True"),
        ({"epochs": 0}, "epochs must be from 1 to 9; got 0"),
        ({"epochs": 1e400}, "epochs is a whole number"),
        ({"preset": "fast"}, "preset is one of slow, quick; got 'fast'"),
        ({"frozen": [1]}, r"frozen is words; got \[1\]"),
    ],
)
def test_values_that_an_option_does_not_take(given, message):
    with pytest.raises(SettingsError, match=message):
        overlay(Shot, flags=given)


def test_one_of_several_and_options_of_options():
    made = overlay(
        Shot, recorded={"where": {"a": 1, "b": 2}}, pairs=key_values(["frozen=conv1"], "--option"), flags={"where": {"b": 3}}
    )
    assert (made.frozen, made.where) == (("conv1",), {"a": 1, "b": 3})


def test_help_fits_on_a_screen_and_a_half_and_help_all_has_the_rest(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            main(["run", flag])
        shown[flag] = capsys.readouterr().out
    assert shown["--help"].count("\n") <= 60
    for step in ("classify", "climb", "refine", "segment"):
        assert f"\n{step}:" in shown["--help"]
        for about in STEPS[step].config.options().values():
            assert about.name in shown["--help-all"] or f"--{about.flag}" in shown["--help-all"]
    assert "--weight-decay" not in shown["--help"]


def test_no_two_options_of_a_config_share_a_flag():
    for step in STEPS.values():
        flags = [about.flag for about in step.config.options().values() if about.flag]
        assert len(flags) == len(set(flags))


@dataclass(frozen=True, kw_only=True)
class Placed(Config):
    weights: str | None = option(None, "a file", file=True)
    beside: str = option("", "another", file=True)
    masks: tuple[Path, ...] = option((), "folders")
    size: tuple[int, int] | None = option(None, "height and width")


def test_a_file_called_like_a_number_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = key_values(["weights=1.5", "beside=[1]"], "--option", Placed.options())
    made = overlay(Placed, pairs=placed(pairs, Placed.options()))
    assert (made.weights, made.beside) == (str(tmp_path / "1.5"), str(tmp_path / "[1]"))
    assert key_values(["weights=None", "beside=''"], "--option", Placed.options()) == {"weights": None, "beside": ""}


def test_files_hold_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = placed({"weights": "w.pt", "beside": "", "masks": 3}, Placed.options())
    assert made == {"weights": str(tmp_path / "w.pt"), "beside": "", "masks": 3}
    semi = STEPS["semi"].config.options()
    assert placed({"start": "segment"}, semi) == {"start": "segment"}
    assert placed({"start": "net.safetensors"}, semi) == {"start": str(tmp_path / "net.safetensors")}
    (tmp_path / "loop").symlink_to("loop")
    for wrong in ("loop", "a\0b"):
        with pytest.raises(SettingsError, match=r"weights: .* is no path that can be followed"):
            placed({"weights": wrong}, Placed.options())


@pytest.mark.parametrize("given", [{"weights": ""}, {"masks": ("a", "")}, {"masks": ""}])
def test_an_empty_name_is_no_name(given):
    with pytest.raises(SettingsError, match=f"{next(iter(given))} is (a word|paths)"):
        overlay(Placed, flags=given)


def test_words_with_commas_between_them(tmp_path):
    assert overlay(Shot, pairs=key_values(["frozen=conv1,bn1"], "--option", Shot.options())).frozen == ("conv1", "bn1")
    assert overlay(Shot, pairs=key_values(["frozen=()"], "--option", Shot.options())).frozen == ()
    assert Placed.options()["masks"].read("a,b,") == (Path("a"), Path("b"))
    assert Placed.options()["size"].read("480X640") == (480, 640)


CONFIGS = {
    **{name: step.config for name, step in STEPS.items()},
    **METHODS,
    **{name: command.config for name, command in COMMANDS.items()},
    "data set": DataConfig,
    "evaluate": EvaluateConfig,
    "study": StudyConfig,
    "runtime": Runtime,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_record_of_every_config_makes_it_again(name):
    """Through JSON too; what must be given is a path or a word."""
    config = CONFIGS[name]
    made = config(**{name: "somewhere" for name, about in config.options().items() if about.default is MISSING})
    assert config.from_record(made.record()) == made or config.from_record(made.record()).record() == made.record()
    assert config.from_record(json.loads(json.dumps(made.record()))).record() == made.record()
    for strange in (None, [1], "x"):
        with pytest.raises(SettingsError, match="settings are names with values"):
            config.from_record(strange)


@pytest.mark.parametrize("name", STEPS)
def test_the_same_numbers_written_otherwise_are_the_same_config(name):
    """1 is 1.0 and a list a tuple, in Python as on the command line: a step is not taken again for that."""
    config = STEPS[name].config
    for about in config.options().values():
        if about.default is MISSING or about.choices or "float" not in str(about.kind):
            continue
        number = 1 if about.below is None else 0
        written, exact = ([number] * 3, (float(number),) * 3) if about.several else (number, float(number))
        more = beside(name, about)
        own = {f.name for f in fields(config)}
        with contextlib.suppress(SettingsError):  # two numbers, or ascending ones
            one, other = (
                config(**{about.name: value}) if about.name in own else config(changes={about.name: value}, **more)
                for value in (written, exact)
            )
            assert json.dumps(one.identity()) == json.dumps(other.identity())


@pytest.mark.parametrize("strange", [torch.tensor(1.0), torch.rand(2, 2), object(), {1: 2}, range(3), b"x", float("nan")])
@pytest.mark.parametrize("name", STEPS)
def test_what_no_setting_takes_is_refused_as_our_error(name, strange):
    config = STEPS[name].config
    for option_name in config.options():
        own = option_name in {f.name for f in fields(config)}
        with pytest.raises(SettingsError):
            config(**({option_name: strange} if own else {"changes": {option_name: strange}}))
        with pytest.raises(SettingsError):
            config.from_record({option_name: strange})
