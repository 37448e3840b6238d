"""The page of a run, report.html."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from advcam.attribution import rules
from advcam.cells import as_read
from advcam.data import Dataset, Item
from advcam.errors import ImageError, StoreError
from advcam.stages.context import redo
from advcam.stages.truth import KINDS
from advcam.store import RunFolder, atomic_write, read_json, write_text
from advcam.store.records import ClassifyMetrics, Metrics, TrainingMetrics

from .images import PANELS, data_url, grid, panels
from .studies import finished

ROWS = 6
MEASURED = ("seed_plain", "seed_advcam", "masks", "predictions", "semi", "instances", "localisation")
SHEET, SHEET_SIDE = 4, 128  # rows of report.png, and the long side of its panels
SIDE = 200
WIDTH, HEIGHT = 420, 200  # of a curve
MARGIN = 34


def write_report(run: RunFolder, data: Dataset) -> Path:
    """Writes ``report.html``: settings, scores, curves, studies and images, the best and worst if there is ground truth.

    Also writes ``report.png``: four images, evenly spaced from the best to the worst, with their maps and masks.

    Returns:
        The path of the page.
    """
    scored = _scored(run, data)
    environment = Environment(loader=PackageLoader("advcam.report"), autoescape=True, undefined=StrictUndefined)
    state = run.state()
    metrics = _optional(run.root / "metrics.json", Metrics, "`advcam evaluate` writes it again")
    classify = _optional(run.folder("classify") / "metrics.json", ClassifyMetrics, redo(run, "classify"))
    segment, semi = (
        _optional(run.folder(step) / "metrics.json", TrainingMetrics, redo(run, step)) for step in ("segment", "semi")
    )
    page = environment.get_template("page.html.j2").render(
        name=run.root.resolve().name,
        state=state,
        steps=[(s, run.folder(s).name, state["steps"][s], run.config(s)) for s in run.order if run.begun(s)],
        data=data,
        given=bool(run.config("classify").get("classifier")),
        classes=list(zip(data.classes.ids, data.classes.names, strict=True)),
        metrics={name: metrics.get(name) for name in MEASURED},
        doubts=_doubts(metrics.get("ground_truth") or {}),
        classify=classify,
        curves=_curves(metrics, classify, segment, semi),
        groups=_groups(run, scored),
        studies=finished(run),
        climbed=f"AdvCAM, {rules(run.config('climb'))}",
    )
    path = run.root / "report.html"
    write_text(path, page)
    ordered = [item for item, _ in scored]
    chosen = [ordered[round(at * (len(ordered) - 1) / (SHEET - 1))] for at in range(SHEET)] if ordered else []
    rows = []
    for item in chosen:
        with contextlib.suppress(ImageError):
            rows.append(panels(run, item, SHEET_SIDE))
    if rows:
        with atomic_write(run.root / "report.png") as temporary:
            grid(rows).save(temporary, optimize=True)
    return path


def _doubts(truth: dict[str, int]) -> list[str]:
    """Describes the doubts about the ground truth that the scores rest on."""
    return [f"{truth[kind]} of {truth['masks']} masks {words}" for kind, words in KINDS.items() if truth.get(kind)]


def _optional(path: Path, form: type[Any], remedy: str) -> dict[str, Any]:
    return dict(read_json(path, form, remedy)) if path.is_file() else {}


Scored = list[tuple[Item, dict[str, str]]]


def _scored(run: RunFolder, data: Dataset) -> Scored:
    """Returns images with labels and their scores, best first by mIoU of the AdvCAM seed (of the mask if no maps were kept).

    Before an evaluation they are in their own order, without scores.
    """
    items = {item.id: item for item in data.eval or data.items if item.labels}
    path = run.root / "per-image.csv"
    if not path.is_file():
        return [(item, {}) for item in items.values()]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: as_read(cell) for name, cell in row.items()} for row in csv.DictReader(file, strict=True)]
        known = [row for row in rows if row["image"] in items and (row["advcam"] or row["masks"])]
        best = sorted(known, key=lambda row: float(row["advcam"] or row["masks"]), reverse=True)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, csv.Error):
        raise StoreError(f"{path}: is not what `advcam evaluate` writes; delete it, or evaluate again") from None
    return [(items[row["image"]], row) for row in best]


def _groups(run: RunFolder, scored: Scored) -> list[dict[str, Any]]:
    """Returns the images to show: the best and the worst, or the first if nothing was scored."""
    if not any(row for _, row in scored):
        return [{"title": "Images", "rows": [_row(run, item, {}) for item, _ in scored[: 2 * ROWS]]}]
    by = "AdvCAM seed" if scored[0][1]["advcam"] else "mask"
    chosen = {f"Best by mIoU of the {by}": scored[:ROWS], f"Worst by mIoU of the {by}": scored[ROWS:][-ROWS:]}
    return [{"title": title, "rows": [_row(run, item, row) for item, row in rows]} for title, rows in chosen.items() if rows]


def _row(run: RunFolder, item: Item, scores: dict[str, str]) -> dict[str, Any]:
    try:
        shown = [data_url(panel) if panel else None for panel in panels(run, item, SIDE)]
    except ImageError:  # missing, or changed since the run read it
        shown = [None] * len(PANELS)
    under = ["", *(scores.get(name, "") for name in ("plain", "advcam", "masks", "predictions"))]
    return {"id": item.id, "cells": list(zip(PANELS, shown, under, strict=True))}


def _curves(metrics: dict[str, Any], *trainings: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the curves: seeds against the background threshold, trainings against the epoch."""
    curves = []
    seeds = {n: metrics[f"seed_{n}"]["curve"] for n in ("plain", "advcam") if "curve" in metrics.get(f"seed_{n}", {})}
    for key, title in (("mean_iou", "Seed mIoU against background threshold"), ("noise", "Noise against background threshold")):
        if seeds:
            curves.append(_curve(title, {n: list(zip(c["threshold"], c[key], strict=False)) for n, c in seeds.items()}))
    shown = (
        ("Classifier: loss", ("loss",)),
        ("Segmentation: loss and held-out mIoU (pseudo masks)", ("loss", "held_out_mean_iou")),
        ("Semi-supervised: loss", ("loss",)),
    )
    for (title, keys), made in zip(shown, trainings, strict=True):
        history = made.get("history") or []
        if history:
            drawn = [k for k in keys if k in history[0]]
            lines = {k: [(row.get("epoch") or at, row.get(k)) for at, row in enumerate(history, 1)] for k in drawn}
            curves.append(_curve(title, lines))
    return curves


def _curve(title: str, lines: dict[str, list[tuple[float, float | None]]]) -> dict[str, Any]:
    """Returns one curve in pixels of the page: the points of each line, and the labels of the axes."""
    points = {name: [(x, y) for x, y in line if y is not None] for name, line in lines.items()}
    xs = [x for line in points.values() for x, _ in line] or [0.0]
    ys = [y for line in points.values() for _, y in line] or [0.0]
    low, high, top = min(xs), max(xs), max(*ys, 1e-9)

    def place(x: float, y: float) -> str:
        left = MARGIN + (x - low) / ((high - low) or 1) * (WIDTH - 2 * MARGIN)
        return f"{left:.1f},{HEIGHT - MARGIN - y / top * (HEIGHT - 2 * MARGIN):.1f}"

    drawn = [(name, " ".join(place(x, y) for x, y in line)) for name, line in points.items()]
    return {"title": title, "lines": drawn, "x": (low, high), "top": top, "width": WIDTH, "height": HEIGHT, "margin": MARGIN}
