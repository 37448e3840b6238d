"""A background threshold chosen without ground truth, from features and maps of a sample; or on corrected masks."""

from __future__ import annotations

import functools
import operator
import statistics
from collections.abc import Callable

import torch
from PIL.Image import Image
from torch import Tensor

from advcam.data import fit_within
from advcam.errors import RunError
from advcam.metrics import SweepCounts, sweep_counts
from advcam.refinement import separation
from advcam.stages.context import Context, redo
from advcam.stages.maps import MapSource
from advcam.stages.truth import Corrected, Truth, corrected_masks, need_corrected
from advcam.store import digest, read_json, write_json
from advcam.store.records import ThresholdRecord

from .similar import See, on_grid
from .single import resize

SAMPLE = 100
"""Most images that the threshold is chosen from."""
CANDIDATES = [hundredths / 100 for hundredths in range(15, 71)]
"""Below .15 of its maximum a map is mostly background, above .7 it has lost most of the object, on all data measured."""
BALANCE = 0.6
"""Otsu's 1 favours regions of half the image: on defects it chose half of the threshold that is best."""
FALLBACK = 0.3
"""Where no image separates into two."""

RULE = "chosen without ground truth: the mean over maps of where features and colours inside and outside differ most"
"""How it is chosen: of .15 to .70, the largest (a (1 - a))^.6 d, a the share inside, d the squared distance of the means."""
AFTER = "; then what leaves as much background in the refined maps"


Refined = Callable[[Image, Tensor, Tensor | None], Tensor]
"""Makes of image, maps and what was seen the maps that the threshold is for."""


def chosen_threshold(context: Context, long_side: int, source: MapSource, see: See, refined: Refined | None) -> ThresholdRecord:
    """Returns the run's background threshold, and what it was chosen from; kept in ``threshold.json`` of the step.

    The images are a sample drawn by the run's seed, at most ``SAMPLE`` of those with labels.

    Args:
        context: the run.
        long_side: larger images are looked at in this size.
        source: of the maps.
        see: what the cells of an image are compared by.
        refined: makes of image, maps and what was seen the maps that the threshold is for; None where they are the same.
    """
    path = context.run.folder("refine") / "threshold.json"
    if path.is_file():
        return read_json(path, ThresholdRecord, redo(context.run, "refine"))
    shown = sorted((item for item in context.data.items if item.labels), key=lambda item: digest([context.seed, item.id]))
    sample = shown[:SAMPLE]
    best: list[float] = []
    before, after = list[Tensor](), list[Tensor]()
    for item, stored in context.reporter.track(source(sample), len(sample), "threshold"):
        maps = stored.maps.to(context.runtime.torch_device())
        image = fit_within(item.read(), long_side)
        seen = see(image, maps)
        cells = maps if seen is None else on_grid(maps, seen)
        best += [] if seen is None else separating(cells, seen)
        before.append(areas(cells))
        if refined is not None:
            after.append(areas(refined(image, maps, seen)))
    threshold = round(statistics.fmean(best), 2) if best else FALLBACK
    found = ThresholdRecord(threshold=threshold, maps=len(best), rule=RULE)
    if refined is not None:
        found["walked"], found["rule"] = equal_area(before, after, threshold), RULE + AFTER
    write_json(path, found)
    context.reporter.say(f"refine: background threshold {found.get('walked', threshold):.2f}, {found['rule']}")
    return found


def corrected_to_choose_on(context: Context) -> Corrected:
    """Returns the corrected masks that a threshold may be chosen on: of images with labels that are not for scoring.

    Raises:
        RunError: there is none.
        StoreError: as for :func:`advcam.stages.truth.corrected_masks`.
    """
    scored = {item.id for item in context.data.eval}
    found = corrected_masks(context.run, [item for item in context.data.train if item.labels and item.id not in scored])
    if not found.known and corrected_masks(context.run, context.data.eval).known:
        raise RunError(
            f"{found.folder}: holds corrected masks of images for scoring, on which no threshold may be chosen, and none of a"
            f" training image with labels; `advcam explore --run {context.run.root}` makes them"
        )
    return found if found.known else need_corrected(context.run, ())


def threshold_of_corrected(
    context: Context, long_side: int, source: MapSource, see: See, refined: Refined | None
) -> ThresholdRecord:
    """Returns the background threshold that is best on the run's corrected masks; kept in ``threshold.json`` of the step.

    Images for scoring are left out.

    Args:
        context: the run.
        long_side: larger images are looked at in this size.
        source: of the maps.
        see: what the cells of an image are compared by.
        refined: makes the maps that the threshold is for; None where they are the climb's.

    Raises:
        RunError: there is no corrected mask of a training image with labels.
        StoreError: a corrected mask is damaged, or has another size than its image.
    """
    path = context.run.folder("refine") / "threshold.json"
    if path.is_file():
        return read_json(path, ThresholdRecord, redo(context.run, "refine"))
    corrected = corrected_to_choose_on(context)
    truth, positions = Truth(corrected.folder, ours=True), context.data.classes.positions(others=0)
    outputs, count = len(context.data.classes) + 1, len(corrected.known)
    before, after = list[SweepCounts](), list[SweepCounts]()
    for item, stored in context.reporter.track(source(corrected.known), count, "threshold"):
        right = torch.from_numpy(positions[truth(item)])
        classes = [int(positions[number]) for number in stored.classes]
        maps = stored.maps.to(context.runtime.torch_device())
        before.append(sweep_counts(resize(maps, item.size).clamp(0, 1).cpu(), classes, right, outputs))
        if refined is not None:
            image = fit_within(item.read(), long_side)
            finer = refined(image, maps, see(image, maps))
            after.append(sweep_counts(resize(finer, item.size).clamp(0, 1).cpu(), classes, right, outputs))
    best, score = _best(before)
    found = ThresholdRecord(threshold=best, maps=sum(len(item.labels) for item in corrected.known), rule="")
    if after:
        found["walked"], score = _best(after)
    made = context.run.config("refine")
    found["rule"] = (
        f"chosen on {count} masks that a person corrected or accepted, {corrected.chosen}: the best there, mIoU"
        f" {100 * score:.1f}{' before the CRF' if 'crf' in (made.get('method'), made.get('then')) else ''}"
    )
    write_json(path, found)
    context.reporter.say(f"refine: background threshold {found.get('walked', best):.2f}, {found['rule']}")
    return found


def _best(counts: list[SweepCounts]) -> tuple[float, float]:
    """Returns the best background threshold of images, and its mIoU."""
    found = functools.reduce(operator.add, counts).result()
    return found.thresholds[found.best], float(found.mean_iou[found.best])


def separating(maps: Tensor, features: Tensor) -> list[float]:
    """Returns the threshold that separates the features best, for each map [k, h, w] where any does."""
    found = separation(maps.cpu(), features.cpu(), CANDIDATES, BALANCE)  # in float64, which MPS lacks
    return [CANDIDATES[int(row.argmax())] for row in found if float(row.max()) > 0]


def areas(maps: Tensor) -> Tensor:
    """Returns the share of the image where the strongest of maps [k, h, w] exceeds each of .01, .02, ... .99."""
    strongest = maps.amax(0).flatten().sort().values
    at = torch.arange(1, 100, device=maps.device) / 100
    return 1 - torch.searchsorted(strongest, at.to(strongest.dtype), right=True).cpu() / len(strongest)


def equal_area(before: list[Tensor], after: list[Tensor], threshold: float) -> float:
    """Returns the threshold that the same share of the images exceeds after refining, given their :func:`areas`."""
    inside = torch.stack(before).mean(0)[round(threshold * 100) - 1]
    return (int((torch.stack(after).mean(0) - inside).abs().argmin()) + 1) / 100
