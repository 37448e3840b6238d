"""The function behind each verb: makes configs from what was typed and calls one function of a lower layer."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import shtab

from advcam import pipeline, studies
from advcam.commands import COMMANDS, Outcome, Session
from advcam.errors import RunError, SettingsError
from advcam.models.own import allow, is_code
from advcam.options import Config, overlay
from advcam.pipeline import DataConfig
from advcam.preflight import warn_of_missing
from advcam.progress import Reporter
from advcam.report import ReportConfig, chosen_to_grow, grow, write_report
from advcam.runtime import Runtime, resolve_precision
from advcam.stages.context import Context
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.maps import recorded
from advcam.stages.table import STEPS, open_run
from advcam.store import RESTORE, RunFolder, alone, at_work
from advcam.studies import StudyConfig

from . import recipes
from .options import LIMITS, placed, typed
from .terminal import speaks


def _reporter(args: Namespace) -> Reporter:
    return Reporter(args.quiet or not speaks())


def _runtime(args: Namespace) -> Runtime:
    runtime: Runtime = _config(args, LIMITS, Runtime)
    return runtime


def _config(args: Namespace, of: str, config: type[Config], **layers: Any) -> Any:
    """Returns a config: what was typed, over the given lower layers."""
    pairs, flags = typed(args, of, config.options())
    return _overlay(config, pairs=pairs, flags=flags, **layers)


def _overlay(config: type[Config], recipe: Mapping[str, Any] | None = None, **layers: Any) -> Any:
    """As :func:`~advcam.options.overlay`; files that a recipe names are as absolute as those that are typed."""
    return overlay(config, recipe=placed(recipe or {}, config.options()), **layers)


def _typed(args: Namespace, of: str, config: type[Config]) -> set[str]:
    """Returns the names of the settings that were typed."""
    pairs, flags = typed(args, of, config.options())
    return {*pairs, *flags}


def command(args: Namespace) -> Outcome:
    """Runs a command that needs no run folder."""
    made = COMMANDS[args.verb]
    config = _config(args, args.verb, made.config)
    return made.run(config, Session(_runtime(args), _reporter(args), args.seed or 0))


def run(args: Namespace) -> Outcome:
    """``advcam run``: runs every step; as each step alone, it ends with status 1 where images are left out."""
    tables = recipes.tables(args.recipe)
    steps = {name: step.config for name, step in STEPS.items() if not step.optional}
    reporter, begun = _reporter(args), None if args.recipe else _begun(args.out)
    made = {name: _as_the_run_has_it(args, args.out, name, tables.get(name, {}), begun, reporter) for name in steps}
    configs, given = {name: config for name, (config, _) in made.items()}, {name: typed for name, (_, typed) in made.items()}
    if "classifier" in _typed(args, "classify", steps["classify"]):  # a recipe may be somebody else's
        _allow(configs["classify"].classifier)
    later = {name: _overlay(STEPS[name].config, recipe=table) for name, table in tables.items() if name not in steps}
    with alone(args.out):
        context = pipeline.start(
            args.out, _config(args, "data", DataConfig), args.seed or 0, _runtime(args), reporter,
            bool(configs["classify"].classifier),
        )  # fmt: skip
        pipeline.plan(context, configs | later, given)
        report = pipeline.run_all(context, configs)
    lists = list(pipeline.left_out(context, configs).items())
    lines = [f"{count} left out, listed with reasons in {path}" for path, count in lists[:-1]]
    path, count = lists[-1] if lists else (Path(), 0)
    return Outcome(f"report: {report.resolve()}", lines, count, path)


def _begun(root: Path) -> RunFolder | None:
    """Returns the run in a folder if one of its steps was started; any other is started anew."""
    run = open_run(root) if (root / "run.json").is_file() else None
    return run if run and any(map(run.begun, STEPS)) else None


def step(args: Namespace) -> Outcome:
    """Runs one step of a run."""
    runtime, reporter, name = _runtime(args), _reporter(args), args.verb
    table = recipes.recipe(args.recipe, name)
    known = open_run(args.run) if (args.run / "run.json").is_file() else None
    config, given = _as_the_run_has_it(args, args.run, name, table, known, reporter)
    if name == "classify" and "classifier" in _typed(args, name, STEPS[name].config):
        _allow(config.classifier)
    starts = "data.labels" in args
    if beside := [name for name in DataConfig.options() if f"data.{name}" in args and name != "images" and not starts]:
        raise SettingsError(f"--{beside[0].replace('_', '-')} starts a run, so --labels goes with it; a run keeps its own")
    with contextlib.ExitStack() as held:
        if starts or known:
            runtime.once(lambda: held.enter_context(alone(args.run)))
        if starts:
            data = _config(args, "data", DataConfig)
            context = pipeline.start(args.run, data, args.seed or 0, runtime, reporter, bool(config.classifier))
        else:
            images = vars(args).get("data.images") or vars(args).get("images")
            context = pipeline.reopen(args.run, args.seed, runtime, reporter, images, _own(args))
        skipped = pipeline.run_step(context, name, config, given, args.redo)
        runtime.leave()
    folder = context.run.folder(name)
    done = f"{name}: {folder}"
    if skipped:
        return Outcome(done, (), len(skipped), folder / "skipped.csv")
    return Outcome(done, (), len(context.data.skipped), args.run / "skipped.csv")


def _as_the_run_has_it(
    args: Namespace, root: Path, step: str, recipe: Mapping[str, Any], run: RunFolder | None, reporter: Reporter
) -> tuple[Any, set[str]]:
    """Returns a step's config (defaults < recipe < the run's record < typed now) and the names of its typed settings.

    A recipe that is typed now replaces the record, except for its files (weights, masks) and what excludes them.
    """
    kind, given = STEPS[step].config, {*(run.given(step) if run else ())}
    options = kind.options()
    files = {name for name, about in options.items() if about.file and about.flag}
    files |= {other for name in files for other in options[name].replaces}

    def forgets(name: str, others: list[str]) -> None:
        gone = [other for other in others if other in given]
        given.difference_update(gone)
        if gone:
            reporter.say(f"{step}: {name} replaces what was given for this run before: {', '.join(gone)}")

    try:
        overlay(kind, recorded=run.asked(step) if run else {})
    except SettingsError as error:
        raise RunError(f"{root / 'run.json'}: of {step}: {error}; {RESTORE}") from None
    record = run.asked(step, typed=bool(recipe)) if run else {}
    if recipe and given - files:
        forgets("recipe", sorted(given - files))
        record = {name: value for name, value in record.items() if name in files}
    config = _config(args, step, kind, recipe=recipe, recorded=record, forgets=forgets)
    return config, given | _typed(args, step, kind)


def _allow(classifier: str | None) -> None:
    """Allows user code to run if it was typed in this command; a run folder that names it is not enough."""
    if classifier and is_code(classifier):
        allow(classifier)


def _own(args: Namespace) -> str | None:
    """Returns the code of the run's classifier if it was typed, and allows it to run.

    Raises:
        SettingsError: something other than code was typed.
    """
    code = vars(args).get("classifier")
    if code and not is_code(code):
        raise SettingsError(f"--classifier {code}: expected FILE.py:FUNCTION; weights belong to advcam classify")
    _allow(code)
    return code and str(Path(code).resolve())


def _to_read(args: Namespace) -> Context:
    """Opens a run whose files are read, not made; warns if a step makes some of them at this moment.

    That is harmless, as files appear whole or not at all, but what is read then is not all of the run.
    """
    context = pipeline.reopen(args.run, args.seed, _runtime(args), _reporter(args), args.images, _own(args))
    if busy := at_work(args.run):
        context.reporter.warn(
            f"{args.run}: {busy} works there, and what it has not made yet is left out here: give this command again when it"
            " has ended"
        )
    return context


def report(args: Namespace) -> Outcome:
    """``advcam report``: writes the page of a run."""
    context = _to_read(args)
    warn_of_missing(context)
    config: ReportConfig = _config(args, "report", ReportConfig)
    if config.grow:
        grow(context, chosen_to_grow(context.run, context.data, config.grow))
    return Outcome(f"report: {write_report(context.run, context.data, config, context.reporter, whole=True).resolve()}")


def evaluate(args: Namespace) -> Outcome:
    """``advcam evaluate``: scores a run against ground truth."""
    context = _to_read(args)
    skipped = pipeline.score(context, _config(args, "evaluate", EvaluateConfig))
    return Outcome(f"metrics: {args.run / 'metrics.json'}", (), len(skipped), args.run / "skipped-evaluate.csv")


def study(args: Namespace) -> Outcome:
    """``advcam study``: runs a study."""
    context = _to_read(args)
    config = _study_config(args, context)
    others = [pipeline.reopen(run, args.seed, context.runtime, context.reporter) for run in config.runs]
    folder, skipped = studies.run(args.name, context, config, others)
    context.reporter.say((folder / "paragraph.txt").read_text(encoding="utf-8").strip())
    write_report(context.run, context.data, reporter=context.reporter)
    return Outcome(f"study: {folder}", (), len(skipped), folder / "skipped.csv")


def completion(args: Namespace) -> Outcome:
    """``advcam completion``: prints a script for a shell."""
    return Outcome(shtab.complete(args.whole, args.shell))


def _study_config(args: Namespace, context: Context) -> StudyConfig:
    """Returns the study's config: what was typed, over the run's own climb."""
    climb = recorded(context.run)
    own = {name: value for name, value in climb.record().items() if name in StudyConfig.options()} if climb else {}
    config: StudyConfig = _config(args, "study", StudyConfig, recorded=own)
    precision = resolve_precision(config.climb.precision, context.runtime.torch_device())
    return replace(config, changes=config.changes | {"precision": precision})
