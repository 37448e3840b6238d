"""PASCAL VOC's folder: palette PNGs of classes and objects, XML with boxes, lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from advcam.errors import ImageError
from advcam.limits import IGNORE

from .colours import CLASS_FOLDER, LABELMAP, OBJECT_FOLDER, found_in, labelmap, line_of, objects
from .files import Folder, held
from .masks import Add, Found, Ids, Losses, Masked, Names, Wishes, bounds

NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@contextmanager
def write(out: Path, wishes: Wishes, _losses: Losses) -> Iterator[Add]:
    """Writes SegmentationClass, SegmentationObject, Annotations, ImageSets, JPEGImages and a label map; 255 stays 255."""
    folder, named = Folder(out, "--to voc"), Names(wishes.names.classes).written()
    label_map = labelmap(named | {IGNORE: wishes.names.label})
    lists: dict[str, list[str]] = {"train": [], "val": [], "trainval": []}

    def add(masked: Masked) -> None:
        line = line_of(masked)
        if NO_XML.search(masked.file):
            raise ImageError(f"{masked.file!r}: a name that XML cannot hold; rename the image")
        if wishes.copy_images:
            folder.copy(f"JPEGImages/{masked.file}", masked.path)
        numbered, classes = objects(masked.ids, IGNORE - 1)
        folder.mask(f"{CLASS_FOLDER}/{masked.id}.png", masked.ids)
        folder.mask(f"{OBJECT_FOLDER}/{masked.id}.png", np.where(masked.ids == IGNORE, IGNORE, numbered).astype(np.uint8))
        folder.text(f"Annotations/{masked.id}.xml", _xml(masked, numbered, {n: named[c] for n, c in classes.items()}))
        lists["val" if masked.scored else "train"].append(line)
        lists["trainval"].append(line)

    with folder:
        yield add
        for name, lines in lists.items():
            folder.text(f"ImageSets/Segmentation/{name}.txt", "".join(lines))
        folder.text(LABELMAP, label_map)


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads a folder or zip archive with ``SegmentationClass``.

    Raises:
        DataError: no such folder, or a label map that cannot be read.
    """
    with held(source) as files:
        yield from found_in(files, files.root_of(CLASS_FOLDER), names)


def _xml(masked: Masked, numbered: Ids, named: dict[int, str]) -> str:
    height, width = masked.ids.shape
    root = ElementTree.Element("annotation")
    _leaves(root, folder="JPEGImages", filename=PurePosixPath(masked.file).name)
    _leaves(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    _leaves(root, segmented=1)
    for number, name in named.items():
        x, y, across, down = bounds(numbered == number)
        one = ElementTree.SubElement(root, "object")
        _leaves(one, name=name, pose="Unspecified", truncated=0, difficult=0)
        _leaves(ElementTree.SubElement(one, "bndbox"), xmin=x + 1, ymin=y + 1, xmax=x + across, ymax=y + down)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _leaves(above: ElementTree.Element, **texts: object) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(above, name).text = str(text)
