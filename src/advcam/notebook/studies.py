"""The finished studies of a run, as Python sees them."""

from __future__ import annotations

import base64
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from advcam.cells import as_read
from advcam.errors import StoreError
from advcam.report.studies import Shown

from .figures import Pictures


@dataclass(frozen=True)
class Study:
    """A finished study of a run's classifier.

    Args:
        name: of the study.
        paragraph: what it found.
        rule: how its numbers were made.
        rows: of its table, each by column; numbers as floats.
        figure: as the study drew it.
    """

    name: str
    paragraph: str
    rule: str
    rows: list[dict[str, str | float]]
    figure: Image.Image

    def plot(self) -> Pictures:
        """Returns its figure, with what it found."""
        return Pictures([[(self.name, self.figure)]], f"{self.paragraph} ({self.rule})")

    def _repr_html_(self) -> str:
        return self.plot()._repr_html_()


def study_of(root: Path, shown: Shown) -> Study:
    """Returns a study that the report shows.

    Args:
        root: the run's folder.
        shown: the study as the report shows it.

    Raises:
        StoreError: a file of it is damaged or gone.
    """
    table = root / shown.table
    try:
        with Image.open(io.BytesIO(base64.b64decode(shown.figure.partition(",")[2]))) as figure:
            image = figure.convert("RGB")
        with table.open(encoding="utf-8", newline="") as file:
            rows = [{name: _number(as_read(cell)) for name, cell in row.items()} for row in csv.DictReader(file, strict=True)]
    except Exception as error:  # Pillow may raise anything on a damaged file
        raise StoreError(f"{table.parent}: a file is damaged or gone ({error}); run the study again") from None
    return Study(shown.name, shown.paragraph, shown.rule, rows, image)


def _number(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
