"""What one way of making maps gives on one data set with one network: counts an image, from which every number follows."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advcam.attribution import ClimbSettings, settings, strided_size
from advcam.data import IGNORE, Item
from advcam.metrics import THRESHOLDS, confusion, interval, resampled_seeds, sweep_counts
from advcam.refinement import argmax_mask
from advcam.stages.context import Context
from advcam.stages.refine import similar
from advcam.stages.refine.background import areas, equal_area, separating
from advcam.stages.refine.settings import Affinity, Crf, Pamr, Threshold
from advcam.stages.refine.single import by_crf, by_pamr, by_threshold
from advcam.store import digest
from advcam.studies.cache import Part, Setting, collect
from advcam.studies.climbs import Climber, scored
from advcam.studies.sample import truth

RESAMPLES = 1000


@dataclass(frozen=True)
class Way:
    """A climb to measure.

    Args:
        preset: of :data:`advcam.PRESETS`.
        changes: settings of it to change.
        after: numbers of steps after which the sum is measured; 1 is the plain map of the same views.
    """

    preset: str
    changes: dict[str, object]
    after: tuple[int, ...]

    @property
    def settings(self) -> ClimbSettings:
        """The climb, as long as the longest sum needs."""
        return settings(self.preset, **self.changes, steps=max(self.after))


def chosen_items(context: Context, count: int) -> list[Item]:
    """The last images for scoring that have labels, in an order that their names' hashes give.

    Settings were chosen on the first ones: 55 photographs, 60 objects, 80 scenes, 75 defects.
    """
    shown = [item for item in context.data.eval if item.labels]
    return sorted(shown, key=lambda item: hashlib.sha256(item.id.encode()).hexdigest())[-count:]


def climb_all(context: Context, items: Sequence[Item], ways: dict[str, Way], masks: Path) -> dict[str, list[Part]]:
    """Counts of every image by every way, kept in the run's folder ``quality`` by what they depend on."""
    climber = Climber(context)
    weights = digest((context.run.folder("classify") / "model.safetensors").read_bytes().hex())
    planned = [
        Setting(
            {"way": name},
            {"climb": way.settings.identity(), "after": way.after, "classifier": weights, "form": 1},
            lambda item, way=way: measure(climber, way, masks, item),  # type: ignore[misc]
        )
        for name, way in ways.items()
    ]
    kept, parts, skipped = collect(context.run.root / "quality", planned, items, context.reporter, "climb")
    if skipped or len(kept) != len(items):
        raise SystemExit(f"{len(skipped)} images could not be measured; the first: {skipped[0].reason}")
    return dict(zip(ways, parts, strict=True))


def measure(climber: Climber, way: Way, masks: Path, item: Item) -> Part:
    """Maps and pixel counts at every threshold of one image, after each number of steps."""
    classes = climber.context.data.classes
    mask = truth(masks, item, classes)
    start = time.perf_counter()
    sums = climber.sums(climber.image(item), item.labels, way.settings)
    kept: Part = {"seconds": np.array(time.perf_counter() - start)}
    kept["true"] = torch.bincount(mask[mask != IGNORE], minlength=len(classes) + 1).numpy()
    for t in way.after:
        stored = sums[t - 1].normalised(strided_size(item.size)).cpu().half()
        counts = sweep_counts(scored(sums[t - 1], item.size), [k + 1 for k in item.labels], mask, len(classes) + 1).counts
        kept[f"maps{t}"] = stored.numpy()
        kept[f"hits{t}"] = counts.diagonal(dim1=1, dim2=2).numpy().astype(np.int32)
        kept[f"predicted{t}"] = counts.sum(1).numpy().astype(np.int32)
    return kept


@dataclass(frozen=True)
class Score:
    """Seeds of one way: of the sample (entry 0) and of each resample; shares."""

    mean_iou: Tensor
    noise: Tensor
    threshold: Tensor
    chosen: float
    at_chosen: Tensor
    per_class: list[float]

    @classmethod
    def of(cls, parts: Sequence[Part], t: int, weights: Tensor, chosen: float) -> Score:
        """Scores at the threshold that is best for each resample, and at the one chosen without ground truth."""
        hits, predicted, true = counts_of(parts, t)
        mean_iou, noise = resampled_seeds(hits, predicted, true, weights)
        best = mean_iou.nan_to_num(-1).argmax(1, keepdim=True)
        h, p, g = (x.double().sum(0) for x in (hits, predicted, true))
        at = int(best[0])
        iou = (h[at] / (p[at] + g - h[at])).tolist()
        column = min(range(len(THRESHOLDS)), key=lambda i: abs(THRESHOLDS[i] - chosen))
        thresholds = torch.tensor(THRESHOLDS, dtype=torch.float64)[best[:, 0]]
        return cls(mean_iou.gather(1, best)[:, 0], noise.gather(1, best)[:, 0], thresholds, chosen, mean_iou[:, column], iou)


def counts_of(parts: Sequence[Part], t: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels hit and predicted [n, thresholds, l] by the maps after t steps, and true [n, l]."""
    hits, predicted = (torch.from_numpy(np.stack([part[f"{name}{t}"] for part in parts])) for name in ("hits", "predicted"))
    return hits, predicted, torch.from_numpy(np.stack([part["true"] for part in parts]))


def of_masks(counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """MIoU and noise of the sample and of each resample, of confusion matrices [n, l, l]."""
    hits, predicted, true = counts.diagonal(dim1=1, dim2=2)[:, None], counts.sum(1)[:, None], counts.sum(2)
    mean_iou, noise = resampled_seeds(hits, predicted, true, weights)
    return mean_iou[:, 0], noise[:, 0]


def words(values: Tensor, sign: bool = False) -> str:
    """A percentage and its interval."""
    low, high = interval(values)
    form = "{:+.1f} [{:+.1f}, {:+.1f}]" if sign else "{:.1f} [{:.1f}, {:.1f}]"
    return form.format(*(100 * float(v) for v in (values[0], low, high)))


class Compared:
    """What the images' cells are compared by, as in the refine step, and what follows from it.

    Args:
        context: the run, whose classifier makes the features.
        items: the images.
    """

    def __init__(self, context: Context, items: Sequence[Item]) -> None:
        self.see = similar.seeing(context, Affinity())
        self.items = items

    def of(self, parts: Sequence[Part], t: int) -> Iterator[tuple[Item, Tensor, Tensor | None]]:
        """Yields every image, its maps after t steps, and what their cells are compared by."""
        for item, part in zip(self.items, parts, strict=True):
            maps = torch.from_numpy(part[f"maps{t}"]).float()
            yield item, maps, self.see(item.read(), maps)

    def threshold(self, parts: Sequence[Part], t: int) -> float:
        """Returns the background threshold chosen without ground truth."""
        found = [separating(similar.on_grid(maps, seen), seen) for _, maps, seen in self.of(parts, t) if seen is not None]
        return round(statistics.fmean(best for each in found for best in each), 2)

    def spread(self, parts: Sequence[Part], t: int, threshold: float, then: str) -> tuple[list[Tensor], float]:
        """Returns the maps of every image after the walk, and the threshold of them that corresponds to one before it."""
        before, after, settings = [], [], Affinity(then=then)
        for item, maps, seen in self.of(parts, t):
            after.append(similar.spread(item.read(), maps, seen, settings))
            before.append(maps if seen is None else similar.on_grid(maps, seen))
        return after, equal_area([areas(maps) for maps in before], [areas(maps) for maps in after], threshold)


def masks_of(
    compared: Compared, context: Context, parts: Sequence[Part], t: int, threshold: float, masks: Path, briefly: bool
) -> Iterator[tuple[str, float, Tensor]]:
    """Masks by every way without training: name, background threshold, and the confusion matrix of each image."""
    classes, items = context.data.classes, compared.items
    outputs = len(classes) + 1
    maps = [torch.from_numpy(part[f"maps{t}"]).float() for part in parts]
    walk, after = compared.spread(parts, t, threshold, "none")
    along, after_pamr = compared.spread(parts, t, threshold, "pamr")
    ways = {
        "threshold": (threshold, maps, by_threshold(Threshold(threshold=threshold))),
        "PAMR": (threshold, maps, by_pamr(Pamr(threshold=threshold))),
        "CRF": (threshold, maps, by_crf(Crf(threshold=threshold))),
        "affinity alone": (after, walk, by_threshold(Threshold(threshold=after))),
        "affinity, PAMR": (after_pamr, along, by_threshold(Threshold(threshold=after_pamr))),
        "affinity, CRF": (after, walk, by_crf(Crf(threshold=after))),
    }
    if briefly:  # by the default way alone
        ways = {"affinity, PAMR": ways["affinity, PAMR"]}
    for name, (used, given, refine) in ways.items():
        counts = torch.zeros(len(items), outputs, outputs, dtype=torch.long)
        for row, (item, of_image) in enumerate(zip(items, given, strict=True)):
            found = refine(item.read(), of_image, tuple(k + 1 for k in item.labels))
            ids = argmax_mask(found.maps, found.ids, found.threshold, item.size)
            counts[row] = confusion(ids.long(), truth(masks, item, classes), outputs)
        yield name, used, counts
