"""What a study is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advcam.attribution import ClimbSettings
from advcam.errors import SettingsError


@dataclass(frozen=True)
class StudyConfig:
    """What to look at, and on which images.

    Args:
        climb: the settings that are varied, or applied as they are.
        masks: folder of ground truth ID.png, of every run that is looked at; growth and landscape need none.
        sample: how many images, drawn with the run's seed; None is 100, or all that a list names.
        list: file naming the images, one a line, instead of the run's images for scoring.
        values: the values to sweep instead of the study's own; of ``iterations`` and ``base`` names.
        longest: the highest T that is looked at; None is the study's own.
        resamples: draws of the bootstrap.
        parts: folder of the telling parts ID.png of generated scenes (growth).
        grid: points a side of the plane (landscape).
        reach: how far the plane goes to either side, in pixel ranges; None is as far as the climb may go, T xi (landscape).
    """

    climb: ClimbSettings
    masks: tuple[Path, ...] = ()
    sample: int | None = None
    list: Path | None = None
    values: tuple[str, ...] | None = None
    longest: int | None = None
    resamples: int = 1000
    parts: Path | None = None
    grid: int = 11
    reach: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("sample", 1), ("longest", 1), ("resamples", 20), ("grid", 3)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"--{name} is at least {least}, got {value}")
        if self.grid % 2 == 0:
            raise SettingsError(f"--grid is odd, so that the image itself is on the plane; got {self.grid}")
        if self.reach is not None and not self.reach > 0:
            raise SettingsError(f"--reach is above 0, got {self.reach}")

    def numbers(self, defaults: tuple[float, ...]) -> tuple[float, ...]:
        """The values to sweep as numbers, ascending.

        Raises:
            SettingsError: something else was given.
        """
        if self.values is None:
            return defaults
        try:
            return tuple(sorted({float(value) for value in self.values}))
        except ValueError:
            raise SettingsError(f"--values takes numbers for this study, e.g. 0,0.5,1; got {','.join(self.values)}") from None

    def names(self, choices: tuple[str, ...]) -> tuple[str, ...]:
        """The values to sweep as names, in the order of the choices.

        Raises:
            SettingsError: a name that is none of them.
        """
        wanted = choices if self.values is None else self.values
        if strange := [name for name in wanted if name not in choices]:
            raise SettingsError(f"--values for this study are of {','.join(choices)}; got {strange[0]!r}")
        return tuple(name for name in choices if name in wanted)
