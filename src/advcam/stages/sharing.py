"""Images of a step shared out by the run's engine: this process, those of torchrun, or the actors of a Ray cluster."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from advcam.cells import as_text
from advcam.data import Item, Skip
from advcam.engines import Row, Unit, Work, rows
from advcam.errors import RunError
from advcam.models.own import allow
from advcam.progress import Reporter, Waited
from advcam.runtime import Runtime
from advcam.store import RunFolder

from .context import Context, list_skips, load_data

ENOUGH = 100
"""Images that cannot be made at which a step stops: the store of the images is out of reach, or they have all changed."""

Make = Callable[[Context, Any], Work]
"""Loads what a step's images need, and returns what makes those of a unit."""


def share_out(
    context: Context, step: str, what: str, count: int, units: Sequence[Unit], make: Make, config: Any, here: Work | None = None
) -> list[Row]:
    """Makes the wanted images of units, and shows progress; returns a row for each, in every process.

    Images that are left out are listed in skipped.csv of the step's folder.

    Args:
        context: the run.
        step: name of the step.
        what: is done, for the progress.
        count: number of images of the step, those that are done already included.
        units: what is computed together.
        make: gives what makes images; a function of a module, so that other processes find it.
        config: of the step, which ``make`` is given.
        here: what ``make`` gives, where this process has it already.

    Raises:
        RunError: some images could not be made, listed in failed.csv; the others are.
        AdvcamError: as :func:`advcam.engines.rows`.
    """
    runtime = context.runtime
    work = partial(make, context, config)
    if runtime.engine == "ray":
        run = replace(context.run, root=context.run.root.resolve())
        work = partial(opened, make, run, context.seed, replace(runtime, device=runtime.kind), context.own, config)
    parts = runtime.once(lambda: list(units))  # as the first process found them before any of them was made
    several, wanted = runtime.processes > 1, sum(len(unit.wanted) for unit in runtime.share(parts))
    found, failed = list[Row](), list[Skip]()
    with context.reporter.bar(what, wanted if several else count, done=0 if several else count - wanted) as advance:
        for row in rows(parts, work, runtime, context.run.root, here):
            found.append(row)
            failed += [Skip(row.id, row.error)] if row.error else []
            advance(1)
            if len(failed) >= ENOUGH:
                break
    found, failed = runtime.together(found), runtime.together(failed)
    if timed := [(row.waited, row.seconds) for row in found if row.waited is not None]:
        context.reporter.say(f"{what}: {Waited(*map(sum, zip(*timed, strict=True))).share()}")
    _list_failed(context, step, failed)
    return found


def _list_failed(context: Context, step: str, failed: Sequence[Skip]) -> None:
    """Lists images that could not be made in failed.csv of the step's folder.

    Raises:
        RunError: there are any.
    """
    path = context.run.folder(step) / "failed.csv"
    if context.runtime.first:
        list_skips(path, sorted(failed, key=lambda skip: skip.image))
    if failed:
        raise RunError(
            f"{step}: {len(failed)} images could not be made, the first because {failed[0].reason}; all are listed in {path},"
            " the others are kept, and the same command makes what is missing"
        )


def opened(make: Make, run: RunFolder, seed: int, runtime: Runtime, own: str | None, config: Any) -> Work:
    """Opens a run in another process, where it lies, and returns what makes a step's images."""
    if own:
        allow(own)
    return make(Context(run, load_data(run), seed, runtime.of_actor(), Reporter(quiet=True), own), config)


def listed_left_out(context: Context, step: str, found: Sequence[Row], more: Sequence[Skip] = ()) -> list[Skip]:
    """Lists the images that a step has left out in skipped.csv of its folder, and returns them."""
    skips = sorted([*more, *(Skip(row.id, row.left_out) for row in found if row.left_out)], key=lambda skip: skip.image)
    path = context.run.folder(step) / "skipped.csv"
    if context.runtime.first:
        list_skips(path, skips)
        if skips:
            context.reporter.warn(f"{step}: {len(skips)} images are left out, listed with the reason in {path}")
    return skips


def without_left_out(run: RunFolder, step: str, items: Sequence[Item], made: Callable[[str], Path]) -> list[Item]:
    """Returns the images but those that a step has left out, by skipped.csv of its folder, and that ``made`` has no file of."""
    gone = left_out(run, step)
    return [item for item in items if made(item.id).is_file() or not gone(item.id)]


def left_out(run: RunFolder, step: str) -> Callable[[str], bool]:
    """Returns what says of an image's id whether a step has left it out, by skipped.csv of its folder."""
    names = names_left_out(run, step)
    return lambda name: as_text(name) in names


def names_left_out(run: RunFolder, step: str) -> set[str]:
    """Returns what skipped.csv of a step's folder lists, as it stands there."""
    path = run.folder(step) / "skipped.csv"
    if not path.is_file():
        return set()
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        return {row[0] for row in itertools.islice(csv.reader(file), 1, None) if row}
