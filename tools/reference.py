"""Writes docs/options.md, every option of every command, from the configs themselves; ``--check`` sees that it is current."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, replace
from pathlib import Path

from advcam.commands import COMMANDS
from advcam.limits import MAX_VALUE
from advcam.options import Config, Option, plain
from advcam.pipeline import DataConfig
from advcam.runtime import Runtime
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.maps import PresetConfig
from advcam.stages.refine.settings import METHODS
from advcam.stages.table import STEPS
from advcam.studies import StudyConfig

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
HEAD = """# Options

Written by `make reference` from the configs themselves; `make check` sees that it is current. An option without a flag is
typed as `--STEP-option NAME=VALUE`, and any stands in a recipe's table of its step. Of a step the later of these win: defaults,
a recipe, what the run was given before, `NAME=VALUE`, flags. On `advcam run` a flag that an earlier step has too is typed with
the step's name in front (`--segment-epochs`).
"""


def main() -> int:
    """Writes the page, or compares it."""
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE}: is not what the options are now; `make reference` writes it anew")
    return 1


def page() -> str:
    """The whole page."""
    parts = [HEAD, section("The data set (run, classify, data check)", DataConfig.options())]
    for name, step in STEPS.items():
        shared = step.config.options()
        if name != "refine":
            parts.append(section(name, shared))
            continue
        own = {n: about for n, about in shared.items() if not any(n in method.options() for method in METHODS.values())}
        parts.append(section(name, own))
        parts += [section(f"refine --method {method}", of_method(made)) for method, made in METHODS.items()]
    parts += [section("evaluate", EvaluateConfig.options()), section("study (and all of climb)", own_of(StudyConfig))]
    parts += [section(name, own_of(command.config)) for name, command in COMMANDS.items()]
    parts.append(section("Device and limits, on the commands that have something to limit", Runtime.options()))
    return "\n".join(parts)


def of_method(config: type[Config]) -> dict[str, Option]:
    """The options of a refinement, of which the threshold alone has a flag."""
    return {name: about if name == "threshold" else replace(about, flag=None) for name, about in config.options().items()}


def own_of(config: type[Config]) -> dict[str, Option]:
    """The options of a config, without those of a climb where it has them all."""
    climb = PresetConfig.options() if issubclass(config, PresetConfig) else {}
    return {name: about for name, about in config.options().items() if name not in climb}


def section(title: str, options: Mapping[str, Option]) -> str:
    """A table of some options."""
    rows = [f"| {' | '.join(cells(about))} |" for about in options.values()]
    return "\n".join([f"## {title}\n", "| option | flag | default | values | what |", "|---|---|---|---|---|", *rows, ""])


def cells(about: Option) -> list[str]:
    """A row of a table."""
    flag = about.name.upper() if about.positional else f"--{about.flag}" if about.flag else ""
    default = "must be given" if about.default is MISSING else plain(about.default)
    values = ", ".join(f"`{choice}`" for choice in about.choices if choice is not None) or f"{about.words()}{limits(about)}"
    text = f"{about.symbol}: {about.help}" if about.symbol else about.help
    return [f"`{about.name}`", flag and f"`{flag}`", default and f"`{default}`", values, text.replace("|", "\\|")]


def limits(about: Option) -> str:
    """Its range and an example."""
    ranged = about.least is not None or about.above is not None or about.below is not None or about.most < MAX_VALUE
    return (f", {about.range()}" if ranged else "") + (f", e.g. `{about.example}`" if about.example else "")


if __name__ == "__main__":
    sys.exit(main())
