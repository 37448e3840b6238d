"""COCO annotation files: images, categories, and the regions of objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advcam.errors import DataError, known
from advcam.limits import IGNORE, MAX_DIGITS, MAX_NUMBER

from .labels import ClassTable, Found, Row, normal, unique
from .text import read_json_file, written

if TYPE_CHECKING:
    from .places import Place

ROBOFLOW = "_annotations.coco.json"


@dataclass(frozen=True)
class CocoRegion:
    """One annotation.

    Args:
        id: its own id, for messages.
        category: id of its category.
        segmentation: polygons [[x, y, x, y, ...], ...] or run lengths {"counts", "size"}, as the file has it.
        area: in pixels; 0 if not given.
        box: [x, y, width, height], as the file has it.
    """

    id: Any
    category: int
    segmentation: Any
    area: float
    box: Any = None


@dataclass(frozen=True)
class CocoImage:
    """One image: its name below the folder of images, size (height, width; zeros if not given), regions."""

    name: str
    size: tuple[int, int]
    regions: tuple[CocoRegion, ...]


@dataclass(frozen=True)
class Coco:
    """One annotation file.

    Args:
        path: of the file.
        images: in the order of the file.
        names: of the categories, by id.
    """

    path: Place
    images: tuple[CocoImage, ...]
    names: dict[int, str]

    @property
    def split(self) -> str:
        """``train2014`` of ``instances_train2014.json``, ``train`` of Roboflow's ``train/_annotations.coco.json``."""
        return self.path.resolve().parent.name if self.path.name == ROBOFLOW else self.path.stem.removeprefix("instances_")

    def rows(self) -> list[Row]:
        """The labels of each image: the categories of all its regions, crowds included; none without a region."""
        return [
            Row(image.name, tuple(dict.fromkeys(self.names[r.category] for r in image.regions)), f"{self.path} ({image.name})")
            for image in self.images
        ]


def coco_files(folder: Path) -> list[Path]:
    """The annotation files of a COCO folder: ``instances_*.json`` in its ``annotations`` or in the folder itself; or
    Roboflow's, beside the images of each split.
    """
    patterns = ("annotations/instances_*.json", "instances_*.json", ROBOFLOW, f"*/{ROBOFLOW}")
    return next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])


def is_coco(value: Any) -> bool:
    """Whether JSON is a COCO annotation file, by its keys."""
    return isinstance(value, dict) and {"images", "annotations"} <= value.keys()


def read_coco(path: Place, folder: Path | None = None) -> Coco:
    """An annotation file.

    Args:
        path: of the file.
        folder: a COCO folder; images then lie in its folder of the split's name (``train2014``), if there is one.

    Raises:
        DataError: another kind of file, or an incomplete entry.
    """
    return coco_of(path, read_json_file(path, "COCO annotation file"), folder)


def coco_of(path: Place, value: Any, folder: Path | None = None) -> Coco:
    """An annotation file that was read already; see :func:`read_coco`."""
    if not is_coco(value):
        raise DataError(f"{path}: expected a COCO annotation file with images, annotations and categories")
    parts = {name: value.get(name) for name in ("images", "annotations", "categories")}
    for name, part in parts.items():
        some = part or name == "annotations"  # empty where no image shows anything
        if not (isinstance(part, list) and some and all(isinstance(entry, dict) for entry in part)):
            raise DataError(
                f"{path}: expected a list of objects under {name!r}, got {_kind(part)}; is it COCO's instances file?"
            )
    made = Coco(path, (), _names(path, parts["categories"]))
    if folder and isinstance(path, Path) and path.name == ROBOFLOW:
        below = path.parent.relative_to(folder).as_posix().removeprefix(".")
    else:
        below = made.split if folder and (folder / made.split).is_dir() else ""
    regions: dict[int | str, list[CocoRegion]] = {}
    names: dict[int | str, str] = {}
    files: dict[str, list[tuple[int | str, tuple[int, int]]]] = {}
    for at, entry in enumerate(parts["images"], 1):
        number, name = _id(path, "images", at, entry, "id"), _file_name(path, at, entry)
        if names.setdefault(number, name) != name:
            raise DataError(
                f"{path}: two images have the id {plain(number)}: {names[number]!r} and {name!r}; give each its own"
            )
        files.setdefault(name, []).append((number, _size(entry)))
        regions[number] = []
    for at, entry in enumerate(parts["annotations"], 1):
        image = _id(path, "annotations", at, entry, "image_id")
        category = _category(path, "annotations", at, entry, "category_id")
        own = plain(entry["id"]) if "id" in entry else f"number {at}"
        if image not in regions or category not in made.names:
            what, which = ("image", image) if image not in regions else ("category", category)
            raise DataError(f"{path}: annotation {own} is of {what} {plain(which)}, which the file does not have")
        area = number_of(entry.get("area"))
        region = CocoRegion(own, category, entry.get("segmentation"), area if area and area > 0 else 0.0, entry.get("bbox"))
        regions[image].append(region)
    return Coco(path, _merged(path, f"{below}/" if below else "", files, regions), made.names)


def _names(path: Place, categories: list[dict[str, Any]]) -> dict[int, str]:
    """The categories' names by id; repeated entries are merged."""
    names: dict[int, str] = {}
    for at, entry in enumerate(categories, 1):
        number, name = _category(path, "categories", at, entry, "id"), entry.get("name")
        name = normal(str(name)) if isinstance(name, (str, int)) and not isinstance(name, bool) else ""
        if not name:
            raise DataError(f"{path}: entry {at} of categories has no 'name'; got the keys {', '.join(entry) or 'none'}")
        _of_file(f"{path}: category {number}", name)
        if names.setdefault(number, name) != name:
            raise DataError(
                f"{path}: two categories have the id {number}: {names[number]!r} and {name!r}; give each its own id, in the"
                " annotations too"
            )
    return names


def _merged(
    path: Place,
    below: str,
    files: dict[str, list[tuple[int | str, tuple[int, int]]]],
    regions: dict[int | str, list[CocoRegion]],
) -> tuple[CocoImage, ...]:
    """The images; one listed several times gets the regions of all its ids, and the size given by any."""
    images = []
    for name, entries in files.items():
        said = [entry for entry in entries if entry[1] != (0, 0)] or entries
        (first, size), *others = said
        for other, differs in others:
            if differs != size:
                raise DataError(
                    f"{path}: {name!r} is image {plain(first)} of (height, width) {size} and image {plain(other)} of"
                    f" {differs}; only one can be right"
                )
        mine = dict.fromkeys(number for number, _ in entries)
        images.append(CocoImage(normal(below + name), size, tuple(region for number in mine for region in regions[number])))
    return tuple(images)


def joined(files: Iterable[Coco]) -> list[Row]:
    """The rows of several annotation files of one data set.

    Raises:
        DataError: categories that differ between files.
    """
    rows, first = list[Row](), dict[int, str]()
    for file in files:
        rows += file.rows()
        first = first or file.names
        if file.names != first:
            raise DataError(f"{file.path}: its categories are not those of the first file beside it; read them one by one")
    return rows


def coco_classes(files: Iterable[Coco]) -> ClassTable:
    """The categories with their own ids, without unused ones whose ids do not fit into a mask; numbered from 1 in the order of
    their ids where a used one does not fit.

    Raises:
        DataError: two categories of one name, or more than 254.
    """
    named: dict[str, int] = {}
    files = list(files)
    used = {region.category for file in files for image in file.images for region in image.regions}
    for number, name in sorted(files[0].names.items()):
        if {number, named.get(name)} <= used:
            raise DataError(f"{files[0].path}: two categories are called {name!r}, {named[name]} and {number}; rename one")
        if name not in named or number in used:
            named[name] = number
    if all(1 <= number < IGNORE for number in used):
        fitting = sorted((number, name) for name, number in named.items() if 1 <= number < IGNORE)
        return ClassTable(tuple(number for number, _ in fitting), tuple(name for _, name in fitting))
    ordered = sorted(named, key=lambda name: named[name])
    ordered = ordered if len(ordered) < IGNORE else [name for name in ordered if named[name] in used]
    if len(ordered) >= IGNORE:
        raise DataError(f"{files[0].path}: {len(ordered)} categories have regions; 8-bit masks hold at most 254 classes")
    return ClassTable(tuple(range(1, len(ordered) + 1)), tuple(ordered))


def renumbered(files: Iterable[Coco], classes: ClassTable) -> str:
    """What :func:`coco_classes` did where ids do not fit into masks, for a message; empty if they all do."""
    ids = {name: number for file in files for number, name in file.names.items()}
    both = [(ids[name], name, number) for number, name in zip(classes.ids, classes.names, strict=True)]
    changed = [f"{before} {name} is {now}" for before, name, now in both if before != now]
    if not changed:
        return ""
    some = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
    return f"categories have ids outside of 1 to 254, so classes are numbered from 1 ({some}; --classes FILE gives others)"


def found_in(path: Place, files: list[Coco], classes: ClassTable | None) -> Found:
    """The labels of each image, and the categories as classes if none are given.

    Raises:
        DataError: categories that differ between files or are not in the class list, or that cannot be classes.
    """
    own = classes or coco_classes(files)
    rows = unique(path, by_name(joined(files), own))
    note = "" if classes else renumbered(files, own)
    return Found("COCO" + (f", {len(files)} files" if len(files) > 1 else ""), rows, own, notes=(note,) if note else ())


def by_name(rows: list[Row], classes: ClassTable) -> list[Row]:
    """The rows of annotation files, whose categories are checked to be names of classes (and not ids).

    Raises:
        DataError: a category of some region that the class list does not name.
    """
    for row in rows:
        for label in row.labels:
            if label not in classes.names:
                raise DataError(f"{row.where}: no class is called {label!r}; {known(label, classes.names)}")
    return rows


def number_of(value: Any) -> float | None:
    """A finite number from JSON; None for anything else."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and abs(value) < MAX_NUMBER else None


def _id(path: Place, part: str, at: int, entry: dict[str, Any], key: str) -> int | str:
    """An id: a whole number from 0, also if written as 1.0 or as text; other text is kept."""
    value = entry.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value  # not through float, which would round it
    number = number_of(value)
    if isinstance(value, float) and number is not None and number == int(number) >= 0:
        return int(number)
    if isinstance(value, str) and (text := normal(value)):
        whole = text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS
        return int(text) if whole else text
    if key not in entry or value is None or value == "":
        raise DataError(f"{path}: entry {at} of {part} has no {key!r}; got the keys {', '.join(entry) or 'none'}")
    raise DataError(f"{path}: entry {at} of {part} has the {key} {shown(value)}; expected a whole number from 0")


def _category(path: Place, part: str, at: int, entry: dict[str, Any], key: str) -> int:
    number = _id(path, part, at, entry, key)
    if isinstance(number, str):
        raise DataError(f"{path}: entry {at} of {part} has the {key} {number!r}; ids of categories must be numbers")
    return number


def _file_name(path: Place, at: int, entry: dict[str, Any]) -> str:
    name, number = entry.get("file_name"), plain(entry.get("id"))
    if name is None or name == "":
        raise DataError(f"{path}: entry {at} of images has no 'file_name'; got the keys {', '.join(entry) or 'none'}")
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts or not Path(normal(name)).name:
        raise DataError(f"{path}: image {number} has the file_name {shown(name)}; expected a name below the folder of images")
    _of_file(f"{path}: image {number}", name)
    return normal(Path(normal(name)).as_posix())


def _of_file(where: str, name: str) -> None:
    if "\0" in written(where, name):
        raise DataError(f"{where}: the name {name!a} is not a valid file name; rename it")


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    """Height and width; zeros if not given."""
    sides = []
    for key in ("height", "width"):
        value = entry.get(key)
        text = isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal() and len(value) < 16
        sides.append(number_of(int(value) if text else value) or 0.0)  # type: ignore[arg-type]
    whole = all(side == int(side) and side > 0 for side in sides)
    return (int(sides[0]), int(sides[1])) if whole else (0, 0)


def plain(value: Any) -> str:
    """An id for a message: short text on one line."""
    return str(value) if isinstance(value, int) and abs(value) < MAX_NUMBER else shown(value)


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(part: Any) -> str:
    return "nothing" if part is None else "an empty list" if part == [] else type(part).__name__
