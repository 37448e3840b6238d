"""Runs a study and writes its results to RUN/studies/NAME/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from advcam.data import Skip
from advcam.stages.context import Context, list_skips
from advcam.store import csv_text, write_json, write_text
from advcam.version import __version__

from . import growth, landscape, networks, sweeps
from .settings import StudyConfig
from .study import Outcome, Row, Study, classifier_key

STUDIES: dict[str, Callable[[Study], Outcome]] = {
    "iterations": sweeps.iterations,
    "restrain": sweeps.restrain,
    "tau": sweeps.tau,
    "step-size": sweeps.step_size,
    "growth": growth.growth,
    "landscape": landscape.landscape,
    "base": sweeps.base,
    "networks": networks.networks,
}


def run(name: str, context: Context, config: StudyConfig, others: Sequence[Context] = ()) -> tuple[Path, list[Skip]]:
    """Runs a study of a run; parts that exist for the same settings are not computed again.

    Writes study.json, rows.csv (curves.csv), figure.png, paragraph.txt and, if something was left out, skipped.csv.

    Args:
        name: name of the study, of :data:`STUDIES`.
        context: the run, whose classify step is done.
        config: settings of the study.
        others: further runs (networks).

    Returns:
        The study's folder, and the images left out.

    Raises:
        RunError: the run has no classifier, or no image can be used.
        SettingsError: a setting that the study needs is missing.
        DataError: masks or list cannot be used.
    """
    from . import figures

    context.run.see_no_links(context.run.root / "studies")
    key, study = classifier_key(context), Study(name, context, config, tuple(others))
    found = STUDIES[name](study)
    folder = study.folder
    write_text(folder / "rows.csv", _table(found.rows))
    if found.curves:
        write_text(folder / "curves.csv", _table(found.curves))
    figures.save(folder / "figure.png", found.draw)
    write_text(folder / "paragraph.txt", found.paragraph + "\n")
    list_skips(folder / "skipped.csv", found.skipped)
    write_json(folder / "study.json", _about(study, found, key))  # written last: it marks the study as finished
    return folder, found.skipped


def _about(study: Study, found: Outcome, classifier: str) -> dict[str, Any]:
    return {
        "study": study.name,
        "classifier": classifier,
        "version": __version__,
        "settings": found.settings,
        "rule": found.rule,
        "samples": [sample.record() for sample in found.samples],
        "masks": [str(folder.resolve()) for folder in study.config.masks],
        "resamples": study.config.resamples,
    }


def _table(rows: Sequence[Row]) -> str:
    """Formats rows as CSV: numbers with six digits, NaN as an empty cell."""
    columns = list(rows[0])
    return csv_text(columns, [[_cell(row.get(name, "")) for name in columns] for row in rows])


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if value == value else ""
    return value
