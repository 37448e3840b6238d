"""The images of a folder by id, the image that a name refers to, and suggestions for unknown names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from advcam.errors import DataError
from advcam.limits import MAX_PATH_BYTES

from .archives import is_inside
from .images import SUFFIXES, suffix_of
from .labels import normal
from .places import Place, files_below, home

COMPANIONS = frozenset(
    {"", ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".npz", ".db", ".ini", ".yaml", ".yml", ".cls", ".arrow"}
)
"""Suffixes of files that are expected beside images."""


def list_images(folder: Place) -> dict[str, Place]:
    """The images below a folder, in an archive, in a table, or of a remote folder, by id.

    Raises:
        DataError: no such folder, no image in it, two files with one id (ignoring case), or a name that is not UTF-8.
    """
    folder = home(folder)
    return by_id(folder, files_below(folder))


def by_id(folder: Place, files: Iterable[tuple[str, Place]]) -> dict[str, Place]:
    """The images among the files of a folder, by id; see :func:`list_images`."""
    found, alike, others = dict[str, Place](), dict[str, Place](), list[str]()
    for below, path in files:
        suffix = suffix_of(below)
        if suffix not in SUFFIXES:
            others.append(below)
            continue
        name = normal(below[: -len(suffix)])
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{str(path)!a}: its name is not UTF-8; rename the file") from None
        if not is_inside(name):
            raise DataError(f"{str(path)!r}: has no name before its suffix; rename the file")
        other = alike.setdefault(name.casefold(), path)
        if other is not path:
            same = "" if name in found else " except for upper and lower case, which some systems do not distinguish"
            raise DataError(
                f"{path}: {other.name} has the same name without suffix, and would have the same mask{same}; rename one"
            )
        found[name] = path
    if not found:
        counts = ", ".join(f"{count} of suffix {suffix}" for suffix, count in _counted(others).items())
        held = f", but other files: {counts}" if counts else ""
        raise DataError(f"{folder}: no image in it{held}; known suffixes: {', '.join(sorted(SUFFIXES))}")
    return found


def passed_over(folder: Place) -> dict[str, int]:
    """The number of files below a folder by suffix that is not read as an image, without hidden and companion files."""
    return _counted(name for name, _ in files_below(home(folder)))


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(suffix_of(name) for name in names if _is_unread(name)).items()))


def key_of(name: str, files: Mapping[str, Place]) -> str | None:
    """The id that a name refers to, with or without suffix."""
    name = PurePosixPath(name).as_posix()  # without ./ and double slashes
    if name in files:
        return name
    suffix = suffix_of(name)
    stem = name[: -len(suffix)] if suffix in SUFFIXES else name
    return stem if stem in files and suffix_of(files[stem].name) == suffix else None


@dataclass(frozen=True)
class Near:
    """Suggestions for names that are no image of a folder."""

    files: Mapping[str, Place]
    images: Place

    def __call__(self, name: str) -> str:
        """What an unknown name may refer to, as the end of a message; empty without a similar name."""
        return "" if len(name) > MAX_PATH_BYTES else self._end(name) or self._other_kind(name) or self._alike(name)

    def _end(self, name: str) -> str:
        """For a name whose end is an image: a wrong folder, or backslashes."""
        for start in (found.start() for found in re.finditer(r"[^/\\]+", name)):
            begin, tail = name[:start], PurePosixPath(re.sub(r"[/\\]+", "/", name[start:])).as_posix()
            if key_of(tail, self.files) is not None:
                leave = [f"the names begin with {begin!r}: remove that"] if begin else []
                stroke = ["write / between folders"] if "\\" in name[start:] else []
                return f"; did you mean {tail!r}? {', and '.join(leave + stroke)}"
        return ""

    def _other_kind(self, name: str) -> str:
        """For a name of a file that is not read."""
        found = self.unread.get(name) or self.unread.get(_stem(name))
        return f"; {found}: suffix {Path(found).suffix} is not read; known: {', '.join(sorted(SUFFIXES))}" if found else ""

    def _alike(self, name: str) -> str:
        """For a name that exactly one image has in another folder, with another suffix, or in other case."""
        stem = _stem(PurePosixPath(name).as_posix()).casefold()
        same = [key for key in self.last.get(stem.split("/")[-1], ()) if f"/{key}".casefold().endswith(f"/{stem}")]
        return f"; did you mean {self._whole(same[0])!r}?" if len(same) == 1 else ""

    def _whole(self, key: str) -> str:
        """An image's name with its suffix, as it is written."""
        name = self.files[key].name
        return key + name[-len(suffix_of(name)) :]

    @cached_property
    def unread(self) -> dict[str, str]:
        """Files that are not read as images, by name with and without suffix."""
        below = [name for name, _ in files_below(home(self.images)) if _is_unread(name)]
        return {_stem(name): name for name in below} | {name: name for name in below}

    @cached_property
    def last(self) -> dict[str, list[str]]:
        """The ids of images by their last part."""
        found: dict[str, list[str]] = {}
        for key in self.files:
            found.setdefault(key.split("/")[-1].casefold(), []).append(key)
        return found


def _stem(name: str) -> str:
    """A name without its file suffix, if it has one; other dots are part of the name."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if re.fullmatch(r"(\.nii)?\.\w{1,6}", suffix) else name


def _is_unread(name: str) -> bool:
    return suffix_of(name) not in SUFFIXES | COMPANIONS
