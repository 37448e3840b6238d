"""All images of the page: inside it if they are few, else in a folder beside it, in files of a few images each."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.data import Dataset
from advcam.errors import AdvcamError
from advcam.process import usable_cores
from advcam.progress import Reporter
from advcam.store import RunFolder, write_text

from .layers import Draw, Shown
from .rows import SCORED, Row

INSIDE = 200
"""Images that are inside the page, at most."""
SIDE_INSIDE, SIDE_BESIDE = 256, 128
"""Long side of an image inside the page, and of one beside it, pixels."""
TOGETHER = 16
"""Images in one file beside the page."""
LEFT_OUT = 1000
"""Things left out that are listed on the page, at most."""

STATES = {
    "mask": "has a mask",
    "no-mask": "has no mask",
    "lacking": "mask lacks a labelled class",
    "empty": "no class found (mask is 255)",
    "prediction": "has a prediction",
    "corrected": "has a corrected mask",
    "accept": "accepted by a person",
    "fix": "mended by a person",
    "reject": "rejected by a person",
    "truth": "has ground truth",
    "scored": "scored",
    "train": "to train on",
    "eval": "for scoring only",
    "unlabelled": "without a label",
    "grown": "climb shown step by step",
    "wrong": "missing or damaged",
    "skipped": "left out of the run",
}
"""States of an image, as the page filters by them."""
BIT = {state: 1 << at for at, state in enumerate(STATES)}


@dataclass
class Gallery:
    """The images as the page has them, in its order.

    Args:
        index: what page.js knows of every image: names, labels, states, scores.
        inside: what it draws from, if that is inside the page.
        folder: the folder beside the page that holds it otherwise.
        confused: pixels by label of the truth and of ours, summed over the scored images.
        objects: image, class position, share of the image and IoU, of every class of a scored image.
        compared: number of images that were compared with ground truth.
        damaged: errors of damaged files of the run.
    """

    index: dict[str, Any] = field(default_factory=dict)
    inside: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None
    confused: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    objects: list[tuple[str, int, float, float]] = field(default_factory=list)
    compared: int = 0
    damaged: list[AdvcamError] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Returns how many images are in each state."""
        return {state: sum(bool(bits & bit) for bits in self.index["state"]) for state, bit in BIT.items()}


@contextmanager
def gallery(
    run: RunFolder, data: Dataset, rows: Sequence[Row], draw: Callable[[int], Draw], reporter: Reporter
) -> Iterator[Gallery]:
    """Draws the images and yields them; if the block succeeds, files of an earlier page are removed, else those of this one.

    Args:
        run: the run folder.
        data: the data set.
        rows: the images, in the order of the page.
        draw: makes what draws an image of a long side.
        reporter: shows progress where there are many.
    """
    beside = run.root / "report"
    run.see_no_links(beside)
    few = len(rows) <= INSIDE
    made = Gallery(folder=None if few else beside / f"images-{secrets.token_hex(4)}")
    try:
        _fill(made, run, data, rows, draw(SIDE_INSIDE if few else SIDE_BESIDE), reporter)
        yield made
    except BaseException:
        if made.folder:
            shutil.rmtree(made.folder, ignore_errors=True)
        raise
    for folder in beside.glob("images-*"):
        if folder != made.folder:
            shutil.rmtree(folder, ignore_errors=True)


def _fill(made: Gallery, run: RunFolder, data: Dataset, rows: Sequence[Row], draw: Draw, reporter: Reporter) -> None:
    scored = {item.id for item in data.eval or data.items}
    if any(row.scores for row in rows):
        scored = {row.item.id for row in rows if row.scores}

    def some(at: int) -> list[Shown]:
        shown = [draw(row.item, row.item.id in scored) for row in rows[at : at + TOGETHER]]
        if made.folder:
            content = json.dumps([one.entry for one in shown], separators=(",", ":"))
            write_text(made.folder / f"{at // TOGETHER}.js", f"advcam.take({at // TOGETHER}, {content});\n")
            for one in shown:
                one.entry["data"] = one.entry["jpeg"] = ""
        return shown

    everything = list[Shown]()
    quiet = reporter if made.folder else Reporter(quiet=True)
    with ThreadPoolExecutor(max(1, min(8, usable_cores()))) as pool, quiet.bar("report", len(rows)) as advance:
        try:
            for shown in pool.map(some, range(0, len(rows), TOGETHER)):
                everything += shown
                advance(len(shown))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for row, one in zip(rows, everything, strict=True):
        made.damaged += one.damaged
        made.objects += [(row.item.id, *found) for found in one.objects]
        made.compared += bool(one.confused)
        for kind, counts in one.confused.items():
            made.confused[kind] = made.confused.get(kind, 0) + counts
    made.inside = [] if made.folder else [one.entry for one in everything]
    made.index = _index(run, data, rows, everything, made.folder)


def _index(run: RunFolder, data: Dataset, rows: Sequence[Row], shown: Sequence[Shown], folder: Path | None) -> dict[str, Any]:
    """What the page knows of every image, a list for each thing; shares are in parts of 10,000."""
    skipped = data.skipped[:LEFT_OUT]
    trained, judged = ({item.id for item in part} for part in (data.train, data.eval))
    notes = {at: said for at, (row, one) in enumerate(zip(rows, shown, strict=True)) if (said := _notes(row, one))}
    notes |= {len(rows) + at: [skip.reason] for at, skip in enumerate(skipped)}
    none = [None] * len(skipped)
    return {
        "images": len(rows),
        "together": TOGETHER,
        "folder": f"report/{folder.name}/" if folder else "",
        "classes": [[number, name] for number, name in zip(data.classes.ids, data.classes.names, strict=True)],
        "name": [*(row.item.id for row in rows), *(skip.image for skip in skipped)],
        "labels": [*(row.item.labels for row in rows), *([] for _ in skipped)],
        "unknown": {at: row.item.unknown for at, row in enumerate(rows) if row.item.unknown},
        "state": [
            *(_state(row, one, row.item.id in trained, row.item.id in judged) for row, one in zip(rows, shown, strict=True)),
            *(BIT["skipped"] for _ in skipped),
        ],
        "bits": BIT,
        "notes": notes,
        "values": {
            **{
                name: [*(_parts(row.scores.get(name)) for row in rows), *none]
                for name in SCORED
                if any(name in row.scores for row in rows)
            },
            **_some("disagreement", [*(_parts(one.disagreement) for one in shown), *none]),
            **_some("confidence", [*(_parts(min(row.confidence.values(), default=None)) for row in rows), *none]),
        },
        "layers": _layers(run, shown),
    }


def _layers(run: RunFolder, shown: Sequence[Shown]) -> list[str]:
    """The layers that some image has, in the order of the page."""
    there = {kind for one in shown for kind in (*one.entry["planes"], *one.entry["maps"])}
    return [kind for kind in ("plain", "advcam", "mask", "prediction", "semi", "corrected", "truth") if kind in there]


def _some(name: str, values: list[int | None]) -> dict[str, list[int | None]]:
    return {name: values} if any(value is not None for value in values) else {}


def _parts(share: float | None) -> int | None:
    return None if share is None else round(10_000 * share)


def _state(row: Row, shown: Shown, trained: bool, judged: bool) -> int:
    planes = shown.entry["planes"]
    there = {
        "mask": "mask" in planes,
        "no-mask": "mask" not in planes,
        "lacking": bool(row.lacking),
        "empty": row.empty,
        "prediction": "prediction" in planes or "semi" in planes,
        "corrected": "corrected" in planes,
        **{decision: row.decision == decision and "corrected" in planes for decision in ("accept", "fix", "reject")},
        "truth": "truth" in planes,
        "scored": bool(row.scores),
        "train": trained,
        "eval": judged and not trained,
        "unlabelled": not row.item.labels,
        "grown": "grown" in shown.entry,
        "wrong": bool(shown.wrong or shown.damaged),
    }
    return sum(BIT[state] for state, holds in there.items() if holds)


def _notes(row: Row, shown: Shown) -> list[str]:
    lacking = [f"mask lacks {row.lacking}"] if row.lacking else []
    empty = ["no class was found, so the mask is 255 (undecided) everywhere"] if row.empty else []
    return [*map(str, (*shown.wrong, *shown.damaged)), *lacking, *empty]
