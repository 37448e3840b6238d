"""The finished studies of a run, read from RUN/studies/."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from advcam.errors import StoreError
from advcam.store import RunFolder, read_json
from advcam.store.records import StudyRecord


@dataclass(frozen=True)
class Shown:
    """What the page shows of one study.

    Args:
        name: name of the study.
        paragraph: its findings.
        rule: how its numbers were made.
        figure: the figure as a ``data:`` URL.
        table: the CSV's path relative to the page.
    """

    name: str
    paragraph: str
    rule: str
    figure: str
    table: str


def finished(run: RunFolder) -> list[Shown]:
    """Returns the finished studies of the run's current classifier, by name; skips those of another, and damaged ones."""
    classify = run.state()["steps"].get("classify")
    key = classify["key"] if classify else None
    shown = []
    for path in sorted((run.root / "studies").glob("*/study.json")):
        try:
            shown += _shown(path.parent, read_json(path, StudyRecord), key)
        except (OSError, ValueError, StoreError):
            continue
    return shown


def _shown(folder: Path, about: StudyRecord, key: str | None) -> list[Shown]:
    if about["classifier"] != key:
        return []
    image = base64.b64encode((folder / "figure.png").read_bytes()).decode()
    paragraph = (folder / "paragraph.txt").read_text(encoding="utf-8").strip()
    table = f"studies/{folder.name}/rows.csv"
    return [Shown(about["study"], paragraph, about["rule"], f"data:image/png;base64,{image}", table)]
