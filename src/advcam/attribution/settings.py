"""The settings of a climb, and the presets as literal values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from advcam.errors import SettingsError, known
from advcam.expect import describe
from advcam.limits import MAX_CLIMB_STEPS, MAX_GRID, MAX_SCALE, MAX_VALUE
from advcam.options import option, options_of

from .maps import METHODS

PRESETS: dict[str, dict[str, Any]] = {
    # Ours: every quantity is relative (to the pixel range, to the first map, to a mean over cells): the same numbers anywhere.
    "default": {
        "steps": 4, "step_size": 0.02, "suppress": 0.0, "restrain": 0.0, "tau": 0.5,
        "scales": (1.0,), "mirror": False, "method": "cam", "bounds": None,
        "score": "logit", "weights": "head", "penalty": "relative", "gradient": "maximum", "step_unit": "range",
        "clip": True, "ceiling": 0.25, "emphasis": "gradient", "reach": None, "later": 1.0,
        "halve_small": False, "grid": 1, "space": "pixels", "precision": "auto",
    },
    # Equations 3-7 as printed: logits, raw gradient, L1 sum, no clipping.
    "paper": {
        "steps": 27, "step_size": 0.008, "suppress": 1.0, "restrain": 7.0, "tau": 0.5,
        "scales": (1.0,), "mirror": False, "method": "cam", "bounds": None,
        "score": "logit", "weights": "head", "penalty": "sum", "gradient": "raw", "step_unit": "pixel",
        "clip": False, "ceiling": None, "emphasis": "none", "reach": None, "later": 1.0,
        "halve_small": False, "grid": 1, "space": "pixels", "precision": "float32",
    },
    # The published code, to the letter (parity/climb.npz).
    "official": {
        "steps": 27, "step_size": 0.08, "suppress": 1.0, "restrain": 7.0, "tau": 0.5,
        "scales": (1.0, 0.5, 1.5, 2.0), "mirror": True, "method": "cam", "bounds": None,
        "score": "relu", "weights": "gradient", "penalty": "sum", "gradient": "maximum", "step_unit": "pixel",
        "clip": True, "ceiling": None, "emphasis": "none", "reach": None, "later": 1.0,
        "halve_small": True, "grid": 16, "space": "pixels", "precision": "float32",
    },
    # One backward pass, through the last stage alone; on networks of one grid, such as a ViT, through the whole.
    "fast": {
        "steps": 2, "step_size": 0.05, "suppress": 0.0, "restrain": 0.0, "tau": 0.5,
        "scales": (1.0,), "mirror": False, "method": "cam", "bounds": None,
        "score": "logit", "weights": "head", "penalty": "relative", "gradient": "maximum", "step_unit": "range",
        "clip": True, "ceiling": 0.25, "emphasis": "gradient", "reach": None, "later": 3.0,
        "halve_small": False, "grid": 1, "space": "auto", "precision": "auto",
    },
    # `default` at the image's size and at twice that, for objects of any size: five times its work.
    "multiscale": {
        "steps": 4, "step_size": 0.02, "suppress": 0.0, "restrain": 0.0, "tau": 0.5,
        "scales": (1.0, 2.0), "mirror": False, "method": "cam", "bounds": None,
        "score": "logit", "weights": "head", "penalty": "relative", "gradient": "maximum", "step_unit": "range",
        "clip": True, "ceiling": 0.25, "emphasis": "gradient", "reach": 0.25, "later": 1.0,
        "halve_small": False, "grid": 1, "space": "pixels", "precision": "auto",
    },
    # As `default`, of features of the last but one stage in the place of pixels, which is faster.
    "features": {
        "steps": 4, "step_size": 0.05, "suppress": 0.0, "restrain": 0.0, "tau": 0.5,
        "scales": (1.0,), "mirror": False, "method": "cam", "bounds": None,
        "score": "logit", "weights": "head", "penalty": "relative", "gradient": "maximum", "step_unit": "range",
        "clip": True, "ceiling": 0.25, "emphasis": "gradient", "reach": None, "later": 1.0,
        "halve_small": False, "grid": 1, "space": "features", "precision": "auto",
    },
}  # fmt: skip

PRECISIONS = ("auto", "float32", "bfloat16")
"""Of a network's arithmetic; ``auto`` is for the caller to settle: bfloat16 where the device has units for it."""


@dataclass(frozen=True)
class ClimbSettings:
    """How to climb; each setting is described where it stands. :func:`settings` makes one from a preset.

    Raises:
        SettingsError: a value out of its range.

    Source: Lee et al., CVPR 2021, equations 3-7, and the published code (``PRESETS``); ``ceiling`` and ``emphasis``
        are ours.

    Example:
        >>> ClimbSettings(**PRESETS["paper"]).restrain
        7.0
    """

    steps: int = option(
        help="number of steps, whose maps are summed", flag="steps", symbol="T", common=True, least=1, most=MAX_CLIMB_STEPS
    )
    step_size: float = option(help="length of a step, in the unit of step_unit", flag="step-size", symbol="xi", least=0)
    suppress: float = option(help="weight of the other classes' logits in the objective", flag="suppress", least=0)
    restrain: float = option(
        help="weight of the penalty on cells that are discriminative already", flag="restrain", symbol="lambda", least=0
    )
    tau: float = option(
        help="share of the map's maximum above which a cell is discriminative, 0 to 1",
        flag="tau",
        symbol="tau",
        least=0,
        most=1,
    )
    scales: tuple[float, ...] = option(
        help="factors of the image's size whose maps are summed", flag="scales", above=0, most=MAX_SCALE, example="1,1.5,2"
    )
    mirror: bool = option(help="climb the mirror image too and add its maps", flag="mirror")
    method: str = option(help="how each step's map is made", flag="cam-method", choices=tuple(METHODS))
    bounds: tuple[float, float] | None = option(
        help="least and greatest value of a pixel; none: those of the climb's own pixels", example="0,1"
    )
    score: str = option(
        help="score: logit, their mean over views; relu, mean over cells of ReLU(W f), summed over views (linear head)",
        choices=("logit", "relu"),
    )
    weights: str = option(
        help="channel weights of a map: head, the class's row of the head; gradient, the published code's rule (linear head)",
        choices=("head", "gradient"),
    )
    penalty: str = option(
        help="sum: L1 over cells; relative: mean over cells, in the unit of the score and relative to the first map",
        choices=("relative", "sum"),
    )
    gradient: str = option(
        help="maximum: the gradient divided by its largest magnitude in this climb; raw: as it is", choices=("maximum", "raw")
    )
    step_unit: str = option(
        help="range: step_size is a share of the climb's own pixel range; pixel: in units of the normalised pixels",
        choices=("range", "pixel"),
    )
    clip: bool = option(help="keep the pixels within the range that the climb's own have, or within bounds")
    ceiling: float | None = option(
        help="cut later steps' maps off at this share of the first map's maximum; none: leave them", example="0.25"
    )
    emphasis: str = option(
        help="gradient: later steps' maps are weighted by how hard the pixels below a cell were pushed; none: as they are",
        choices=("none", "gradient"),
    )
    reach: float | None = option(
        help="later steps' maps count near the first map: standard deviation, a share of the map's longer side; none: anywhere",
        example="0.25",
    )
    later: float = option(help="weight of the later steps' maps in the sum; that of the first map is 1", least=0)
    halve_small: bool = option(help="scales below 1 climb T // 2 steps (at most 5 of T <= 10), as in the published code")
    grid: int = option(
        help="size of several scales' maps is rounded up to a multiple of this, then cut; 16 as published",
        least=1,
        most=MAX_GRID,
    )
    space: str = option(
        help="what the steps move: pixels, or features of an inner layer, where stages are known the end of the last but one;"
        " auto: features where the network has such a layer",
        flag="space",
        choices=("auto", "pixels", "features"),
    )
    precision: str = option(
        help="arithmetic of the network; auto: bfloat16 where the device has units for it",
        flag="precision",
        choices=PRECISIONS,
    )

    def __post_init__(self) -> None:
        if not isinstance(self.scales, Sequence) or not all(map(_is_number, self.scales)):
            raise SettingsError(f"scales must be a tuple of factors, for example (1.0, 1.5), got {describe(self.scales)}")
        object.__setattr__(self, "scales", tuple(float(s) for s in self.scales))
        for name in ("steps", "step_size", "suppress", "restrain", "tau", "later", "grid"):
            value = getattr(self, name)
            if not _is_number(value):
                raise SettingsError(f"{name} must be a number, got {describe(value)}")
            object.__setattr__(self, name, _own(value))
        for name in ("mirror", "clip", "halve_small"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} is True or False, got {describe(getattr(self, name))}")
        if not isinstance(self.steps, Integral) or self.steps < 1:
            raise SettingsError(f"steps must be a whole number of at least 1 (1 = the plain map), got {self.steps}")
        if self.steps > MAX_CLIMB_STEPS:
            raise SettingsError(f"steps must be at most {MAX_CLIMB_STEPS}, got {self.steps}")
        if not self.scales or any(not 0 < s <= MAX_SCALE for s in self.scales):
            raise SettingsError(
                f"scales must be positive factors up to {MAX_SCALE:g}, for example (1.0, 1.5), got {self.scales}"
            )
        for name in ("step_size", "suppress", "restrain", "later"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_VALUE:
                raise SettingsError(f"{name} must be a finite number of at least 0 (and at most {MAX_VALUE:g}), got {value}")
        if not 0 <= self.tau <= 1:
            raise SettingsError(f"tau is a share of the map's maximum, from 0 to 1, got {self.tau}")
        if self.ceiling is not None:
            if not (_is_number(self.ceiling) and 0 < self.ceiling <= MAX_VALUE):
                raise SettingsError(
                    f"ceiling is a share of the first map's maximum, above 0, or None; got {describe(self.ceiling)}"
                )
            object.__setattr__(self, "ceiling", _own(self.ceiling))
        if self.reach is not None:
            if not (_is_number(self.reach) and 0 < self.reach <= MAX_VALUE):
                raise SettingsError(f"reach is a share of the map's longer side, above 0, or None; got {describe(self.reach)}")
            object.__setattr__(self, "reach", _own(self.reach))
        if not isinstance(self.grid, Integral) or not 1 <= self.grid <= MAX_GRID:
            raise SettingsError(f"grid must be a whole number from 1 to {MAX_GRID}, got {self.grid}")
        if self.bounds is not None:
            ends = self.bounds if isinstance(self.bounds, Sequence) else ()
            if len(ends) != 2 or not all(_is_number(e) and abs(e) <= MAX_VALUE for e in ends) or ends[0] >= ends[1]:
                raise SettingsError(
                    f"bounds are the least and the greatest pixel, for example (0.0, 1.0); got {describe(self.bounds)}"
                )
            object.__setattr__(self, "bounds", (float(ends[0]), float(ends[1])))
            if self.space != "pixels":
                raise SettingsError(f"bounds are of pixels: give space='pixels' too; got space={self.space!r}")
        for name, about in options_of(ClimbSettings).items():
            if about.choices and (not isinstance(getattr(self, name), str) or getattr(self, name) not in about.choices):
                raise SettingsError(f"{name} is one of {', '.join(about.choices)}, got {describe(getattr(self, name))}")
        if self.weights == "gradient" and self.method != "cam":
            raise SettingsError(f"weights='gradient' (the published code's) go with method='cam'; got method={self.method!r}")

    def identity(self) -> dict[str, Any]:
        """What makes the maps others, as plain data; without what was added and changes nothing, so that older results count.

        Returns:
            The settings by name.
        """
        return {name: value for name, value in asdict(self).items() if (name, value) not in ADDED.items()}

    def steps_at(self, scale: float) -> int:
        """Steps climbed at a scale: T, or fewer below scale 1 where ``halve_small`` asks for it.

        Args:
            scale: factor of the image's size, above 0.

        Returns:
            The number of maps that are summed at this scale.
        """
        if scale >= 1 or not self.halve_small:
            return self.steps
        return self.steps // 2 if self.steps > 10 else min(self.steps, 5)


def _is_number(value: object) -> bool:
    """Python's or numpy's, not True or False, not a whole number beyond all floats."""
    return (
        isinstance(value, Real) and not isinstance(value, bool) and (not isinstance(value, Integral) or abs(int(value)) < 2**63)
    )


def _own(number: Any) -> Any:
    """Python's number for another's, such as numpy's; a setting of Python's own stays as it was written."""
    return number if type(number) in (int, float) else int(number) if isinstance(number, Integral) else float(number)


ADDED: dict[str, Any] = {"space": "pixels", "later": 1.0}
"""Settings that were added since the first climbs were recorded, and what they were then."""

_RULES = (
    "score",
    "weights",
    "penalty",
    "gradient",
    "step_unit",
    "clip",
    "ceiling",
    "emphasis",
    "reach",
    "later",
    "halve_small",
    "grid",
    "space",
)


def rules(made: Mapping[str, Any]) -> str:
    """By whose rules a climb goes, to be said wherever its numbers are: those of the published code, or ours.

    Args:
        made: its settings by name.

    Returns:
        The words; one's own where the settings are no preset's.

    Source: ours.

    Example:
        >>> rules(PRESETS["official"] | {"steps": 5}), rules(PRESETS["fast"])
        ('published rules', 'fast preset (ours)')
    """
    said = {
        "official": "published rules",
        "paper": "equations as printed",
        "default": "default preset (ours)",
        "fast": "fast preset (ours)",
        "multiscale": "multiscale preset (ours)",
        "features": "features preset (ours)",
    }
    made = ADDED | dict(made)

    def by(preset: str) -> bool:
        """Whether the rules are the preset's, or what its ``auto`` may be."""
        return all(PRESETS[preset][name] in (made.get(name), "auto") for name in _RULES)

    same = (words for preset, words in said.items() if by(preset))
    return next(same, "rules of this run's own")


def settings(preset: str = "default", **changes: Any) -> ClimbSettings:
    """A preset's settings with some of them changed.

    Args:
        preset: of ``PRESETS``.
        changes: settings by name.

    Returns:
        The settings, checked.

    Raises:
        SettingsError: an unknown preset or setting, the message lists the known ones; or a value out of its range.

    Source: the presets ``paper`` and ``official`` are Lee et al., CVPR 2021, equations 3-7, and its published code.

    Example:
        >>> settings("official", steps=5).scales
        (1.0, 0.5, 1.5, 2.0)
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise SettingsError(f"no preset is called {describe(preset)}; {known(describe(preset), PRESETS)}")
    names = [f.name for f in fields(ClimbSettings)]
    for name in changes:
        if name not in names:
            raise SettingsError(f"a climb has no setting {name!r}; {known(name, names)}")
    return ClimbSettings(**(PRESETS[preset] | changes))
