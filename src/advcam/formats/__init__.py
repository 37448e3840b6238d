"""Masks for other tools, and back: a module a format, in one literal table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import coco, cvat, fiftyone, geotiff, hugging_face, irn, label_studio, labelme, voc, yolo
from .masks import Add, Found, Losses, Masked, Names, Wishes, Write

__all__ = [
    "FORMATS",
    "Add",
    "Format",
    "Found",
    "Losses",
    "Masked",
    "Names",
    "Wishes",
    "Write",
]


@dataclass(frozen=True)
class Format:
    """A format.

    Args:
        write: begins an output and gives the function that adds an image; None where it is only read.
        read: finds the masks in what another tool wrote, given the path, our names, and ``threshold`` if it holds maps.
        suffix: of the output, where it is one file; empty where it is a folder.
        unknown: whether it has 255, not known.
        maps: whether it holds maps, of which a background threshold makes masks.
    """

    write: Write | None
    read: Callable[..., Iterator[Found]]
    suffix: str = ""
    unknown: bool = False
    maps: bool = False


FORMATS: dict[str, Format] = {
    "coco": Format(coco.write, coco.read, ".json"),
    "yolo": Format(yolo.write, yolo.read),
    "labelme": Format(labelme.write, labelme.read),
    "voc": Format(voc.write, voc.read, unknown=True),
    "label-studio": Format(label_studio.write, label_studio.read, ".json"),
    "cvat": Format(cvat.write, cvat.read, ".zip", unknown=True),
    "fiftyone": Format(fiftyone.write, fiftyone.read, unknown=True),
    "hf": Format(hugging_face.write, hugging_face.read, unknown=True),
    "geotiff": Format(geotiff.write, geotiff.read, unknown=True),
    "irn": Format(None, irn.read, maps=True),
}
