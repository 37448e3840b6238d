"""A folder of images and its labels as one data set, checked before any long computation."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from advcam.errors import DataError

from .images import AS_IT_IS, SUFFIXES
from .items import Dataset, Item, Skip
from .labels import ClassTable, Row, class_indices, normal, unknown_indices
from .names import Near, key_of, list_images
from .opening import Track, open_all
from .places import Place
from .reading import Reading
from .sources import read_labels, read_source
from .tables import read_classes
from .text import read_any_text

FEW_IMAGES = 5
"""Fewer images of a class than this are mentioned."""


def load(
    images: Place,
    labels: Place,
    classes: Path | None = None,
    train_list: Path | None = None,
    eval_list: Path | None = None,
    track: Track = lambda items, _total, _what: items,
    reading: Reading = AS_IT_IS,
) -> Dataset:
    """Reads labels and lists, opens every image once, and leaves out what cannot be used, with the reason.

    Without lists every labelled image is trained on; with a list for scoring only, all others are.

    Args:
        images: folder, archive, table or remote folder of images.
        labels: a file, folder or archive; see :func:`~advcam.data.sources.read_labels`.
        classes: CSV ``id,name``; without, the classes of the source, or those that the labels name.
        train_list: images to train on, one a line.
        eval_list: images to score on, one a line.
        track: shows progress.
        reading: how images' values become 8-bit RGB.

    Raises:
        DataError: a file that cannot be used, or no usable image.
    """
    files = list_images(images)
    read = read_labels(labels, read_classes(classes) if classes else None)
    near, table = Near(files, images), read.classes
    found = {key: (class_indices(row, table), unknown_indices(row, table)) for row, key in _matched(read.rows, files)}
    missing = [Skip(name, reason) for name, reason in read.unusable] + [
        Skip(row.name, f"{row.where}: there is no such image in {images}{near(row.others[-1] if row.others else row.name)}")
        for row in read.rows
        if _key(row, files) is None
    ]
    if not found:
        raise _none_there(labels, read.rows, near)

    lists: dict[str, list[str] | None] = {}
    for name, path in (("train", train_list), ("eval", eval_list)):
        lists[name], absent = _read_list(path, near, found) if path else (None, [])
        missing += absent
    scored = set(lists["eval"] or ())
    trained = set(lists["train"] or set(found) - scored)
    both = sorted(scored & trained)
    if both:
        raise DataError(
            f"{eval_list}: {both[0]!r} is in the training list too ({len(both)} are in both); score on images not trained on"
        )

    used = sorted(scored | trained)
    items, broken, dark = open_all([(key, files[key], found[key][0]) for key in used], track, reading)
    items = {key: replace(item, unknown=found[key][1]) for key, item in items.items()}
    odd = [Skip(name, doubt) for name, doubt in read.doubts]
    if scored and not scored & items.keys():
        raise DataError(f"{eval_list}: none of its images can be opened ({broken[0].reason})")
    learnt = {label for key in trained if key in items for label in items[key].labels}
    if not learnt:
        raise DataError(f"{labels}: no usable image to train on has a label" + (f" ({broken[0].reason})" if broken else ""))
    unused = [Skip(name, "class: no image to train on has it") for at, name in enumerate(table.names) if at not in learnt]
    return Dataset(
        table,
        tuple(items[key] for key in sorted(trained) if key in items),
        tuple(items[key] for key in sorted(scored) if key in items),
        tuple(missing + broken + (unused if classes else [])),  # of VOC's or COCO's own classes a part of the data has some
        tuple(odd + dark),
        tuple(key for key in files if key not in found),
        "; ".join([read.form, *(told for path in (classes, train_list, eval_list) if path and (told := _encoding(path)))]),
    )


def hard_classes(data: Dataset) -> list[str]:
    """Says which classes few images show, and which no image shows alone, so that no classifier can tell them apart."""
    names, found = data.classes.names, list[str]()
    shown = [{item.id for item in data.train if at in item.labels} for at in range(len(names))]
    few = [f"{name} {len(images)}" for name, images in zip(names, shown, strict=True) if 0 < len(images) < FEW_IMAGES]
    if few:
        found.append(f"few images to train on show some classes, whose maps may be poor: {', '.join(few)}")
    for at, other in itertools.combinations(range(len(names)), 2):
        if shown[at] and shown[at] == shown[other]:
            found.append(f"the same images show {names[at]!r} and {names[other]!r}, so that their maps cannot differ")
    ever = [name for at, name in enumerate(names) if shown[at] and _never_absent(data, at)]
    if ever:
        found.append(f"every image to train on shows {', '.join(ever)} or may show it: write 0 where it is absent")
    if absent := [name for name, images in zip(names, shown, strict=True) if not images]:
        found.append(f"no image to train on shows {', '.join(absent)}")
    return found


def read_as(data: Dataset) -> list[str]:
    """Says what the labels were read as, if that is known, and how much of them is not known."""
    pairs = sum(len(item.unknown) for item in data.items)
    said = [f"labels read as: {data.form}"] if data.form else []
    return said + ([f"{pairs} (image, class) pairs are not known and are left out"] if pairs else [])


def _never_absent(data: Dataset, at: int) -> bool:
    """Whether some image may show a class, and every other one does."""
    unknown = [item for item in data.train if at in item.unknown]
    return bool(unknown) and all(at in item.labels or at in item.unknown for item in data.train)


def _encoding(path: Path) -> str:
    """What is told about the encoding of a list; empty if it is UTF-8."""
    told = read_any_text(path, "list").told
    return f"{path.name} in {told}" if told else ""


def labels_of(labels: Place, images: Place, files: Mapping[str, Place], classes: ClassTable) -> dict[str, tuple[int, ...]]:
    """The class positions that each image shows or may show, by its id; images that the labels do not name are left out.

    Raises:
        DataError: labels that cannot be read, a label that is no class, or none of these images.
    """
    rows, table = read_source(labels, classes)
    matched = _matched(rows, files)
    found = {key: tuple(sorted({*class_indices(row, table), *unknown_indices(row, table)})) for row, key in matched}
    if not found:
        raise _none_there(labels, rows, Near(files, images))
    return found


def _none_there(labels: Place, rows: list[Row], near: Near) -> DataError:
    hint = near(rows[0].name) or "; check --images and the names"
    return DataError(f"{labels}: none of its {len(rows)} images is in {near.images} (e.g. {rows[0].name!r}){hint}")


def listed(path: Path, items: Iterable[Item]) -> tuple[list[Item], list[Skip]]:
    """The images that a list names, one a line, with or without suffix; and names that match none.

    Raises:
        DataError: a file that cannot be read, or that names none of them.
    """
    there = {item.id: item for item in items}
    folder = next(iter(there.values())).folder
    keys, skipped = _read_list(path, Near({name: item.path for name, item in there.items()}, folder), there)
    return [there[key] for key in dict.fromkeys(keys)], skipped


def _matched(rows: list[Row], files: Mapping[str, Place]) -> list[tuple[Row, str]]:
    matched, first = [], dict[str, str]()
    for row in rows:
        key = _key(row, files)
        if key is None:
            continue
        if key in first:
            raise DataError(f"{row.where}: {row.name!r} is the same image as at {first[key]}; put its labels in one row")
        first[key] = row.where
        matched.append((row, key))
    return matched


def _key(row: Row, files: Mapping[str, Place]) -> str | None:
    """The id of a row's image: the first of its names that is there."""
    return next((key for name in (row.name, *row.others) if (key := key_of(name, files)) is not None), None)


def _read_list(path: Path, near: Near, labelled: dict[str, Any]) -> tuple[list[str], list[Skip]]:
    """The ids that a list names, one a line, and names that cannot be used.

    A line may have more columns, as ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`` and VOC's ``ID -1``: the first is the
    image, also relative to the parent of the images' folder. Columns are separated by blanks, commas or semicolons.
    """
    keys, skipped = [], []
    files, images = near.files, near.images
    for line, text in enumerate(read_any_text(path, "list of images").text.splitlines(), 1):
        name = normal(text)
        if not name:
            continue
        first, *others = re.split(r"[\s,;]+", name)
        columns = (
            Path(first).suffix.lower() in SUFFIXES
            or {*others} <= {"-1", "0", "1"}
            or {Path(other).stem for other in others} == {Path(first).name}
        )
        first = first if columns else name  # else it is a name with blanks in it
        within = first.lstrip("/").removeprefix(f"{images.name}/")
        key = next((key for said in (name, first, within) if (key := key_of(said, files)) is not None), None)
        if key is None:
            skipped.append(Skip(name, f"{path}:{line}: there is no such image in {images}{near(first)}"))
        elif key not in labelled:
            skipped.append(Skip(name, f"{path}:{line}: the labels file does not name it"))
        else:
            keys.append(key)
    if not keys:
        raise DataError(
            f"{path}: none of its images can be used, e.g. {skipped[0].image!r} ({skipped[0].reason}); expected names such as"
            f" {next(iter(files))!r}, one a line"
        )
    return keys, skipped
