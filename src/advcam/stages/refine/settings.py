"""The methods that make masks from maps, and their settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from advcam.data import Augmentation
from advcam.errors import SettingsError, known
from advcam.limits import MIN_SIDE
from advcam.options import Config, Option, option
from advcam.stages.start import weights_digest
from advcam.training import Plan, Training


@dataclass(frozen=True, kw_only=True)
class Threshold(Config):
    """A pixel gets the class with the highest map if that exceeds a threshold."""

    threshold: float | None = option(
        None, "background threshold, a share of the map's maximum (affinity: of the refined map, where .6 is about what .3 is"
        " before); none: chosen without ground truth, and printed; lower gives larger masks",
        flag="threshold", least=0, below=1, common=True, example="0.6",
    )  # fmt: skip

    @property
    def background(self) -> float:
        """The background threshold, once it is known."""
        assert self.threshold is not None, "chosen before the method starts"
        return self.threshold


@dataclass(frozen=True, kw_only=True)
class Pamr(Threshold):
    """PAMR refines the maps to the image's edges, then a threshold."""

    iterations: int = option(10, "iterations of PAMR", least=1, most=1000)


@dataclass(frozen=True, kw_only=True)
class Crf(Threshold):
    """A dense CRF refines the labels that a threshold gives."""

    certainty: float = option(0.7, "probability that the CRF gives to the thresholded label", least=0.501, most=0.999)
    iterations: int = option(10, "mean-field iterations", least=1, most=1000)
    gaussian: tuple[float, float] = option((3.0, 3.0), "smoothness: standard deviation in pixels, compatibility")
    bilateral: tuple[float, float, float] = option(
        (50.0, 5.0, 10.0), "appearance: standard deviations in pixels and in colour (0 to 255), compatibility"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for kernel in (self.gaussian, self.bilateral):
            if min(kernel[:-1]) <= 0:
                raise SettingsError(
                    f"crf: the kernels' standard deviations are above 0, before the compatibility; got {kernel}"
                )


@dataclass(frozen=True, kw_only=True)
class Affinity(Threshold):
    """A random walk with restart spreads the maps over cells of similar features, without training; then PAMR or the CRF."""

    temperature: float = option(0.1, "difference of cosines at which a cell counts e times less", least=0.01, most=100)
    restart: float = option(0.02, "probability that the walk returns to where it began", least=1e-3, most=1)
    reach: float = option(0.3, "standard deviation of the walk's steps, a share of the longer side", least=0.01, most=100)
    then: str = option("pamr", "what follows the walk", choices=("none", "pamr", "crf"))
    features: str | None = option(
        None, "a timm network to take the features of; none: the run's classifier", replaces=("features_weights",),
        example="resnet50",
    )  # fmt: skip
    features_weights: str | None = option(None, "file of that network's weights; none: timm's pretrained ones", file=True)


@dataclass(frozen=True, kw_only=True)
class Learnt(Training):
    """Settings that IRN and PSA share: the training of their network, and the random walk."""

    stride: ClassVar[int] = 4

    epochs: int = 3
    scales: tuple[float, float] = (0.5, 1.5)
    frozen: bool = option(True, "keep the backbone frozen, as published; False trains it too")
    beta: float = option(10.0, "power of the affinities in the walk", least=1e-3, most=1000)
    log2_steps: int = option(8, "log2 of the number of steps of the walk", least=0, most=20)
    radius: int = option(5, "radius of the walk's neighbourhood, cells", least=2, most=100)
    pair_radius: int = option(5, "radius of the pairs trained on, cells", least=2, most=100)

    def least_crop(self) -> int:
        """Returns the side of the smallest crop with a cell that has all its neighbours, pixels."""
        return self.stride * (2 * self.pair_radius - 1)

    def plan(self) -> Plan:
        """Returns the training plan."""
        norm = "statistics" if self.frozen else "trained"
        return Plan(self.epochs, self.batch, self.lr, self.lr, self.weight_decay, norm, self.precision)

    def augmentation(self, long_side: int) -> Augmentation:
        """Returns the augmentation of training views."""
        return Augmentation(self.crop, self.scales, long_side)


@dataclass(frozen=True, kw_only=True)
class Irn(Learnt):
    """IRN: boundaries and displacements learnt from confident labels; a random walk, stopped by boundaries, spreads maps."""

    threshold: float = option(
        0.25, "background threshold after the walk, a share of the maximum", flag="threshold", least=0, below=1, common=True
    )
    foreground: float = option(0.35, "map value from which on a class is confident", least=0, most=1)
    background: float = option(0.15, "map value below which background is confident", least=0, most=1)
    pair_radius: int = 10
    power: float = option(1.5, "power of the maps before the walk", least=1e-3, most=100)
    instances: bool = option(False, "write instance masks too")
    min_size: float = option(0.01, "smallest fragment of an instance, a share of the image", least=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background > self.foreground:
            raise SettingsError(f"irn: expected background <= foreground; got {self.background} and {self.foreground}")


@dataclass(frozen=True, kw_only=True)
class Psa(Learnt):
    """PSA: affinities learnt from confident labels; a random walk over them spreads the maps and a background map."""

    stride: ClassVar[int] = 8
    beta: float = 8.0
    foreground: float = option(4.0, "alpha of the confident foreground", least=1e-3, most=1000)
    background: float = option(32.0, "alpha of the confident background", least=1e-3, most=1e6)
    alpha: float = option(16.0, "power of the background map in the walk, (1 - max map)^alpha", least=1e-3, most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.foreground > self.background:
            raise SettingsError(f"psa: expected foreground <= background; got {self.foreground} and {self.background}")


METHODS: dict[str, type[Config]] = {
    "affinity": Affinity, "threshold": Threshold, "pamr": Pamr, "crf": Crf, "psa": Psa, "irn": Irn,
}  # fmt: skip
"""The settings of each method, by name."""

OF_METHODS = {name: about for method in METHODS.values() for name, about in method.options().items()}
"""The settings of all methods; of a name that several share, the last."""

MAPS = ("advcam", "plain")


@dataclass(frozen=True, kw_only=True)
class RefineConfig(Config):
    """How masks are made from maps; ``changes`` are settings of the method, by name."""

    method: str = option(
        "affinity", "how maps become masks", flag="method", choices=tuple(METHODS), common=True, replaces=tuple(OF_METHODS)
    )
    changes: dict[str, Any] = field(default_factory=dict)
    maps: str = option("advcam", "which maps become masks", flag="maps", choices=MAPS)
    margin: float = option(
        0.0, "pixels whose two best labels are closer become 255; in shares of the maximum, of crf and psa probabilities",
        flag="margin", least=0, below=1,
    )  # fmt: skip
    long_side: int = option(640, "larger images are refined at this size, pixels", least=MIN_SIDE, most=10**6)
    corrected: bool = option(
        False, "choose the background threshold on the masks corrected in the explorer, RUN/corrected/masks", flag="corrected",
        replaces=("threshold",),
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        settings = self.settings()  # invalid settings must fail now, not after the steps before
        if self.corrected and not isinstance(settings, Threshold):
            raise SettingsError(f"--corrected chooses the background threshold, and {self.method} has none that is chosen")
        if self.corrected and settings.threshold is not None:
            raise SettingsError(
                "--threshold and --corrected, which chooses one, exclude each other: give one, or --no-corrected"
            )

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Returns its own options and those of every method; of the latter only the threshold has a flag."""
        of_methods = {name: replace(about, flag=None, default=None) for name, about in OF_METHODS.items()}
        return super().options() | of_methods | {"threshold": replace(Threshold.options()["threshold"], default=None)}

    def settings(self) -> Any:
        """Returns the method's settings with the changes.

        Raises:
            SettingsError: an unknown name or an invalid value.
        """
        made, names = METHODS[self.method], METHODS[self.method].options()
        for name in self.changes:
            if name not in names:
                raise SettingsError(f"{self.method} has no setting {name!r}; {known(name, names)}")
        settings = made.from_record(self.changes)
        if isinstance(settings, Learnt):
            settings.plan(), settings.augmentation(self.long_side)
            if settings.crop < settings.least_crop():
                raise SettingsError(
                    f"{self.method}: a crop of {settings.crop} pixels holds no pair of cells in every direction; it must be at"
                    f" least {settings.least_crop()}"
                )
        return settings

    def at(self, precision: str) -> RefineConfig:
        """Returns the same config with another precision if the method trains a network."""
        asked = isinstance(self.settings(), Learnt)
        return replace(self, changes=self.changes | {"precision": precision}) if asked else self

    def identity(self) -> dict[str, Any]:
        """Returns everything that changes the masks: what is in the file of the features' weights, not its name.

        What is in the corrected masks, the step adds.
        """
        weights = self.changes.get("features_weights")
        record = self.record() | ({"features_weights": weights_digest(weights)} if weights else {})
        return record if record.pop("corrected") is False else record | {"corrected": True}

    @property
    def precision(self) -> str | None:
        """Precision of the training of the method's network, if it has one."""
        return getattr(self.settings(), "precision", None)

    def record(self) -> dict[str, Any]:
        """Returns everything that changes the masks, as plain data."""
        own = {"method": self.method, "maps": self.maps, "margin": self.margin, "long_side": self.long_side}
        own |= {"corrected": self.corrected}
        of_method: dict[str, Any] = self.settings().record()
        return own | of_method
