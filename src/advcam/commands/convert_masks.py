"""``advcam convert masks``: masks for other tools, and what annotators made of them back."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from advcam.data import IGNORE, ClassTable, Item, Place, Reading, Skip, list_images, look_at, normal, place, read_classes
from advcam.data.names import Near, key_of
from advcam.errors import DataError, ImageError, RunError, SettingsError, StoreError
from advcam.formats import FORMATS, Found, Losses, Masked, Names, Wishes
from advcam.formats.files import claimed, record
from advcam.formats.label_studio import configured
from advcam.options import Config, option
from advcam.pipeline import reopen
from advcam.stages.context import Context, list_skips
from advcam.stages.moved import folder_of
from advcam.store import alone, load_mask, load_scores, save_mask, write_text
from advcam.store.atomic import BEGINNING, refused

from .session import Outcome, Session

ANY_BANDS = Reading("data", "all")
"""How an image is read whose size alone is wanted."""
OF = ("masks", "predictions", "semi", "corrected")
CONTROLS = re.compile("[\0-\x1f\x7f\x85\u2028\u2029]")
"""Characters that neither a list nor a label file can hold."""


@dataclass(frozen=True, kw_only=True)
class ConvertMasksConfig(Config):
    """What is converted, between which formats, and how the other tool names things."""

    to: str | None = option(
        None, "format to write", flag="to", choices=(None, *(n for n, f in FORMATS.items() if f.write)), common=True
    )
    out: Path | None = option(None, "with --to: the file (.json, .zip) or the folder to write", flag="out", common=True)
    source: str | None = option(None, "format to read", flag="from", choices=(None, *FORMATS), common=True)
    given: Path | None = option(None, "with --from: the file or folder that the other tool exported", flag="in", common=True)
    run: Path | None = option(None, "the run whose masks are written, or corrected", flag="run", common=True)
    of: str = option(
        "masks",
        "with --run and --to, which masks: of refine, segment or semi, or corrected",
        flag="of",
        choices=OF,
        common=True,
    )
    masks: Path | None = option(
        None, "without --run: folder of masks ID.png, to be read or, with --from, written", flag="masks", common=True
    )
    images: Place | None = option(
        None, "without --run: folder of images; with --run: where its images are now", flag="images", common=True, make=place
    )
    classes: Path | None = option(None, "without --run: CSV id,name of the ids in masks", flag="classes", common=True)
    not_known: str | None = option(
        None, "label of the other tool that stands for 255 (not known)", flag="not-known", common=True, example="unsure"
    )
    shapes: str | None = option(
        None, "coco, labelme: exact masks, or polygons; none: masks for coco, polygons for labelme", flag="shapes",
        choices=(None, "masks", "polygons"), common=True,
    )  # fmt: skip
    tolerance: float = option(
        0.0, "coco, labelme, yolo: by how many pixels polygons may leave the outline, to have fewer points", flag="tolerance",
        least=0, most=100, common=True,
    )  # fmt: skip
    threshold: float | None = option(
        None, "irn: background threshold of the maps", flag="threshold", least=0, most=1, common=True
    )
    copy_images: bool = option(True, "yolo, voc, fiftyone, hf: copy the images too", flag="copy-images")
    labelling_config: Path | None = option(
        None, "label-studio: XML of the labelling configuration, for the names of brush, image and variable",
        flag="labelling-config",
    )  # fmt: skip
    from_name: str | None = option(None, "label-studio: name of the brush; none: the configuration's, or tag", flag="from-name")
    to_name: str | None = option(None, "label-studio: name of the image; none: the configuration's, or image", flag="to-name")
    variable: str | None = option(
        None, "label-studio: variable with the image's address; none: the configuration's, or image", flag="variable"
    )
    address: str = option(
        "/data/local-files/?d=", "label-studio: what stands in front of the image's name in its address", flag="address"
    )
    model_version: str = option("advcam", "label-studio: name of the predictions", flag="model-version")

    def check(self) -> None:
        """Checks that the options go together.

        Raises:
            SettingsError: they do not; says which do.
        """
        if (self.to is None) == (self.source is None):
            raise SettingsError("give either --to FORMAT --out PATH, or --from FORMAT --in PATH")
        if (self.out is None) != (self.to is None) or (self.given is None) != (self.source is None):
            raise SettingsError("--to FORMAT goes with --out PATH, and --from FORMAT with --in PATH")
        if (self.run is None) != (self.masks is not None and self.classes is not None and self.images is not None):
            raise SettingsError("give --run RUN; or --masks DIR, --images DIR and --classes FILE without a run")
        if self.run and (self.masks or self.classes):
            raise SettingsError("a run has its own masks and classes: leave out --masks and --classes, or --run")
        if (self.source is not None and FORMATS[self.source].maps) != (self.threshold is not None):
            raise SettingsError("--threshold goes with --from irn, whose maps it makes masks of; give both or neither")


@dataclass(frozen=True)
class Owner:
    """The images that masks are of.

    Args:
        classes: what their ids mean.
        folder: of the images.
        files: the images by id.
        mask: the path of an image's mask.
        scored: the ids of the images for scoring.
        items: a run's images by id, which are known without opening them.
        scores: of an image's classes, how good their masks can be expected to be; empty where that is not known.
    """

    classes: ClassTable
    folder: Place
    files: Mapping[str, Place]
    mask: Callable[[str], Path]
    scored: frozenset[str]
    items: dict[str, Item]
    scores: Callable[[str], dict[int, float]] = lambda _name: {}

    def size(self, name: str) -> tuple[int, int]:
        """(H, W) of an image.

        Raises:
            ImageError: it cannot be read.
        """
        return self.items[name].size if name in self.items else look_at(self.files[name], ANY_BANDS).size

    @cached_property
    def last(self) -> dict[str, list[str]]:
        """The ids of images by their last part."""
        found: dict[str, list[str]] = {}
        for name in self.files:
            found.setdefault(name.rsplit("/", 1)[-1], []).append(name)
        return found

    def named(self, found: Found) -> str | None:
        """The id of the image that another tool means; None if there is none."""
        names = [normal(name) for name in found.names]
        keys = (key_of(name, self.files) for name in names)
        known = next((key for key in keys if key is not None), None)
        if known is not None or not found.loose:
            return known
        lasts = {name.rsplit("/", 1)[-1] for name in names}
        stems = lasts | {Path(last).stem for last in lasts}
        alike = [key for stem in stems for key in self.last.get(stem, ())]
        return alike[0] if len(alike) == 1 else None


def run(config: ConvertMasksConfig, session: Session) -> Outcome:
    """Writes masks in another tool's format, or reads masks from it.

    To a format: one file, which appears whole or not at all, or a folder. From a format: RUN/corrected/masks/ID.png and
    RUN/corrected/list.txt, or the folder of masks. Images that cannot be converted are listed in skipped.csv.

    Raises:
        AdvcamError: nothing can be converted, or something else lies where the output goes.
    """
    config.check()
    if config.to and config.out:
        return _write(config, session, config.to, config.out)
    return _read(config, session)


def _write(config: ConvertMasksConfig, session: Session, kind: str, out: Path) -> Outcome:
    made, (owner, _) = FORMATS[kind], _owner(config, session)
    if made.write is None or (made.suffix and out.suffix.lower() != made.suffix):
        raise SettingsError(f"--out {out}: {kind} is one file *{made.suffix}")
    folder = owner.folder
    if not made.suffix and isinstance(folder, Path) and out.resolve().is_relative_to(folder.resolve()):
        raise RunError(f"{out}: --out is in the folder of images, which would mix with the output; give another --out")
    there = [name for name in sorted(owner.files) if owner.mask(name).is_file()]
    if not there:
        raise DataError(f"{owner.mask('ID')}: there is no such mask of any of {len(owner.files)} images")
    skipped, losses, keeps = list[Skip](), Losses(), made.unknown or config.not_known is not None
    with made.write(out, _wishes(config, owner.classes), losses) as add:
        for name in session.reporter.track(there, len(there), f"write {kind}"):
            try:
                add(_masked(owner, name, keeps))
            except ImageError as error:
                skipped.append(Skip(name, str(error)))
        if len(skipped) == len(there):
            raise DataError(f"none of {len(there)} masks can be converted; the first: {skipped[0].reason}")
    listed = out.with_name(f"{out.stem}-skipped.csv") if made.suffix else out / "skipped.csv"
    list_skips(listed, skipped)
    lines = [f"{len(there) - len(skipped)} masks, {len(owner.classes)} classes", *losses.lines()]
    if len(there) < len(owner.files):
        lines.append(f"{len(owner.files) - len(there)} of {len(owner.files)} images have no mask there")
    return Outcome(f"{kind}: {out}", lines, len(skipped), listed)


def _masked(owner: Owner, name: str, keeps: bool) -> Masked:
    """An image with its mask, checked.

    Raises:
        ImageError: a damaged mask, one of another size, with ids of no class or without a known pixel; or an unusable name.
    """
    path, file = owner.mask(name), owner.files[name]
    if CONTROLS.search(f"{name}{file.name}"):
        raise ImageError(f"{str(file)!r}: its name holds control characters; rename it")
    try:
        ids = load_mask(path, owner.size(name))
    except StoreError as error:
        raise ImageError(str(error)) from None
    if odd := sorted({*np.unique(ids).tolist()} - {0, IGNORE, *owner.classes.ids}):
        raise ImageError(f"{path}: holds {odd[0]}, which is the id of no class")
    if not keeps and (ids == IGNORE).all():
        raise ImageError(f"{path}: no pixel of it is known, and the format has no such thing; --not-known NAME labels them")
    return Masked(name, file, ids, name in owner.scored, owner.scores(name))


def _read(config: ConvertMasksConfig, session: Session) -> Outcome:
    with alone(config.run) if config.run else contextlib.nullcontext():
        owner, context = _owner(config, session)
        if context:
            root = context.run.root / "corrected"
            context.run.see_no_links(root)
        else:
            root = config.masks or Path()
            claimed(root, "--from")
            record(root, "--from")
        masks = root / "masks" if context else root
        done, skipped = _drawn(config, session, owner, masks)
        list_skips(root / "skipped.csv", skipped)
        lines = [f"{len(done)} masks read from {config.source}"]
        lines += _for_semi(context, root) if context else []
        return Outcome(f"masks: {masks}", lines, len(skipped), root / "skipped.csv", "fault" + "s" * (len(skipped) > 1))


def _drawn(config: ConvertMasksConfig, session: Session, owner: Owner, masks: Path) -> tuple[list[str], list[Skip]]:
    """Draws all masks, and only then puts them into their folder; returns the ids, and what was left out.

    Raises:
        DataError: a file that cannot be read, a label that is no class, or not one mask.
    """
    staged, near = masks / f"{BEGINNING}masks", Near(owner.files, owner.folder)
    done, skipped = dict[str, None](), list[Skip]()
    try:
        for found in session.reporter.track(_found(config, owner.classes), len(owner.files), f"read {config.source}"):
            name = owner.named(found)
            said = found.names[0] if found.names else "an image without a name"
            if name is None or name in done:
                why = "was there already" if name else f"there is no such image in {owner.folder}{near(said)}"
                skipped.append(Skip(said[:200], f"{config.given}: {said!r:.200} {why}"))
                continue
            try:
                drawn = found.draw(owner.size(name))
            except ImageError as error:
                skipped.append(Skip(name, str(error)))
                continue
            skipped += [Skip(name, fault) for fault in drawn.faults]
            if drawn.ids is None:
                skipped.append(Skip(name, f"{config.given}: no pixel of it is known"))
                continue
            save_mask(staged / f"{name}.png", drawn.ids)
            done[name] = None
        if not done:
            first = f"; the first: {skipped[0].reason}" if skipped else ""
            raise DataError(f"{config.given}: holds no mask of any of {len(owner.files)} images{first}")
        _move(staged, masks, list(done))
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return list(done), skipped


def _found(config: ConvertMasksConfig, classes: ClassTable) -> Iterator[Found]:
    if not (config.source and config.given):
        return iter(())
    threshold = {} if config.threshold is None else {"threshold": config.threshold}
    return FORMATS[config.source].read(config.given, Names(classes, config.not_known), **threshold)


def _move(staged: Path, masks: Path, names: list[str]) -> None:
    for name in names:
        place = masks / f"{name}.png"
        if not place.parent.resolve().is_relative_to(masks.resolve()):
            raise RunError(f"{place.parent}: is a link to another folder, through which nothing is written; remove it")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            (staged / f"{name}.png").replace(place)
        except OSError as error:
            raise refused(place, error) from error


def _for_semi(context: Context, root: Path) -> list[str]:
    """Lists the corrected images that are trained on, and says how to train with them."""
    trained = [item.id for item in context.data.train if (root / "masks" / f"{item.id}.png").is_file()]
    if not trained:
        return ["none of them is an image to train on, so `advcam semi` cannot learn from them"]
    listed = root / "list.txt"
    write_text(listed, "".join(f"{name}\n" for name in trained))
    words = ["advcam", "semi", "--run", context.run.root, "--pixel-labels", listed, "--masks", root / "masks"]
    return [f"{len(trained)} corrected images to train on: {shlex.join(map(str, words))}"]


def _wishes(config: ConvertMasksConfig, classes: ClassTable) -> Wishes:
    named = Names(classes, config.not_known)
    given = {"from_name": config.from_name, "to_name": config.to_name, "variable": config.variable}
    wishes = Wishes(
        named, config.shapes, config.tolerance, config.copy_images, address=config.address, model_version=config.model_version,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    if not config.labelling_config:
        return wishes
    return configured(config.labelling_config, wishes, named.written().values())


def _owner(config: ConvertMasksConfig, session: Session) -> tuple[Owner, Context | None]:
    """The images, classes and masks of a run or of plain folders, and the run.

    Raises:
        DataError: no such folder or class list.
        RunError: no such run.
    """
    if config.run:
        context = reopen(config.run, None, session.runtime, session.reporter, config.images)
        run, data = context.run, context.data
        masks: dict[str, Callable[[str], Path]] = {
            "masks": run.mask,
            "predictions": run.prediction,
            "semi": lambda name: run.prediction(name, "semi"),
            "corrected": lambda name: run.root / "corrected" / "masks" / f"{name}.png",
        }
        items = {item.id: item for item in data.items}
        files = {name: item.path for name, item in items.items()}
        scored = frozenset(item.id for item in data.eval)
        owner = Owner(data.classes, folder_of(data), files, masks[config.of], scored, items)
        of_masks = replace(owner, scores=lambda name: load_scores(run.confidence(name)))
        return of_masks if config.of == "masks" else owner, context
    images, folder = config.images or Path(), config.masks or Path()
    classes = read_classes(config.classes or Path())
    return Owner(classes, images, list_images(images), lambda name: folder / f"{name}.png", frozenset(), {}), None
