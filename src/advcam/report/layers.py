"""What the page shows of one image, in few bytes: the image as JPEG; label planes and 8-bit maps, coloured by the browser."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcam.data import IGNORE, Item
from advcam.errors import AdvcamError, ImageError, StoreError
from advcam.stages.truth import Truth, corrected_mask
from advcam.store import RunFolder, load_maps, load_mask, mask_file

from .growth import eight_bits, load_growth

MAPS = ("plain", "advcam")
BY_HAND = ("corrected", "truth")

Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """One image as the page shows it, and what was counted on the way.

    Args:
        entry: what page.js draws from.
        disagreement: 1 - mIoU of mask and prediction, over the labels that either has; None without both.
        confused: pixels by label of the truth and of ours [L, L], for mask, prediction and semi.
        objects: for each class of the truth its position, its share of the image, and the IoU of our mask.
        wrong: why the image, or its ground truth, cannot be shown.
        damaged: the errors of damaged files of the run.
    """

    entry: dict[str, Any]
    disagreement: float | None = None
    confused: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    objects: list[tuple[int, float, float]] = field(default_factory=list)
    wrong: tuple[AdvcamError, ...] = ()
    damaged: tuple[AdvcamError, ...] = ()


@dataclass(frozen=True)
class Draw:
    """Draws an image of a run.

    Args:
        run: the run folder.
        positions: [256] the position of each mask id, see :meth:`advcam.data.ClassTable.positions`.
        ids: the id of each class.
        truth: the ground truth, if there is some.
        side: long side of an image on the page, pixels.
        climb: key of the climb step, which recorded steps must have.
    """

    run: RunFolder
    positions: Ids
    ids: tuple[int, ...]
    truth: Truth | None
    side: int
    climb: str

    def __call__(self, item: Item, scored: bool) -> Shown:
        """Returns one image; what is missing or damaged is left out, and said."""
        damaged, wrong = list[AdvcamError](), list[AdvcamError]()
        jpeg = ""
        height, width = item.size
        factor = min(1.0, self.side / max(item.size))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        try:
            jpeg = _jpeg(item.read().convert("RGB"), size)
        except ImageError as error:
            wrong.append(error)
        planes = self._planes(item, damaged, wrong)
        maps = {kind: found for kind in MAPS if (found := self._maps(item, kind == "plain", damaged))}
        classes = next((sorted(found) for found in maps.values()), [])
        grid = next((found[classes[0]].shape for found in maps.values() if classes), (0, 0))
        small = [_nearest(ids, (size[1], size[0])) for ids in planes.values()]
        values = [found[number] for found in maps.values() for number in classes]
        entry: dict[str, Any] = {
            "jpeg": jpeg,
            "size": size,
            "planes": [*planes],
            "maps": [*maps] if classes else [],
            "classes": classes,
            "grid": [grid[1], grid[0]],
            "data": packed([*small, *values]),
        }
        if grown := _tried(damaged, partial(load_growth, self.run, item, self.climb)):
            steps, _, height, width = grown.maps.shape
            entry["grown"] = {
                "classes": grown.classes,
                "steps": steps,
                "grid": [width, height],
                "data": packed([grown.maps]),
            }
        counts = self._compared(planes, scored)
        return Shown(entry, _disagreement(planes, self.positions, len(self.ids) + 1), *counts, tuple(wrong), tuple(damaged))

    def _planes(self, item: Item, damaged: list[AdvcamError], wrong: list[AdvcamError]) -> dict[str, Ids]:
        files = {
            "mask": self.run.mask(item.id),
            "prediction": self.run.prediction(item.id),
            "semi": self.run.prediction(item.id, "semi"),
            "corrected": corrected_mask(self.run, item.id),
        }
        found = {kind: _tried(damaged, partial(load_mask, path, item.size)) for kind, path in files.items() if path.is_file()}
        if self.truth and mask_file(self.truth.folder, item.id).is_file():
            found["truth"] = _tried(wrong, partial(self.truth, item))
        return {kind: ids for kind, ids in found.items() if ids is not None}

    def _maps(self, item: Item, plain: bool, damaged: list[AdvcamError]) -> dict[int, Ids]:
        """The maps of an image by class id."""
        path = self.run.maps(item.id, plain)
        return (_tried(damaged, partial(self._loaded, item, path)) if path.is_file() else None) or {}

    def _loaded(self, item: Item, path: Path) -> dict[int, Ids]:
        stored = load_maps(path)
        wanted = {self.ids[at] for at in item.labels}
        if {*stored.classes} != wanted or tuple(stored.size) != tuple(item.size):
            raise StoreError(
                f"{path}: are not the maps of this image; delete it, and `advcam climb --run {self.run.root}` makes what is"
                " missing"
            )
        return {number: eight_bits(values) for number, values in zip(stored.classes, stored.maps.numpy(), strict=True)}

    def _compared(
        self, planes: dict[str, Ids], scored: bool
    ) -> tuple[dict[str, NDArray[np.int64]], list[tuple[int, float, float]]]:
        """Counts pixels against the truth; of the mask, or else of the prediction, the IoU of each true class."""
        if not scored or "truth" not in planes:
            return {}, []
        labels = len(self.ids) + 1
        truth = self.positions[planes["truth"]]
        made = {kind: ids for kind, ids in planes.items() if kind not in BY_HAND}
        confused = {kind: _confusion(self._ours(ids), truth, labels) for kind, ids in made.items()}
        counts = confused.get("mask", confused.get("prediction"))
        if counts is None:
            return confused, []
        hits, true, ours = counts.diagonal(), counts.sum(1), counts.sum(0)
        there = [at for at in range(1, labels) if true[at]]
        return confused, [(at, true[at] / truth.size, hits[at] / (true[at] + ours[at] - hits[at])) for at in there]

    def _ours(self, ids: Ids) -> Ids:
        positions: Ids = np.where(ids == IGNORE, np.uint8(0), self.positions[ids])
        return positions


def packed(planes: list[Ids]) -> str:
    """Arrays of bytes, one after the other, compressed (zlib) and in base64."""
    return base64.b64encode(zlib.compress(b"".join(plane.tobytes() for plane in planes), 6)).decode()


def _tried(damaged: list[AdvcamError], read: Callable[[], Any]) -> Any:
    """What ``read`` gives; None where it fails, which is noted."""
    try:
        return read()
    except AdvcamError as error:
        damaged.append(error)
        return None


def _jpeg(image: Image.Image, size: tuple[int, int]) -> str:
    stream = io.BytesIO()
    small = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    small.save(stream, format="JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode()


def _nearest(ids: Ids, size: tuple[int, int]) -> Ids:
    """Scales labels down to (H, W): of each pixel the label at its centre."""
    if ids.shape == size:
        return ids
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * side / n).astype(np.intp), side - 1) for n, side in zip(size, ids.shape, strict=True)
    )
    small: Ids = ids[rows[:, None], columns]
    return small


def _confusion(ours: Ids, truth: Ids, labels: int) -> NDArray[np.int64]:
    """Pixels [truth, ours] by label, 255 of the truth left out."""
    known = truth != IGNORE
    pairs = truth[known].astype(np.intp) * labels + ours[known]
    counts: NDArray[np.int64] = np.bincount(pairs, minlength=labels * labels).reshape(labels, labels)
    return counts


def _disagreement(planes: dict[str, Ids], positions: Ids, labels: int) -> float | None:
    """1 - mIoU of the mask and the prediction over the labels that either has, where the mask is decided."""
    mask, predicted = planes.get("mask"), planes.get("prediction", planes.get("semi"))
    if mask is None or predicted is None or not (mask != IGNORE).any():
        return None
    ours = np.where(predicted == IGNORE, np.uint8(0), positions[predicted])
    counts = _confusion(ours, positions[mask], labels)
    hits, either = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    there = either > 0
    return float(1 - (hits[there] / either[there]).mean())
