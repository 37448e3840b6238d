"""Evaluation of a run against ground truth; no other step reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advcam.data import Item, Skip
from advcam.errors import AdvcamError, DataError, ImageError, RunError, SettingsError, StoreError
from advcam.extractor import AdvCAM
from advcam.options import Config, option
from advcam.store import mask_file, write_json

from .context import Context, list_skips, network_input, trained_classifier
from .scores import Scores
from .truth import Corrected, Truth, look_at_truth, need_corrected, truth_of

TRUTH = "masks as given: ids of no class count as background, 255 is ignored; doubtful masks are scored, and counted by kind"
"""How ground truth is read; goes into metrics.json."""
OF_A_PERSON = "masks that a person accepted or mended in this run, 255 is ignored; what was accepted counts as right throughout"
"""How corrected masks are read, likewise."""
SAID = 20
"""Classes whose IoU is said, at most."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Config):
    """Paths of the ground truth."""

    masks: Path | None = option(
        None, "ground truth, ID.png with class ids; other ids count as background, 255 is ignored", flag="masks", common=True
    )
    corrected: bool = option(
        False, "score on the masks that a person looked at in the explorer, RUN/corrected/masks, instead of --masks",
        flag="corrected", common=True,
    )  # fmt: skip
    instances: Path | None = option(
        None, "ground truth of objects, ID.png with each object's number, 0 none, 255 ignored (irn only)", flag="instances",
        common=True,
    )  # fmt: skip
    mask_colours: Path | None = option(None, "CSV id,colour: the colours of RGB masks; none: VOC's", flag="mask-colours")
    list: Path | None = option(
        None, "images of the run to score, one a line; none: those for scoring", flag="list", common=True
    )


def run(context: Context, config: EvaluateConfig, name: str) -> list[Skip]:
    """Scores the seeds, localisation, masks and predictions of a run; writes metrics.json and per-image.csv.

    Seeds are the plain maps and AdvCAMs at every background threshold. The images are those for scoring, or all if there are
    none; with ``corrected`` those that a person looked at, in random order if there are any such. An object's class is that of
    most of its pixels in the masks.

    Args:
        context: the run.
        config: paths of the ground truth.
        name: name of the scored images, for metrics.json.

    Returns:
        The images left out, with the reason.

    Raises:
        SettingsError: neither masks nor ``corrected`` were given, or both.
        DataError: no folder of masks, no image with a mask, or masks that cannot be the ground truth of these images.
        RunError: the run has no maps, no corrected masks although these are asked for, or no objects although objects are to be
            scored.
    """
    if config.corrected == (config.masks is not None):
        raise SettingsError("give --masks DIR with ground truth, or --corrected for the masks corrected in the explorer")
    if not context.run.done("climb"):
        raise RunError(f"{context.run.root}: has no maps yet; `advcam climb --run {context.run.root}` makes them")
    if config.instances and not config.instances.is_dir():
        raise DataError(f"{config.instances}: there is no such folder of ground-truth masks; check --instances")
    wanted: Sequence[Item] = context.data.eval or context.data.items
    looked_at = _looked_at(context, config)
    if looked_at:
        truth, wanted, name = Truth(looked_at.folder, ours=True), looked_at.known, "corrected masks"
    else:
        truth = truth_of(config.masks or Path(), config.mask_colours)
    check, items, skipped = look_at_truth(truth, wanted, context.data.classes, context.reporter)
    check.must_be_truth()
    if not (context.data.eval or looked_at):  # nobody said which images have a mask
        skipped = [skip for skip in skipped if mask_file(truth.folder, skip.image).is_file()]
        context.reporter.say(f"{len(items)} of {len(wanted)} images have a usable mask and are scored")
    positions = context.data.classes.positions(others=0)
    scores = Scores(context, len(context.data.classes) + 1)
    if config.instances and not any(context.run.instances(item.id).is_file() for item in items):
        raise RunError(
            f"{context.run.root}: has no objects to score; `advcam refine --run {context.run.root} --redo --method irn"
            " --refine-option instances=True` makes them"
        )
    scores.classified, unread = _classified(context, [item for item in items if context.run.maps(item.id).is_file()])
    skipped += unread
    for item in context.reporter.track(items, len(items), "evaluate"):
        ids = torch.from_numpy(positions[check.truth(item)])
        scores.add(item, ids, positions)
        if config.instances:
            try:
                objects = torch.from_numpy(Truth(config.instances)(item).copy())
                scores.add_objects(item, ids, objects, positions)
            except StoreError as error:
                skipped.append(Skip(item.id, f"objects: {error}"))
    listed = context.run.root / "doubts-evaluate.csv"
    list_skips(listed, check.doubts)
    for line in check.totals():
        context.reporter.warn(f"{truth.folder}: {line}; all listed in {listed}")
    rule = f"{OF_A_PERSON}; {looked_at.chosen}" if looked_at else TRUTH
    truth_record = {"split": f"{name}, {check.masks} images", "rule": rule} | check.record()
    numbers = scores.numbers(name, len(wanted))
    if looked_at:
        context.reporter.say(_estimate(looked_at, numbers, bool(context.run.config("refine").get("corrected"))))
    for made in ("masks", "predictions", "semi"):
        if made in numbers:
            context.reporter.say(_each_class(made, numbers[made]))
    write_json(context.run.root / "metrics.json", numbers | {"ground_truth": truth_record})
    scores.write(context.run.root / "per-image.csv")
    return skipped


def _looked_at(context: Context, config: EvaluateConfig) -> Corrected | None:
    """Returns the corrected masks to score on, if these are asked for; says which they are."""
    if not config.corrected:
        return None
    every = need_corrected(context.run, context.data.eval if config.list else context.data.items)
    found = every.representative()
    count, all_of_them = len(found.known + found.rejected), len(every.known + every.rejected)
    if count < all_of_them:
        context.reporter.say(f"{count} of {all_of_them} corrected images were drawn at random: scored on these")
    elif every.chosen != "drawn at random":
        context.reporter.warn(
            f"{every.folder}: the images were not drawn at random, so the numbers are of these images only; look at some in the"
            " explorer's order `random` to learn those of the whole run"
        )
    if found.rejected:
        context.reporter.warn(
            f"{len(found.rejected)} rejected masks are not scored, as nobody drew the right ones, so the numbers are too high"
        )
    return found


def _estimate(looked_at: Corrected, numbers: Mapping[str, Any], chosen: bool) -> str:
    """Says how good masks and predictions are by the corrected masks, with half the width of the 95 % interval.

    ``chosen`` is whether the background threshold of the masks was chosen on corrected masks.
    """

    def said(name: str) -> str:
        found = numbers[name]
        ends, seen = found.get("interval"), "images it was trained on" in found["rule"]
        half = f" ± {50 * (ends[1] - ends[0]):.0f}" if ends else ""
        why = (
            " (its threshold was chosen on them)" if name == "masks" and chosen else " (it was trained on them)" if seen else ""
        )
        return f"{name} {100 * found['mean_iou']:.0f}{half}{why}"

    each = ", ".join(said(name) for name in ("masks", "predictions", "semi") if name in numbers)
    return f"{len(looked_at.known)} images looked at, {looked_at.chosen}: mIoU of {each} (95 % interval, bootstrap over images)"


def _each_class(made: str, found: Mapping[str, Any]) -> str:
    """Says the IoU of every class that occurs, each with its 95 % interval where there is one; of many the lowest."""
    there = sorted((value, name) for name, value in found["per_class"].items() if value == value)  # not NaN
    shown = there[:SAID]
    ends = found["per_class_intervals"]

    def said(value: float, name: str) -> str:
        between = f" [{100 * ends[name][0]:.1f}, {100 * ends[name][1]:.1f}]" if ends[name] else ""
        return f"{name} {100 * value:.1f}{between}"

    which = (
        f"of the {len(shown)} lowest of {len(there)} classes" if len(shown) < len(there) else "of each class, the lowest first"
    )
    return f"{made}, IoU in % {which}: {', '.join(said(*one) for one in shown)}"


def _classified(context: Context, items: Sequence[Item]) -> tuple[dict[str, bool], list[Skip]]:
    """Returns, for each image with exactly one class, whether the classifier's highest logit is that class; and the images
    that could not be read.

    Empty if the classifier or an image is missing.
    """
    found, skipped = dict[str, bool](), list[Skip]()
    single = [item for item in items if len(item.labels) == 1 and not item.unknown]
    if not single:
        return found, skipped
    try:
        model, record = trained_classifier(context)
        prepare, classifier = network_input(record), AdvCAM(model)
        device = context.runtime.torch_device()
        for item in context.reporter.track(single, len(single), "top-1"):
            try:
                image = prepare(item.read())[None]
            except ImageError as error:
                if not item.path.is_file():
                    raise  # probably all images have moved
                skipped.append(Skip(item.id, f"top-1: {error}"))
                continue
            found[item.id] = int(classifier.scores(image.to(device))[0].argmax()) == item.labels[0]
    except AdvcamError as error:
        context.reporter.warn(f"top-1 localisation is left out: {error}")
        return {}, skipped
    return found, skipped
