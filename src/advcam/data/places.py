"""Where the bytes of an image are: a local path, or an address in an archive, a table or a remote store."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from advcam.errors import DataError
from advcam.limits import MAX_ENTRIES

from . import remote
from .archives import archive, is_archive, is_inside, refuse_compressed
from .rows import is_saved
from .tables import is_image

FILES = (".csv", ".tsv", ".json", ".jsonl", ".xml", ".txt")
"""Suffixes of files of labels; a remote address with another one is a folder or an archive."""


@dataclass(frozen=True, order=True)
class Address:
    """A file that is no local one by itself: in an archive, a row of a table, or remote.

    It has those of a path's methods that reading an image needs, and raises the same errors. It is plain text, so that another
    process, or a later command, finds the bytes again.

    Args:
        within: the archive or table, a local path or an address; or the remote file or folder.
        below: the name in the archive or table; empty for a remote file or folder.

    Example:
        >>> print(Address("s3://bucket/photos.zip", "cats/1.jpg"), Address("s3://bucket/photos.zip", "cats/1.jpg").suffix)
        s3://bucket/photos.zip/cats/1.jpg .jpg
    """

    within: str
    below: str = ""

    def __str__(self) -> str:
        return f"{self.within}/{self.below}" if self.below else self.within

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(str(self)).name

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""
        return PurePosixPath(str(self)).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """What is between slashes."""
        return tuple(str(self).split("/"))

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(str(self)).stem

    @property
    def parent(self) -> Place:
        """The folder or archive that it is in."""
        return above(self, self.name)

    def resolve(self) -> Address:
        """The address, valid from any working folder."""
        return self if remote.is_remote(self.within) else Address(str(Path(self.within).resolve()), self.below)

    def is_dir(self) -> bool:
        """False: what can be listed is asked for by :func:`files_below`."""
        return False

    def is_file(self) -> bool:
        """Whether there is such a file."""
        if not self.below:
            return remote.is_file(self.within)
        try:
            return self.below in archive(self.within).names
        except (OSError, DataError):
            return False

    exists = is_file

    def read_bytes(self) -> bytes:
        """The bytes.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        if not self.below:
            return remote.read(self.within)
        try:
            return archive(self.within).read(self.below)
        except DataError as error:  # the archive was whole when its names were read
            raise OSError(0, str(error)) from None


Place = Path | Address
"""A local path, or an address."""


def place(text: object) -> Place:
    """The place that a text names: an address of ``fsspec``, a path through an archive (``photos.zip/cats``), or a local path.

    Raises:
        ValueError: it is empty.
        TypeError: neither text nor a place.
        DataError: an address with a password in it.
    """
    if isinstance(text, Address):
        return text
    if not isinstance(text, (str, Path)):
        raise TypeError(f"expected a path or an address, got {type(text).__name__}")
    named = str(text).removeprefix("file://")
    if not named:
        raise ValueError("a path is empty")
    if remote.is_remote(named):
        remote.refuse_password(named)
        named = named if named.endswith("://") else named.rstrip("/")
        found = re.match(r"(.+?\.(?:zip|tar|parquet))/+(.+)", named, re.IGNORECASE)
        return Address(found[1], found[2]) if found else Address(named)
    path = Path(named)
    if _there(path):
        return path
    home = next((above for above in path.parents if _there(above)), path)
    return Address(str(home), path.relative_to(home).as_posix()) if home != path and is_archive(str(home)) else path


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long: said where the path is used
        return False


def above(image: Place, name: str) -> Place:
    """The folder that an image has this name below."""
    count = name.count("/")
    return image.parents[count] if isinstance(image, Path) else place(str(image).rsplit("/", count + 1)[0])


def holds_images(where: Place) -> bool:
    """Whether a place is a folder or an archive, and not a file of labels."""
    if isinstance(where, Address):
        return not where.name.lower().endswith(FILES)
    return where.is_dir() or is_archive(str(where)) or bool(_expanded(str(where)))


def home(where: Place) -> Place:
    """The place itself, or the folder that all files of an archive are in, as those have that were packed with their folder."""
    if not is_archive(str(where)) or (isinstance(where, Path) and where.is_dir()):
        return where
    names = [name for name in _names(str(where)) if not _hidden(name)]
    tops = {name.partition("/")[0] for name in names if "/" in name}
    single = len(tops) == 1 and all("/" in name for name in names)
    return Address(str(where), tops.pop()) if single else where


def files_below(root: Place) -> list[tuple[str, Place]]:
    """All files below a folder, an archive, or a folder of archives, by their names below it, sorted; without hidden ones.

    An archive in a folder that holds no images is as a folder of its name: ``shard-000.tar/0001.jpg``.

    Raises:
        DataError: there is no such folder, or one of the archives cannot be read.
    """
    found = [(name, at) for name, at in _listed(root) if not _hidden(name)]
    if any(is_image(name) for name, _ in found):
        return found
    inner = [(name, str(at)) for name, at in found if isinstance(at, Path) or not at.below]
    inner = [(name, at) for name, at in inner if is_archive(at)]
    if isinstance(root, Path) and root.is_dir() and not is_saved(root):
        sets = [path.parent for path in sorted(root.rglob("state.json")) if is_saved(path.parent)]
        inner += [(one.relative_to(root).as_posix(), str(one)) for one in sets]
    packed = [(f"{below}/{name}", Address(at, name)) for below, at in sorted(inner) for name in _names(at) if not _hidden(name)]
    return [*found, *sorted(packed)]


def _listed(root: Place) -> Iterator[tuple[str, Place]]:
    text = str(root)
    refuse_compressed(text)
    if is_archive(text):
        return ((name, Address(text, name)) for name in sorted(_names(text)))
    if isinstance(root, Address) and root.below:
        begin = f"{root.below}/"
        inside = (name for name in sorted(_names(root.within)) if name.startswith(begin))
        return ((name.removeprefix(begin), Address(root.within, name)) for name in inside)
    if isinstance(root, Path) and root.is_dir():
        below = ((path.relative_to(root).as_posix(), path) for path in sorted(root.rglob("*")))
        return ((name, path) for name, path in below if path.is_file())
    if shards := _expanded(text):
        return iter(_shards(text, shards))
    if isinstance(root, Path):
        what = "it is a file of another kind than .zip, .tar or .parquet" if root.exists() else "check --images"
        raise DataError(f"{root}: there is no such folder of images; {what}")
    return ((_known(text, name), Address(f"{text}/{name}")) for name in remote.find(text))


def _names(path: str) -> list[str]:
    try:
        return list(archive(path).names)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def _known(url: str, name: str) -> str:
    known = remote.name_of(url, name)
    if not is_inside(known):
        raise DataError(f"{url}: holds a file called {known!r:.80}, which is no name below a folder; rename it")
    return known


def _shards(text: str, shards: list[str]) -> list[tuple[str, Place]]:
    """The archives that a pattern names."""
    known = [place(shard) for shard in shards]
    missing = [str(shard) for shard in known if not shard.exists()]
    if missing:
        raise DataError(f"{text}: {len(missing)} of its {len(known)} archives are not there, the first {missing[0]}")
    return [(shard.name, shard) for shard in known]


def _expanded(text: str) -> list[str]:
    """The names of a pattern such as ``shard-{000..009}.tar`` or ``{train,val}.tar``; empty for other texts."""
    parts = re.split(r"\{(\d+\.\.\d+|[^{}/]+,[^{}/]*)\}", text)
    if len(parts) == 1 or not text.lower().endswith((".tar", ".zip")):
        return []
    choices = [[part] if at % 2 == 0 else _choices(part) for at, part in enumerate(parts)]
    total = 1
    for some in choices:
        total *= len(some)
    if total > MAX_ENTRIES:
        raise DataError(f"{text}: names {total} archives, more than {MAX_ENTRIES}")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(part: str) -> list[str]:
    first, dots, last = part.partition("..")
    if not dots or not (first + last).isdecimal():
        return part.split(",")
    begin, end = int(first[-18:]), int(last[-18:])
    if not begin <= end < begin + MAX_ENTRIES:
        raise DataError(f"{{{part:.60}}}: expected two numbers, the smaller first")
    return [str(number).zfill(len(first)) for number in range(begin, end + 1)]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
