"""``advcam predict``: masks of a folder of images by a trained segmentation network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from advcam.attribution import PRECISIONS
from advcam.data import (
    ClassTable,
    Place,
    Reading,
    Skip,
    content_of,
    labels_of,
    list_images,
    passed_over,
    place,
    read_with_doubt,
    shrunk,
)
from advcam.errors import ImageError, RunError, SettingsError
from advcam.options import Config, option
from advcam.segmenter import MERGES, Segmenter, read_record
from advcam.stages.context import list_skips
from advcam.store import atomic_write, digest, made_of, read_json, save_mask, sweep, write_json

from .session import Outcome, Session


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Config):
    """The network, the images and the settings of prediction; settings not given are the network's own."""

    model: Path = option(help="folder of the network, RUN/4-segment or RUN/5-semi", flag="model", common=True)
    images: Place = option(help="folder, archive or address of images", flag="images", common=True, make=place)
    out: Path = option(help="folder of the masks ID.png", flag="out", common=True)
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


def run(config: PredictConfig, session: Session) -> Outcome:
    """Writes OUT/ID.png for every image in a folder, except masks that exist and were made from the same content.

    With probabilities also OUT/probabilities/ID.npz: ``probabilities`` float16 [L, H, W] and ``ids`` uint8 [L], without pickle.

    With labels, an image that they name gets its own classes or background; one that they do not name, any class.

    Images that cannot be read, or are too large for the memory, are listed in OUT/skipped.csv.

    Raises:
        DataError: there are no images.
        RunError: there is no trained network, or OUT holds masks of another network or made with other options.
        SettingsError: an option is invalid.
    """
    model, images, out, reporter = config.model, config.images, config.out, session.reporter
    segmenter = config.applied(Segmenter.load(model, session.runtime.torch_device(), config.precision or _precision_of(out)))
    files = list_images(images)
    if isinstance(images, Path) and out.resolve().is_relative_to(images.resolve()):
        raise RunError(f"{out}: --out is in the folder of images, so masks would mix with them; give another --out")
    labels: dict[str, tuple[int, ...]] = {}
    if config.labels:
        labels = labels_of(config.labels, images, files, ClassTable.from_record(read_record(model).classes))
        reporter.say(f"{config.labels}: labels of {len(labels)} of {len(files)} images; the others may show any class")
    _claim(out, model, images, segmenter, digest(sorted(labels.items())) if labels else None)
    for suffix, count in passed_over(images).items():
        reporter.say(f"{count} files of suffix {suffix} are skipped: not an image format that is read")
    skipped, sizes, reading = list[Skip](), list[tuple[int, int]](), Reading.from_record(read_record(model).reading)
    for name, path in reporter.track(files.items(), len(files), "predict"):
        mask, kept = out / f"{name}.png", out / "probabilities" / f"{name}.npz"
        try:
            content = content_of(path)
            if made_of(mask) == content and (kept.is_file() or not config.probabilities):
                continue
            image, doubt = read_with_doubt(path, reading)
            if doubt:
                reporter.warn(f"{path}: {doubt}")
            sizes.append((image.height, image.width))
            if config.probabilities:
                found = segmenter.probabilities(image, labels.get(name))
                _save(kept, found, segmenter)
                save_mask(mask, segmenter.mask(found), content)
            else:
                save_mask(mask, segmenter(image, labels.get(name)), content)
        except ImageError as error:
            skipped.append(Skip(name, str(error)))
    if not segmenter.window and (said := shrunk(sizes, segmenter.long_side)):
        reporter.say(said)
    list_skips(out / "skipped.csv", skipped)
    return Outcome(f"masks: {out}", (), len(skipped), out / "skipped.csv")


def _precision_of(out: Path) -> str:
    """Returns the precision that a folder's masks were made in, on any machine; ``auto`` if there are none."""
    record = out / "predict.json"
    made = read_json(record, dict[str, Any]).get("precision") if record.is_file() else "auto"
    if made not in PRECISIONS:
        raise RunError(f"{record}: has precision {made!r}, expected one of {', '.join(PRECISIONS)}; give another --out")
    return str(made)


def _claim(out: Path, model: Path, images: Place, segmenter: Segmenter, labels: str | None) -> None:
    """Checks that a folder is new, or holds masks of the same network and options, and records these."""
    key: dict[str, Any] = {name: digest((model / name).read_bytes().hex()) for name in ("model.json", "model.safetensors")}
    key["images"] = str(images.resolve())
    sweep(out)
    key |= {
        "labels": labels,
        "long_side": None if segmenter.window else segmenter.long_side,
        "scales": list(segmenter.scales),
        "mirror": segmenter.mirror,
        "merge": segmenter.merge,
        "window": segmenter.window,
        "crf": segmenter.crf,
        "precision": segmenter.precision,
    }
    known: dict[str, Any] = {}
    if (out / "predict.json").is_file():
        known = read_json(out / "predict.json", dict[str, Any])
    if known and (other := [name for name in key if known.get(name) != key[name]]):
        raise RunError(f"{out}: holds masks {_made_otherwise(other, known, key)}; give another --out")
    if not known and out.is_dir() and any(path.suffix == ".png" for path in out.rglob("*")):
        raise RunError(f"{out}: holds images that `advcam predict` did not make; give another --out")
    write_json(out / "predict.json", key)


def _made_otherwise(names: list[str], old: dict[str, Any], new: dict[str, Any]) -> str:
    if "model.json" in names or "model.safetensors" in names:
        return "of another model"
    if "images" in names:
        return "of another folder of images"
    return f"made with other options ({', '.join(f'{name}: {old.get(name)} -> {new[name]}' for name in names)})"


def _save(path: Path, probabilities: Tensor, segmenter: Segmenter) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, probabilities=probabilities.cpu().numpy().astype(np.float16), ids=segmenter.ids)
