"""What every study takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from advcam.attribution import ClimbSettings
from advcam.data import Skip
from advcam.errors import RunError, SettingsError
from advcam.metrics import interval
from advcam.stages.context import Context
from advcam.store import digest
from advcam.version import __version__

from .cache import Part, Setting, collect
from .sample import Sample
from .settings import StudyConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The results of a study.

    Args:
        rows: rows of rows.csv, one per setting.
        paragraph: one to three sentences.
        draw: draws the figure.
        rule: how the numbers were made.
        settings: the settings compared, as plain data.
        samples: the sample of each run.
        skipped: the images left out, with reasons.
        curves: rows of curves.csv, of every T; if empty, the file is not written.
    """

    rows: list[Row]
    paragraph: str
    draw: Callable[[Figure], None]
    rule: str
    settings: dict[str, Any]
    samples: list[Sample]
    skipped: list[Skip]
    curves: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """One study of one run.

    Args:
        name: name of the study.
        context: the run.
        config: its settings.
        others: further runs (networks).
    """

    name: str
    context: Context
    config: StudyConfig
    others: tuple[Context, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder RUN/studies/NAME."""
        return self.context.run.root / "studies" / self.name

    def masks(self) -> Path:
        """Returns the folder of the run's ground truth.

        Raises:
            SettingsError: not exactly one was given.
        """
        if len(self.config.masks) != 1:
            came = f"; got {len(self.config.masks)}" if self.config.masks else ""
            raise SettingsError(
                f"advcam study {self.name} compares with ground truth: give one --masks DIR, a folder of ID.png with class"
                f" ids{came}"
            )
        return self.config.masks[0]

    def collect(self, settings: Sequence[Setting], sample: Sample) -> tuple[Sample, list[list[Part]], list[Skip]]:
        """Measures all settings on all images; see :func:`~advcam.studies.cache.collect`.

        Returns:
            The sample that could be used, for each setting the parts of its images, and the images left out.

        Raises:
            RunError: no image could be used.
        """
        place = self.context.run.root / "studies" / "parts"
        kept, parts, failed = collect(place, settings, sample.items, self.context.reporter, f"study {self.name}")
        if not kept:
            raise RunError(f"study {self.name}: none of {len(sample.items)} images can be used; the first: {failed[0].reason}")
        return sample.left(kept), parts, [*sample.skipped, *failed]


def classifier_key(context: Context) -> str:
    """Returns the key of a run's classifier: a hash of everything that changes it.

    Raises:
        RunError: the classify step is not done.
    """
    if not context.run.done("classify"):
        root = context.run.root
        raise RunError(f"{root}: a study needs its classifier, which is not done; `advcam classify --run {root}` does it")
    return str(context.run.state()["steps"]["classify"]["key"])


def identity(context: Context, kind: str, climb: ClimbSettings, **more: Any) -> dict[str, Any]:
    """Returns everything that a part depends on: the classifier, the climb, what is measured, and contents of folders."""
    about = {"kind": kind, "climb": climb.identity(), "classifier": classifier_key(context), "version": __version__}
    return about | {name: _contents(value) if isinstance(value, Path) else value for name, value in more.items()}


def _contents(folder: Path) -> dict[str, str]:
    files = folder.iterdir() if folder.is_dir() else ()  # if it is missing, drawing the sample raises the error
    stamps = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return {"folder": str(folder.resolve()), "files": digest(stamps)}


def with_intervals(**numbers: Float[Tensor, " b"]) -> Row:
    """Returns columns of a table: each number on the sample (entry 0), and the ends of its bootstrap interval."""
    found: Row = {}
    for name, values in numbers.items():
        low, high = interval(values)
        found |= {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
    return found


def percent(numbers: Mapping[str, float], name: str, sign: str = "") -> str:
    """Formats a share of a row with its interval, in per cent: ``45.5 [43.1, 47.9]``; ``sign`` is "+" for differences."""
    value, low, high = (f"{100 * numbers[key]:{sign}.1f}" for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def plain(numbers: Mapping[str, float], name: str, sign: str = "") -> str:
    """Formats a number of a row with its interval: ``1.52 [1.31, 1.77]``."""
    value, low, high = (f"{numbers[key]:{sign}.3g}" for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def verdict(row: Mapping[str, float], name: str = "difference", words: tuple[str, str] = ("better", "worse")) -> str:
    """Words the sign of a difference by its interval: above zero, below zero, or not distinguishable from zero."""
    if row[f"{name}_low"] > 0:
        return words[0]
    return words[1] if row[f"{name}_high"] < 0 else "cannot be told apart"
