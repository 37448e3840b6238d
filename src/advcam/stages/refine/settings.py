"""The methods from maps to masks, and their settings."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from advcam.data import Augmentation
from advcam.errors import SettingsError, known
from advcam.kinds import check_kinds
from advcam.training import Plan


@dataclass(frozen=True)
class Threshold:
    """A class where its map is the strongest and exceeds a constant.

    Args:
        threshold: the constant, a share of the map's maximum. Fixed beforehand: no ground truth is looked at.
    """

    threshold: float = 0.3


@dataclass(frozen=True)
class Pamr:
    """The maps follow the image's edges first.

    Args:
        threshold: as in :class:`Threshold`.
        iterations: rounds.
    """

    threshold: float = 0.3
    iterations: int = 10


@dataclass(frozen=True)
class Crf:
    """A dense CRF on the labels that a threshold gives.

    Args:
        threshold: as in :class:`Threshold`.
        certainty: probability of the label that the CRF is given.
        iterations: of the mean field.
        gaussian: standard deviation in pixels and compatibility of the smoothness kernel.
        bilateral: standard deviations in pixels and in colour (0 to 255), compatibility of the appearance kernel.
    """

    threshold: float = 0.3
    certainty: float = 0.7
    iterations: int = 10
    gaussian: tuple[float, float] = (3.0, 3.0)
    bilateral: tuple[float, float, float] = (50.0, 5.0, 10.0)


@dataclass(frozen=True)
class Learnt:
    """What IRN and PSA share: how their network is trained.

    Args:
        epochs: passes over the training images.
        batch: images a step.
        lr: of AdamW, with polynomial decay.
        weight_decay: of AdamW.
        crop: side of the training crops, pixels.
        scales: smallest and largest factor of the training views.
        precision: of the training, see :class:`advcam.training.Plan`.
        frozen: the backbone stays as it is, as published; a small one that knows nothing but its classes may need to learn too.
        beta: power of the affinities in the walk.
        log2_steps: the walk takes 2 to this power steps.
        radius: of the neighbourhood of the walk, cells.
        pair_radius: of the neighbourhood of the pairs trained on, cells.
    """

    stride: ClassVar[int] = 4

    epochs: int = 3
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-4
    crop: int = 320
    scales: tuple[float, float] = (0.5, 1.5)
    precision: str = "auto"
    frozen: bool = True
    beta: float = 10.0
    log2_steps: int = 8
    radius: int = 5
    pair_radius: int = 5

    def least_crop(self) -> int:
        """Side of the smallest crop with a cell that has all its neighbours, pixels."""
        return self.stride * (2 * self.pair_radius - 1)

    def plan(self) -> Plan:
        """How the training goes."""
        norm = "statistics" if self.frozen else "trained"
        return Plan(self.epochs, self.batch, self.lr, self.lr, self.weight_decay, norm, self.precision)

    def augmentation(self, long_side: int) -> Augmentation:
        """How training views are taken."""
        return Augmentation(self.crop, self.scales, long_side)


@dataclass(frozen=True)
class Irn(Learnt):
    """Boundaries and displacements learnt from confident labels; maps spread by a random walk that boundaries stop.

    Args:
        threshold: background threshold after the walk.
        foreground: threshold of confident classes.
        background: threshold of confident background.
        power: of the maps before the walk.
        instances: write instance masks too.
        min_size: smallest fragment of an instance, as a share of the image.
    """

    threshold: float = 0.25
    foreground: float = 0.35
    background: float = 0.15
    pair_radius: int = 10
    power: float = 1.5
    instances: bool = False
    min_size: float = 0.01


@dataclass(frozen=True)
class Psa(Learnt):
    """Affinities learnt from confident labels; maps and a background map spread by a random walk over them.

    Args:
        foreground: alpha of confident classes.
        background: alpha of confident background.
        alpha: of the background map in the walk, ``(1 - max map)^alpha``.
    """

    stride: ClassVar[int] = 8
    beta: float = 8.0
    foreground: float = 4.0
    background: float = 32.0
    alpha: float = 16.0


METHODS: dict[str, type] = {"threshold": Threshold, "pamr": Pamr, "crf": Crf, "psa": Psa, "irn": Irn}
"""Every way by its name, with what can be set."""

MAPS = ("advcam", "plain")

KINDS = {int: "a whole number", float: "a number", str: "a name", bool: "True or False", tuple: "several numbers"}
RANGES = {
    "iterations": (1, 1000),
    "certainty": (0.501, 0.999),  # above chance for two labels
    "radius": (2, 100),
    "pair_radius": (2, 100),
    "log2_steps": (0, 20),
    "beta": (1e-3, 1000),
    "power": (1e-3, 100),
    "alpha": (1e-3, 1000),
    "min_size": (0, 1),
    "foreground": (1e-3, 1000),
}


@dataclass(frozen=True)
class RefineConfig:
    """How masks are made of maps.

    Args:
        method: of :data:`METHODS`.
        changes: settings of the method to change, by name.
        maps: ``advcam``, or ``plain`` for comparison.
        margin: pixels whose best label is less than this ahead of the second become 255; in shares of the maps' maximum, of
            CRF and PSA in probabilities.
        long_side: larger images are refined at this size.
    """

    method: str = "pamr"
    changes: dict[str, Any] = field(default_factory=dict)
    maps: str = "advcam"
    margin: float = 0.0
    long_side: int = 640

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.method not in METHODS:
            raise SettingsError(f"no refinement is called {self.method!r}; {known(self.method, METHODS)}")
        if self.maps not in MAPS:
            raise SettingsError(f"maps are {' or '.join(MAPS)}, got {self.maps!r}")
        if not 0 <= self.margin < 1:
            raise SettingsError(f"the margin is a difference of values in [0, 1]; got {self.margin}")
        self.settings()  # what cannot work is said before hours are spent on what comes first

    def settings(self) -> Any:
        """The method's settings with the changes.

        Raises:
            SettingsError: a name that the method does not have, or a value that cannot work.
        """
        made = METHODS[self.method]
        names = [f.name for f in fields(made)]
        for name in self.changes:
            if name not in names:
                raise SettingsError(f"{self.method} has no setting {name!r}; {known(name, names)}")
        settings = made(**self.changes)
        _check(self.method, asdict(settings))
        if isinstance(settings, Learnt):
            settings.plan(), settings.augmentation(self.long_side)
            if settings.crop < settings.least_crop():
                raise SettingsError(
                    f"{self.method}: a crop of {settings.crop} pixels holds no pair of cells in every direction; it must be at"
                    f" least {settings.least_crop()}"
                )
        return settings

    def record(self) -> dict[str, Any]:
        """All that changes the masks, as plain data."""
        return {
            "method": self.method,
            "maps": self.maps,
            "margin": self.margin,
            "long_side": self.long_side,
            **asdict(self.settings()),
        }


def _check(method: str, settings: dict[str, Any]) -> None:
    """Kinds and ranges that all methods share."""
    for name, default in asdict(METHODS[method]()).items():
        value: Any = settings[name]
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if type(value) not in kinds:
            raise SettingsError(f"{method}: {name} is {KINDS[type(default)]} such as {default}; got {value!r}")
        if isinstance(default, tuple) and not (len(value) == len(default) and all(isinstance(v, (int, float)) for v in value)):
            raise SettingsError(f"{method}: {name} is {len(default)} numbers such as {default}; got {value!r}")
    if not 0 <= settings.get("threshold", 0) < 1:
        raise SettingsError(f"the background threshold is a share of the map's maximum, 0 to 1; got {settings['threshold']}")
    for name, (least, most) in RANGES.items():
        if name in settings and not least <= settings[name] <= most:
            raise SettingsError(f"{method}: {name} is from {least:g} to {most:g}; got {settings[name]}")
    for name in settings.keys() & {"gaussian", "bilateral"}:
        if not all(0 < v < math.inf for v in settings[name][:-1]) or not math.isfinite(settings[name][-1]):
            raise SettingsError(f"{method}: {name} is standard deviations above 0 and a weight; got {settings[name]}")
    low, high = ("background", "foreground") if method == "irn" else ("foreground", "background")
    most = 1 if method == "irn" else math.inf  # thresholds; powers
    if low in settings and not 0 <= settings[low] <= settings[high] <= most:
        raise SettingsError(f"{method}: expected 0 <= {low} <= {high} <= {most}; got {settings[low]} and {settings[high]}")
