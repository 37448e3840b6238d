"""The refine step itself: writes every image's mask, and warns of suspicious ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from advcam.data import IGNORE, Item, Skip, fit_within
from advcam.engines import Row, Unit, Work, reading
from advcam.errors import SettingsError
from advcam.refinement import argmax_mask, confidence
from advcam.stages.context import Context, list_skips, trained_classifier
from advcam.stages.maps import MapSource, map_source, maps_of_units, recorded, units_of_maps
from advcam.stages.sharing import listed_left_out, share_out
from advcam.stages.start import Start
from advcam.stages.truth import corrected_mask
from advcam.store import StoredMaps, digest, lacks, load_scores, only_value, save_confidence, save_mask, write_csv, write_json

from .background import chosen_threshold, corrected_to_choose_on, threshold_of_corrected
from .learnt import by_irn, by_psa, try_network
from .settings import Affinity, Learnt, RefineConfig, Threshold
from .similar import by_affinity, seeing, spread, try_features
from .single import Found, Instances, Refiner, by_crf, by_pamr, by_threshold


def preflight(context: Context, config: RefineConfig, start: Start) -> None:
    """Checks the maps, if they exist, and builds the method's network, so that errors show early.

    Raises:
        AdvcamError: maps are missing or damaged, or as in :func:`advcam.stages.refine.learnt.try_network`.
    """
    climb, settings = recorded(context.run), config.settings()
    if context.runtime.processes > 1 and isinstance(settings, Learnt):
        raise SettingsError(
            f"{config.method} trains a network, which several processes cannot share: start the command without a launcher, or"
            " with --engine ray, which trains in this process and shares out the masks"
        )
    chooses = isinstance(settings, Threshold) and settings.threshold is None
    of_classifier = chooses or (isinstance(settings, Affinity) and settings.features is None)
    if context.run.done("classify") and (of_classifier or (climb and not climb.keep)):
        trained_classifier(context)
    if climb and climb.keep and context.run.done("climb"):
        for _ in map_source(context, config.maps == "plain")(context.data.items):
            pass
    if config.corrected:
        corrected_to_choose_on(context)
    try_network(context, config, start)
    if config.method == "affinity":
        try_features(config.settings())


def run(context: Context, config: RefineConfig) -> list[Skip]:
    """Writes masks/ID.png for every image that has none yet.

    Beside each mask, confidence/ID.png says how sure it is of each pixel, and scores.csv how good each class's mask can be
    expected to be. An image where none of its classes is found gets a mask of 255 (ignored) and is listed in empty.csv;
    every image that lacks a class of its labels is listed in lacking.csv, with the reason. IRN and PSA first train their
    network on confident/ID.png of the training images. With ``instances``, IRN also writes instances/ID.png and ID.json.

    Images are shared out by the run's engine, once the threshold is chosen and the network trained.

    Returns:
        Images that the climb has left out, or that end the processes that refine them, also listed in skipped.csv in the
        step's folder.

    Raises:
        RunError: maps are missing, damaged or another image's, there is nothing to learn from, or images could not be read.
    """
    if config.precision:
        config = config.at(context.precision("refine", config.precision))
    everything = context.data.items
    masks, identity = [context.run.mask(item.id) for item in everything], _identity(context, config)
    with context.step("refine", config, masks, identity=identity) as todo:
        if not todo:
            return []
        refiner = _prepared(context, config)
        left = [item for item in everything if not context.run.mask(item.id).is_file()]
        parts = units_of_maps(context, left)
        here = None if context.runtime.engine == "ray" else saving(context, config, refiner)
        found = share_out(context, "refine", "refine", len(everything), parts, saving, config, here)
        given = {name for part in parts for name in part.wanted}
        without = [Skip(item.id, "the climb has left it out") for item in left if item.id not in given]
        skips = listed_left_out(context, "refine", found, without)
        if context.runtime.first:
            _report(context, [row.value for row in found if row.value is not None])
        context.runtime.wait()
        return skips


def _prepared(context: Context, config: RefineConfig) -> Refiner:
    """Returns the config's method; what it chooses or trains, the first process does."""
    made: list[Refiner] = []
    source = map_source(context, config.maps == "plain")
    context.runtime.once(lambda: made.append(refiner_of(context, config, source)))
    return made[0] if made else refiner_of(context, config, source)


def saving(context: Context, config: RefineConfig, ready: Refiner | None = None) -> Work:
    """Returns what makes the masks of the wanted images of a unit from their maps, and writes their files.

    Each row's value is the share of the image that classes cover, if it has classes. ``ready`` is the method, where it is
    prepared already.
    """
    maps = maps_of_units(context, config.maps == "plain")
    refiner = ready or refiner_of(context, config, map_source(context, config.maps == "plain"))
    names = dict(zip(context.data.classes.ids, context.data.classes.names, strict=True))

    def save(unit: Unit) -> Iterator[Row]:
        for item, stored in maps(unit):
            ids, found = refine(context, config, refiner, item, stored)
            if found and found.instances:
                _write_instances(context, item, found.instances)
            if found:
                _write_confidence(context, item, found)
            save_mask(context.run.mask(item.id), ids, lacks=lacking(ids, found, names) if found else "")
            yield Row(item.id, value=float(((ids != 0) & (ids != IGNORE)).mean()) if found else None)

    return save


def _report(context: Context, covered: Sequence[float]) -> None:
    """Says how much of the images made now the classes cover, and writes scores.csv, empty.csv and lacking.csv."""
    if covered:
        share, least, most = (f"{100 * value:.0f}" for value in (fmean(covered), min(covered), max(covered)))
        context.reporter.say(f"refine: classes cover {share} % of an image on average ({least} to {most} %)")
    _write_scores(context)
    _report_odd_masks(context)


def _identity(context: Context, config: RefineConfig) -> dict[str, Any]:
    """Returns everything that changes the masks; of corrected masks, whose they are and what is in them."""
    if not config.corrected:
        return config.identity()
    known = corrected_to_choose_on(context).known
    contents = [crc32(corrected_mask(context.run, item.id).read_bytes()) for item in known]
    return config.identity() | {"corrected": digest([[item.id for item in known], contents])}


def refiner_of(context: Context, config: RefineConfig, source: MapSource) -> Refiner:
    """Returns the config's method; if it has a network, that is trained first, or loaded from the step's folder.

    A background threshold that was not given is chosen from the maps of ``source``, or on the corrected masks.
    """
    settings = config.settings()
    affinity = settings if isinstance(settings, Affinity) else None
    see = seeing(context, affinity or Affinity())
    if isinstance(settings, Threshold) and settings.threshold is None:
        refined = partial(spread, s=affinity) if affinity else None
        choose = threshold_of_corrected if config.corrected else chosen_threshold
        chosen = choose(context, config.long_side, source, see, refined)
        settings = replace(settings, threshold=chosen.get("walked", chosen["threshold"]))
    methods: dict[str, Callable[[], Refiner]] = {
        "affinity": lambda: by_affinity(settings, see),
        "threshold": lambda: by_threshold(settings),
        "pamr": lambda: by_pamr(settings),
        "crf": lambda: by_crf(settings),
        "psa": lambda: by_psa(context, config, settings, source),
        "irn": lambda: by_irn(context, config, settings, source),
    }
    return methods[config.method]()


def refine(
    context: Context, config: RefineConfig, refiner: Refiner, item: Item, stored: StoredMaps
) -> tuple[np.ndarray[Any, Any], Found | None]:
    """Returns the mask of one image, class ids uint8 [H, W], and its refined maps, None for an image without classes."""
    if not stored.classes:
        return np.full(item.size, IGNORE if item.unknown else 0, dtype=np.uint8), None  # it may show what is not known
    with reading():
        image = fit_within(item.read(), config.long_side)
    found = refiner(image, stored.maps.to(context.runtime.torch_device()), stored.classes)
    ids: Tensor = argmax_mask(found.maps, found.ids, found.threshold, item.size)
    if not ids.any():
        ids = torch.full_like(ids, IGNORE)
    elif config.margin:
        ids = argmax_mask(found.maps, found.ids, found.threshold, item.size, config.margin)
    mask: np.ndarray[Any, Any] = ids.cpu().numpy()
    return mask, found


def _write_confidence(context: Context, item: Item, found: Found) -> None:
    """Writes how sure the mask is of each pixel, and the score of each class."""
    sure, scores = confidence(found.maps.float(), found.threshold)
    shown = torch.nn.functional.interpolate(sure[None, None], size=item.size, mode="bilinear", align_corners=False)[0, 0]
    of_ids = dict[int, float]()
    for number, score in zip(found.ids, scores.tolist(), strict=True):
        of_ids[number] = max(score, of_ids.get(number, 0.0))
    of_ids.pop(0, None)
    save_confidence(context.run.confidence(item.id), shown.cpu().numpy(), of_ids)


def _write_scores(context: Context) -> None:
    """Writes scores.csv: how good each class's mask can be expected to be, the lowest first."""
    run, names = context.run, dict(zip(context.data.classes.ids, context.data.classes.names, strict=True))
    rows = [
        (score, item.id, names[number])
        for item in context.data.items
        for number, score in load_scores(run.confidence(item.id)).items()
        if number in names
    ]
    write_csv(
        run.folder("refine") / "scores.csv", ("image", "class", "score"), [(i, c, f"{s:.4f}") for s, i, c in sorted(rows)]
    )


def lacking(ids: np.ndarray[Any, Any], found: Found, names: Mapping[int, str]) -> str:
    """Says why classes of the maps have no pixel in the mask that was made of them; empty if they all have one."""
    said, there = [], {*np.unique(ids).tolist()}
    for number in dict.fromkeys(found.ids):
        if number and number not in there:
            own = found.maps[[at for at, other in enumerate(found.ids) if other == number]].amax(0)
            said.append(f"{names[number]}: {_why(own, number, found, names)}")
    return "; ".join(said)


def _why(own: Float[Tensor, "h w"], number: int, found: Found, names: Mapping[int, str]) -> str:
    peak = float(own.max())
    if not peak > 0:
        return "its map is empty, so the classifier sees nothing of it in this image"
    if peak <= found.threshold:
        return f"its refined map reaches {peak:.2f}, not the background threshold {found.threshold:.2f}"
    where = own > (found.threshold if found.threshold >= 0 else peak / 2)
    strongest = torch.tensor(found.ids)[found.maps.argmax(0)[where].cpu()]
    first = int(strongest.mode().values)
    if first == number:
        return "it covers less than a pixel"
    return f"the refined map of {names.get(first, 'the background')} is higher where its own is high"


def _write_instances(context: Context, item: Item, found: Instances) -> None:
    """Writes the objects as a mask of their numbers (highest score on top), and a list of their classes and scores."""
    numbers = np.zeros(item.size, dtype=np.uint8)
    for number in reversed(range(len(found.scores))):
        mask = torch.nn.functional.interpolate(found.masks[number][None, None].float(), size=item.size, mode="nearest")[0, 0]
        numbers[mask.bool().numpy()] = number + 1
    path = context.run.instances(item.id)
    listed = [{"id": n, "class": c, "score": s} for n, (c, s) in enumerate(zip(found.classes, found.scores, strict=True), 1)]
    write_json(path.with_suffix(".json"), listed)
    save_mask(path, numbers)


def _report_odd_masks(context: Context) -> None:
    """Lists images where no class was found, and warns if all masks hold the same value."""
    run = context.run
    labelled = [item for item in context.data.items if item.labels and run.mask(item.id).is_file()]
    empty = [item.id for item in labelled if only_value([run.mask(item.id)]) == IGNORE]
    listed = run.folder("refine") / "empty.csv"
    list_skips(listed, [Skip(name, "none of its classes was found; its mask is 255") for name in empty])
    lack = [Skip(item.id, why) for item in labelled if (why := lacks(run.mask(item.id)))]
    list_skips(run.folder("refine") / "lacking.csv", lack)
    if lack:
        context.reporter.say(
            f"refine: {len(lack)} of {len(labelled)} masks lack a class of their labels, listed with the reason in"
            f" {run.folder('refine') / 'lacking.csv'}"
        )
    if empty:
        context.reporter.say(f"refine: no class found in {len(empty)} of {len(labelled)} images, listed in {listed}")
    value = only_value(run.mask(item.id) for item in labelled)
    if value is not None:
        context.reporter.warn(
            f"{listed.parent / 'masks'}: all masks hold only {value}; a network would learn nothing from them"
        )
