"""A data set looked at before hours are spent on it."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advcam.data import IGNORE, Dataset, Item, Skip, load
from advcam.errors import DataError, StoreError
from advcam.flow import DataConfig
from advcam.progress import Reporter
from advcam.store import load_mask


@dataclass(frozen=True)
class CheckConfig:
    """What to look at.

    Args:
        data: where the data set is.
        masks: ground truth, ID.png, looked at too where given: of the pictures for scoring, or of all.
    """

    data: DataConfig
    masks: Path | None = None


def check(config: CheckConfig, reporter: Reporter) -> tuple[list[str], list[Skip]]:
    """Reads everything that a run would read, and the ground truth.

    Returns:
        Lines that describe the data set, and its problems: what a run would leave out, masks that cannot be scored against,
        the same picture to train on and to score on.

    Raises:
        DataError: a data set that no run could start with.
    """
    where = config.data
    data = load(where.images, where.labels, where.classes, where.train_list, where.eval_list, reporter.track)
    lines = [
        f"{len(data.train)} pictures to train on, {len(data.eval)} to score on, {len(data.classes)} classes",
        _sizes(data.items),
        *_classes(data),
    ]
    problems = list(data.skipped) + _same_pictures(data, reporter)
    if config.masks:
        found, wrong = _masks(data, config.masks, reporter)
        lines += found
        problems += wrong
    return lines, problems


def _sizes(items: tuple[Item, ...]) -> str:
    sides = [(item.size[1], item.size[0]) for item in items]
    least, most = min(sides, key=lambda s: s[0] * s[1]), max(sides, key=lambda s: s[0] * s[1])
    middle = tuple(round(statistics.median(side)) for side in zip(*sides, strict=True))
    return "sizes (width x height): " + ", ".join(
        f"{name} {width}x{height}" for name, (width, height) in (("smallest", least), ("median", middle), ("largest", most))
    )


def _classes(data: Dataset) -> list[str]:
    """How many pictures have each class, and how many have none."""
    counts = [Counter(label for item in part for label in item.labels) for part in (data.train, data.eval)]
    width = max(len(name) for name in data.classes.names)
    lines = [f"{'id':>4} {'class':<{width}} {'train':>7} {'score':>7}"]
    for at, (number, name) in enumerate(zip(data.classes.ids, data.classes.names, strict=True)):
        lines.append(f"{number:>4} {name:<{width}} {counts[0][at]:>7} {counts[1][at]:>7}")
    empty = [sum(not item.labels for item in part) for part in (data.train, data.eval)]
    return [*lines, f"{'':>4} {'none':<{width}} {empty[0]:>7} {empty[1]:>7}"]


def _same_pictures(data: Dataset, reporter: Reporter) -> list[Skip]:
    """Pictures for scoring whose file is, byte for byte, one that is trained on."""
    if not data.eval:
        return []
    items = [*data.train, *data.eval]
    trained, same = dict[str, str](), list[Skip]()
    for at, item in enumerate(reporter.track(items, len(items), "compare the pictures")):
        content = hashlib.sha256(item.path.read_bytes()).hexdigest()
        if at < len(data.train):
            trained[content] = item.id
        elif content in trained:
            same.append(Skip(item.id, f"to score on: the same file as {trained[content]}, which is trained on"))
    return same


def _masks(data: Dataset, folder: Path, reporter: Reporter) -> tuple[list[str], list[Skip]]:
    """What the masks hold, and those that nothing can be scored against."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of ground-truth masks; check --masks")
    items, wrong = data.eval or data.items, list[Skip]()
    pixels: np.ndarray[tuple[int], np.dtype[np.int64]] = np.zeros(256, dtype=np.int64)
    unlabelled = unseen = 0
    for item in reporter.track(items, len(items), "look at the masks"):
        try:
            ids = load_mask(folder / f"{item.id}.png")
        except StoreError as error:
            wrong.append(Skip(item.id, str(error)))
            continue
        if ids.shape != item.size:
            sizes = f"is {ids.shape[1]}x{ids.shape[0]}, its picture {item.size[1]}x{item.size[0]}"
            wrong.append(Skip(item.id, f"{folder / item.id}.png: {sizes}"))
            continue
        count = np.bincount(ids.ravel(), minlength=256)
        pixels += count
        there, named = {i for i in data.classes.ids if count[i]}, {data.classes.ids[at] for at in item.labels}
        unlabelled += bool(there - named)
        unseen += bool(named - there)
        unknown = sorted(set(np.flatnonzero(count).tolist()) - {0, IGNORE, *data.classes.ids})
        if unknown:
            many = f"{folder / item.id}.png: holds id {unknown[0]}, which is no class (it counts as background)"
            wrong.append(Skip(item.id, many))
    if not pixels.any():
        raise DataError(f"{folder}: no ground-truth mask for any of {len(items)} pictures; the first: {wrong[0].reason}")
    share = pixels / pixels.sum()
    return [
        f"masks of {len(items)} pictures: {share[0]:.1%} background, {share[IGNORE]:.1%} ignored (255)",
        f"{unlabelled} masks hold a class that the picture's labels do not name, {unseen} lack one that they do",
    ], wrong
