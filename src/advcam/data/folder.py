"""A folder of pictures and the labels of it as one data set, looked at before hours are spent on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.errors import DataError, ImageError

from .images import SUFFIXES, read_with_doubt
from .labels import ClassTable, Row, class_indices, joined_names, normal, read_classes, read_text
from .sources import read_source

COMPANIONS = frozenset({"", ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".npz", ".db", ".ini"})
"""Suffixes of what lies beside images without being one."""

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True)
class Item:
    """One picture: its id (path below the folder, without suffix), file, class positions and size (height, width)."""

    id: str
    path: Path
    labels: tuple[int, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Skip:
    """One thing left out, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """What a run works on.

    Args:
        classes: the classes of the class list, or those that some image has.
        train: pictures to train on.
        eval: pictures to score on; empty where no list named them.
        skipped: what was left out, and why.
        doubts: what is used and looks wrong, and why.
        unlabelled: images in the folder that the labels do not name; no fault, they are no part of the data set.
    """

    classes: ClassTable
    train: tuple[Item, ...]
    eval: tuple[Item, ...]
    skipped: tuple[Skip, ...]
    doubts: tuple[Skip, ...] = ()
    unlabelled: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[Item, ...]:
        """All pictures, each once, in order of id."""
        return tuple(sorted({item.id: item for item in self.train + self.eval}.values(), key=lambda item: item.id))


def list_images(folder: Path) -> dict[str, Path]:
    """The pictures below a folder, by id.

    Raises:
        DataError: no such folder, no picture in it, two files with one id, or a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of images; check --images")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in below.parts) or not path.is_file():
            continue
        name = normal(below.with_suffix("").as_posix())
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{str(path)!a}: its name is not UTF-8; rename the file") from None
        if name in found:
            raise DataError(
                f"{path}: {found[name].name} has the same name without suffix, and would have the same mask; rename one"
            )
        found[name] = path
    if not found:
        raise DataError(f"{folder}: no picture in it; known suffixes: {', '.join(sorted(SUFFIXES))}")
    return found


def passed_over(folder: Path) -> dict[str, int]:
    """How many files below a folder have each suffix that is not read as an image; hidden files and notes are not counted."""
    files = (p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    counts = Counter(path.suffix.lower() for path in files if path.is_file())
    return {suffix: count for suffix, count in sorted(counts.items()) if suffix not in SUFFIXES | COMPANIONS}


def load(
    images: Path,
    labels: Path,
    classes: Path | None = None,
    train_list: Path | None = None,
    eval_list: Path | None = None,
    track: Track = lambda items, _total, _what: items,
) -> Dataset:
    """Reads labels and lists, opens every picture once, and leaves out, with a reason, what cannot be used.

    Without lists every labelled picture is trained on; with a list for scoring only, all others are.

    Args:
        images: folder of pictures.
        labels: a file, or a VOC or COCO folder; see :func:`~advcam.data.sources.read_source`.
        classes: CSV ``id,name``; without, the classes of the source, or those that the labels name.
        train_list: images to train on, one a line.
        eval_list: images to score on, one a line.
        track: shows progress.

    Raises:
        DataError: a file that cannot be used, or nothing usable at all.
    """
    files = list_images(images)
    rows, table = read_source(labels, read_classes(classes) if classes else None)
    found = {key: (row, class_indices(row, table)) for row, key in _matched(rows, files)}
    missing = [
        Skip(row.name, f"{row.where}: there is no such image in {images}{_meant(row.name, files, images)}")
        for row in rows
        if _key(row.name, files) is None
    ]
    if not found:
        hint = _meant(rows[0].name, files, images) or "; check --images and the names"
        raise DataError(f"{labels}: none of its {len(rows)} images is in {images} (e.g. {rows[0].name!r}){hint}")

    lists: dict[str, list[str] | None] = {}
    for name, path in (("train", train_list), ("eval", eval_list)):
        lists[name], absent = _read_list(path, files, found, images) if path else (None, [])
        missing += absent
    scored = set(lists["eval"] or ())
    trained = set(lists["train"] or set(found) - scored)
    both = sorted(scored & trained)
    if both:
        raise DataError(
            f"{eval_list}: {both[0]!r} is in the training list too ({len(both)} are in both); score on pictures not trained on"
        )

    used = sorted(scored | trained)
    items, broken, dark = _open_all([(key, files[key], found[key][1]) for key in used], track)
    odd = [
        Skip(name, f"class {name!r} is made of the names of other classes; labels are separated by ';'")
        for name in joined_names(table.names)
    ]
    if scored and not scored & items.keys():
        raise DataError(f"{eval_list}: none of its pictures can be opened ({broken[0].reason})")
    learnt = {label for key in trained if key in items for label in items[key].labels}
    if not learnt:
        raise DataError(f"{labels}: no usable picture to train on has a label" + (f" ({broken[0].reason})" if broken else ""))
    nobody = [Skip(name, "class: no picture to train on has it") for at, name in enumerate(table.names) if at not in learnt]
    return Dataset(
        table,
        tuple(items[key] for key in sorted(trained) if key in items),
        tuple(items[key] for key in sorted(scored) if key in items),
        tuple(missing + broken + nobody),
        tuple(odd + dark),
        tuple(key for key in files if key not in found),
    )


def listed(path: Path, items: Iterable[Item]) -> tuple[list[Item], list[Skip]]:
    """The pictures that a list names, one a line, with or without suffix; and names that are none of them.

    Raises:
        DataError: a file that cannot be read, or that names none of them.
    """
    there = {item.id: item for item in items}
    first = next(iter(there.values()))
    folder = first.path.parents[first.id.count("/")]
    keys, skipped = _read_list(path, {name: item.path for name, item in there.items()}, there, folder)
    return [there[key] for key in dict.fromkeys(keys)], skipped


def _key(name: str, files: dict[str, Path]) -> str | None:
    """The id that a name in a list means, with or without suffix."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    if name in files:
        return name
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name
    return stem if stem in files and files[stem].suffix.lower() == Path(name).suffix.lower() else None


def _meant(name: str, files: dict[str, Path], images: Path) -> str:
    """What an unknown name may mean, as the end of a message: its end is an image, or it is a file of another kind."""
    parts = re.split(r"[/\\]+", name)
    for at in range(1, len(parts)):
        tail = "/".join(parts[at:])
        if _key(tail, files) is not None:
            begin = name[: len(name) - len(tail)]
            return f"; did you mean {tail!r}? the names begin with {begin!r}: leave that out"
    suffix = Path(name).suffix.lower()
    if suffix and suffix not in SUFFIXES and ".." not in parts and (images / name).is_file():
        return f"; {name}: suffix {suffix} is not read; known: {', '.join(sorted(SUFFIXES))}"
    return ""


def _matched(rows: list[Row], files: dict[str, Path]) -> list[tuple[Row, str]]:
    matched, first = [], dict[str, str]()
    for row in rows:
        key = _key(row.name, files)
        if key is None:
            continue
        if key in first:
            raise DataError(f"{row.where}: {row.name!r} is the image given already at {first[key]}; put its labels in one row")
        first[key] = row.where
        matched.append((row, key))
    return matched


def _read_list(path: Path, files: dict[str, Path], labelled: dict[str, Any], images: Path) -> tuple[list[str], list[Skip]]:
    """The ids that a list names, one a line, and names that cannot be used.

    A line may have more columns, as ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`` and VOC's ``ID -1``: the first is the
    image; its path may begin at the folder around that of the images.
    """
    keys, skipped = [], []
    for line, text in enumerate(read_text(path, "list of images").splitlines(), 1):
        name = normal(text)
        if not name:
            continue
        first, *others = name.split()
        columns = Path(first).suffix.lower() in SUFFIXES or {*others} <= {"-1", "0", "1"}
        first = first if columns else name  # else it is a name with blanks in it
        within = first.lstrip("/").removeprefix(f"{images.name}/")
        key = next((key for said in (name, first, within) if (key := _key(said, files)) is not None), None)
        if key is None:
            skipped.append(Skip(name, f"{path}:{line}: there is no such image in {images}{_meant(first, files, images)}"))
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


def _open_all(named: list[tuple[str, Path, tuple[int, ...]]], track: Track) -> tuple[dict[str, Item], list[Skip], list[Skip]]:
    """Opens every image; the ones that cannot be read become skips, and what is odd about the others doubts."""

    def look(entry: tuple[str, Path, tuple[int, ...]]) -> tuple[Item | Skip, Skip | None]:
        key, path, labels = entry
        try:
            image, doubt = read_with_doubt(path)
        except ImageError as error:
            return Skip(key, str(error)), None
        return Item(key, path, labels, (image.height, image.width)), Skip(key, f"{path}: {doubt}") if doubt else None

    with ThreadPoolExecutor(max_workers=4) as pool:
        looked = list(track(pool.map(look, named), len(named), "look at the pictures"))
    good = {item.id: item for item, _ in looked if isinstance(item, Item)}
    return good, [skip for skip, _ in looked if isinstance(skip, Skip)], [doubt for _, doubt in looked if doubt]
