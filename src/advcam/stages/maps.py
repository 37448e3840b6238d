"""The source of a run's maps: the climb's files or, if they were not kept, the climb itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, partial
from typing import Any, Self

import torch

from advcam.attribution import PRESETS, ClimbSettings, settings, strided_size
from advcam.attribution.settings import ADDED
from advcam.data import Item, NetworkInput, Windows
from advcam.engines import Unit, reading
from advcam.errors import RunError, SettingsError, StoreError
from advcam.extractor import AdvCAM, Maps
from advcam.options import Config, Option, option, options_of
from advcam.store import RESTORE, RunFolder, StoredMaps, load_maps
from advcam.store.records import ClassifierRecord

from .context import Context, network_input, trained_classifier
from .sharing import left_out

MapSource = Callable[[Sequence[Item]], Iterator[tuple[Item, StoredMaps]]]
"""A function from images to pairs of image and maps, in any order."""


@dataclass(frozen=True, kw_only=True)
class PresetConfig(Config):
    """Settings of a climb: a preset, and ``changes`` to its settings by name."""

    preset: str = option(
        "default", "default, fast, multiscale, features: ours; official: the published code's rules; paper: the printed"
        " equations", flag="preset", choices=tuple(PRESETS), common=True,
        replaces=tuple(f.name for f in fields(ClimbSettings)),
    )  # fmt: skip
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings()  # invalid settings must fail now, not after the steps before

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Returns its own options and every setting of a climb, with the preset's values as defaults."""
        return super().options() | {n: replace(about, default=None) for n, about in options_of(ClimbSettings).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """As of any config; settings that were added since a climb was recorded have what they were then."""
        if isinstance(record, Mapping) and options_of(ClimbSettings).keys() <= record.keys() | ADDED.keys():
            record = ADDED | dict(record)
        return super().from_record(record)

    def settings(self) -> ClimbSettings:
        """Returns the preset's settings with the changes."""
        if "preset" in self.changes:
            raise SettingsError("a climb has no setting 'preset'; choose the preset with --preset")
        return settings(self.preset, **self.changes)

    def record(self) -> dict[str, Any]:
        """All its settings and those of the climb, as plain data."""
        own = {name: value for name, value in super().record().items() if name != "changes"}
        return own | self.of_climb()

    def of_climb(self) -> dict[str, Any]:
        """The settings of the climb as plain data, numbers of one kind however they were written."""
        about = options_of(ClimbSettings)
        return {name: about[name].value(value) for name, value in asdict(self.settings()).items()}


@dataclass(frozen=True, kw_only=True)
class ClimbConfig(PresetConfig):
    """Settings of the climb step."""

    preset: str = "multiscale"
    keep: bool = option(
        True, "write the maps; without them refine climbs as it makes each mask, and seeds cannot be scored", flag="keep-maps"
    )
    window: int | None = option(
        None, "climb images at their own size, whatever the long side, and larger ones in windows of so many pixels that"
        " overlap by a quarter", flag="window", least=64, most=10**6,
    )  # fmt: skip

    @property
    def precision(self) -> str:
        """Precision of the network."""
        return self.settings().precision

    def at(self, precision: str) -> ClimbConfig:
        """Returns the same config with another precision."""
        return replace(self, changes=self.changes | {"precision": precision})

    def identity(self) -> dict[str, Any]:
        """Returns everything that changes the maps: the settings, not the preset's name."""
        own = {name: value for name, value in self.of_climb().items() if name in self.settings().identity()}
        return own | {"keep": self.keep} | ({"window": self.window} if self.window else {})


def recorded(run: RunFolder) -> ClimbConfig | None:
    """Returns the climb settings of a run; None if its climb step was not started.

    Raises:
        StoreError: the recorded settings are invalid.
    """
    try:
        return ClimbConfig.from_record(run.config("climb")) if run.begun("climb") else None
    except SettingsError as error:
        raise StoreError(f"{run.root / 'run.json'}: of the climb: {error}; {RESTORE}") from None


def map_source(context: Context, plain: bool) -> MapSource:
    """Returns the source of the run's plain maps or AdvCAMs: its files, or the climb if they were not kept; bitwise equal.

    It passes over images that the climb has left out.
    """
    of_unit = maps_of_units(context, plain)
    return lambda items: (pair for unit in units_of_maps(context, items) for pair in of_unit(unit))


def units_of_maps(context: Context, wanted: Sequence[Item]) -> list[Unit]:
    """Returns the units in which the maps of images come: one by one from files, in batches where they are climbed."""
    climb = recorded(context.run)
    if climb and not climb.keep:
        return units(context, climb, wanted)
    absent = left_out(context.run, "climb")
    gone = {item.id for item in wanted if absent(item.id) and not context.run.maps(item.id).is_file()}
    return [Unit.single(item.id) for item in wanted if item.id not in gone]


def maps_of_units(context: Context, plain: bool) -> Callable[[Unit], Iterator[tuple[Item, StoredMaps]]]:
    """Returns what gives the wanted images of a unit with their plain maps or AdvCAMs, as :func:`map_source`."""
    climb, items = recorded(context.run), {item.id: item for item in context.data.items}
    if climb is None or climb.keep:
        return lambda unit: ((items[name], maps_of(context, items[name], plain)) for name in unit.wanted)
    made = cache(partial(climbing, context, climb))
    return lambda unit: ((item, first if plain else maps) for item, maps, first in made()(unit))


def maps_of(context: Context, item: Item, plain: bool) -> StoredMaps:
    """Loads the maps of an image, and checks their classes and size.

    Raises:
        RunError: the file is missing, damaged, or another image's; the message says how to make it again.
    """
    climb = f"`advcam climb --run {context.run.root}`"
    try:
        stored = load_maps(context.run.maps(item.id, plain=plain))
    except StoreError as error:
        raise RunError(f"{error}, and {climb} makes what is missing") from None
    wanted = {context.data.classes.ids[at] for at in item.labels}
    if set(stored.classes) != wanted or tuple(stored.size) != tuple(item.size):
        raise RunError(
            f"{context.run.maps(item.id, plain=plain)}: are not the maps of this image: expected classes {sorted(wanted)} and"
            f" size {item.size}, got {sorted(stored.classes)} and {tuple(stored.size)}; delete it, and {climb} makes what is"
            " missing"
        )
    return stored


def climbed(
    context: Context, config: ClimbConfig, wanted: Sequence[Item], ready: tuple[Any, ClassifierRecord] | None = None
) -> Iterator[tuple[Item, StoredMaps, StoredMaps]]:
    """Yields images with their AdvCAMs and plain maps, at stride 4, with maximum 1, rounded to float16 as on disk.

    ``ready`` is the run's classifier and its record, where they are loaded already.

    Raises:
        NetworkError: the classifier has no class activation map.
    """
    if wanted:
        climb = climbing(context, config, ready)
        for unit in units(context, config, wanted):
            yield from climb(unit)


def units(context: Context, config: ClimbConfig, wanted: Sequence[Item]) -> list[Unit]:
    """Returns the batches of which some image is wanted: images of one size, up to ``runtime.max_pixels``.

    They are those of the whole run, whatever is wanted, so a run that is resumed or shared out gives bitwise equal maps.
    Images in windows are climbed one by one.
    """
    names, found = {item.id for item in wanted}, list[Unit]()
    for batch in _batches(context.data.items, context.runtime.max_pixels or 2**20):
        ids = tuple(item.id for item in batch)
        if some := tuple(name for name in ids if name in names):
            in_windows = config.window and max(batch[0].size) > config.window
            found += [Unit.single(name) for name in some] if in_windows else [Unit(ids, some)]
    return found


def climbing(
    context: Context, config: ClimbConfig, ready: tuple[Any, ClassifierRecord] | None = None
) -> Callable[[Unit], Iterator[tuple[Item, StoredMaps, StoredMaps]]]:
    """Returns what climbs the wanted images of a unit, as :func:`climbed` gives them.

    Raises:
        NetworkError: the classifier has no class activation map.
    """
    model, record = ready or trained_classifier(context)
    climber = AdvCAM(model, config.preset, max_pixels=context.runtime.max_pixels, window=config.window, **config.changes)
    items, prepare = {item.id: item for item in context.data.items}, network_input(record)
    if config.window:
        prepare = replace(prepare, long_side=config.window)

    def climb(unit: Unit) -> Iterator[tuple[Item, StoredMaps, StoredMaps]]:
        batch = [items[name] for name in unit.ids]
        if config.window and max(batch[0].size) > config.window:
            yield from ((item, *_climb_in_windows(context, climber, prepare, item)) for item in batch)
        else:
            yield from _climb_batch(context, climber, prepare, batch, set(unit.wanted))

    return climb


def _batches(items: Sequence[Item], pixels: int) -> Iterator[list[Item]]:
    """Yields batches of images of one size, at most ``pixels`` in all but at least one image."""
    by_size: dict[tuple[int, int], list[Item]] = {}
    for item in items:
        by_size.setdefault(item.size, []).append(item)
    for size, same in by_size.items():
        count = max(1, pixels // (size[0] * size[1]))
        yield from (same[at : at + count] for at in range(0, len(same), count))


def _climb_batch(
    context: Context, climber: AdvCAM, prepare: NetworkInput, items: list[Item], wanted: set[str]
) -> list[tuple[Item, StoredMaps, StoredMaps]]:
    """Climbs the wanted images of a batch.

    The others are not read: a wanted image stands in each one's place, so that the batch has the form that it always has, on
    which the last digits depend.
    """
    shown = [item for item in items if item.labels]
    with reading():
        read = {item.id: prepare(item.read()) for item in shown if item.id in wanted}
    found: Maps | None = None
    if read:
        images = torch.stack([read.get(item.id, next(iter(read.values()))) for item in shown])
        found = climber(images.to(context.runtime.torch_device()), [item.labels for item in shown])
    rows = {item.id: row for row, item in enumerate(shown)}
    return [
        (item, _stored(context, item, found, rows), _stored(context, item, found.plain if found else None, rows))
        for item in items
        if item.id in wanted
    ]


def _climb_in_windows(context: Context, climber: AdvCAM, prepare: NetworkInput, item: Item) -> tuple[StoredMaps, StoredMaps]:
    found: Maps | None = None
    if item.labels:
        with reading():
            image = item.read()
        found = climber.in_windows(Windows(image, prepare.normalise, context.runtime.torch_device()), item.labels)
    return _stored(context, item, found, {item.id: 0}), _stored(context, item, found.plain if found else None, {item.id: 0})


def _stored(context: Context, item: Item, maps: Maps | None, rows: dict[str, int]) -> StoredMaps:
    """Returns one image's maps at stride 4 of its own size, with maximum 1; no maps for an image without a class."""
    grid = strided_size(item.size)
    values = torch.zeros(0, *grid)
    if maps is not None and item.labels:
        values = maps.normalised(grid)[maps.image == rows[item.id]].cpu().half().float()
    return StoredMaps(tuple(context.data.classes.ids[at] for at in item.labels), values, item.size)
