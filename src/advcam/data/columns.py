"""Labels from tables: a column of labels, one row for each label or box, one column for each class."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from advcam.errors import DataError, known
from advcam.limits import MAX_CLASSES

from .labels import NONE, OTHERS, ClassTable, Found, Row, joined_names, normal, numbered, united
from .tables import Table, csv_table, is_image, key, short, state
from .text import read_any_text, written

if TYPE_CHECKING:
    from .places import Place

IMAGE = (
    "image", "images", "img", "file_name", "filename", "image_name", "img_name", "image_path", "img_path", "image_file",
    "file_path", "filepath", "path", "file", "image_id", "imageid", "name",
)  # fmt: skip
"""Names of the column of images, in any case; the first that is there counts."""

LABELS = (
    "labels", "label", "classes", "class", "class_name", "label_name", "labelname", "tags", "tag", "categories", "category",
    "category_name",
)  # fmt: skip
"""Names of the column of labels, in any case; the first that is there counts."""

OBJECTS = ("objects",)
"""Names of the column of objects."""

CATEGORY = ("categories", "category", "labels", "label", "classes", "class", "category_name", "name", "category_id")
"""Names of the categories among what is said of objects; the first that is there counts."""

BOX = frozenset({"bbox", "xmin", "x_min", "xmax", "x_max", "x1", "xtl", "left", "bbox_x"})
"""Columns of tables with one row for each box."""

SURE = ("confidence", "present", "value")
"""Columns that may say that the label of a row is not there."""

Told = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of classes that are present, and of those that are not known."""


def fits(header: Sequence[str]) -> int:
    """How well a header is understood: 0 not at all, up to 3."""
    keys = {key(name) for name in header}
    return 2 * bool(keys & {*LABELS}) + bool(keys & {*IMAGE}) or len(headless(header))


def headless(first: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table without a header, by its first row: the name of an image file, and labels."""
    return ("image", "labels") if len(first) == 2 and is_image(first[0]) and not is_image(first[1]) else ()


def labels_csv(path: Place, text: str) -> Table:
    """The table of a CSV of labels.

    Raises:
        DataError: not CSV.
    """
    return csv_table(path, text, fits, headless)


def csv_rows(path: Place, text: str | None = None) -> list[Row]:
    """The rows of a CSV with a column of images and one of labels.

    Args:
        path: of the file.
        text: its content, if already read.

    Raises:
        DataError: missing, empty, a missing column, no usable row.
    """
    return labelled(labels_csv(path, read_any_text(path, "labels file").text if text is None else text)).rows


def is_labelled(table: Table) -> bool:
    """Whether a table has a column of images and one of labels."""
    return bool(image_column(table) and table.column(LABELS))


def is_flagged(table: Table) -> bool:
    """Whether a table has a column of images, and others whose cells say yes or no."""
    return bool(image_column(table) and table.flags.keys() - {image_column(table)})


def is_objects(table: Table) -> bool:
    """Whether a table has a column of images and one of objects with categories, as Hugging Face's for object detection."""
    column = table.column(OBJECTS)
    return bool(column and image_column(table) and any(isinstance(cells.get(column), (dict, list)) for _, cells in table.rows))


def objects(table: Table, classes: ClassTable | None = None) -> Found:
    """The categories of each image's objects; an image without objects shows none of the classes.

    Raises:
        DataError: no usable row, or an image given twice.
    """
    image, column = image_column(table), table.column(OBJECTS)
    if image is None or column is None:
        raise unknown_columns(table)
    read, unusable = rows_of(table, image, lambda cells: told(_categories(cells.get(column)), ""))
    bare = classes is None and all(label.isdecimal() for row in read for label in row.labels)
    notes = ("categories are numbers: their names are not in this file, and --classes can give them",) if bare else ()
    return Found(f"{table.form}{table.told}, categories of {column}", united(read), unusable=unusable, notes=notes)


def _categories(value: Any) -> list[Any]:
    """The categories of objects, which are a dict of lists or a list of dicts."""
    if isinstance(value, dict):
        names = {key(str(name)): held for name, held in value.items()}
        held: Any = next((names[name] for name in CATEGORY if name in names), None if names else [])
        found = held if isinstance(held, list) else [held]
    elif isinstance(value, list):
        found = [category for one in value for category in (_categories(one) if isinstance(one, dict) else [one])]
    else:
        found = [] if value is None else [value]
    if None in found:
        raise DataError(f"expected objects with categories, got {short(value)}")
    return found


def image_column(table: Table) -> str | None:
    """The column of images, by its name, or else by its cells."""
    return table.column(IMAGE) or table.images


def labelled(table: Table, classes: ClassTable | None = None) -> Found:
    """Labels in a column; several rows of an image are united where they are one for each label or box.

    Raises:
        DataError: a missing column, no usable row, an image given twice.
    """
    image, labels = image_column(table), table.column(LABELS)
    if image is None or labels is None:
        raise unknown_columns(table)
    _see_sure(table)
    read, unusable = rows_of(table, image, lambda cells: told(cells.get(labels), table.between))
    boxes = bool(BOX & {key(name) for name in table.header})
    rows = united(read, boxes)
    kind = "one row per box" if boxes else "one row per label" if len(rows) < len(read) else f"columns {image} and {labels}"
    names = set[str]() if classes else {label for row in rows for label in (*row.labels, *row.unknown)}
    doubts = [
        (name, f"class {name!r} consists of names of other classes; labels are separated by {table.between[0]!r}")
        for name in joined_names(names)
    ]
    if len(names) == 2 and {state(name) for name in names} == {0, 1}:
        said = " and ".join(sorted(names))
        remedy = f"if that means no and yes, call the column {labels!r} by its class"
        doubts.append((said, f"the classes are called {said}; {remedy}"))
    return Found(f"{table.form}{table.told}, {kind}", rows, unusable=unusable, doubts=tuple(doubts))


def flagged(table: Table, classes: ClassTable | None = None) -> Found:
    """One column for each class: 1, 0, or blank where it is not known. In a table of x and blanks, a blank is 0.

    With a class list, its classes are the columns; one that has none is not known.

    Raises:
        DataError: no usable row, an image given twice, no class, or more than 254.
    """
    image = image_column(table)
    if image is None:
        raise unknown_columns(table)
    there = [name for name in table.flags if name != image and (classes or normal(name).lower() not in NONE)]
    columns = {name: normal(name) for name in there if classes is None or normal(name) in classes.named}
    if not columns:
        said = _some([name for name in table.flags if name != image])
        asked = f"in the class list ({known(said, classes.names)})" if classes else "a class"
        raise DataError(f"{table.place}: none of the columns of yes and no ({said}) is {asked}")
    if len(columns) > MAX_CLASSES:
        raise DataError(f"{table.place}: {len(columns)} columns of yes and no; 8-bit masks hold at most {MAX_CLASSES} classes")
    names = [normal(name) for name in table.header]
    for name in columns.values():
        if names.count(written(table.place, name)) > 1:
            raise DataError(f"{table.place}: there are {names.count(name)} columns {name!r}; keep one")
    covered = {classes.named[name] for name in columns.values()} if classes else set[int]()
    lacking = [name for at, name in enumerate(classes.names) if at not in covered] if classes else []
    ticks = all(table.flags[name] <= {"x"} for name in columns)

    def states(cells: dict[str, Any]) -> Told:
        found: dict[int, list[str]] = {1: [], 0: [], -1: [*lacking]}
        for column, name in columns.items():
            cell = cells.get(column)
            of = 0 if ticks and not str(cell or "").strip() else state(cell)
            if of is None:
                raise DataError(f"column {column[:80]!r}: expected 1, 0 or blank, got {short(cell)}")
            found[of].append(name)
        return tuple(found[1]), tuple(found[-1])

    read, unusable = rows_of(table, image, states)
    others = [name for name in table.header if name not in columns and name != image]
    notes = [f"columns that are no class: {_some(others)}"] if others else []
    notes += ["a blank means no, as no cell does"] if ticks else []
    own = None if classes else numbered(columns.values())
    return Found(f"{table.form}{table.told}, one column per class", united(read), own, unusable, notes=tuple(notes))


def rows_of(
    table: Table,
    image: str,
    read: Callable[[dict[str, Any]], Told],
    names: Callable[[str], Sequence[str]] = lambda name: [name],
) -> tuple[list[Row], tuple[tuple[str, str], ...]]:
    """The rows of a table, and those that cannot be used: the image, and the reason with its place.

    Args:
        table: of labels.
        image: its column of images.
        read: gives the classes that a row's cells name.
        names: gives the names that an image of a tool's may have.

    Raises:
        DataError: no row can be used.
    """
    rows, unusable = list[Row](), [*table.unusable]
    for where, cells in table.rows:
        try:
            name, *others = names(_name(cells.get(image)))
            labels, unknown = read(cells)
        except DataError as error:
            unusable.append((str(cells.get(image))[:80].encode(errors="replace").decode(), f"{where}: {error}"))
        else:
            rows.append(Row(name, labels, where, unknown, tuple(others)))
    if not rows:
        raise DataError(unusable[0][1] if unusable else f"{table.place}: the labels file names no image")
    return rows, tuple(unusable)


def told(cell: Any, between: str) -> Told:
    """The classes that a cell names, a list or text with separators; of one behind ``?`` it is not known, and of ``?`` alone
    all that are not named.

    Example:
        >>> told("dog;?cat", ";"), told(["dog", 7], ";")
        ((('dog',), ('cat',)), (('dog', '7'), ()))

    Raises:
        DataError: something else.
    """
    names = [clean(name) for name in _names(cell, between)]
    unknown = [clean(name[1:]) or OTHERS for name in names if name.startswith("?")]
    labels = dict.fromkeys(name for name in names if name and not name.startswith("?"))
    return tuple(labels), tuple(dict.fromkeys(name for name in unknown if name not in labels))


def _names(cell: Any, between: str) -> Iterable[str]:
    if isinstance(cell, str):
        listed = _listed(cell.strip())
        return re.split(f"[{re.escape(between)}]", cell) if listed is None else listed
    cells = cell if type(cell) is list else [cell]
    names = [str(int(name)) if isinstance(name, float) and name.is_integer() else name for name in cells]
    if not all(type(name) in (str, int) for name in names):
        raise DataError(f"expected a list of names or ids, got {short(cell)}")
    return [str(name) for name in names]


def _listed(text: str) -> list[str] | None:
    """The names of a list that a program wrote into a cell, as JSON or Python; None for other text."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for form in (text, text.replace("'", '"')):
        try:
            names = json.loads(form)
        except (ValueError, RecursionError):
            continue
        if all(type(name) in (str, int) for name in names):
            return [str(name) for name in names]
    return None


def clean(name: str) -> str:
    """A name as it is compared.

    Raises:
        DataError: it is not valid Unicode.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the name {name!a} is not valid Unicode; rename it") from None
    return normal(name)


def _name(cell: Any) -> str:
    """The name of an image."""
    if type(cell) not in (str, int):
        raise DataError(f"expected the name of an image, got {short(cell)}")
    name = clean(str(cell))
    if not name:
        raise DataError("the image name is empty")
    return name


def _see_sure(table: Table) -> None:
    """Refuses a table whose rows may say that a label is not there."""
    sure = table.column(SURE)
    if sure and sure in table.flags and any(state(cells.get(sure)) == 0 for _, cells in table.rows):
        raise DataError(
            f"{table.place}: the column {sure!r} says 0 in some rows, so these say that the image does not show the label; give"
            " one column per class with 1, 0 and blank (not known), or leave these rows and that column out"
        )


def unknown_columns(table: Table) -> DataError:
    """The error for a table of no known form."""
    if any(is_image(name) for name in table.header):
        return DataError(f"{table.place}: looks like a file without a header; write image,labels in the line before")
    there = [name for name in table.header if key(name) not in (*IMAGE, *LABELS)]
    missing = "labels" if image_column(table) else "image"
    return DataError(
        f"{table.place}: expected the columns image,labels; there is no column {missing!r}, but {_some(there) or 'no other'}."
        " Rename it in the header, or give one column per class with 1, 0 or blank (separator: a comma, semicolon, tab or |)"
    )


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(repr(name[:40]) for name in names[:most]) + (", ..." if len(names) > most else "")
