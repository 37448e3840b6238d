"""The parser of each verb, made from the configs' options."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import shtab

from advcam import __version__
from advcam.commands import COMMANDS, GROUPS, Outcome
from advcam.data import place
from advcam.pipeline import DataConfig
from advcam.report import ReportConfig
from advcam.runtime import Runtime
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.table import CLIMBING, SHARED, STEPS, TRAINING
from advcam.studies import STUDIES, StudyConfig

from . import calls, recipes
from .options import LIMITS, Verb


class Parser(ArgumentParser):
    """As argparse's, but options are typed whole, and an unknown one is named first, with those like it, before any missing.

    Abbreviated, `--out` was `--output-stride` where there is no `--out`, and a new option could change what is typed today.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"allow_abbrev": False})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """Parses what is known of the words; of a verb's, an unknown option is an error."""
        flags = [] if self._subparsers else [flag for flag in self._option_string_actions if flag.startswith("--")]
        for word in args or () if flags else ():
            given = word.split("=")[0]
            if given == "--":
                break
            if given.startswith("--") and given not in flags:
                close = _alike(given, flags)
                self.error(
                    f"there is no option {given}; " + (f"did you mean {' or '.join(close)}?" if close else "see --help-all")
                )
        return super().parse_known_args(args, namespace)


def _alike(given: str, flags: Sequence[str]) -> list[str]:
    """Returns at most three options that may have been meant: the folder's other name, what begins so, what is spelt alike."""
    other = {"--out": "--run", "--run": "--out"}.get(given, "")
    begun = [flag for flag in flags if flag.startswith(given)]
    found = [flag for flag in (other, *begun, *get_close_matches(given, flags, 3, 0.6)) if flag in flags]
    return [*dict.fromkeys(found)][:3]


def parser(everything: bool) -> ArgumentParser:
    """Returns the parser; with ``everything``, ``--help`` shows every option instead of the common ones."""
    whole = Parser("advcam", description="Image-level labels in, pixel masks out, by anti-adversarial climbing.")
    whole.add_argument("--version", action="version", version=f"advcam {__version__}")
    verbs = Verbs(whole, everything)
    _command(verbs, "demo")
    _run(verbs)
    _steps(verbs)
    _of_a_run(verbs)
    for name in COMMANDS:
        if name != "demo":
            _command(verbs, name)
    _completion(verbs, whole)
    return whole


class Verbs:
    """The verbs of the command line; ``data check`` is a verb below ``data``."""

    def __init__(self, whole: ArgumentParser, everything: bool) -> None:
        self.everything = everything
        self.groups: dict[str, Any] = {"": whole.add_subparsers(title="commands", required=True, metavar="VERB")}

    def add(
        self, name: str, call: Callable[[Namespace], Outcome], about: str, example: str, limits: tuple[str, ...] = ()
    ) -> Verb:
        """Adds a verb with the options that every command has, and those of the runtime's limits that it needs."""
        group, _, last = name.rpartition(" ")
        if group not in self.groups:
            above = self.groups[""].add_parser(group, help=GROUPS[group], description=GROUPS[group])
            self.groups[group] = above.add_subparsers(title="commands", required=True, metavar="VERB")
        made: ArgumentParser = self.groups[group].add_parser(
            last, help=about.splitlines()[0], description=about, epilog=f"example:\n  advcam {name} {example}", add_help=False,
            usage=f"advcam {name} [options]", formatter_class=RawDescriptionHelpFormatter,
        )  # fmt: skip
        made.set_defaults(call=call, verb=name)
        verb = Verb(made, self.everything)
        made.add_argument("--seed", type=int, help="random seed; of an existing run, the run's own (default: 0)")
        made.add_argument("--quiet", action="store_true", help="no progress, only the last line and errors")
        made.add_argument("--debug", action="store_true", help="show the traceback of an error")
        verb.add(LIMITS, {n: about for n, about in Runtime.options().items() if n == "device" or n in limits})
        return verb


def _command(verbs: Verbs, name: str) -> None:
    made = COMMANDS[name]
    pairs = "--climb-option" if "preset" in made.config.options() else ""
    verbs.add(name, calls.command, made.about, made.example, made.limits).add(name, made.config.options(), pairs)


def _run(verbs: Verbs) -> None:
    verb = verbs.add(
        "run", calls.run, "Classify, climb, refine, segment, report; resumes where it stopped.",
        "--images photos --labels labels.csv --out runs/first", TRAINING + CLIMBING + SHARED,
    )  # fmt: skip
    verb.parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run folder, new or to resume")
    _add_recipe(verb)
    verb.add("data", DataConfig.options())
    for name, step in STEPS.items():
        if not step.optional:
            verb.add(name, step.config.options(), f"--{name}-option")


def _steps(verbs: Verbs) -> None:
    for name, step in STEPS.items():
        verb = verbs.add(name, calls.step, step.about, step.example, step.limits)
        starts = step.needs is None
        _add_run(verb, moved=not starts, own=set(CLIMBING) <= set(step.limits))
        verb.parser.add_argument("--redo", action="store_true", help="first delete this step and every step that depends on it")
        _add_recipe(verb)
        if starts:
            verb.add("data", DataConfig.options(), optional=DataConfig.options())
        verb.add(name, step.config.options(), f"--{name}-option")


def _of_a_run(verbs: Verbs) -> None:
    """Adds the verbs of a run that are not steps."""
    report = verbs.add("report", calls.report, "Write the page of a run.", "--run runs/first", CLIMBING)
    _add_run(report, moved=True, own=True)
    report.add("report", ReportConfig.options())
    about, example = "Score seeds, masks and predictions against ground truth.", "--run runs/first --masks truth"
    judge = verbs.add("evaluate", calls.evaluate, about, example)
    _add_run(judge, moved=True, own=True)
    judge.add("evaluate", EvaluateConfig.options())
    about = "Run one of the paper's studies: table, figure, paragraph; resumes where it stopped."
    each = "\n".join(f"  {name}: {(study.__doc__ or '').splitlines()[0]}" for name, study in STUDIES.items())
    study = verbs.add("study", calls.study, f"{about}\n{each}", f"iterations {example}", CLIMBING)
    study.parser.add_argument("name", choices=list(STUDIES), metavar="NAME", help=f"one of {', '.join(STUDIES)}")
    _add_run(study, moved=True, own=True)
    study.add("study", StudyConfig.options(), "--climb-option")


def _completion(verbs: Verbs, whole: ArgumentParser) -> None:
    about = "Print a script that completes commands and options in a shell."
    verb = verbs.add("completion", calls.completion, about, "bash > ~/.local/share/bash-completion/completions/advcam")
    verb.parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help=", ".join(shtab.SUPPORTED_SHELLS))
    verb.parser.set_defaults(whole=whole)


def _add_recipe(verb: Verb) -> None:
    verb.parser.add_argument(
        "--recipe", metavar="NAME|FILE",
        help=f"settings by name ({', '.join(recipes.names())}), or a TOML file; other options change them",
    )  # fmt: skip


def _add_run(verb: Verb, moved: bool, own: bool) -> None:
    verb.parser.add_argument(
        "--run", type=Path, required=True, metavar="RUN", help="the run folder; options not typed are as recorded there"
    )
    if moved:
        verb.parser.add_argument(
            "--images", type=place, metavar="DIR", help="where the run's images are now, if they have moved"
        )
    if own:
        verb.parser.add_argument(
            "--classifier", metavar="FILE.py:FUNCTION",
            help="the run's classifier, if it is code; to be typed once, until the file changes"
            if verb.everything else SUPPRESS,
        )  # fmt: skip
