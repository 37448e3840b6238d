"""Parses, calls, and turns what happened into one line and an exit status."""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advcam import process

from .terminal import Unread, only_our_warnings, print_any_name, say, speaks

DONE, SOME_FAILED, COULD_NOT_START = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0 done, 1 some items failed (the last line names the list), 2 could not start."""
    from advcam.models import register_operators  # noqa: F401  (before anything imports torchvision)
    from advcam.runtime import bound_threads

    print_any_name()
    parser = _parser()
    args = parser.parse_args(argv)
    process.keep_memory()
    bound_threads()
    with warnings.catch_warnings(), contextlib.redirect_stderr(Unread(sys.stderr)):
        if not args.debug:
            only_our_warnings()
        process.take_interrupts()
        return _called(parser, args, argv)


def _called(parser: ArgumentParser, args: Namespace, argv: Sequence[str] | None) -> int:
    """The verb's exit status; whatever it raises is one line."""
    from advcam.errors import AdvcamError, SettingsError
    from advcam.runtime import is_distributed

    try:
        if is_distributed() and vars(args).get("step") != "segment":
            raise SettingsError("advcam segment alone runs in several processes; start this command without a launcher")
        _allow_what_was_typed(args)
        if "step" in args:
            args = _as_the_run_has_it(parser, args, argv)
        return int(args.call(args))
    except KeyboardInterrupt:
        say(process.STOPPED, sys.stderr)
        return 130
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        line = f"unexpected {type(error).__name__}: {error}; --debug shows where. What is done is kept"
        if isinstance(error, AdvcamError):
            line = str(error)
        elif isinstance(error, OSError) and error.filename:
            line = f"{error.filename}: cannot be used ({error.strerror}); check the path. What is done is kept"
        say(f"advcam: {' '.join(line.split())}", sys.stderr)
        return COULD_NOT_START


def _allow_what_was_typed(args: Namespace) -> None:
    """Code of the user's own may be run where it was typed now, not where a run folder names it."""
    typed = vars(args).get("classifier")
    if typed and ".py:" in typed:
        from advcam.models.own import allow

        allow(typed)


def _as_the_run_has_it(parser: ArgumentParser, args: Namespace, argv: Sequence[str] | None) -> Namespace:
    """The options of a step's verb again, those not typed as the run was given them."""
    from advcam.errors import RunError, SettingsError
    from advcam.store import RunFolder

    from . import memory

    if not (args.run / "run.json").is_file():
        return args
    options = RunFolder.open(args.run).state().get("options", {}).get(args.step, {})
    try:
        memory.check(args.step, options)
    except SettingsError as error:
        raise RunError(f"{args.run / 'run.json'}: {error}; put back what advcam wrote, or start another run") from None
    args.verb.set_defaults(**memory.remembered(args, options))
    return parser.parse_args(argv)


def _parser() -> ArgumentParser:
    from advcam import __version__

    from . import options as o
    from .data import add_data_verbs
    from .study import add_study

    parser = ArgumentParser("advcam", description="Image-level labels in, pixel masks out, by anti-adversarial climbing.")
    parser.add_argument("--version", action="version", version=f"advcam {__version__}")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="VERB")

    def verb(name: str, call: Any, about: str, example: str) -> ArgumentParser:
        made = verbs.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  advcam {name} {example}",
            formatter_class=RawDescriptionHelpFormatter,
        )
        made.set_defaults(call=call)
        o.add_common(made, name)
        return made

    demo = verb("demo", _demo, "Everything, on generated images, in a few minutes.", "--out demo")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: demo")

    whole = verb(
        "run", _run, "Classify, climb, refine, segment, report; goes on where it was stopped.",
        "--images photos --labels labels.csv --out runs/first",
    )  # fmt: skip
    whole.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run folder, made or taken up again")
    o.add_recipe(whole)
    o.add_data(whole, required=True)
    for add in (o.add_classify, o.add_climb, o.add_keep, o.add_refine):
        add(whole)
    o.add_segment(whole, "segment-")

    for name, about in (
        ("classify", "Train (or take) the classifier; starts a run where --images and --labels are given."),
        ("climb", "Make a map for every class of every image."),
        ("refine", "Make masks of the maps."),
        ("segment", "Train a segmentation network on the masks, and predict."),
        ("semi", "Train a segmentation network on few masks made by hand and the run's masks of the rest, and predict."),
    ):
        step = verb(name, _step, about, "--run runs/first")
        step.add_argument(
            "--run", type=Path, required=True, metavar="RUN", help="the run folder; options not typed are as it was given them"
        )
        step.add_argument("--redo", action="store_true", help="drop this step and what follows from it first")
        step.set_defaults(step=name, verb=step)
        if name == "classify":
            o.add_data(step, required=False)
        else:
            o.add_moved(step)
        if name in ("climb", "refine"):
            o.add_own(step)
        o.ADD[name](step)

    report = verb("report", _report, "Write the page of a run.", "--run runs/first")
    report.add_argument("--run", type=Path, required=True, metavar="RUN", help="the run folder")
    o.add_moved(report)

    judge = verb(
        "evaluate", _evaluate, "Compare seeds, masks and predictions with ground truth.", "--run runs/first --masks truth"
    )
    judge.add_argument("--run", type=Path, required=True, metavar="RUN", help="the run folder")
    o.add_moved(judge)
    o.add_own(judge)
    judge.add_argument(
        "--masks", type=Path, required=True, metavar="DIR", help="ground truth, ID.png with class ids, 255 ignored"
    )
    judge.add_argument(
        "--instances", type=Path, metavar="DIR", help="ground truth of objects, ID.png with each object's number (IRN only)"
    )
    judge.add_argument("--list", type=Path, metavar="FILE", help="images of the run, one a line (default: those for scoring)")

    study = verb(
        "study", _study, "One of the paper's studies on a run: table, figure, paragraph; goes on where it was stopped.",
        "iterations --run runs/first --masks truth",
    )  # fmt: skip
    add_study(study)

    predict = verb(
        "predict", _predict, "Make masks of any images with a trained network.",
        "--model runs/first/4-segment --images photos --out masks",
    )  # fmt: skip
    predict.add_argument("--model", type=Path, required=True, metavar="DIR", help="RUN/4-segment or RUN/5-semi")
    predict.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of images")
    predict.add_argument("--out", type=Path, required=True, metavar="DIR", help="where ID.png go")
    o.add_predict(predict)

    export = verb(
        "export", _export, "Write a trained network as one file for other programs, compared with the original.",
        "--model runs/first/4-segment --out model.onnx",
    )  # fmt: skip
    export.add_argument("--model", type=Path, required=True, metavar="DIR", help="RUN/4-segment or RUN/5-semi")
    export.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=".onnx, or .pt2 (torch.export); FILE.json tells how it is used"
    )
    export.add_argument(
        "--size", type=o.size, metavar="HxW", help="take images of this size alone (default: of any, in multiples of 32)"
    )

    prepare = verbs.add_parser("data", help="Look at a data set, or convert it, before hours are spent on it.")
    add_data_verbs(prepare, _check, _convert)

    close = verb(
        "climb-image", _climb_image, "One image: overlay, map file, and an animation of the map growing over the steps.",
        "cat.jpg --model timm:resnet50 --class tabby --steps 20 --out cat",
    )  # fmt: skip
    o.add_climb_image(close)
    o.add_climb(close)
    return parser


def _reporter(args: Namespace) -> Any:
    from advcam.progress import Reporter

    return Reporter(args.quiet or not speaks())


def _end(done: str, skipped: int, listed: Path, what: str = "left out") -> int:
    """The last line, and the exit status it stands for."""
    if speaks():
        say(done)
    if skipped and speaks():
        say(f"{skipped} {what}, listed with reasons in {listed}")
    return SOME_FAILED if skipped else DONE


def _demo(args: Namespace) -> int:
    from advcam import flow
    from advcam.store import alone

    from . import configs as c

    with alone(args.out / "run"):
        report = flow.demo(args.out, args.seed or 0, c.runtime(args), _reporter(args))
    return _end(f"report: {report.resolve()}", 0, report)


def _run(args: Namespace) -> int:
    from advcam import flow
    from advcam.store import alone

    from . import configs as c
    from . import memory
    from .options import ADD

    steps = c.steps(args)
    given = bool(steps.classify.classifier)
    with alone(args.out):
        context = flow.start(args.out, c.data(args), args.seed or 0, c.runtime(args), _reporter(args), given)
        context.run.remember({step: memory.given(args, step) for step in ADD if step != "semi"})
        report = flow.run_all(context, steps)
    return _end(f"report: {report.resolve()}", len(context.data.skipped), args.out / "skipped.csv")


def _step(args: Namespace) -> int:
    from advcam import flow, preflight
    from advcam.report import write_card
    from advcam.stages import classify, climb, segment, semi
    from advcam.store import alone

    from . import configs as c
    from . import memory

    runtime, reporter = c.runtime(args), _reporter(args)
    configs: dict[str, tuple[Any, Any]] = {
        "classify": (classify.run, c.classify),
        "climb": (climb.run, c.climb),
        "refine": (flow.make_masks, c.refine),
        "segment": (segment.run, lambda a: c.segment(a, "")),
        "semi": (semi.run, c.semi),
    }
    call, config = configs[args.step]
    made = config(args)
    starts = args.step == "classify" and args.labels
    with contextlib.ExitStack() as held:
        if starts or (args.run / "run.json").is_file():
            runtime.once(lambda: held.enter_context(alone(args.run)))
        if starts:
            context = flow.start(args.run, c.data(args), args.seed or 0, runtime, reporter, bool(made.classifier))
        else:
            own = None if args.step == "classify" else c.own(args)
            context = flow.reopen(args.run, args.seed, runtime, reporter, args.images, own)
        if args.redo or not context.run.done(args.step):
            runtime.once(lambda: preflight.need_images(context))
            preflight.try_step(context, args.step, made)
        if args.redo:
            gone = runtime.once(lambda: context.run.drop(args.step))
            reporter.say(f"dropped: {', '.join(gone) or 'nothing, it was not there'}")
        runtime.once(lambda: context.run.remember({args.step: memory.given(args, args.step)}))
        skipped = call(context, made)
        if args.step in ("segment", "semi"):
            runtime.once(lambda: write_card(context.run, context.data, args.step))
        runtime.leave()
    folder = context.run.folder(args.step)
    if skipped:
        return _end(f"{args.step}: {folder}", len(skipped), folder / "skipped.csv")
    return _end(f"{args.step}: {folder}", len(context.data.skipped), args.run / "skipped.csv")


def _report(args: Namespace) -> int:
    from advcam import flow
    from advcam.report import write_report

    from . import configs as c

    context = flow.reopen(args.run, args.seed, c.runtime(args), _reporter(args), args.images)
    return _end(f"report: {write_report(context.run, context.data).resolve()}", 0, args.run)


def _evaluate(args: Namespace) -> int:
    from advcam import flow

    from . import configs as c

    context = flow.reopen(args.run, args.seed, c.runtime(args), _reporter(args), args.images, c.own(args))
    skipped = flow.score(context, args.masks, args.instances, args.list)
    return _end(f"metrics: {args.run / 'metrics.json'}", len(skipped), args.run / "skipped-evaluate.csv")


def _study(args: Namespace) -> int:
    from advcam import flow, studies
    from advcam.report import write_report

    from . import configs as c
    from .study import config

    context = flow.reopen(args.run, args.seed, c.runtime(args), _reporter(args), args.images, c.own(args))
    others = [flow.reopen(run, args.seed, c.runtime(args), _reporter(args)) for run in args.runs]
    folder, skipped = studies.run(args.name, context, config(args, context), others)
    context.reporter.say((folder / "paragraph.txt").read_text(encoding="utf-8").strip())
    write_report(context.run, context.data)
    return _end(f"study: {folder}", len(skipped), folder / "skipped.csv")


def _predict(args: Namespace) -> int:
    from advcam.prediction import predict

    from . import configs as c

    skipped = predict(args.model, args.images, args.out, c.predict(args), c.runtime(args), _reporter(args))
    return _end(f"masks: {args.out}", len(skipped), args.out / "skipped.csv")


def _check(args: Namespace) -> int:
    from advcam.preparation import CheckConfig, check
    from advcam.stages.context import list_skips

    from . import configs as c

    lines, problems = check(CheckConfig(c.data(args), args.masks), _reporter(args))
    list_skips(args.out, problems)
    say("\n".join(lines))
    return _end(f"problems: {len(problems)}", len(problems), args.out, "problems")


def _convert(args: Namespace) -> int:
    from advcam.preparation import convert

    lines, skipped = convert(args.labels, args.out, _reporter(args), args.classes)
    say("\n".join(lines))
    return _end(f"labels, classes, lists: {args.out}", len(skipped), args.out / "skipped.csv", "faults")


def _export(args: Namespace) -> int:
    from advcam.export import export

    for line in export(args.model, args.out, args.size):
        say(line)
    return _end(f"network: {args.out}", 0, args.out)


def _climb_image(args: Namespace) -> int:
    from advcam.picture import climb_image

    from . import configs as c

    for line in climb_image(args.image, c.image(args), args.out, c.runtime(args), _reporter(args)):
        say(line)
    return _end(f"overlay, maps, animations: {args.out}", 0, args.out)
