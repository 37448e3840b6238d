"""The climbs of a study: one climb per setting gives the maps at every T."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.attribution import ClimbSettings, strided_size
from advcam.data import Item
from advcam.extractor import AdvCAM, Maps
from advcam.stages.context import Context, network_input, trained_classifier
from advcam.stages.maps import recorded


@dataclass
class Climber:
    """A run's classifier, ready to climb its images one at a time.

    Args:
        context: the run, whose classify step is done.
    """

    context: Context
    _climbers: dict[ClimbSettings, AdvCAM] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model, record = trained_classifier(self.context)
        self.prepare = network_input(record)
        climbed = recorded(self.context.run)
        if climbed and climbed.window:
            self.context.reporter.warn(
                f"the run climbed images at their own size (--window {climbed.window}); a study climbs them whole, scaled down"
                f" to the long side of {self.prepare.long_side}, so its maps are others"
            )

    def image(self, item: Item) -> Float[Tensor, "1 b y x"]:
        """Returns the network's input for an image, as in the climb step.

        Raises:
            ImageError: the image cannot be read.
        """
        return self.prepare(item.read())[None].to(self.context.runtime.torch_device())

    def at(self, s: ClimbSettings) -> AdvCAM:
        """Returns the climber with these settings; the same object for equal settings."""
        if s not in self._climbers:
            changes: dict[str, Any] = asdict(s)
            self._climbers[s] = AdvCAM(self.model, max_pixels=self.context.runtime.max_pixels, **changes)
        return self._climbers[s]

    def steps(
        self, image: Float[Tensor, "1 b y x"], labels: tuple[int, ...], s: ClimbSettings
    ) -> Iterator[Float[Tensor, "k h w"]]:
        """Yields the map of each step, at one scale."""
        for step in self.at(s).iterate(image, [list(labels)]):
            assert step.steps is not None, "a step has its own map"
            yield step.steps[:, 0]

    def sums(self, image: Float[Tensor, "1 b y x"], labels: tuple[int, ...], s: ClimbSettings) -> list[Maps]:
        """Returns the AdvCAMs after 1, 2, ... T steps, from one climb of T steps per scale: steps do not depend on T.

        The sum over t steps at a scale is what ``AdvCAM.iterate`` gives; scales are combined as in ``AdvCAM``.
        """
        at_scale, last = [], None
        for scale in s.scales:
            sums = []
            for last in self.at(replace(s, scales=(scale,))).iterate(image, [list(labels)]):
                sums.append(last.grids[0])
            at_scale.append(sums)
        assert last is not None, "a climb has at least one scale and one step"
        first = tuple(sums[0] for sums in at_scale)
        rest: dict[str, Any] = {"image": last.image, "target": last.target, "first": first, "grid": s.grid}
        found = []
        for t in range(1, s.steps + 1):
            counts = [replace(s, steps=t).steps_at(scale) for scale in s.scales]
            grids = [sums[count - 1] for sums, count in zip(at_scale, counts, strict=True)]
            found.append(Maps.of(grids, last.size, **rest))
        return found


def as_they_are(s: ClimbSettings) -> ClimbSettings:
    """Returns the same climb with each step's map unchanged: no ceiling, no weights."""
    return replace(s, ceiling=None, emphasis="none", reach=None, later=1.0)


def scored(maps: Maps, size: tuple[int, int]) -> Float[Tensor, "k y x"]:
    """Returns maps as evaluation reads them: at stride 4, divided by their maximum, in float16, resized to the image."""
    stored = maps.normalised(strided_size(size)).cpu().half().float()
    return F.interpolate(stored[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
