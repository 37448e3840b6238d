"""Counts of every setting on every image, from climbs that are taken once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advcam.attribution import Classifier, ClimbSettings, Step, climb, counted, make_views, strided_size
from advcam.data import IGNORE, Item
from advcam.extractor import Maps
from advcam.metrics import sweep_counts
from advcam.models import find, find_inner, fused, split_at
from advcam.stages.context import Context
from advcam.stages.refine import similar
from advcam.stages.refine.background import separating
from advcam.store import digest, read_arrays
from advcam.studies.cache import Part, collect
from advcam.studies.cache import Setting as Kept
from advcam.studies.climbs import Climber, scored
from advcam.studies.sample import truth

from ..quality.measure import Compared
from .settings import Setting, source, sources


def split(context: Context, count: int) -> tuple[list[Item], list[Item]]:
    """The first images for scoring, on which settings are chosen, and the last, on which none was, by their names' hashes."""
    shown = sorted(
        (item for item in context.data.eval if item.labels), key=lambda item: hashlib.sha256(item.id.encode()).hexdigest()
    )
    return shown[: min(count, len(shown) // 2)], shown[-min(count, len(shown) // 2) :]


def climbed(model: nn.Module, image: Tensor, labels: Sequence[int], s: ClimbSettings, steps: int) -> Part:
    """Map and pressure of every step of every class of an image, as they are: ``maps`` and ``pressure`` [T, k, h, w]."""
    network = find(model, image, None).at(s.precision)
    fast = fused(network, image)
    rows = torch.zeros(len(labels), dtype=torch.long)
    (scale,) = s.scales
    views = make_views(image, scale, s.mirror)
    classifier: Classifier = fast
    if s.space != "pixels":
        features, classifier = split_at(fast, find_inner(network, image), views.flatten(0, 1))
        views = features.unflatten(0, views.shape[:2])
    taken = list(climb(classifier, views, rows, torch.tensor(labels), s, head=network.linear(), steps=steps))
    none = torch.zeros_like(taken[0].maps)
    return {
        "maps": torch.stack([step.maps for step in taken]).numpy(),
        "pressure": torch.stack([none if step.pressure is None else step.pressure for step in taken]).numpy(),
    }


def summed(part: Part, s: ClimbSettings, steps: int) -> tuple[Tensor, Tensor]:
    """The sum over the first steps by a climb's settings, and the first map."""
    maps, pressure = torch.from_numpy(part["maps"][:steps]), torch.from_numpy(part["pressure"][:steps])
    scores, pixels = torch.zeros(maps.shape[1], 1), torch.zeros(maps.shape[1], 1, 1, 1, 1)  # which are not counted
    taken = [Step(m, scores, pixels, None, p) for m, p in zip(maps, pressure, strict=True)]
    total = torch.stack([step.maps for step in counted(iter(taken), s)]).sum(0)
    return total, maps[0]


def of_climbs(parts: dict[ClimbSettings, Part], setting: Setting, size: tuple[int, int], labels: Sequence[int]) -> Maps:
    """The maps of a setting, as :class:`advcam.AdvCAM` makes them."""
    s = setting.climb
    grids, first = zip(*(summed(parts[source(setting, scale)], s, s.steps_at(scale)) for scale in s.scales), strict=True)
    pairs = torch.zeros(len(labels), dtype=torch.long)
    return Maps.of(grids, size, image=pairs, target=torch.tensor(labels), first=first, grid=s.grid)


def counts(context: Context, items: Sequence[Item], chosen: Sequence[Setting], masks: Path) -> dict[str, list[Part]]:
    """Counts of every image by every setting, at every threshold, and the thresholds chosen without ground truth.

    Climbs and counts are kept in the run's folder ``frontier`` by what they depend on.

    Returns:
        For each setting, a part an image: ``hits1`` and ``predicted1`` [thresholds, l], ``true`` [l], ``separating`` [k].
    """
    climber, folder = Climber(context), context.run.root / "frontier"
    about = {"classifier": digest((context.run.folder("classify") / "model.safetensors").read_bytes().hex()), "form": 1}

    needed = sources(chosen)

    def climb_of(one: ClimbSettings, steps: int) -> Kept:
        depends = about | {"climb": one.identity(), "steps": steps}
        return Kept({}, depends, lambda item: climbed(climber.model, climber.image(item), item.labels, one, steps))

    def score_of(one: Setting) -> Kept:
        depends = about | {"maps": one.climb.identity()}
        return Kept({}, depends, lambda item: measure(item, one))

    climbs = _all(folder, [climb_of(one, steps) for one, steps in needed.items()], items, context, "climb")
    rows = {item.id: row for row, item in enumerate(items)}
    see = Compared(context, items).see
    outputs = len(context.data.classes) + 1

    @lru_cache(maxsize=1)
    def looked_at(item: Item) -> tuple[Tensor, Tensor | None]:
        return truth(masks, item, context.data.classes), see(item.read(), torch.zeros(1, *strided_size(item.size)))

    def measure(item: Item, setting: Setting) -> Part:
        row = rows[item.id]
        parts = {one: kept[row] for one, kept in zip(needed, climbs, strict=True)}
        prepared = tuple(climber.image(item).shape[2:])
        maps = of_climbs(parts, setting, (prepared[0], prepared[1]), item.labels)
        mask, seen = looked_at(item)
        found = sweep_counts(scored(maps, item.size), [k + 1 for k in item.labels], mask, outputs).counts
        stored = maps.normalised(strided_size(item.size)).half().float()
        return {
            "true": torch.bincount(mask[mask != IGNORE], minlength=outputs).numpy(),
            "hits1": found.diagonal(dim1=1, dim2=2).numpy().astype(np.int32),
            "predicted1": found.sum(1).numpy().astype(np.int32),
            "separating": _best(stored, seen),
        }

    found = _all(folder, [score_of(one) for one in chosen], items, context, "score")
    return {setting.name: parts for setting, parts in zip(chosen, found, strict=True)}


def _all(folder: Path, planned: list[Kept], items: Sequence[Item], context: Context, what: str) -> list[list[Part]]:
    kept, parts, skipped = collect(folder, planned, items, context.reporter, what)
    if skipped or len(kept) != len(items):
        raise SystemExit(f"{len(skipped)} images could not be measured; the first: {skipped[0].reason}")
    return parts


def cached(context: Context, items: Sequence[Item], s: ClimbSettings, after: Sequence[int], steps: int) -> list[Part] | None:
    """The counts after some steps of a climb that ``benchmarks.quality`` kept; None where it lacks one of these images."""
    weights = digest((context.run.folder("classify") / "model.safetensors").read_bytes().hex())
    depends = {"climb": s.identity(), "after": tuple(after), "classifier": weights, "form": 1}
    place = context.run.root / "quality" / digest(depends)
    paths = [place / f"{item.id}.npz" for item in items]
    if not all(path.is_file() for path in paths):
        return None
    see = Compared(context, items).see
    return [_read(path, steps, item, see) for path, item in zip(paths, items, strict=True)]


def _read(path: Path, t: int, item: Item, see: similar.See) -> Part:
    kept = read_arrays(path)
    maps = torch.from_numpy(kept[f"maps{t}"]).float()
    seen = see(item.read(), maps)
    return {
        "hits1": kept[f"hits{t}"],
        "predicted1": kept[f"predicted{t}"],
        "true": kept["true"],
        "separating": _best(maps, seen),
    }


def _best(maps: Tensor, seen: Tensor | None) -> NDArray[Any]:
    """The threshold of each map that separates the image's features best."""
    return np.array([] if seen is None else separating(similar.on_grid(maps, seen), seen))
