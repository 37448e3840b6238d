"""The images of a folder by id, the image that a name refers to, and suggestions for unknown names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from advcam.errors import DataError
from advcam.limits import MAX_PATH_BYTES

from .images import SUFFIXES
from .labels import normal

COMPANIONS = frozenset({"", ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".npz", ".db", ".ini"})
"""Suffixes of files that are expected beside images."""


def list_images(folder: Path) -> dict[str, Path]:
    """The images below a folder, by id.

    Raises:
        DataError: no such folder, no image in it, two files with one id (ignoring case), or a name that is not UTF-8.
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
            same = "" if name in found else " except for upper and lower case, which some systems do not distinguish"
            raise DataError(
                f"{path}: {other.name} has the same name without suffix, and would have the same mask{same}; rename one"
            )
        found[name] = path
    if not found:
        others = ", ".join(f"{count} of suffix {suffix}" for suffix, count in passed_over(folder).items())
        held = f", but other files: {others}" if others else ""
        raise DataError(f"{folder}: no image in it{held}; known suffixes: {', '.join(sorted(SUFFIXES))}")
    return found


def passed_over(folder: Path) -> dict[str, int]:
    """The number of files below a folder by suffix that is not read as an image, without hidden and companion files."""
    return dict(sorted(Counter(path.suffix.lower() for path in _visible(folder) if _is_unread(path)).items()))


def key_of(name: str, files: dict[str, Path]) -> str | None:
    """The id that a name refers to, with or without suffix."""
    name = PurePosixPath(name).as_posix()  # without ./ and double slashes
    if name in files:
        return name
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name
    return stem if stem in files and files[stem].suffix.lower() == Path(name).suffix.lower() else None


@dataclass(frozen=True)
class Near:
    """Suggestions for names that are no image of a folder."""

    files: dict[str, Path]
    images: Path

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
        return f"; did you mean {self.files[same[0]].relative_to(self.images).as_posix()!r}?" if len(same) == 1 else ""

    @cached_property
    def unread(self) -> dict[str, str]:
        """Files that are not read as images, by name with and without suffix."""
        below = [p.relative_to(self.images).as_posix() for p in _visible(self.images) if _is_unread(p)]
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
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if re.fullmatch(r"\.\w{1,6}", suffix) else name


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _is_unread(path: Path) -> bool:
    return path.suffix.lower() not in SUFFIXES | COMPANIONS and path.is_file()
