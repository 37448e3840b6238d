"""COCO annotation files as they are: pictures, categories, and the regions of objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.errors import DataError

from .labels import IGNORE, ClassTable, Row, normal, read_json_file


@dataclass(frozen=True)
class CocoRegion:
    """One annotation.

    Args:
        id: its own id, for messages.
        category: id of its category.
        segmentation: polygons [[x, y, x, y, ...], ...] or run lengths {"counts", "size"}; None where there is none.
        area: in pixels; the smaller of two that overlap lies on top.
    """

    id: Any
    category: int
    segmentation: Any
    area: float


@dataclass(frozen=True)
class CocoImage:
    """One picture: its name below the folder of pictures, size (height, width; zeros where the file does not say), regions."""

    name: str
    size: tuple[int, int]
    regions: tuple[CocoRegion, ...]


@dataclass(frozen=True)
class Coco:
    """One annotation file.

    Args:
        path: of the file.
        images: what it names, in its order.
        names: of the categories, by id.
    """

    path: Path
    images: tuple[CocoImage, ...]
    names: dict[int, str]

    @property
    def split(self) -> str:
        """``train2014`` of ``instances_train2014.json``."""
        return self.path.stem.removeprefix("instances_")

    def rows(self) -> list[Row]:
        """What each picture shows: every category that it has a region of, crowds too. No region: none of the classes."""
        return [
            Row(image.name, tuple(dict.fromkeys(self.names[r.category] for r in image.regions)), f"{self.path} ({image.name})")
            for image in self.images
        ]


def coco_files(folder: Path) -> list[Path]:
    """The ``instances_*.json`` of a COCO folder: in its ``annotations``, or in the folder itself."""
    return sorted((folder / "annotations").glob("instances_*.json")) or sorted(folder.glob("instances_*.json"))


def is_coco(value: Any) -> bool:
    """Whether JSON is a COCO annotation file, by what it holds."""
    return isinstance(value, dict) and {"images", "annotations"} <= value.keys()


def read_coco(path: Path, folder: Path | None = None) -> Coco:
    """An annotation file.

    Args:
        path: of the file.
        folder: a COCO folder; pictures then lie in its folder of the split's name (``train2014``), if there is one.

    Raises:
        DataError: not such a file, or an entry in it that lacks something.
    """
    return coco_of(path, read_json_file(path, "COCO annotation file"), folder)


def coco_of(path: Path, value: Any, folder: Path | None = None) -> Coco:
    """An annotation file that was read already; see :func:`read_coco`."""
    if not is_coco(value):
        raise DataError(f"{path}: expected a COCO annotation file with images, annotations and categories")
    parts = {name: value.get(name) for name in ("images", "annotations", "categories")}
    for name, part in parts.items():
        if not (isinstance(part, list) and part and all(isinstance(entry, dict) for entry in part)):
            raise DataError(
                f"{path}: expected a list of objects under {name!r}, got {_kind(part)}; is it COCO's instances file?"
            )
    split = path.stem.removeprefix("instances_")
    below = f"{split}/" if folder and (folder / split).is_dir() else ""
    names = {int(entry[0]): normal(str(entry[1])) for entry in _entries(path, "categories", parts["categories"], "id", "name")}
    regions: dict[Any, list[CocoRegion]] = {
        number: [] for number, _ in _entries(path, "images", parts["images"], "id", "file_name")
    }
    for made, (number, image, category) in zip(
        parts["annotations"], _entries(path, "annotations", parts["annotations"], "id", "image_id", "category_id"), strict=True
    ):
        if image not in regions or category not in names:
            what, which = ("image", image) if image not in regions else ("category", category)
            raise DataError(f"{path}: annotation {number} is of {what} {which!r}, which the file does not have")
        regions[image].append(CocoRegion(number, category, made.get("segmentation"), float(made.get("area") or 0)))
    for entry in parts["images"]:
        name = entry["file_name"]
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"{path}: image {entry['id']} has the file_name {name!r}; expected a name below the folder of images"
            )
    images = tuple(
        CocoImage(
            normal(below + entry["file_name"]),
            (int(entry.get("height") or 0), int(entry.get("width") or 0)),
            tuple(regions[entry["id"]]),
        )
        for entry in parts["images"]
    )
    return Coco(path, images, names)


def joined(files: Iterable[Coco]) -> list[Row]:
    """The rows of several annotation files of one data set.

    Raises:
        DataError: categories that are not the same in all.
    """
    rows, first = list[Row](), dict[int, str]()
    for file in files:
        rows += file.rows()
        first = first or file.names
        if file.names != first:
            raise DataError(f"{file.path}: its categories are not those of the first file beside it; read them one by one")
    return rows


def coco_classes(files: Iterable[Coco]) -> ClassTable:
    """The categories with their own ids; those that no mask can hold are left out where no region has them.

    Raises:
        DataError: a region whose category has an id outside 1 to 254, or two categories of one name.
    """
    fitting: dict[int, str] = {}
    for file in files:
        used = {region.category for image in file.images for region in image.regions}
        fitting = {number: name for number, name in sorted(file.names.items()) if 1 <= number < IGNORE}
        if not used <= fitting.keys():
            raise DataError(
                f"{file.path}: category ids are 1 to 254 in masks (0 is background, 255 is ignored), got"
                f" {min(used - fitting.keys())}; --classes FILE (CSV id,name) gives the categories other ids"
            )
        if len(set(fitting.values())) != len(fitting):
            twice = next(name for name in fitting.values() if list(fitting.values()).count(name) > 1)
            raise DataError(f"{file.path}: two categories are called {twice!r}; rename one")
    return ClassTable(tuple(fitting), tuple(fitting.values()))


def _entries(path: Path, part: str, entries: list[dict[str, Any]], *keys: str) -> list[tuple[Any, ...]]:
    """What each entry has under the keys."""
    found = []
    for at, entry in enumerate(entries, 1):
        lacking = [key for key in keys if not isinstance(entry.get(key), (str, int)) or entry[key] == ""]
        if lacking:
            raise DataError(f"{path}: entry {at} of {part} has no {lacking[0]!r}; got the keys {', '.join(entry) or 'none'}")
        found.append(tuple(entry[key] for key in keys))
    return found


def _kind(part: Any) -> str:
    return "nothing" if part is None else "an empty list" if part == [] else type(part).__name__
