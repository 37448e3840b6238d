"""The page of a run, report.html."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from advcam.attribution import rules
from advcam.data import Dataset, Item
from advcam.errors import ImageError, StoreError
from advcam.progress import Reporter
from advcam.stages.context import redo
from advcam.stages.truth import KINDS, Truth
from advcam.store import RunFolder, atomic_write, read_json, write_text
from advcam.store.masks import voc_palette
from advcam.store.records import ClassifyMetrics, Metrics, ThresholdRecord, TrainingMetrics

from . import figures
from .charts import Chart, paint
from .config import ReportConfig
from .gallery import STATES, Gallery, gallery
from .growth import spread
from .home import command, without_home
from .images import panels, sheet
from .layers import Draw
from .rows import Row, rows_of, worst_first
from .settings import again, settings_of
from .studies import finished
from .truth import truth_shown
from .words import next_commands, percent, summary

MEASURED = ("seed_plain", "seed_advcam", "masks", "predictions", "semi", "instances", "localisation")
SCRIPTS = ("entries.js", "page.js")
SHEET, SHEET_SIDE = 4, 128  # rows of report.png, and the long side of its panels
SORTED = {
    "masks": "mIoU of the mask",
    "advcam": "mIoU of the AdvCAM seed",
    "plain": "mIoU of the plain seed",
    "predictions": "mIoU of the prediction",
    "semi": "mIoU of the semi-supervised prediction",
    "disagreement": "disagreement of mask and prediction",
    "confidence": "confidence of the mask",
    "name": "name",
}
LAYERS = {
    "plain": "plain map",
    "advcam": "AdvCAM",
    "mask": "mask",
    "prediction": "prediction",
    "semi": "prediction, semi-supervised",
    "corrected": "corrected mask",
    "truth": "ground truth",
}


def write_report(
    run: RunFolder,
    data: Dataset,
    config: ReportConfig | None = None,
    reporter: Reporter | None = None,
    whole: bool = False,
) -> Path:
    """Writes ``report.html``: what was made, scores, charts, studies, settings, and every image, the worst first.

    Up to 200 images are inside the page; files of more lie in ``report/images-*``. Also writes ``report.png``: four images,
    evenly spaced from the best to the worst, with their maps and masks.

    Args:
        run: the run folder.
        data: the data set.
        config: the ground truth to show; None shows that of the last evaluation or report.
        reporter: shows progress where there are many images, and warns of damaged files.
        whole: raise instead, once the page is written, if a file of an image is damaged.

    Returns:
        The path of the page.

    Raises:
        StoreError: a record is damaged; with ``whole``, a mask, map or prediction is.
    """
    reporter = reporter or Reporter(quiet=True)
    state = run.state()
    records = _records(run)
    rows, wrong = rows_of(run, data)
    ordered, by = worst_first(rows)
    truth = truth_shown(run, data, config or ReportConfig(), wrong)
    climb = state["steps"]["climb"]["key"] if run.begun("climb") else ""
    draw = partial(Draw, run, data.classes.positions(others=0), data.classes.ids, truth, climb=climb)
    path = run.root / "report.html"
    with gallery(run, data, ordered, lambda side: draw(side=side), reporter) as images:
        write_text(path, without_home(_page(run, data, records, images, by, wrong, truth)))
    _write_sheet(run, data, _best_first(ordered, by))
    if images.damaged:
        more = f", and {len(images.damaged) - 1} more" if len(images.damaged) > 1 else ""
        damage = f"{images.damaged[0]}{more}; {path} shows what is whole"
        if whole:
            raise StoreError(damage)
        reporter.warn(damage)
    return path


class Records(TypedDict):
    """What the steps and ``evaluate`` have measured; empty where they have not."""

    metrics: dict[str, Any]
    classify: Any
    segment: Any
    semi: Any
    threshold: Any


def _records(run: RunFolder) -> Records:
    def read(path: Path, form: type[Any], remedy: str) -> Any:
        return read_json(path, form, remedy) if path.is_file() else {}

    segment, semi = (read(run.folder(step) / "metrics.json", TrainingMetrics, redo(run, step)) for step in ("segment", "semi"))
    return {
        "metrics": dict(read(run.root / "metrics.json", Metrics, "`advcam evaluate` writes it again")),
        "classify": read(run.folder("classify") / "metrics.json", ClassifyMetrics, redo(run, "classify")),
        "segment": segment,
        "semi": semi,
        "threshold": read(run.folder("refine") / "threshold.json", ThresholdRecord, redo(run, "refine")),
    }


def _page(
    run: RunFolder, data: Dataset, records: Records, images: Gallery, by: str, wrong: Sequence[str], truth: Truth | None
) -> str:
    loader = PackageLoader("advcam.report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = percent
    state, metrics, counts = run.state(), records["metrics"], images.counts()
    commands, unknown = again(run, data)
    palette, climbed = voc_palette(), f"AdvCAM, {rules(run.config('climb'))}"
    titles = {name: words for name, words in figures.TITLES.items() if metrics.get(name)}
    titles |= {"seed_advcam": f"seed, {climbed}"} if "seed_advcam" in titles else {}
    return environment.get_template("page.html.j2").render(
        name=run.root.resolve().name,
        style=Markup(loader.get_source(environment, "style.css")[0]),
        script=Markup("\n".join(loader.get_source(environment, name)[0] for name in SCRIPTS)),
        index=images.index | {"colours": [palette[3 * at : 3 * at + 3] for at in range(256)], "sort": by},
        inside=images.inside,
        summary=summary(run, data, metrics, records["classify"] or None, counts),
        next=next_commands(run, {*metrics}, counts),
        wrong=wrong,
        extremes=_extremes(images, by),
        sorted=SORTED[by],
        place=command([str(run.root.resolve())]),
        rows={name: words[0].upper() + words[1:] for name, words in titles.items()},
        boundary=any("boundary" in metrics[name] for name in titles),
        classes=list(zip(data.classes.ids, data.classes.names, strict=True)),
        states=[(key, words, counts[key]) for key, words in STATES.items() if counts[key]],
        sorts=[(key, words) for key, words in SORTED.items() if key in images.index["values"] or key == "name"],
        layers=[(key, LAYERS[key]) for key in images.index["layers"]],
        skipped=len(data.skipped),
        metrics={name: metrics.get(name) for name in MEASURED},
        titles=[*titles],
        doubts=_doubts(metrics.get("ground_truth") or {}),
        classify=records["classify"],
        climbed=climbed,
        charts=_charts(run, data, records, images, str(truth.folder.resolve()) if truth else ""),
        paint=paint,
        studies=finished(run),
        corrected=run.config("refine").get("corrected", False),
        steps=[(s, run.folder(s).name, state["steps"][s], settings_of(run, s)) for s in run.order if run.begun(s)],
        again=commands,
        unknown=unknown,
        versions=state["versions"],
    )


def _extremes(images: Gallery, by: str) -> list[tuple[str, str, float]]:
    """Returns the best and the worst image by the score that the page is ordered by."""
    values = images.index["values"].get(by) if by in ("masks", "advcam", "predictions", "semi", "plain") else None
    found = [(name, value) for name, value in zip(images.index["name"], values or (), strict=False) if value is not None]
    if not found:
        return []
    return [("Best", *max(found, key=lambda one: one[1])), ("worst", *min(found, key=lambda one: one[1]))]


def _charts(run: RunFolder, data: Dataset, records: Records, images: Gallery, truth: str) -> list[Chart]:
    metrics, names = records["metrics"], data.classes.names
    ids = dict(zip(names, data.classes.ids, strict=True))
    trained = {step: records[step] for step in ("classify", "segment", "semi") if records[step]}  # type: ignore[literal-required]
    return [
        *figures.sweep(metrics, records["threshold"] or None, run.config("refine").get("maps", "advcam")),
        *figures.per_class(metrics),
        *figures.confusions(images.confused, names, images.compared, truth),
        *figures.sizes(images.objects, names, truth),
        *(figures.precision(records["classify"], ids) if records["classify"] else []),
        *figures.trainings(trained),
        *figures.together(data),
    ]


def _doubts(truth: dict[str, Any]) -> list[str]:
    """Describes the doubts about the ground truth that the scores rest on."""
    return [f"{truth[kind]} of {truth['masks']} masks {words}" for kind, words in KINDS.items() if truth.get(kind)]


def _best_first(rows: Sequence[Row], by: str) -> list[Item]:
    """Returns the labelled images of an order, worst first, the other way round; only scored ones if there are some."""
    labelled = [row for row in rows if row.item.labels]
    scored = [row for row in labelled if by in row.scores]
    return [row.item for row in (reversed(scored) if scored else labelled)]


def chosen_to_grow(run: RunFolder, data: Dataset, count: int) -> list[Item]:
    """Returns labelled images, evenly spaced from the best to the worst."""
    return spread(_best_first(*worst_first(rows_of(run, data)[0])), count)


def _write_sheet(run: RunFolder, data: Dataset, items: Sequence[Item]) -> None:
    rows = []
    for item in spread(items, SHEET):
        with contextlib.suppress(ImageError, StoreError):
            rows.append(panels(run, item, SHEET_SIDE))
    if rows:
        with atomic_write(run.root / "report.png") as temporary:
            sheet(rows, data.classes).save(temporary, optimize=True)
