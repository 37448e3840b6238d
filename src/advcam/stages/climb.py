"""Classifier and labels -> a map for every class of every image, with the plain maps beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from advcam.attribution import ClimbSettings, settings, strided_size
from advcam.data import Item, NetworkInput
from advcam.errors import SettingsError, StoreError
from advcam.extractor import AdvCAM, Maps
from advcam.kinds import check_kinds
from advcam.store import RunFolder, StoredMaps, save_maps

from .context import RESTORE, Context, network_input, trained_classifier


@dataclass(frozen=True)
class ClimbConfig:
    """How to climb.

    Args:
        preset: of :data:`advcam.PRESETS`.
        changes: settings of the preset to change, by name.
        keep: write the maps. Without, this step only records how to climb, and refine climbs as it needs them: no disk is
            taken, and seeds cannot be scored.
    """

    preset: str = "default"
    changes: dict[str, Any] = field(default_factory=dict)
    keep: bool = True

    def __post_init__(self) -> None:
        check_kinds(self)  # what cannot work is said before hours are spent on what comes first
        self.settings()

    def settings(self) -> ClimbSettings:
        """The preset's settings with the changes."""
        if "preset" in self.changes:
            raise SettingsError("a climb has no setting 'preset' beside its preset; --preset chooses it")
        return settings(self.preset, **self.changes)

    def at(self, precision: str) -> ClimbConfig:
        """The same climb at a precision."""
        return replace(self, changes=self.changes | {"precision": precision})

    def record(self) -> dict[str, Any]:
        """All that changes the maps, as plain data; :meth:`from_record` reads it."""
        return asdict(self.settings()) | ({} if self.keep else {"keep": False})

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> ClimbConfig:
        """The config that :meth:`record` described; a record of a version that knew no emphasis has none."""
        changes = {"ceiling": None, "emphasis": "none"} | {name: value for name, value in record.items() if name != "keep"}
        if "threshold" in changes:
            changes["tau"] = changes.pop("threshold")  # as it was called
        if changes.get("penalty") == "mean":
            changes["penalty"] = "relative"  # the same, of class activation maps
        return cls(changes=changes, keep=record.get("keep", True))


def recorded(run: RunFolder) -> ClimbConfig | None:
    """How a run climbs; None where that step was not taken up.

    Raises:
        StoreError: settings that no climb has.
    """
    made = run.recorded("climb")
    try:
        return ClimbConfig.from_record(made) if made else None
    except SettingsError as error:
        raise StoreError(f"{run.root / 'run.json'}: of the climb: {error}; {RESTORE}") from None


def run(context: Context, config: ClimbConfig) -> None:
    """Climbs every class that an image has; writes maps/ID.npz and, of the same views, the plain maps cam/ID.npz.

    Images whose files are both there are not climbed again, unless they share a batch with one that lacks a file.

    Raises:
        NetworkError: a classifier without a class activation map.
    """
    config = config.at(context.precision("climb", config.settings().precision))
    everything = context.data.items
    files = [context.run.maps(item.id, plain) for item in everything for plain in (True, False)] if config.keep else []
    with context.step("climb", config.record(), files) as todo:
        if not todo or not config.keep:
            return
        left = [item for item in everything if not _done(context, item)]
        with context.reporter.bar("climb", len(everything), done=len(everything) - len(left)) as advance:
            for item, maps, plain in climbed(context, config, left):
                save_maps(context.run.maps(item.id), maps)
                save_maps(context.run.maps(item.id, plain=True), plain)
                advance(1)


def climbed(context: Context, config: ClimbConfig, wanted: Sequence[Item]) -> Iterator[tuple[Item, StoredMaps, StoredMaps]]:
    """Images with their AdvCAMs and plain maps, at stride 4 and with maximum 1, as they lie on disk (16 bits).

    Images of one size go together, as many as ``machine.max_pixels`` admits. Batches are those of the whole run,
    whatever is wanted, so maps are the same to the last bit after a kill.

    Raises:
        NetworkError: a classifier without a class activation map.
    """
    if not wanted:
        return
    model, record = trained_classifier(context)
    climber = AdvCAM(model, config.preset, max_pixels=context.runtime.max_pixels, **config.changes)
    names = {item.id for item in wanted}
    for batch in _batches(context.data.items, context.runtime.max_pixels or 2**20):
        if any(item.id in names for item in batch):
            made = _climb_batch(context, climber, network_input(record), batch)
            yield from ((item, *maps) for item, maps in zip(batch, made, strict=True) if item.id in names)


def _done(context: Context, item: Item) -> bool:
    return context.run.maps(item.id).is_file() and context.run.maps(item.id, plain=True).is_file()


def _batches(items: Sequence[Item], pixels: int) -> Iterator[list[Item]]:
    """Images of one size, at most so many pixels (at least one image) together."""
    by_size: dict[tuple[int, int], list[Item]] = {}
    for item in items:
        by_size.setdefault(item.size, []).append(item)
    for size, same in by_size.items():
        count = max(1, pixels // (size[0] * size[1]))
        yield from (same[at : at + count] for at in range(0, len(same), count))


def _climb_batch(
    context: Context, climber: AdvCAM, prepare: NetworkInput, items: list[Item]
) -> list[tuple[StoredMaps, StoredMaps]]:
    shown = [item for item in items if item.labels]
    found: Maps | None = None
    if shown:
        images = torch.stack([prepare(item.read()) for item in shown])
        found = climber(images.to(context.runtime.torch_device()), [item.labels for item in shown])
    rows = {item.id: row for row, item in enumerate(shown)}
    return [
        (_stored(context, item, found, rows), _stored(context, item, found.plain if found else None, rows)) for item in items
    ]


def _stored(context: Context, item: Item, maps: Maps | None, rows: dict[str, int]) -> StoredMaps:
    """One image's maps at stride 4 of its own size, with maximum 1; none for an image without a class."""
    grid = strided_size(item.size)
    values = torch.zeros(0, *grid)
    if maps is not None and item.labels:
        values = maps.normalised(grid)[maps.image == rows[item.id]].cpu().half().float()
    return StoredMaps(tuple(context.data.classes.ids[at] for at in item.labels), values, item.size)
