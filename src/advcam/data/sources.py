"""Where labels come from: one table of all forms, recognised by content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from advcam.errors import DataError

from .archives import refuse_compressed
from .beside import read_beside
from .coco import coco_files, coco_of, found_in, is_coco, read_coco
from .columns import flagged, is_flagged, is_labelled, is_objects, labelled, labels_csv, objects, unknown_columns
from .labels import NONE, ClassTable, Found, Row, classes_of, normal, without_background
from .names import by_id
from .places import Address, Place, files_below, holds_images, home
from .sets import read_set
from .tables import Table, is_image, object_table
from .text import Doubled, Text, decoded, is_xml, parsed, read_bytes, read_xml
from .tools import cvat, is_studio, is_tasks, studio_table, studio_tasks
from .voc import loose_files, read_annotation, read_loose, read_voc, voc_files, voc_images, voc_root
from .yolo import read_yolo, yolo_files

NO_CLASS = (
    r"(jpeg|png)?images?|labels?|masks?|annotations?|(train|val|valid|validation|test|trainval)\w*|segmentation\w*|data"
    r"|.+\.(zip|tar)"
)
"""Names of folders and archives that hold images of all classes, or no images."""


@dataclass(frozen=True)
class Source:
    """A source of labels, of which nothing is read before it is asked for."""

    path: Place

    @cached_property
    def folder(self) -> bool:
        """Whether it is a folder, or an archive or a table, which hold images."""
        return holds_images(self.path)

    @cached_property
    def files(self) -> list[tuple[str, Place]]:
        """The files of a folder or archive, by name."""
        return files_below(home(self.path))

    @cached_property
    def data(self) -> bytes:
        """The bytes of the file."""
        return read_bytes(self.path, "labels file")

    @cached_property
    def text(self) -> Text:
        """The text of the file."""
        return decoded(self.path, self.data, "labels file")

    @cached_property
    def xml(self) -> Element | None:
        """The root of XML; None for other files."""
        return read_xml(self.path, self.data) if not self.folder and is_xml(self.data) else None

    @cached_property
    def json(self) -> Any:
        """The value of a JSON file; None for other files, and for JSON lines."""
        if self.folder or self.xml is not None:
            return None
        start = self.text.text.lstrip()
        if not start.startswith(("{", "[")) and self.path.suffix.lower() != ".json":
            return None
        try:
            return parsed(self.path, self.text.text)
        except DataError:
            if self._is_lines(start):
                return None
            raise

    def _is_lines(self, start: str) -> bool:
        """Whether the first line is a JSON object by itself."""
        try:
            return isinstance(parsed(self.path, start.split("\n", 1)[0]), dict)
        except DataError:
            return False

    @cached_property
    def table(self) -> Table | None:
        """The table of a CSV, JSON or JSON lines; None for other sources."""
        if self.folder or self.xml is not None:
            return None
        if self.json is not None:
            return object_table(str(self.path), "JSON", self._objects(), [])
        text = self.text.text
        if text.lstrip().startswith("{"):
            unusable = list[tuple[str, str]]()
            return object_table(str(self.path), "JSON lines", self._lines(text, unusable), unusable)
        return labels_csv(self.path, text)

    def _objects(self) -> Iterator[tuple[str, Any]]:
        """The entries of JSON: those of a list, or of an object by image."""
        value = self.json
        if isinstance(value, dict) and any(isinstance(value.get(name), str) for name in ("image", "file_name")):
            value = [value]  # JSON lines of one line
        if isinstance(value, Doubled):
            (name, _), *_ = Counter(name for name, _ in value).most_common(1)
            raise DataError(f"{self.path}: image {name!r} was already given; put its labels in one list")
        if isinstance(value, dict):
            for name, labels in value.items():
                entry = {**labels, "image": name} if isinstance(labels, dict) else {"image": name, "labels": labels}
                yield f"{self.path} (image {name!r})", entry
        elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            yield from ((f"{self.path} (entry {at})", entry) for at, entry in enumerate(value, 1))
        else:
            raise DataError(
                f"{self.path}: expected a JSON object {{image: [labels]}}, a list of objects with an image and its labels, or a"
                f" COCO annotation file, got {type(value).__name__}"
            )

    def _lines(self, text: str, unusable: list[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        for at, line in enumerate(text.split("\n"), 1):
            try:
                if line.strip():
                    yield f"{self.path}:{at}", parsed(self.path, line, at - 1)
            except DataError as error:
                unusable.append(("", str(error)))


def _of_folder(read: Callable[[Path, ClassTable | None], Found | None]) -> Callable[..., Found | None]:
    """Of a local folder."""
    return lambda source, classes: (
        read(source.path, classes) if isinstance(source.path, Path) and source.path.is_dir() else None
    )


def _of_images(read: Callable[[Place, list[tuple[str, Place]]], Found | None]) -> Callable[..., Found | None]:
    """Of whatever holds images: a folder, here or remote, an archive, a table, or a folder of them."""
    return lambda source, _classes: read(source.path, source.files) if source.folder else None


def _voc(folder: Path, _classes: ClassTable | None) -> Found | None:
    return read_voc(root) if (root := voc_root(folder)) else None


def _coco(folder: Path, classes: ClassTable | None) -> Found | None:
    files = [read_coco(file, folder) for file in coco_files(folder)]
    return found_in(folder, files, classes) if files else None


def _loose(folder: Path, _classes: ClassTable | None) -> Found | None:
    return read_loose(folder, files) if (files := loose_files(folder)) else None


def _yolo(folder: Path, _classes: ClassTable | None) -> Found | None:
    return read_yolo(folder, files) if (files := yolo_files(folder)) else None


def _beside(folder: Place, files: list[tuple[str, Place]]) -> Found | None:
    """Labels beside images, where these are in archives; in folders, text beside images may be anything."""
    packed = any(isinstance(path, Address) and path.below and is_image(name) for name, path in files)
    return read_beside(folder, files) if packed else None


def _class_folders(folder: Place, files: list[tuple[str, Place]]) -> Found | None:
    """Images in a folder for each class: the first folder on their way that is not named like a split or a kind of file."""
    if len({_class_of(name) for name, _ in files if is_image(name)} - {None}) < 2:
        return None
    named = [(key, path, _class_of(key)) for key, path in by_id(folder, files).items()]
    rows = [Row(key, (normal(name),), str(path)) for key, path, name in named if name]
    return Found("a folder for each class", rows)


def _class_of(name: str) -> str | None:
    return next((part for part in name.split("/")[:-1] if not re.fullmatch(NO_CLASS, part.lower())), None)


def _of_xml(tag: str, read: Callable[[Path, Element], Found]) -> Callable[..., Found | None]:
    return lambda source, _classes: read(source.path, source.xml) if source.xml is not None and source.xml.tag == tag else None


def _coco_file(source: Source, classes: ClassTable | None) -> Found | None:
    return found_in(source.path, [coco_of(source.path, source.json)], classes) if is_coco(source.json) else None


def _tasks(source: Source, _classes: ClassTable | None) -> Found | None:
    return studio_tasks(source.path, source.json) if is_tasks(source.json) else None


def _of_table(
    is_one: Callable[[Table], bool], read: Callable[[Table, ClassTable | None], Found]
) -> Callable[..., Found | None]:
    return lambda source, classes: read(source.table, classes) if source.table and is_one(source.table) else None


FORMS: tuple[tuple[str, Callable[[Source, ClassTable | None], Found | None]], ...] = (
    ("a folder with Annotations/*.xml, or VOC*/Annotations/*.xml", _of_folder(_voc)),
    ("a folder with annotations/instances_*.json, or _annotations.coco.json in it or in its folders", _of_folder(_coco)),
    ("a folder with XML beside images of the same names, or with XML alone", _of_folder(_loose)),
    ("a folder with a list of classes and text files of boxes or polygons: YOLO", _of_folder(_yolo)),
    ("a folder that Hugging Face's datasets has saved, or Parquet, with a column of images and one of labels",
     _of_images(read_set)),
    ("a folder of archives, or one, with .cls, .json or .txt beside the images: webdataset", _of_images(_beside)),
    ("a folder or archive with images in several folders, one for each class", _of_images(_class_folders)),
    ("XML whose root is <annotations>: CVAT for images", _of_xml("annotations", cvat)),
    ("XML whose root is <annotation>: one file of VOC's", _of_xml("annotation", read_annotation)),
    ("JSON with images and annotations: COCO", _coco_file),
    ("JSON, a list of objects with data and annotations: Label Studio's tasks", _tasks),
    ("a table with choice, or with annotator, annotation_id, ...: Label Studio's CSV or JSON-MIN",
     _of_table(is_studio, lambda table, _classes: studio_table(table))),
    ("a table with a column of images and one of labels", _of_table(is_labelled, labelled)),
    ("a table with a column of images and one of objects with categories: Hugging Face", _of_table(is_objects, objects)),
    ("a table with a column of images and one of yes and no for each class", _of_table(is_flagged, flagged)),
)  # fmt: skip
"""What a source looks like, and the function that reads it; the first that gives something counts.

A table is a CSV, JSON ``{image: labels}``, a JSON list of objects, or JSON lines.
"""


@dataclass(frozen=True)
class Labels:
    """The labels of a source.

    Args:
        rows: one for each image.
        classes: those given, the source's own, or those that the rows name.
        form: what the source was read as, for a message.
        unusable: rows that could not be used: the image, and the reason with its place.
        doubts: classes that look wrong, and why.
    """

    rows: list[Row]
    classes: ClassTable
    form: str
    unusable: tuple[tuple[str, str], ...]
    doubts: tuple[tuple[str, str], ...]


def read_source(path: Place, classes: ClassTable | None = None) -> tuple[list[Row], ClassTable]:
    """The labels of each image, and the classes; see :func:`read_labels`."""
    found = read_labels(path, classes)
    return found.rows, found.classes


def read_labels(path: Place, classes: ClassTable | None = None) -> Labels:
    """The labels of each image, the classes, and what the source was read as: one of :data:`FORMS`.

    An image without labels shows none of the classes, and so does one whose only label is ``background`` or ``none``, unless a
    class is called so.

    Args:
        path: a file, folder or archive, here or remote.
        classes: to be used in place of the source's own: VOC's 20, COCO's categories, or those in the labels.

    Raises:
        DataError: another kind of source, or unusable content; names file and line.
    """
    refuse_compressed(str(path))
    source = Source(path)
    found = next((found for _, read in FORMS if (found := read(source, classes)) is not None), None)
    if found is None:
        raise _unknown(source)
    rows, empty = without_background(found.rows, classes or found.classes)
    table = classes or found.classes or classes_of(rows)
    notes = [*found.notes]
    notes += [f"{empty} images with the only label background or none show none of the classes"] if empty else []
    encoding = "" if source.folder or source.xml is not None else source.text.told
    form = f"{found.form} ({len(table)} classes)" + f", {encoding}" * bool(encoding) + "".join(f"; {note}" for note in notes)
    beside = [] if classes or found.classes else [name for name in table.names if name.lower() in NONE]
    doubts = [(name, f"class {name!r} is a class, as it stands beside other labels of an image") for name in beside]
    return Labels(rows, table, form, found.unusable, (*found.doubts, *doubts))


def _unknown(source: Source) -> DataError:
    path = source.path
    if source.xml is not None:
        got = source.xml.tag[:40]
        return DataError(f"{path}: expected XML of CVAT (<annotations>) or PASCAL VOC (<annotation>), got <{got}>")
    if source.table:
        return unknown_columns(source.table)
    kinds = (".json", ".jsonl", ".csv", ".tsv", ".xml", ".txt")
    held = [name for name, _ in source.files if name.lower().endswith(kinds)]
    hint = f". It holds {', '.join(held[:6])}{', ...' if len(held) > 6 else ''}; give one of these as --labels" if held else ""
    local = isinstance(path, Path) and path.is_dir()
    what = (
        "a folder of VOC, COCO or YOLO; it has neither Annotations/*.xml nor annotations/instances_*.json nor labels/*.txt"
        if local
        else "an archive with labels; it has neither .cls, .json or .txt beside the images"
    )
    return DataError(f"{path}: expected a labels file, or {what}, nor a folder of images for each class{hint}")


def source_files(path: Place) -> list[Place]:
    """The files that :func:`read_source` reads; none of images whose labels are the names of folders, or in an archive."""
    if not isinstance(path, Path) or not path.is_dir():
        return [] if holds_images(path) else [path]
    root = voc_root(path)
    return [*(voc_files(root) if root else coco_files(path) or loose_files(path) or yolo_files(path))]


def said(path: Place) -> list[str]:
    """What the labels of images say that are in no files of their own: the ids of the images, with the labels of archives.

    Raises:
        DataError: they cannot be read.
    """
    files = files_below(home(path))
    if all(isinstance(at, Path) for _, at in files):
        return list(by_id(path, files))
    return [f"{row.name}: {row.labels} {row.unknown}" for row in read_source(path)[0]]


def images_of(images: Place | None, labels: Place) -> Place:
    """The folder or archive of images: the given one, or that of the labels; ``JPEGImages`` in a VOC folder.

    Raises:
        DataError: none given, and the labels are a file.
    """
    folder = images or (labels if holds_images(labels) else None)
    if folder is None:
        raise DataError(f"{labels}: does not say where its images are; give --images DIR too")
    root = voc_root(folder) if isinstance(folder, Path) and folder.is_dir() else None
    return voc_images(root) if root else home(folder)
