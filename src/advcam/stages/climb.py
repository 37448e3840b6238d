"""Classifier and labels -> a map for every class of every picture, with the plain maps beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from advcam.attribution import ClimbSettings, settings, strided_size
from advcam.data import Item, Normalisation, at_least, fit_within, read_image
from advcam.explain import AdvCAM, Maps
from advcam.store import StoredMaps, save_maps

from .context import Context, trained_classifier

LEAST_SIDE = 64  # pixels: smaller pictures are enlarged for the network, whose map of them would have a single cell


@dataclass(frozen=True)
class ClimbConfig:
    """How to climb.

    Args:
        preset: of :data:`advcam.PRESETS`.
        changes: settings of the preset to change, by name.
    """

    preset: str = "default"
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings()  # what cannot work is said before hours are spent on what comes first

    def settings(self) -> ClimbSettings:
        """The preset's settings with the changes."""
        return settings(self.preset, **self.changes)


def run(context: Context, config: ClimbConfig) -> None:
    """Climbs every class that a picture has; writes maps/ID.npz and, of the same views, the plain maps cam/ID.npz.

    Pictures of one size go together, as many as ``machine.max_pixels`` admits; a batch whose files are all there is not
    climbed again. Batches are the same after a kill, so results are, to the last bit.

    Raises:
        NetworkError: a classifier without a class activation map.
    """
    climb = config.settings()
    with context.step("climb", asdict(climb)) as todo:
        if not todo:
            return
        model, record = trained_classifier(context)
        normalise = Normalisation(tuple(record["backbone"]["mean"]), tuple(record["backbone"]["std"]))
        climber = AdvCAM(model, config.preset, max_pixels=context.machine.max_pixels, **config.changes)
        everything = context.data.items
        batches = list(_batches(everything, context.machine.max_pixels or 2**20))
        left = [batch for batch in batches if not all(_done(context, item) for item in batch)]
        with context.reporter.bar("climb", len(everything), done=len(everything) - sum(map(len, left))) as advance:
            for batch in left:
                _climb_batch(context, climber, normalise, batch, record["long_side"])
                advance(len(batch))


def _done(context: Context, item: Item) -> bool:
    return context.run.maps(item.id).is_file() and context.run.maps(item.id, plain=True).is_file()


def _batches(items: Sequence[Item], pixels: int) -> Iterator[list[Item]]:
    """Pictures of one size, at most so many pixels (at least one picture) together."""
    by_size: dict[tuple[int, int], list[Item]] = {}
    for item in items:
        by_size.setdefault(item.size, []).append(item)
    for size, same in by_size.items():
        count = max(1, pixels // (size[0] * size[1]))
        yield from (same[at : at + count] for at in range(0, len(same), count))


def _climb_batch(context: Context, climber: AdvCAM, normalise: Normalisation, items: list[Item], long_side: int) -> None:
    shown = [item for item in items if item.labels]
    climbed = plain = None
    if shown:
        images = torch.stack([normalise(at_least(fit_within(read_image(item.path), long_side), LEAST_SIDE)) for item in shown])
        climbed = climber(images.to(context.machine.torch_device()), [item.labels for item in shown])
        plain = climbed.plain
    for item in items:
        row = shown.index(item) if item.labels else -1
        _write(context, item, climbed, row, plain_maps=False)
        _write(context, item, plain, row, plain_maps=True)


def _write(context: Context, item: Item, maps: Maps | None, row: int, plain_maps: bool) -> None:
    """One picture's maps at stride 4 of its own size, with maximum 1; a picture without a class gets a file of none."""
    grid = strided_size(item.size)
    values = torch.zeros(0, *grid)
    if maps is not None and item.labels:
        values = maps.normalised(grid)[maps.image == row]
    ids = tuple(context.data.classes.ids[at] for at in item.labels)
    save_maps(context.run.maps(item.id, plain=plain_maps), StoredMaps(ids, values, item.size))
