"""The verbs: the parser of each, made of the configs' own options, and the one call below that each stands for."""

from __future__ import annotations

import contextlib
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from advcam import __version__, pipeline, studies
from advcam.commands import COMMANDS, Outcome, Session
from advcam.errors import RunError, SettingsError
from advcam.models.own import allow, is_code
from advcam.options import Config, overlay
from advcam.pipeline import DataConfig
from advcam.progress import Reporter
from advcam.report import write_report
from advcam.runtime import Runtime, resolve_precision
from advcam.stages.context import Context
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.maps import recorded
from advcam.stages.table import CLIMBING, STEPS, TRAINING, open_run
from advcam.store import alone
from advcam.studies import STUDIES, StudyConfig

from . import recipes
from .options import Verb, typed
from .terminal import speaks

Call = Callable[[Namespace], Outcome]


def parser(everything: bool) -> ArgumentParser:
    """The command line. ``everything`` shows every option in ``--help``, else the common ones."""
    whole = ArgumentParser("advcam", description="Image-level labels in, pixel masks out, by anti-adversarial climbing.")
    whole.add_argument("--version", action="version", version=f"advcam {__version__}")
    verbs = whole.add_subparsers(title="commands", required=True, metavar="VERB")
    below = dict[str, Any]()

    def verb(name: str, call: Call, about: str, example: str, limits: tuple[str, ...] = ()) -> Verb:
        group, _, last = name.rpartition(" ")
        if group and group not in below:
            above = verbs.add_parser(group, help="Look at a data set, or convert it, before hours are spent on it.")
            below[group] = above.add_subparsers(title="commands", required=True, metavar="VERB")
        made = below.get(group, verbs).add_parser(
            last, help=about.splitlines()[0], description=about, epilog=f"example:\n  advcam {name} {example}", add_help=False,
            usage=f"advcam {name} [options]", formatter_class=RawDescriptionHelpFormatter,
        )  # fmt: skip
        made.set_defaults(call=call, verb=name)
        of = Verb(made, everything)
        of.add("device and limits", {n: o for n, o in Runtime.options().items() if n == "device" or n in limits})
        made.add_argument("--seed", type=int, help="of everything random; a run's own where there is one (default: 0)")
        made.add_argument("--quiet", action="store_true", help="no progress, only the last line and errors")
        made.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return of

    _add_command(verb, "demo")
    run = verb(
        "run", _run, "Classify, climb, refine, segment, report; goes on where it was stopped.",
        "--images photos --labels labels.csv --out runs/first", TRAINING + CLIMBING,
    )  # fmt: skip
    run.parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run folder, made or taken up again")
    _add_recipe(run)
    run.add("data", DataConfig.options())
    for name, step in STEPS.items():
        if not step.optional:
            run.add(name, step.config.options(), f"--{name}-option")
    for name, step in STEPS.items():
        made = verb(name, _step, step.about, "--run runs/first", step.limits)
        _add_run(made, moved=name != "classify", own=name in ("climb", "refine"))
        made.parser.add_argument("--redo", action="store_true", help="drop this step and what follows from it first")
        _add_recipe(made)
        if name == "classify":
            made.add("data", DataConfig.options(), optional=DataConfig.options())
        made.add(name, step.config.options(), f"--{name}-option")
    _add_run(verb("report", _report, "Write the page of a run.", "--run runs/first"), moved=True, own=False)
    judge = verb(
        "evaluate", _evaluate, "Compare seeds, masks and predictions with ground truth.", "--run runs/first --masks truth"
    )
    _add_run(judge, moved=True, own=True)
    judge.add("evaluate", EvaluateConfig.options())
    study = verb(
        "study", _study, "One of the paper's studies on a run: table, figure, paragraph; goes on where it was stopped.\n"
        + "\n".join(f"  {name}: {(study.__doc__ or '').splitlines()[0]}" for name, study in STUDIES.items()),
        "iterations --run runs/first --masks truth", CLIMBING,
    )  # fmt: skip
    study.parser.add_argument("name", choices=list(STUDIES), metavar="NAME", help=f"one of {', '.join(STUDIES)}")
    _add_run(study, moved=True, own=True)
    study.add("study", StudyConfig.options(), "--climb-option")
    for name in COMMANDS:
        if name != "demo":
            _add_command(verb, name)
    return whole


def _add_command(verb: Any, name: str) -> None:
    command = COMMANDS[name]
    pairs = "--climb-option" if "preset" in command.config.options() else ""
    verb(name, _command, command.about, command.example, command.limits).add(name, command.config.options(), pairs)


def _add_recipe(verb: Verb) -> None:
    verb.parser.add_argument(
        "--recipe", metavar="NAME|FILE",
        help=f"settings by name ({', '.join(recipes.names())}), or a TOML file; other options change them",
    )  # fmt: skip


def _add_run(verb: Verb, moved: bool, own: bool) -> None:
    verb.parser.add_argument(
        "--run", type=Path, required=True, metavar="RUN", help="the run folder; what is not typed is as it was given it"
    )
    if moved:
        verb.parser.add_argument(
            "--images", type=Path, metavar="DIR", help="where the run's images are now, if they have moved"
        )
    if own:
        verb.parser.add_argument(
            "--classifier", metavar="FILE.py:FUNCTION",
            help="run this code where the run's classifier is code; asked for once, as long as the file is the same"
            if verb.everything else SUPPRESS,
        )  # fmt: skip


def _reporter(args: Namespace) -> Reporter:
    return Reporter(args.quiet or not speaks())


def _runtime(args: Namespace) -> Runtime:
    runtime: Runtime = _config(args, "device and limits", Runtime)
    return runtime


def _config(args: Namespace, of: str, config: type[Config], **layers: Any) -> Any:
    """The config of what was typed over the layers below."""
    pairs, flags = typed(args, of, config.options())
    return overlay(config, pairs=pairs, flags=flags, **layers)


def _typed(args: Namespace, of: str, config: type[Config]) -> set[str]:
    """The names of the settings that were typed."""
    pairs, flags = typed(args, of, config.options())
    return {*pairs, *flags}


def _command(args: Namespace) -> Outcome:
    command = COMMANDS[args.verb]
    config = _config(args, args.verb, command.config)
    return command.run(config, Session(_runtime(args), _reporter(args), args.seed or 0))


def _run(args: Namespace) -> Outcome:
    tables = recipes.tables(args.recipe)
    steps = {name: step.config for name, step in STEPS.items() if not step.optional}
    configs = {name: _config(args, name, kind, recipe=tables.get(name)) for name, kind in steps.items()}
    _allow(configs["classify"].classifier)
    given = {name: _typed(args, name, kind) for name, kind in steps.items()}
    later = {name: STEPS[name].config.from_record(table) for name, table in tables.items() if name not in steps}
    with alone(args.out):
        context = pipeline.start(
            args.out, _config(args, "data", DataConfig), args.seed or 0, _runtime(args), _reporter(args),
            bool(configs["classify"].classifier),
        )  # fmt: skip
        pipeline.plan(context, configs | later, given)
        report = pipeline.run_all(context, configs)
    return Outcome(f"report: {report.resolve()}", (), len(context.data.skipped), args.out / "skipped.csv")


def _step(args: Namespace) -> Outcome:
    runtime, reporter, step = _runtime(args), _reporter(args), args.verb
    table = recipes.recipe(args.recipe, step)
    known = open_run(args.run) if (args.run / "run.json").is_file() else None
    config = _as_the_run_has_it(args, step, table, known, reporter)
    now = _typed(args, step, STEPS[step].config)
    given = now | {*(known.given(step) if known else ())}
    if step == "classify" and "classifier" in now:
        _allow(config.classifier)
    starts = "data.labels" in args
    with contextlib.ExitStack() as held:
        if starts or known:
            runtime.once(lambda: held.enter_context(alone(args.run)))
        if starts:
            data = _config(args, "data", DataConfig)
            context = pipeline.start(args.run, data, args.seed or 0, runtime, reporter, bool(config.classifier))
        else:
            images = vars(args).get("data.images") or vars(args).get("images")
            context = pipeline.reopen(args.run, args.seed, runtime, reporter, images, _own(args))
        skipped = pipeline.run_step(context, step, config, given, args.redo)
        runtime.leave()
    folder = context.run.folder(step)
    done = f"{step}: {folder}"
    if skipped:
        return Outcome(done, (), len(skipped), folder / "skipped.csv")
    return Outcome(done, (), len(context.data.skipped), args.run / "skipped.csv")


def _as_the_run_has_it(args: Namespace, step: str, recipe: Mapping[str, Any], run: Any, reporter: Reporter) -> Any:
    """A step's config: what was typed, over what the run was given, over a recipe, over the defaults.

    A recipe that is typed stands below what was typed for the run, and takes the place of all else that the run has on record.
    """
    given = run.given(step) if run else []

    def forgets(name: str, others: list[str]) -> None:
        typed_before = [other for other in others if other in given]
        if typed_before:
            reporter.say(f"{step}: {name} takes the place of what the run was given before: {', '.join(typed_before)}")

    try:
        record = run.asked(step, typed=bool(recipe)) if run else {}
        overlay(STEPS[step].config, recorded=run.asked(step) if run else {})
    except SettingsError as error:
        raise RunError(
            f"{args.run / 'run.json'}: of {step}: {error}; put back what advcam wrote, or start another run"
        ) from None
    return _config(args, step, STEPS[step].config, recipe=recipe, recorded=record, forgets=forgets)


def _allow(classifier: str | None) -> None:
    """Code of the user's own may be run where it was typed now, not where a run folder names it."""
    if classifier and is_code(classifier):
        allow(classifier)


def _own(args: Namespace) -> str | None:
    """The code of the run's classifier, where it was typed.

    Raises:
        SettingsError: something else was typed.
    """
    code = vars(args).get("classifier")
    if code and not is_code(code):
        raise SettingsError(f"--classifier {code}: expected FILE.py:FUNCTION; weights belong to advcam classify")
    _allow(code)
    return code and str(Path(code).resolve())


def _report(args: Namespace) -> Outcome:
    context = pipeline.reopen(args.run, args.seed, _runtime(args), _reporter(args), args.images)
    return Outcome(f"report: {write_report(context.run, context.data).resolve()}")


def _evaluate(args: Namespace) -> Outcome:
    context = pipeline.reopen(args.run, args.seed, _runtime(args), _reporter(args), args.images, _own(args))
    skipped = pipeline.score(context, _config(args, "evaluate", EvaluateConfig))
    return Outcome(f"metrics: {args.run / 'metrics.json'}", (), len(skipped), args.run / "skipped-evaluate.csv")


def _study(args: Namespace) -> Outcome:
    context = pipeline.reopen(args.run, args.seed, _runtime(args), _reporter(args), args.images, _own(args))
    config = _study_config(args, context)
    others = [pipeline.reopen(run, args.seed, context.runtime, context.reporter) for run in config.runs]
    folder, skipped = studies.run(args.name, context, config, others)
    context.reporter.say((folder / "paragraph.txt").read_text(encoding="utf-8").strip())
    write_report(context.run, context.data)
    return Outcome(f"study: {folder}", (), len(skipped), folder / "skipped.csv")


def _study_config(args: Namespace, context: Context) -> StudyConfig:
    """What was typed over the run's own climb."""
    climb = recorded(context.run)
    own = {name: value for name, value in climb.record().items() if name in StudyConfig.options()} if climb else {}
    config: StudyConfig = _config(args, "study", StudyConfig, recorded=own)
    precision = resolve_precision(config.climb.precision, context.runtime.torch_device())
    return replace(config, changes=config.changes | {"precision": precision})
