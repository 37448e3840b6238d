"""What a run's files say of each image: scores, confidence, doubts; and the order of the page, worst first."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from advcam.cells import as_read
from advcam.data import Dataset, Item
from advcam.errors import StoreError
from advcam.stages.truth import decisions
from advcam.store import RunFolder

SCORED = ("plain", "advcam", "masks", "predictions", "semi")
"""The columns of per-image.csv that the page shows: mIoU of an image, from 0 to 1."""
NEEDED = {"image", "advcam", "masks"}
FIRST = ("masks", "advcam", "predictions", "semi", "plain")
"""By which of them the page is ordered: the first that there is."""

WRONG = (OSError, ValueError, TypeError, LookupError, AttributeError, csv.Error)
"""What reading a list of somebody else's raises."""


@dataclass
class Row:
    """One image of the page.

    Args:
        item: the image.
        scores: its mIoU by what was scored, see :data:`SCORED`.
        confidence: of each class position, how good its mask can be expected to be.
        lacking: why labelled classes have no pixel in its mask.
        empty: whether no class was found in it.
        decision: what was decided about its mask in the explorer: ``accept``, ``fix`` or ``reject``; empty: nothing.
    """

    item: Item
    scores: dict[str, float] = field(default_factory=dict)
    confidence: dict[int, float] = field(default_factory=dict)
    lacking: str = ""
    empty: bool = False
    decision: str = ""


def rows_of(run: RunFolder, data: Dataset) -> tuple[list[Row], list[str]]:
    """Returns a row for every image, and what is wrong with the lists they were read from.

    Raises:
        StoreError: per-image.csv is somebody else's.
    """
    rows = {item.id: Row(item) for item in data.items}
    for name, scores in _scores(run.root / "per-image.csv").items():
        if name in rows:
            rows[name].scores = scores
    wrong, refine = list[str](), run.folder("refine")
    positions = {name: at for at, name in enumerate(data.classes.names)}
    for read, path in ((_confidence, "scores.csv"), (_lacking, "lacking.csv"), (_empty, "empty.csv")):
        try:
            for cells in _read(refine / path):
                read(rows, cells, positions)
        except WRONG:
            wrong.append(f"{refine / path}: is not what `advcam refine` writes, and is left out here")
    try:
        for name, decision in decisions(run).items():
            if name in rows and decision != "withdraw":
                rows[name].decision = decision
    except StoreError as error:
        wrong.append(str(error))
    return list(rows.values()), wrong


def _confidence(rows: dict[str, Row], cells: dict[str, str], positions: dict[str, int]) -> None:
    if cells["image"] in rows:
        rows[cells["image"]].confidence[positions[cells["class"]]] = _share(cells["score"])


def _lacking(rows: dict[str, Row], cells: dict[str, str], _positions: dict[str, int]) -> None:
    if cells["image"] in rows:
        rows[cells["image"]].lacking = cells["reason"]


def _empty(rows: dict[str, Row], cells: dict[str, str], _positions: dict[str, int]) -> None:
    if cells["image"] in rows:
        rows[cells["image"]].empty = True


def worst_first(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """Orders images by mIoU of what was scored, or else by confidence, or else by name; what has neither comes last.

    Returns:
        The rows, and by what they are ordered: one of :data:`SCORED`, ``confidence`` or ``name``.
    """
    by = next((name for name in FIRST if any(name in row.scores for row in rows)), "")
    if by:
        return sorted(rows, key=lambda row: (row.scores.get(by, 2.0), row.item.id)), by
    if any(row.confidence for row in rows):
        return sorted(rows, key=lambda row: (min(row.confidence.values(), default=2.0), row.item.id)), "confidence"
    return sorted(rows, key=lambda row: row.item.id), "name"


def _scores(path: Path) -> dict[str, dict[str, float]]:
    """The scores of each image in per-image.csv.

    Raises:
        StoreError: it is not what ``advcam evaluate`` writes.
    """
    scores = dict[str, dict[str, float]]()
    try:
        for row in _read(path):
            if not row.keys() >= NEEDED:
                raise ValueError(f"expected the columns {', '.join(NEEDED)}")
            scores[row["image"]] = {name: _share(row[name]) for name in SCORED if row.get(name)}
    except WRONG:
        raise StoreError(f"{path}: is not what `advcam evaluate` writes; delete it, or evaluate again") from None
    return scores


def _share(cell: str) -> float:
    value = float(cell)
    if not 0 <= value <= 1:
        raise ValueError(f"{cell} is no share")
    return value


def _read(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file that advcam wrote; none without the file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            yield {name: as_read(cell) for name, cell in row.items()}
