"""COCO's annotation file: the pixels of each class of an image are one region, as run lengths or polygons."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from advcam.data import Coco, CocoImage, Drawn, coco_files, draw, read_coco
from advcam.errors import DataError, ImageError, SettingsError

from .files import replaced, sign
from .masks import Add, Found, Losses, Masked, Names, Place, Size, Wishes, bounds, places
from .outlines import outlines

MAX_PACKED_BYTES = 2**31
"""Most bytes of all regions of an image, packed."""


@contextmanager
def write(out: Path, wishes: Wishes, losses: Losses) -> Iterator[Add]:
    """Writes ``instances_*.json``. Run lengths keep holes and several parts exactly, with ``iscrowd`` 0.

    Raises:
        SettingsError: faster-coco-eval is not installed.
    """
    masks, polygons = _library(), wishes.shapes == "polygons"
    losses.changed, losses.program = 0 if polygons else None, "faster-coco-eval"
    named, images, annotations = wishes.names.written(), list[str](), list[str]()

    def add(masked: Masked) -> None:
        height, width = masked.ids.shape
        number = len(images) + 1
        images.append(json.dumps({"id": number, "file_name": masked.file, "height": height, "width": width}))
        for category, _, place in places(masked, named, losses):
            region = _polygons(masks, place, wishes.tolerance, losses) if polygons else _runs(masks, place)
            about: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
            about |= {"area": int(place.sum()), "bbox": bounds(place), "segmentation": region}
            score = masked.scores.get(category)
            annotations.append(json.dumps(about | ({"score": score} if score is not None else {})))

    with replaced(out, "--to coco") as temporary, temporary.open("w", encoding="utf-8") as file:
        yield add
        categories = [json.dumps({"id": number, "name": name}) for number, name in named.items()]
        file.write('{"info": ' + json.dumps({"description": sign("--to coco")}))
        for name, part in (("images", images), ("categories", categories), ("annotations", annotations)):
            file.write(f',\n"{name}": [\n' + ",\n".join(part) + "\n]")
        file.write("}\n")


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads an annotation file, or those of a COCO folder.

    Raises:
        DataError: no such file, or one whose regions are of classes that we do not have.
    """
    folder = source if source.is_dir() else None
    files = coco_files(source) if folder else [source]
    if not files:
        raise DataError(f"{source}: expected COCO's instances_*.json, or a folder with such a file")
    for path in files:
        file = read_coco(path, folder)
        used = {region.category for image in file.images for region in image.regions}
        ids = {number: names.id_of(file.names[number], str(path)) for number in sorted(used)}
        for image in file.images:
            yield Found((image.name,), _drawer(file, image, ids))


def _drawer(file: Coco, image: CocoImage, ids: dict[int, int]) -> Any:
    def drawer(size: Size) -> Drawn:
        where = f"{file.path}: {image.name}"
        if image.size != size:
            raise ImageError(f"{where}: is {image.size[1]}x{image.size[0]} there, the image is {size[1]}x{size[0]}")
        if len(image.regions) * (size[0] * size[1] // 8) > MAX_PACKED_BYTES:
            raise ImageError(f"{where}: has {len(image.regions)} regions, more than fit into memory")
        found = draw(image, ids)
        return Drawn(found.ids, tuple(f"{where}: {fault}" for fault in found.faults))

    return drawer


def _library() -> Any:
    try:
        return importlib.import_module("faster_coco_eval.core.mask")
    except ModuleNotFoundError:
        raise SettingsError("--to coco needs faster-coco-eval: pip install 'advcam[formats]'") from None


def _runs(masks: Any, place: Place) -> dict[str, Any]:
    packed = masks.encode(np.asfortranarray(place, dtype=np.uint8))
    return {"size": list(place.shape), "counts": packed["counts"].decode("ascii")}


def _polygons(masks: Any, place: Place, tolerance: float, losses: Losses) -> list[list[float]]:
    made: list[list[float]] = [points.ravel().tolist() for points in outlines(place, tolerance)]
    again = masks.decode(masks.merge(masks.frPyObjects(made, *place.shape))).astype(bool)
    losses.changed = (losses.changed or 0) + int((again != place).sum())
    return made
