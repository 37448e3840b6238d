"""``advcam predict``: masks of a folder of images by a trained segmentation network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advcam.attribution import PRECISIONS
from advcam.data import (
    Address,
    ClassTable,
    Place,
    Reading,
    Skip,
    bytes_of,
    content_of,
    labels_of,
    list_images,
    passed_over,
    place,
    read_with_doubt,
    remote,
    shrunk,
)
from advcam.engines import Row, Unit, Work, rows
from advcam.errors import ImageError, RunError, SettingsError
from advcam.options import Config, option
from advcam.runtime import Runtime
from advcam.segmenter import MERGES, Segmenter, read_record
from advcam.store import digest, mask_bytes

from .mask_folder import MaskFolder, folder_to_fill
from .session import Outcome, Session


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Config):
    """The network, the images and the settings of prediction; settings not given are the network's own."""

    model: Path = option(help="folder of the network, RUN/4-segment or RUN/5-semi", flag="model", common=True)
    images: Place = option(help="folder, archive or address of images", flag="images", common=True, make=place)
    out: Place = option(
        help="folder of the masks ID.png, or an address such as s3://bucket/masks", flag="out", common=True, make=folder_to_fill
    )
    labels: Place | None = option(
        None, "image labels, in any form that a run takes: each named image gets the classes it shows and no other",
        flag="labels", common=True, make=place,
    )  # fmt: skip
    scales: tuple[float, ...] | None = option(
        None,
        "scales of the image whose probabilities are merged",
        flag="scales",
        example="0.75,1,1.25",
        least=0.1,
        most=10,
    )
    mirror: bool | None = option(None, "predict the mirror image too", flag="mirror")
    merge: str | None = option(
        None, "how the views' probabilities are merged (max: DeepLab's rule)", flag="merge", choices=(None, *MERGES)
    )
    window: int | None = option(
        None, "instead of a long side: windows of so many pixels that overlap by half, at full size", flag="window", most=10**6
    )
    crf: bool | None = option(None, "refine predictions by the dense CRF", flag="crf")
    long_side: int | None = option(None, "larger images are scaled down to it, pixels", flag="long-side", most=10**6)
    precision: str | None = option(
        None, "arithmetic of the network; none: what the folder's other masks were made in, else auto", flag="precision",
        choices=(None, *PRECISIONS),
    )  # fmt: skip
    probabilities: bool = option(False, "write probabilities/ID.npz too", flag="probabilities")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window is not None and self.long_side is not None:
            raise SettingsError("windows see the image at its own size, so it has no long side: give --window or --long-side")

    def applied(self, segmenter: Segmenter) -> Segmenter:
        """Returns the network with these settings.

        Raises:
            SettingsError: a setting is invalid.
        """
        names = ("scales", "mirror", "merge", "window", "crf", "long_side")
        changes: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(segmenter, **changes)


Labels = Mapping[str, tuple[int, ...]]
"""The positions of the classes that images show, by name."""


class Seen(NamedTuple):
    """What the row of an image that was predicted now says of it."""

    size: tuple[int, int]
    doubt: str | None


def run(config: PredictConfig, session: Session) -> Outcome:
    """Writes OUT/ID.png for every image in a folder, except masks that exist and were made from the same content.

    With probabilities also OUT/probabilities/ID.npz: ``probabilities`` float16 [L, H, W] and ``ids`` uint8 [L], without pickle.

    With labels, an image that they name gets its own classes or background; one that they do not name, any class.

    Images that cannot be read, or are too large for the memory, are listed in OUT/skipped.csv. The runtime's engine shares out
    the images; the bytes are those of one process.

    Raises:
        DataError: there are no images.
        RunError: there is no trained network, or OUT holds masks of another network or made with other options.
        SettingsError: an option is invalid.
        StoreError: OUT cannot be written; what is done is kept.
    """
    model, images, out, reporter, runtime = config.model, config.images, config.out, session.reporter, session.runtime
    _check_places(images, out, runtime)
    if str(out).startswith("memory://"):
        reporter.warn(f"{out}: is in the memory of this process, and gone when that ends")
    folder = MaskFolder(out)
    known = runtime.once(folder.record)
    segmenter = config.applied(Segmenter.load(model, runtime.torch_device(), config.precision or folder.precision(known)))
    files = list_images(images)
    labels: dict[str, tuple[int, ...]] = {}
    if config.labels:
        labels = labels_of(config.labels, images, files, ClassTable.from_record(read_record(model).classes))
        reporter.say(f"{config.labels}: labels of {len(labels)} of {len(files)} images; the others may show any class")
    key = _key(model, images, segmenter, digest(sorted(labels.items())) if labels else None)
    runtime.once(lambda: folder.claim(known, key))
    for suffix, count in passed_over(images).items():
        reporter.say(f"{count} files of suffix {suffix} are skipped: not an image format that is read")
    found = _predicted(config, session, segmenter, files, labels)
    seen: list[Seen] = [row.value for row in found if row.value is not None]
    if not segmenter.window and (said := shrunk((one.size for one in seen), segmenter.long_side)):
        reporter.say(said)
    left = {row.id: row.left_out or row.error for row in found if row.left_out or row.error}
    skipped = [Skip(name, left[name]) for name in files if name in left]
    if runtime.first:
        folder.list_skipped(skipped)
    runtime.leave()
    return Outcome(f"masks: {out}", (), len(skipped), folder.file("skipped.csv"))


def _check_places(images: Place, out: Place, runtime: Runtime) -> None:
    """Checks that masks do not mix with the images, and that other processes find both.

    Raises:
        RunError: the masks would be in the folder of images.
        SettingsError: another process would not find them.
    """
    if isinstance(images, Path) and isinstance(out, Path):
        inside = out.resolve().is_relative_to(images.resolve())
    else:
        inside = isinstance(images, Address) and isinstance(out, Address) and remote.is_inside(str(out), str(images))
    if inside:
        raise RunError(f"{out}: --out is in the folder of images, so masks would mix with them; give another --out")
    if runtime.engine == "ray" and (own := [at for at in (images, out) if str(at).startswith("memory://")]):
        raise SettingsError(f"{own[0]}: is in the memory of this process, where those of a cluster do not reach it")


def _predicted(
    config: PredictConfig, session: Session, segmenter: Segmenter, files: Mapping[str, Place], labels: Labels
) -> list[Row]:
    """Predicts the images and shows progress; returns a row for each, in every process."""
    found, mine = list[Row](), session.runtime.share(list(files))
    with session.reporter.bar("predict", len(mine)) as advance:
        for row in _shared_out(config, session.runtime, segmenter, files, labels):
            found.append(row)
            if row.value is not None and (doubt := row.value.doubt):
                session.reporter.warn(f"{files[row.id]}: {doubt}")
            advance(1)
    return session.runtime.together(found)


def _shared_out(
    config: PredictConfig, runtime: Runtime, segmenter: Segmenter, files: Mapping[str, Place], labels: Labels
) -> Iterator[Row]:
    """Yields a row for each image, by the runtime's engine; its value is a :class:`Seen` where a mask was made now."""
    units = [Unit.single(name) for name in files]
    if runtime.engine == "local":
        here = predicting(config, segmenter, files, labels)
        yield from rows(units, lambda: here, runtime, Path(), here)
        return
    there = {name: _from_anywhere(path) for name, path in files.items()}
    config = replace(config, model=config.model.absolute(), out=_from_anywhere(config.out))
    work = partial(opened, config, replace(runtime, device=runtime.kind), segmenter.precision, there, labels)
    for row in rows(units, work, runtime, config.out if isinstance(config.out, Path) else None):
        yield row._replace(left_out=row.left_out.replace(str(there[row.id]), str(files[row.id]), 1))  # as it was typed


def predicting(config: PredictConfig, segmenter: Segmenter, files: Mapping[str, Place], labels: Labels) -> Work:
    """Returns what makes the masks of images, by name, with a network, and writes their files."""
    folder, reading = MaskFolder(config.out), Reading.from_record(read_record(config.model).reading)

    def made(name: str) -> Seen | None:
        if "::" in name and not isinstance(folder.at, Path):
            raise ImageError(f"{files[name]}: its name has ::, which no address can have; rename it")
        mask, kept = f"{name}.png", f"probabilities/{name}.npz"
        data = bytes_of(files[name])
        content = content_of(data)
        if folder.mask_made_of(mask) == content and (not config.probabilities or folder.file(kept).is_file()):
            return None
        image, doubt = read_with_doubt(files[name], reading, data)
        if config.probabilities:
            found = segmenter.probabilities(image, labels.get(name))
            folder.write(kept, _arrays(probabilities=found.cpu().numpy().astype(np.float16), ids=segmenter.ids))
            ids = segmenter.mask(found)
        else:
            ids = segmenter(image, labels.get(name))
        folder.write(mask, mask_bytes(ids, content))
        return Seen((image.height, image.width), doubt)

    def predict(unit: Unit) -> Iterator[Row]:
        for name in unit.wanted:
            try:
                yield Row(name, value=made(name))
            except ImageError as error:
                yield Row(name, left_out=str(error))

    return predict


def opened(config: PredictConfig, runtime: Runtime, precision: str, files: Mapping[str, Place], labels: Labels) -> Work:
    """Loads the network in another process, where it lies, and returns what makes masks.

    Raises:
        SettingsError: this machine does not have the network or the images.
    """
    first = next(iter(files.values()))
    for at, what in ((config.model, "network"), (first.parent if isinstance(first, Path) else None, "images")):
        if at and not at.is_dir():
            raise SettingsError(f"{at} is not there; the {what} must be on a disk that all machines share, at the same path")
    segmenter = Segmenter.load(config.model, runtime.of_actor().torch_device(), precision)
    return predicting(config, config.applied(segmenter), files, labels)


def _from_anywhere(at: Place) -> Place:
    """Returns a place that is valid from any working folder."""
    return at.absolute() if isinstance(at, Path) else at.resolve()


def _key(model: Path, images: Place, segmenter: Segmenter, labels: str | None) -> dict[str, Any]:
    """Returns what decides masks."""
    network = {name: digest((model / name).read_bytes().hex()) for name in ("model.json", "model.safetensors")}
    return network | {
        "images": str(images.resolve()),
        "labels": labels,
        "long_side": None if segmenter.window else segmenter.long_side,
        "scales": list(segmenter.scales),
        "mirror": segmenter.mirror,
        "merge": segmenter.merge,
        "window": segmenter.window,
        "crf": segmenter.crf,
        "precision": segmenter.precision,
    }


def _arrays(**arrays: Any) -> bytes:
    """Returns the ``.npz`` file of arrays, without pickle."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
