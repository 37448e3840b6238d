"""What every study is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    """What a study found.

    Args:
        rows: of rows.csv, one a setting.
        paragraph: one to three sentences.
        draw: draws the figure.
        rule: by which the numbers were made.
        settings: what was looked at, as plain data.
        samples: the images looked at, of each run.
        skipped: what was left out, and why.
        curves: of curves.csv: more rows, of every T; none where empty.
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
        name: of the study.
        context: the run.
        config: what is asked for.
        others: further runs (networks).
    """

    name: str
    context: Context
    config: StudyConfig
    others: tuple[Context, ...] = ()

    @property
    def folder(self) -> Path:
        """RUN/studies/NAME."""
        return self.context.run.root / "studies" / self.name

    def masks(self) -> Path:
        """The ground truth of the run.

        Raises:
            SettingsError: none was given, or several.
        """
        if len(self.config.masks) != 1:
            came = f"; got {len(self.config.masks)}" if self.config.masks else ""
            raise SettingsError(
                f"advcam study {self.name} compares with ground truth: give one --masks DIR, a folder of ID.png with class"
                f" ids{came}"
            )
        return self.config.masks[0]

    def collect(self, settings: Sequence[Setting], sample: Sample) -> tuple[Sample, list[list[Part]], list[Skip]]:
        """Measures all settings of all images; see :func:`~advcam.studies.parts.collect`.

        Returns:
            The sample that is left, for each setting the parts of its images, and what was left out.

        Raises:
            RunError: no image could be used.
        """
        place = self.context.run.root / "studies" / "parts"
        kept, parts, failed = collect(place, settings, sample.items, self.context.reporter, f"study {self.name}")
        if not kept:
            raise RunError(f"study {self.name}: none of {len(sample.items)} images can be used; the first: {failed[0].reason}")
        return sample.left(kept), parts, [*sample.skipped, *failed]


def classifier_key(context: Context) -> str:
    """The hash of how a run's classifier was made.

    Raises:
        RunError: it is not done.
    """
    if not context.run.done("classify"):
        root = context.run.root
        raise RunError(f"{root}: a study needs its classifier, which is not done; `advcam classify --run {root}` does it")
    return str(context.run.state()["steps"]["classify"]["key"])


def identity(context: Context, kind: str, climb: ClimbSettings, **more: Any) -> dict[str, Any]:
    """All that a part depends on: the classifier, the climb, and what was measured of it; of a folder, what lies in it."""
    about = {"kind": kind, "climb": asdict(climb), "classifier": classifier_key(context), "version": __version__}
    return about | {name: _contents(value) if isinstance(value, Path) else value for name, value in more.items()}


def _contents(folder: Path) -> dict[str, str]:
    files = folder.iterdir() if folder.is_dir() else ()  # where there is none, drawing the sample says so
    stamps = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return {"folder": str(folder.resolve()), "files": digest(stamps)}


def with_intervals(**numbers: Float[Tensor, " b"]) -> Row:
    """Columns of a table: of each number what the sample gives (entry 0), and the ends of the interval of its resamples."""
    found: Row = {}
    for name, values in numbers.items():
        low, high = interval(values)
        found |= {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
    return found


def percent(numbers: Mapping[str, float], name: str, sign: str = "") -> str:
    """A share of a row with its interval, in per cent: ``45.5 [43.1, 47.9]``; ``sign`` "+" for differences."""
    value, low, high = (f"{100 * numbers[key]:{sign}.1f}" for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def plain(numbers: Mapping[str, float], name: str, sign: str = "") -> str:
    """A number of a row with its interval: ``1.52 [1.31, 1.77]``."""
    value, low, high = (f"{numbers[key]:{sign}.3g}" for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def verdict(row: Mapping[str, float], name: str = "difference", words: tuple[str, str] = ("better", "worse")) -> str:
    """What the interval of a difference says: that it is above zero, below, or cannot be told from zero."""
    if row[f"{name}_low"] > 0:
        return words[0]
    return words[1] if row[f"{name}_high"] < 0 else "cannot be told apart"
