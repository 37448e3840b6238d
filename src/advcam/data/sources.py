"""Where labels come from: a CSV or JSON file, a PASCAL VOC folder, a COCO annotation file or folder, recognised by content."""

from __future__ import annotations

from pathlib import Path

from advcam.errors import DataError

from .coco import Coco, by_name, coco_classes, coco_files, coco_of, is_coco, joined, read_coco
from .exports import of_folder
from .images import SUFFIXES
from .labels import ClassTable, Row, classes_of, csv_rows, joined_names, json_rows, read_json_file, unique
from .voc import read_voc, voc_files, voc_root


def read_source(path: Path, classes: ClassTable | None = None) -> tuple[list[Row], ClassTable]:
    """The labels of each image, and the classes; see :func:`read_labels`."""
    return read_labels(path, classes)[:2]


def read_labels(path: Path, classes: ClassTable | None = None) -> tuple[list[Row], ClassTable, list[str]]:
    """The labels of each image, the classes, and those class names, if taken from the labels, that look like several labels.

    * CSV with columns ``image,labels`` (labels separated by ``;``, see :func:`~advcam.data.labels.csv_rows`), or JSON
      ``{image: [labels]}``
    * a VOC folder (``VOC2012``, or the ``VOCdevkit`` around it)
    * a COCO annotation file (``instances_train2014.json``), or the folder of ``annotations``, ``train2014``, ``val2014``; a
      folder of Roboflow's (``train/_annotations.coco.json`` beside the images)

    An image without labels shows none of the classes.

    Args:
        path: one of these.
        classes: to be used in place of the source's own: VOC's 20, COCO's categories, or those in the labels.

    Raises:
        DataError: another kind of source, or unusable content; names file and line.
    """
    files, own, odd = list[Coco](), classes, list[str]()
    root = voc_root(path) if path.is_dir() else None
    value = read_json_file(path, "labels file") if path.suffix.lower() == ".json" and not path.is_dir() else None
    if root:
        rows, table = read_voc(root)
        own = own or table
    elif path.is_dir():
        files = [read_coco(file, path) for file in coco_files(path)]
        if not files:
            raise DataError(
                f"{path}: expected a labels file, or a folder of VOC or COCO; it has neither Annotations/*.xml nor"
                f" annotations/instances_*.json. {of_folder(path, SUFFIXES)}".rstrip()
            )
    elif is_coco(value):
        files = [coco_of(path, value)]
    else:
        rows = csv_rows(path) if value is None else json_rows(path, value)
        odd = [] if own else joined_names({label for row in rows for label in row.labels})
    if files:
        own = own or coco_classes(files)
        rows = by_name(joined(files), own)
    return unique(path, rows), own or classes_of(rows), odd


def source_files(path: Path) -> list[Path]:
    """The files that :func:`read_source` reads."""
    if not path.is_dir():
        return [path]
    root = voc_root(path)
    return voc_files(root) if root else coco_files(path)


def images_of(images: Path | None, labels: Path) -> Path:
    """The folder of images: the given one, or that of the labels' VOC or COCO folder; ``JPEGImages`` in a VOC folder.

    Raises:
        DataError: none given, and the labels are a file.
    """
    folder = images or (labels if labels.is_dir() else None)
    if folder is None:
        raise DataError(f"{labels}: does not say where its images are; give --images DIR too")
    root = voc_root(folder) if folder.is_dir() else None
    return root / "JPEGImages" if root else folder
