"""The finished studies of a run, as they lie in RUN/studies/."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.errors import StoreError
from advcam.store import RunFolder, read_json


@dataclass(frozen=True)
class Shown:
    """What the page shows of one study.

    Args:
        name: of the study.
        paragraph: what was found.
        rule: by which its numbers were made.
        figure: a ``data:`` address.
        table: the CSV's place, as seen from the page.
    """

    name: str
    paragraph: str
    rule: str
    figure: str
    table: str


def finished(run: RunFolder) -> list[Shown]:
    """The studies of the run's present classifier that are done, by name; what speaks of another, or is damaged, is not."""
    key = run.state()["steps"].get("classify", {}).get("key")
    shown = []
    for path in sorted((run.root / "studies").glob("*/study.json")):
        try:
            shown += _shown(path.parent, dict(read_json(path)), key)
        except (OSError, KeyError, ValueError, StoreError):
            continue
    return shown


def _shown(folder: Path, about: dict[str, Any], key: str | None) -> list[Shown]:
    if about["classifier"] != key:
        return []
    picture = base64.b64encode((folder / "figure.png").read_bytes()).decode()
    paragraph = (folder / "paragraph.txt").read_text(encoding="utf-8").strip()
    table = f"studies/{folder.name}/rows.csv"
    return [Shown(about["study"], paragraph, about["rule"], f"data:image/png;base64,{picture}", table)]
