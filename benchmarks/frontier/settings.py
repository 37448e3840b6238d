"""The settings that are compared, and which climbs their maps can be taken from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from advcam.attribution import ClimbSettings, settings
from advcam.studies.climbs import as_they_are


@dataclass(frozen=True)
class Setting:
    """Maps to measure.

    Args:
        name: in the table.
        preset: of :data:`advcam.PRESETS`.
        changes: settings of it to change.
    """

    name: str
    preset: str
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def climb(self) -> ClimbSettings:
        """The climb, in float32 where ``changes`` do not say otherwise."""
        return settings(self.preset, **({"precision": "float32"} | self.changes))


def _named(mirror: bool, scales: tuple[float, ...]) -> str:
    where = "" if scales == (1.0,) else f", scales {', '.join(f'{s:g}' for s in scales)}"
    return where + (", mirror" if mirror else "")


def _settings() -> list[Setting]:
    """Plain maps, then climbs of pixels of several lengths, scales and mirror images, then climbs of features."""
    found = []
    for scales in ((1.0,), (0.5,), (0.75,), (1.5,), (2.0,), (0.5, 1.0), (1.0, 2.0), (0.5, 1.0, 1.5, 2.0)):
        found.append(Setting(f"plain{_named(False, scales)}", "default", {"steps": 1, "scales": scales}))
    found.append(Setting("plain, mirror", "default", {"steps": 1, "mirror": True}))
    for name, size in (("steps of .01", 0.01), ("default", 0.02)):
        for steps in (2, 3, 4, 8):
            found.append(Setting(f"{name}, T = {steps}", "default", {"steps": steps, "step_size": size}))
    for scales in ((0.5,), (0.75,), (2.0,), (0.5, 1.0), (0.75, 1.0), (1.0, 2.0)):
        for steps in (2, 3, 4) if max(scales) <= 1 else (4,):
            changes = {"steps": steps, "scales": scales}
            found.append(Setting(f"default, T = {steps}{_named(False, scales)}", "default", changes))
    for scales in ((0.5,), (1.0,)):
        for steps in (2, 4):
            changes = {"steps": steps, "scales": scales, "mirror": True}
            found.append(Setting(f"default, T = {steps}{_named(True, scales)}", "default", changes))
    found.append(Setting("multiscale, T = 4", "multiscale"))
    found.append(Setting("fast of pixels, T = 2", "fast", {"space": "pixels"}))
    for preset in ("fast", "features"):
        for steps in (2, 3, 4, 8):
            found.append(Setting(f"{preset}, T = {steps}", preset, {"steps": steps, "space": "features"}))
    return found


SETTINGS = _settings()

SMALL = [setting for setting in SETTINGS if max(setting.climb.scales) <= 1 and not setting.climb.mirror]
"""Those that cost no more than the image's own size and one view."""

CHOICES = [setting for setting in SMALL if setting.climb.scales == (1.0,)]
"""Among them the cheapest good one is chosen, on the first images."""

KEPT = {
    "plain": ("default", 1),
    "default, T = 4": ("default", 4),
    "fast, T = 2": ("fast", 2),
    "features, T = 4": ("features", 4),
    "multiscale, T = 4": ("multiscale", 4),
}
"""Of which ``benchmarks.quality`` keeps counts in the processor's own precision: its way and steps."""


def source(setting: Setting, scale: float) -> ClimbSettings:
    """The climb whose steps a setting sums at a scale: one scale, nothing capped or weighted, any number of steps."""
    return replace(as_they_are(setting.climb), scales=(scale,), steps=1)


def sources(chosen: Iterable[Setting]) -> dict[ClimbSettings, int]:
    """The climbs that settings need, and how many steps of each."""
    needed: dict[ClimbSettings, int] = {}
    for setting in chosen:
        for scale in setting.climb.scales:
            key = source(setting, scale)
            needed[key] = max(needed.get(key, 1), setting.climb.steps_at(scale))
    return needed
