"""Settings of the studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advcam.attribution import ClimbSettings
from advcam.errors import SettingsError
from advcam.options import option
from advcam.stages.maps import PresetConfig


@dataclass(frozen=True, kw_only=True)
class StudyConfig(PresetConfig):
    """The images, values and ground truth of a study; settings of the climb default to the run's own."""

    masks: tuple[Path, ...] = option(
        (), "ground truth, ID.png with class ids; with several runs once for each, in their order", flag="masks", repeat=True,
        common=True,
    )  # fmt: skip
    sample: int | None = option(
        None,
        "how many images, drawn with the run's seed; none: 100, or all that a list names",
        flag="sample",
        least=1,
        common=True,
    )
    list: Path | None = option(None, "these images, one a line; none: those for scoring", flag="list", common=True)
    values: tuple[str, ...] | None = option(
        None, "instead of its own values; iterations: some of none,suppress,restrain,both; base: methods", flag="values",
        common=True, example="0,0.5,1",
    )  # fmt: skip
    longest: int | None = option(
        None, "largest T; none: the run's, twice that in iterations and growth", flag="longest", least=1, common=True
    )
    resamples: int = option(1000, "bootstrap resamples", flag="resamples", least=20, most=10**6)
    parts: Path | None = option(None, "growth: folder of telling parts ID.png of generated scenes", flag="parts")
    points: int = option(11, "landscape: points a side of the plane, odd", flag="grid", least=3, most=1001)
    reach: float | None = option(
        None, "landscape: how far the plane goes to either side, in pixel ranges; none: T xi", flag="reach", above=0
    )
    runs: tuple[Path, ...] = option((), "networks: run folders beside --run", flag="runs", common=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points % 2 == 0:
            raise SettingsError(f"--grid is odd, so that the image itself is on the plane; got {self.points}")

    @property
    def climb(self) -> ClimbSettings:
        """The settings of the climb, which the study varies or applies unchanged."""
        return self.settings()

    def numbers(self, defaults: tuple[float, ...]) -> tuple[float, ...]:
        """Returns the values to sweep as numbers, ascending.

        Raises:
            SettingsError: a value is not a number.
        """
        if self.values is None:
            return defaults
        try:
            return tuple(sorted({float(value) for value in self.values}))
        except ValueError:
            raise SettingsError(f"--values takes numbers for this study, e.g. 0,0.5,1; got {','.join(self.values)}") from None

    def names(self, choices: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the values to sweep as names, in the order of the choices.

        Raises:
            SettingsError: a name is not one of the choices.
        """
        wanted = choices if self.values is None else self.values
        if strange := [name for name in wanted if name not in choices]:
            raise SettingsError(f"--values for this study are of {','.join(choices)}; got {strange[0]!r}")
        return tuple(name for name in choices if name in wanted)
