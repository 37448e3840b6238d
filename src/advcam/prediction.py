"""A trained segmentation network and a folder of images -> a folder of masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from advcam.attribution import PRECISIONS
from advcam.data import Skip, content_of, list_images, passed_over, read_with_doubt
from advcam.errors import ImageError, RunError, SettingsError
from advcam.kinds import check_kinds
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.segmenter import Segmenter
from advcam.stages.context import list_skips
from advcam.store import atomic_write, digest, made_of, read_json, save_mask, sweep, write_json


@dataclass(frozen=True)
class PredictConfig:
    """How a network is used; None is as the model was made.

    Args:
        scales: as in :class:`advcam.segmenter.Segmenter`, like all but the last.
        mirror: as there.
        merge: as there.
        window: as there.
        crf: as there.
        long_side: as there.
        precision: as there; None is what the folder's other masks were made in, ``auto`` where there are none.
        probabilities: write these too.

    Raises:
        SettingsError: window and long side at once.
    """

    scales: tuple[float, ...] | None = None
    mirror: bool | None = None
    merge: str | None = None
    window: int | None = None
    crf: bool | None = None
    long_side: int | None = None
    precision: str | None = None
    probabilities: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.window is not None and self.long_side is not None:
            raise SettingsError("windows see the image at its own size, so it has no long side: give --window or --long-side")

    def applied(self, segmenter: Segmenter) -> Segmenter:
        """The network, used so.

        Raises:
            SettingsError: a setting that cannot work.
        """
        names = ("scales", "mirror", "merge", "window", "crf", "long_side")
        changes: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(segmenter, **changes)


def predict(model: Path, images: Path, out: Path, config: PredictConfig, runtime: Runtime, reporter: Reporter) -> list[Skip]:
    """Masks OUT/ID.png of every image in a folder; one that is there, of the same content, is not made again.

    With probabilities also OUT/probabilities/ID.npz: ``probabilities`` float16 [L, H, W] and ``ids`` uint8 [L], without pickle.

    Returns:
        Images that could not be read, or are too large for the memory, also listed in OUT/skipped.csv.

    Raises:
        DataError: no images.
        RunError: no trained network, or masks of another one, or made with other options, in OUT.
        SettingsError: an option that cannot work.
    """
    segmenter = config.applied(Segmenter.load(model, runtime.torch_device(), config.precision or _precision_of(out)))
    files = list_images(images)
    if out.resolve().is_relative_to(images.resolve()):
        raise RunError(f"{out}: --out is in the folder of images; masks would stand among them, give another")
    _claim(out, model, images, segmenter)
    for suffix, count in passed_over(images).items():
        reporter.say(f"{count} files of suffix {suffix} are passed over: not read as images")
    skipped = []
    for name, path in reporter.track(files.items(), len(files), "predict"):
        mask, kept = out / f"{name}.png", out / "probabilities" / f"{name}.npz"
        try:
            content = content_of(path)
            if made_of(mask) == content and (kept.is_file() or not config.probabilities):
                continue
            image, doubt = read_with_doubt(path)
            if doubt:
                reporter.warn(f"{path}: {doubt}")
            if config.probabilities:
                found = segmenter.probabilities(image)
                _save(kept, found, segmenter)
                save_mask(mask, segmenter.mask(found), content)
            else:
                save_mask(mask, segmenter(image), content)
        except ImageError as error:
            skipped.append(Skip(name, str(error)))
    list_skips(out / "skipped.csv", skipped)
    return skipped


OLDER = {"precision": "float32"}
"""What a record of masks does not say where it is of a version that knew nothing else."""


def _precision_of(out: Path) -> str:
    """What the masks of a folder were made in, on whatever machine; ``auto`` where there are none."""
    record = out / "predict.json"
    made = (OLDER | read_json(record, dict[str, Any]))["precision"] if record.is_file() else "auto"
    if made not in PRECISIONS:
        raise RunError(f"{record}: has precision {made!r}, expected one of {', '.join(PRECISIONS)}; give another --out")
    return str(made)


def _claim(out: Path, model: Path, images: Path, segmenter: Segmenter) -> None:
    """Sees that a folder is free, or holds what the same call made, and writes down what that is."""
    key: dict[str, Any] = {name: digest((model / name).read_bytes().hex()) for name in ("model.json", "model.safetensors")}
    key["images"] = str(images.resolve())
    sweep(out)
    key |= {
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
        known = OLDER | read_json(out / "predict.json", dict[str, Any])
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
