"""PASCAL VOC folders: images, objects in XML, lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from advcam.errors import DataError

from .images import SUFFIXES
from .labels import ClassTable, Found, Row, normal, unique
from .text import read_xml, written

if TYPE_CHECKING:
    from .places import Place

NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's classes; their ids in masks are 1 to 20 in this order."""

CLASSES = ClassTable(tuple(range(1, len(NAMES) + 1)), NAMES)


def voc_root(folder: Path) -> Path | None:
    """The folder with ``Annotations/*.xml``: this one, or the only ``VOC*`` in it (``VOCdevkit``); None where there is none.

    Raises:
        DataError: several years in one ``VOCdevkit``.
    """
    roots = [root for root in (folder, *sorted(folder.glob("VOC*"))) if voc_files(root)]
    if len(roots) > 1:
        raise DataError(f"{folder}: holds {', '.join(root.name for root in roots)}; name one of these folders itself")
    return roots[0] if roots else None


def voc_files(root: Path) -> list[Path]:
    """The XML files of a VOC folder, also one in small letters."""
    found = (sorted((root / name).glob("*.xml")) for name in ("Annotations", "annotations"))
    return next((files for files in found if files), [])


def voc_images(root: Path) -> Path:
    """The folder of a VOC folder's images: ``JPEGImages``, or one of another usual name if it lacks that."""
    names = ("JPEGImages", "images", "Images")
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])


def voc_lists(root: Path) -> list[Path]:
    """The lists for segmentation that exist: train.txt, val.txt, trainval.txt, trainaug.txt."""
    return sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))


def loose_files(folder: Path) -> list[Path]:
    """XML files that lie beside images of their names, or in a folder without images; none where that is not so."""
    below = [path for path in sorted(folder.rglob("*")) if not any(p.startswith(".") for p in path.relative_to(folder).parts)]
    files = [path for path in below if path.suffix.lower() == ".xml"]
    images = {path.with_suffix("") for path in below if path.suffix.lower() in SUFFIXES}
    return files if not images or any(path.with_suffix("") in images for path in files) else []


def read_voc(root: Path) -> Found:
    """The labels of each image: all its objects, difficult ones included, as in IRN and AdvCAM; and VOC's classes, if no
    object is of another.

    Raises:
        DataError: a file that is not VOC's XML; names file and line.
    """
    return _found("PASCAL VOC", root, [(path.stem, path) for path in voc_files(root)])


def read_loose(folder: Path, files: list[Path]) -> Found:
    """The labels of XML files that lie anywhere below a folder, each under the name of its image; as :func:`read_voc`."""
    named = [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in files]
    return _found("XML of PASCAL VOC", folder, named)


def read_annotation(path: Place, root: ElementTree.Element) -> Found:
    """The labels of one image, in one XML file of VOC's."""
    return Found("one XML file of PASCAL VOC", [Row(normal(written(str(path), path.stem)), _objects(path, root), str(path))])


def _found(form: str, folder: Path, named: list[tuple[str, Path]]) -> Found:
    rows = [Row(normal(written(str(folder), name)), _objects(path, read_xml(path)), str(path)) for name, path in named]
    ours = {label for row in rows for label in row.labels} <= set(NAMES)
    return Found(f"{form}, {len(named)} files", unique(folder, rows), CLASSES if ours else None)


def _objects(path: Place, root: ElementTree.Element) -> tuple[str, ...]:
    if root.tag != "annotation":
        raise DataError(f"{path}:1: expected VOC's <annotation>, got <{root.tag}>")
    names = [normal(made.findtext("name", "")) for made in root.findall("object")]
    if "" in names:
        raise DataError(f"{path}: object {names.index('') + 1} of {len(names)} has no <name>; add it or remove the object")
    return tuple(dict.fromkeys(names))
