"""The settings that are compared, and which climbs their maps can be taken from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from advcam.attribution import ClimbSettings, settings


@dataclass(frozen=True)
class Setting:
    """Maps to measure.

    Args:
        name: in the table.
        preset: of :data:`advcam.PRESETS`.
        changes: settings of it to change.
        later: weight of the maps after the first in the sum; the library has no such setting, and its own is 1.
    """

    name: str
    preset: str
    changes: dict[str, object] = field(default_factory=dict)
    later: float = 1.0

    @property
    def climb(self) -> ClimbSettings:
        """The climb, in float32 where ``changes`` do not say otherwise."""
        return settings(self.preset, **({"precision": "float32"} | self.changes))


LATER = ", later maps x "
"""In the name of a setting that differs from another by their weight alone, and takes as long."""


def _named(mirror: bool, scales: tuple[float, ...]) -> str:
    where = "" if scales == (1.0,) else f", scales {', '.join(f'{s:g}' for s in scales)}"
    return where + (", mirror" if mirror else "")


def _settings() -> list[Setting]:
    """Plain maps, then climbs of the two step sizes at several lengths, then scales and mirror images."""
    found = []
    for scales in ((1.0,), (0.5,), (0.75,), (1.5,), (2.0,), (0.5, 1.0), (1.0, 2.0), (0.5, 1.0, 1.5, 2.0)):
        found.append(Setting(f"plain{_named(False, scales)}", "fast", {"steps": 1, "scales": scales}))
    found.append(Setting("plain, mirror", "fast", {"steps": 1, "mirror": True}))
    for preset in ("default", "fast"):
        for steps in (2, 3, 4, 8):
            found.append(Setting(f"{preset}, T = {steps}", preset, {"steps": steps}))
    for scales in ((0.5,), (0.75,), (2.0,), (0.5, 1.0), (0.75, 1.0), (1.0, 2.0)):
        for steps in (2, 3, 4) if max(scales) <= 1 else (4,):
            found.append(Setting(f"fast, T = {steps}{_named(False, scales)}", "fast", {"steps": steps, "scales": scales}))
    for scales in ((0.5,), (1.0,)):
        for steps in (2, 4):
            changes = {"steps": steps, "scales": scales, "mirror": True}
            found.append(Setting(f"fast, T = {steps}{_named(True, scales)}", "fast", changes))
    found.append(Setting("multiscale, T = 4", "multiscale"))
    for steps, scales, later in ((2, (1.0,), 3.0), (3, (1.0,), 2.0), (2, (0.75,), 3.0), (2, (0.5, 1.0), 3.0)):
        name = f"fast, T = {steps}{_named(False, scales)}"
        found.append(Setting(f"{name}{LATER}{later:g}", "fast", {"steps": steps, "scales": scales}, later))
    for later in (1.0, 3.0):
        for steps in (2, 3, 4, 8):
            name = f"features, T = {steps}" + ("" if later == 1 else f"{LATER}{later:g}")
            found.append(Setting(name, "features", {"steps": steps}, later))
    return found


SETTINGS = _settings()

SMALL = [setting for setting in SETTINGS if max(setting.climb.scales) <= 1 and not setting.climb.mirror]
"""Those that cost no more than the image's own size and one view."""

CHOICES = [setting for setting in SMALL if setting.climb.scales == (1.0,)]
"""Among them the cheapest good one is chosen, on the first images."""

KEPT = {
    "plain": ("fast", 1),
    "default, T = 8": ("default", 8),
    "fast, T = 4": ("fast", 4),
    "multiscale, T = 4": ("multiscale", 4),
}
"""Of which ``benchmarks.quality`` keeps counts in the processor's own precision: its way and steps."""


def source(setting: Setting, scale: float) -> ClimbSettings:
    """The climb whose steps a setting sums at a scale: one scale, nothing capped or weighted, any number of steps."""
    return replace(setting.climb, scales=(scale,), steps=1, ceiling=None, emphasis="none", reach=None)


def sources(chosen: Iterable[Setting]) -> dict[ClimbSettings, int]:
    """The climbs that settings need, and how many steps of each."""
    needed: dict[ClimbSettings, int] = {}
    for setting in chosen:
        for scale in setting.climb.scales:
            key = source(setting, scale)
            needed[key] = max(needed.get(key, 1), setting.climb.steps_at(scale))
    return needed
