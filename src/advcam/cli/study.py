"""``advcam study``: its options, and the config they become."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from advcam.attribution import ClimbSettings
from advcam.runtime import resolve_precision
from advcam.stages.climb import ClimbConfig, recorded
from advcam.stages.context import Context
from advcam.studies import STUDIES, StudyConfig

from . import configs as c
from . import options as o


def add_study(parser: ArgumentParser) -> None:
    """What a study is asked for, and the climb that it is about."""
    parser.add_argument("name", choices=list(STUDIES), metavar="NAME", help=f"one of {', '.join(STUDIES)}")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="the run folder, its classifier done")
    o.add_moved(parser)
    o.add_own(parser)
    about = (f"  {name}: {(study.__doc__ or '').splitlines()[0]}" for name, study in STUDIES.items())
    group = parser.add_argument_group("study", "\n".join(about))
    group.add_argument(
        "--masks", type=Path, action="append", default=[], metavar="DIR",
        help="ground truth, ID.png with class ids; with several runs once for each, in their order",
    )  # fmt: skip
    group.add_argument("--sample", type=int, metavar="N", help="how many, drawn with the run's seed (default: 100)")
    group.add_argument("--list", type=Path, metavar="FILE", help="these images, one a line (default: those for scoring)")
    group.add_argument(
        "--values", type=lambda text: tuple(text.split(",")), metavar="A,B,C",
        help="to try instead of the study's; iterations: some of none,suppress,restrain,both; base: methods",
    )  # fmt: skip
    group.add_argument(
        "--longest", type=int, metavar="T", help="highest T to look at (default: the run's; twice that in iterations, growth)"
    )
    group.add_argument("--resamples", type=int, default=1000, metavar="N", help="draws of the bootstrap (default: 1000)")
    group.add_argument("--parts", type=Path, metavar="DIR", help="growth: telling parts ID.png of generated scenes")
    group.add_argument("--grid", type=int, default=11, metavar="N", help="landscape: points a side (default: 11)")
    group.add_argument("--reach", type=float, help="landscape: the plane goes so far, in steps of size 1 (default: T xi)")
    group.add_argument("--runs", type=_paths, default=(), metavar="RUN,RUN", help="networks: run folders beside --run")
    o.add_climb(parser)  # unset: as the run has it


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(",") if part)


def config(args: Namespace, context: Context) -> StudyConfig:
    """What the options ask for; climb options change the run's own climb, --preset starts from a preset instead."""
    names = ("sample", "list", "values", "longest", "resamples", "parts", "grid", "reach")
    given: dict[str, Any] = {name: getattr(args, name) for name in names}
    climb = _climb(args, context)
    climb = replace(climb, precision=resolve_precision(climb.precision, context.runtime.torch_device()))
    return StudyConfig(climb=climb, masks=tuple(args.masks), **given)


def _climb(args: Namespace, context: Context) -> ClimbSettings:
    typed = c.climb(args)
    own = recorded(context.run)
    if args.preset or own is None:
        return typed.settings()
    return ClimbConfig(own.preset, own.changes | typed.changes).settings()
