"""``advcam data check``: checks a data set before a long run."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from advcam.data import IGNORE, Dataset, Item, Place, Skip, hard_classes, images_of, load, read_as
from advcam.options import option
from advcam.pipeline import DataConfig
from advcam.progress import Reporter
from advcam.stages.context import list_skips
from advcam.stages.truth import Truth, look_at_truth, truth_of

from .session import Outcome, Session


@dataclass(frozen=True, kw_only=True)
class CheckConfig(DataConfig):
    """The data set to check."""

    masks: Path | None = option(
        None,
        "ground truth, ID.png with class ids, to check too: of the images for scoring, or of all",
        flag="masks",
        common=True,
    )
    mask_colours: Path | None = option(None, "CSV id,colour: the colours of RGB masks; none: VOC's", flag="mask-colours")
    out: Path = option(Path("problems.csv"), "list of the problems", flag="out", common=True)


def run(config: CheckConfig, session: Session) -> Outcome:
    """Reads what a run would read, and the ground truth; describes the data set and lists its problems.

    Problems are what a run would leave out, masks that cannot be scored against, and images both to train and to score on.

    Raises:
        DataError: no run could start with the data set.
    """
    images, reporter = images_of(config.images, config.labels), session.reporter
    data = load(images, config.labels, config.classes, config.train_list, config.eval_list, reporter.track, config.reading)
    lines = [
        *read_as(data),
        *_unusable(data, config.labels),
        f"{len(data.train)} images to train on, {len(data.eval)} to score on, {len(data.classes)} classes",
        _sizes(data.items),
        *_classes(data),
        *hard_classes(data),
    ]
    if data.unlabelled:
        lines.append(f"{len(data.unlabelled)} images in the folder have no label and are not part of the data set")
    problems = [*data.skipped, *data.doubts, *_same_images(data, reporter)]
    if config.masks:
        found, wrong = _masks(data, truth_of(config.masks, config.mask_colours), reporter)
        lines += found
        problems += wrong
    list_skips(config.out, problems)
    return Outcome(f"problems: {len(problems)}", lines, len(problems), config.out, "problem" + "s" * (len(problems) > 1))


def _unusable(data: Dataset, labels: Place) -> list[str]:
    """Says how many rows of the labels could not be used, and why the first."""
    rows = [skip.reason for skip in data.skipped if skip.reason.startswith(str(labels))]
    return [f"{len(rows)} entries of the labels could not be used, the first: {rows[0]}"] if rows else []


def _sizes(items: tuple[Item, ...]) -> str:
    sides = [(item.size[1], item.size[0]) for item in items]
    least, most = min(sides, key=lambda s: s[0] * s[1]), max(sides, key=lambda s: s[0] * s[1])
    middle = tuple(round(statistics.median(side)) for side in zip(*sides, strict=True))
    return "sizes (width x height): " + ", ".join(
        f"{name} {width}x{height}" for name, (width, height) in (("smallest", least), ("median", middle), ("largest", most))
    )


def _classes(data: Dataset) -> list[str]:
    """Formats the number of images with each class, and with none."""
    counts = [Counter(label for item in part for label in item.labels) for part in (data.train, data.eval)]
    width = max(len(name) for name in data.classes.names)
    lines = [f"{'id':>4} {'class':<{width}} {'train':>7} {'score':>7}"]
    for at, (number, name) in enumerate(zip(data.classes.ids, data.classes.names, strict=True)):
        lines.append(f"{number:>4} {name:<{width}} {counts[0][at]:>7} {counts[1][at]:>7}")
    empty = [sum(not item.labels for item in part) for part in (data.train, data.eval)]
    return [*lines, f"{'':>4} {'none':<{width}} {empty[0]:>7} {empty[1]:>7}"]


def _same_images(data: Dataset, reporter: Reporter) -> list[Skip]:
    """Returns images for scoring whose file equals, byte for byte, one that is trained on."""
    if not data.eval:
        return []
    items = [*data.train, *data.eval]
    trained, same = dict[str, str](), list[Skip]()
    for at, item in enumerate(reporter.track(items, len(items), "compare the images")):
        content = str(item.content)
        if at < len(data.train):
            trained[content] = item.id
        elif content in trained:
            same.append(Skip(item.id, f"for scoring, but the same file as {trained[content]}, which is trained on"))
    return same


def _masks(data: Dataset, truth: Truth, reporter: Reporter) -> tuple[list[str], list[Skip]]:
    """Describes the masks, and returns those that cannot be scored against and those that are doubtful."""
    check, _, missing = look_at_truth(truth, data.eval or data.items, data.classes, reporter)
    share = check.pixels / check.pixels.sum()
    return [
        f"masks of {check.masks} images: {share[0]:.1%} background, {share[IGNORE]:.1%} ignored (255)",
        *check.totals(),
    ], check.doubts + missing
