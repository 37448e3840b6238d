"""A folder of images and the labels of it as one data set, looked at before hours are spent on it."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from advcam.errors import DataError, ImageError
from advcam.limits import MAX_PATH_BYTES, MAX_PIXELS_AT_ONCE
from advcam.process import usable_cores

from .images import SUFFIXES, look_at, pixels_of, read_image
from .labels import ClassTable, Row, class_indices, normal, read_classes, read_text
from .sources import read_labels

COMPANIONS = frozenset({"", ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".npz", ".db", ".ini"})
"""Suffixes of what lies beside images without being one."""

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True)
class Item:
    """One image of a data set.

    Args:
        id: path below the folder, without suffix.
        path: of the file.
        labels: class positions.
        size: (H, W) in pixels.
        content: hash of the file when it was looked at; None is not known.
    """

    id: str
    path: Path
    labels: tuple[int, ...]
    size: tuple[int, int]
    content: str | None = None

    def read(self) -> Image.Image:
        """The image as 8-bit RGB; see :func:`~advcam.data.images.read_image`.

        Raises:
            ImageError: it cannot be read, or is not the image any more that was looked at.
        """
        return read_image(self.path, self.content)


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
        train: images to train on.
        eval: images to score on; empty where no list named them.
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
        """All images, each once, in order of id."""
        return tuple(sorted({item.id: item for item in self.train + self.eval}.values(), key=lambda item: item.id))


def list_images(folder: Path) -> dict[str, Path]:
    """The images below a folder, by id.

    Raises:
        DataError: no such folder, no image in it, two files with one id (upper and lower case taken for the same), or a name
            that is not UTF-8.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of images; check --images")
    found, alike = dict[str, Path](), dict[str, Path]()
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in below.parts) or not path.is_file():
            continue
        name = normal(below.with_suffix("").as_posix())
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{str(path)!a}: its name is not UTF-8; rename the file") from None
        other = alike.setdefault(name.casefold(), path)
        if other is not path:
            same = "" if name in found else ", but for upper and lower case, which some systems do not tell apart"
            raise DataError(
                f"{path}: {other.name} has the same name without suffix, and would have the same mask{same}; rename one"
            )
        found[name] = path
    if not found:
        others = ", ".join(f"{count} of suffix {suffix}" for suffix, count in passed_over(folder).items())
        held = f", but files that are not read: {others}" if others else ""
        raise DataError(f"{folder}: no image in it{held}; known suffixes: {', '.join(sorted(SUFFIXES))}")
    return found


def passed_over(folder: Path) -> dict[str, int]:
    """How many files below a folder have each suffix that is not read as an image; hidden files and notes are not counted."""
    return dict(sorted(Counter(path.suffix.lower() for path in _visible(folder) if _is_unread(path)).items()))


def load(
    images: Path,
    labels: Path,
    classes: Path | None = None,
    train_list: Path | None = None,
    eval_list: Path | None = None,
    track: Track = lambda items, _total, _what: items,
) -> Dataset:
    """Reads labels and lists, opens every image once, and leaves out, with a reason, what cannot be used.

    Without lists every labelled image is trained on; with a list for scoring only, all others are.

    Args:
        images: folder of images.
        labels: a file, or a VOC or COCO folder; see :func:`~advcam.data.sources.read_source`.
        classes: CSV ``id,name``; without, the classes of the source, or those that the labels name.
        train_list: images to train on, one a line.
        eval_list: images to score on, one a line.
        track: shows progress.

    Raises:
        DataError: a file that cannot be used, or nothing usable at all.
    """
    files = list_images(images)
    rows, table, several = read_labels(labels, read_classes(classes) if classes else None)
    near = _Near(files, images)
    found = {key: (row, class_indices(row, table)) for row, key in _matched(rows, files)}
    missing = [
        Skip(row.name, f"{row.where}: there is no such image in {images}{near(row.name)}")
        for row in rows
        if _key(row.name, files) is None
    ]
    if not found:
        hint = near(rows[0].name) or "; check --images and the names"
        raise DataError(f"{labels}: none of its {len(rows)} images is in {images} (e.g. {rows[0].name!r}){hint}")

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
    items, broken, dark = _open_all([(key, files[key], found[key][1]) for key in used], track)
    odd = [Skip(name, f"class {name!r} is made of the names of other classes; labels are separated by ';'") for name in several]
    if scored and not scored & items.keys():
        raise DataError(f"{eval_list}: none of its images can be opened ({broken[0].reason})")
    learnt = {label for key in trained if key in items for label in items[key].labels}
    if not learnt:
        raise DataError(f"{labels}: no usable image to train on has a label" + (f" ({broken[0].reason})" if broken else ""))
    nobody = [Skip(name, "class: no image to train on has it") for at, name in enumerate(table.names) if at not in learnt]
    return Dataset(
        table,
        tuple(items[key] for key in sorted(trained) if key in items),
        tuple(items[key] for key in sorted(scored) if key in items),
        tuple(missing + broken + nobody),
        tuple(odd + dark),
        tuple(key for key in files if key not in found),
    )


def listed(path: Path, items: Iterable[Item]) -> tuple[list[Item], list[Skip]]:
    """The images that a list names, one a line, with or without suffix; and names that are none of them.

    Raises:
        DataError: a file that cannot be read, or that names none of them.
    """
    there = {item.id: item for item in items}
    first = next(iter(there.values()))
    folder = first.path.parents[first.id.count("/")]
    keys, skipped = _read_list(path, _Near({name: item.path for name, item in there.items()}, folder), there)
    return [there[key] for key in dict.fromkeys(keys)], skipped


def _key(name: str, files: dict[str, Path]) -> str | None:
    """The id that a name in a list means, with or without suffix."""
    name = PurePosixPath(name).as_posix()  # without ./ and doubled strokes
    if name in files:
        return name
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name
    return stem if stem in files and files[stem].suffix.lower() == Path(name).suffix.lower() else None


@dataclass(frozen=True)
class _Near:
    """What lies in a folder, for names that are no image of it."""

    files: dict[str, Path]
    images: Path

    def __call__(self, name: str) -> str:
        """What an unknown name may mean, as the end of a message; empty where nothing is like it."""
        return "" if len(name) > MAX_PATH_BYTES else self._end(name) or self._other_kind(name) or self._alike(name)

    def _end(self, name: str) -> str:
        """The end of the name is an image."""
        for start in (found.start() for found in re.finditer(r"[^/\\]+", name)):
            begin, tail = name[:start], PurePosixPath(re.sub(r"[/\\]+", "/", name[start:])).as_posix()
            if _key(tail, self.files) is not None:
                leave = [f"the names begin with {begin!r}: leave that out"] if begin else []
                stroke = ["write / between folders"] if "\\" in name[start:] else []
                return f"; did you mean {tail!r}? {', and '.join(leave + stroke)}"
        return ""

    def _other_kind(self, name: str) -> str:
        """It is a file that is not read."""
        found = self.unread.get(name) or self.unread.get(_stem(name))
        return f"; {found}: suffix {Path(found).suffix} is not read; known: {', '.join(sorted(SUFFIXES))}" if found else ""

    def _alike(self, name: str) -> str:
        """One image alone has this name in another folder, with another suffix, or in other case."""
        stem = _stem(PurePosixPath(name).as_posix()).casefold()
        same = [key for key in self.last.get(stem.split("/")[-1], ()) if f"/{key}".casefold().endswith(f"/{stem}")]
        return f"; did you mean {self.files[same[0]].relative_to(self.images).as_posix()!r}?" if len(same) == 1 else ""

    @cached_property
    def unread(self) -> dict[str, str]:
        """Files that are no images, by their names with and without suffix."""
        below = [p.relative_to(self.images).as_posix() for p in _visible(self.images) if _is_unread(p)]
        return {_stem(name): name for name in below} | {name: name for name in below}

    @cached_property
    def last(self) -> dict[str, list[str]]:
        """The ids of images by the last part of them."""
        found: dict[str, list[str]] = {}
        for key in self.files:
            found.setdefault(key.split("/")[-1].casefold(), []).append(key)
        return found


def _stem(name: str) -> str:
    """A name without the suffix of a file, if it has one; other dots belong to it."""
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if re.fullmatch(r"\.\w{1,6}", suffix) else name


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _is_unread(path: Path) -> bool:
    return path.suffix.lower() not in SUFFIXES | COMPANIONS and path.is_file()


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


def _read_list(path: Path, near: _Near, labelled: dict[str, Any]) -> tuple[list[str], list[Skip]]:
    """The ids that a list names, one a line, and names that cannot be used.

    A line may have more columns, as ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`` and VOC's ``ID -1``: the first is the
    image; its path may begin at the folder around that of the images. Columns are also separated by a comma or semicolon.
    """
    keys, skipped = [], []
    files, images = near.files, near.images
    for line, text in enumerate(read_text(path, "list of images").splitlines(), 1):
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
        key = next((key for said in (name, first, within) if (key := _key(said, files)) is not None), None)
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


class _Room:
    """So many pixels may be decoded at once; an image that alone has more waits for all others to be done."""

    def __init__(self, pixels: int) -> None:
        self.pixels = self.free = pixels
        self.changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        pixels = min(pixels, self.pixels)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


def _open_all(named: list[tuple[str, Path, tuple[int, ...]]], track: Track) -> tuple[dict[str, Item], list[Skip], list[Skip]]:
    """Opens every image; the ones that cannot be read become skips, and what is odd about the others doubts."""

    def look(entry: tuple[str, Path, tuple[int, ...]]) -> tuple[Item | Skip, Skip | None]:
        key, path, labels = entry
        try:
            with room.taken(pixels_of(path)):
                seen = look_at(path)
        except ImageError as error:
            return Skip(key, str(error)), None
        return Item(key, path, labels, seen.size, seen.content), Skip(key, f"{path}: {seen.doubt}") if seen.doubt else None

    room = _Room(MAX_PIXELS_AT_ONCE)
    with ThreadPoolExecutor(max_workers=min(4, usable_cores())) as pool:
        looked = list(track(pool.map(look, named), len(named), "look at the images"))
    good = {item.id: item for item, _ in looked if isinstance(item, Item)}
    return good, [skip for skip, _ in looked if isinstance(skip, Skip)], [doubt for _, doubt in looked if doubt]
