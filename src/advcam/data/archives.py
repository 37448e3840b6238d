"""Archives, of which single files are read and nothing is unpacked: zip and tar, here or remote."""

from __future__ import annotations

import errno
import functools
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from advcam.errors import DataError
from advcam.limits import MAX_ENTRIES, MAX_IMAGE_BYTES

from . import remote
from .rows import is_saved, open_rows

T = TypeVar("T")

ARCHIVES = (".zip", ".tar", ".parquet")
"""Suffixes of files that hold images."""

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Suffixes of archives that are compressed as a whole, so that no file can be read without all before it."""

KEPT = 4096
"""Archives of which the names are kept in memory."""

AHEAD = 2**22
"""Bytes of a remote tar that are read at once while its names are found: they are all over it."""

BLOCK = 2**16
"""Least bytes that are read of a remote zip."""


class Archive(Protocol):
    """Files that are read one by one, from any thread and any process that was forked."""

    @property
    def names(self) -> Collection[str]:
        """The names of the files."""

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: there is none, or it is damaged or too large.
        """


def is_archive(path: str) -> bool:
    """Whether a local path or address is an archive: a file by its suffix, or a folder that ``datasets`` has saved."""
    if remote.is_remote(path):
        return path.lower().endswith(ARCHIVES) and "{" not in path  # or it is a pattern of several
    return is_saved(Path(path)) or (path.lower().endswith(ARCHIVES) and os.path.isfile(path))


def is_table(path: str) -> bool:
    """Whether an archive is a table with images in its rows."""
    return not path.lower().endswith((".zip", ".tar"))


def archive(path: str) -> Archive:
    """An archive, whose names are kept while the file does not change.

    Raises:
        DataError: it cannot be read, is damaged, or names files outside of it.
        OSError: there is none.
    """
    if remote.is_remote(path):
        return _opened(path, ())
    at = os.stat(os.path.join(path, "state.json") if os.path.isdir(path) else path)
    return _opened(path, (at.st_mtime_ns, at.st_size, at.st_ino))


@functools.lru_cache(maxsize=KEPT)
def _opened(path: str, _stamp: tuple[int, ...]) -> Archive:
    if is_table(path):
        return open_rows(path)
    try:
        return _Zip(path) if path.lower().endswith(".zip") else _Tar(path)
    except (DataError, FileNotFoundError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_said(error)})") from None
    except Exception as error:  # zipfile and tarfile raise anything on a damaged archive
        raise DataError(f"{path}: cannot be read as an archive ({_said(error)}){_remedy(path)}") from None


if hasattr(os, "register_at_fork"):  # a forked process opens its own: another thread may have held the parent's lock
    os.register_at_fork(after_in_child=_opened.cache_clear)


def refuse_compressed(path: str) -> None:
    """Raises DataError for an archive that is compressed as a whole, or of another kind, with what to do."""
    name = path.lower()
    if name.endswith(COMPRESSED):
        raise DataError(f"{path}: {_AS_A_WHOLE}")
    if name.endswith((".7z", ".rar")):
        raise DataError(f"{path}: archives that are read are zip and tar; unpack it and give the folder")


_AS_A_WHOLE = (
    "is compressed as a whole, so that no image of it can be read without unpacking all before it; unpack it to a plain .tar"
    " (gunzip, unxz, ...; images are hardly smaller for being compressed again) or to a folder"
)


def _remedy(path: str) -> str:
    try:
        begin = _part(path, 0, 6)
    except OSError:
        return ""
    packed = path.lower().endswith(".tar") and begin.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd"))
    return f": {_AS_A_WHOLE}" if packed else "; copy it again"


def _part(path: str, start: int, end: int) -> bytes:
    if remote.is_remote(path):
        return remote.read(path, start, end)
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)


class _Parts(io.RawIOBase):
    """A file that is opened for every read, so that neither threads nor forked processes share a position in it."""

    def __init__(self, path: str) -> None:
        self.path, self.at = path, 0
        self.size = remote.size(path) if remote.is_remote(path) else os.path.getsize(path)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position."""
        at = to + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        if at < 0:
            raise OSError(errno.EINVAL, "a position before the file's begin")
        self.at = at
        return at

    def tell(self) -> int:
        """The position."""
        return self.at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills a buffer; returns the number of bytes, 0 at the end."""
        end = min(self.at + len(buffer), self.size)
        data = _part(self.path, self.at, end) if end > self.at else b""
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)


def _stream(path: str, ahead: int) -> io.BufferedReader:
    return io.BufferedReader(_Parts(path), ahead if remote.is_remote(path) else io.DEFAULT_BUFFER_SIZE)


class _Zip:
    def __init__(self, path: str) -> None:
        self.path, self.file = path, zipfile.ZipFile(_stream(path, BLOCK))
        entries = self.file.infolist()
        files = [one for one in entries if not one.is_dir() and not stat.S_ISLNK(one.external_attr >> 16)]
        self.names = {_inside(path, one.filename.replace("\\", "/")): one for one in _few(path, files)}

    def read(self, name: str) -> bytes:
        entry = _there(self.path, self.names, name)
        _bounded(entry.file_size)
        try:
            with self.file.open(entry) as file:
                return file.read(entry.file_size + 1)  # not all of it: that would unpack what exceeds the size said
        except OSError:
            raise
        except Exception as error:  # as above, also for a password
            raise OSError(errno.EIO, f"cannot be unpacked: {_said(error)}") from None


class _Tar:
    def __init__(self, path: str) -> None:
        self.path, self.names, end = path, dict[str, tuple[int, int]](), 0
        with _stream(path, AHEAD) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
            while (one := file.next()) is not None:
                file.members = []  # type: ignore[attr-defined]  # or tarfile keeps all it has seen
                if one.offset_data < end or one.size < 0:
                    raise tarfile.ReadError(f"the position of {one.name!r:.80} is wrong")
                has_data = one.isreg() or one.type not in tarfile.SUPPORTED_TYPES
                end = one.offset_data + has_data * -(-one.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if len(self.names) >= MAX_ENTRIES:
                    raise _too_many(path, "")
                if one.isreg() and not one.issparse():
                    self.names[_inside(path, one.name)] = one.offset_data, one.size
                elif one.islnk() and (known := self.names.get(_plain(one.linkname))):  # a second name of a file in it
                    self.names[_inside(path, one.name)] = known
            stream.seek(end)
            if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"it is damaged behind the first {len(self.names)} files")

    def read(self, name: str) -> bytes:
        start, count = _there(self.path, self.names, name)
        _bounded(count)
        data = _part(self.path, start, start + count) if count else b""
        if len(data) < count:
            raise OSError(errno.EIO, f"the archive ends after {len(data)} of its {count} bytes")
        return data


def _few(path: str, entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    if len(entries) > MAX_ENTRIES:
        raise _too_many(path, f"{len(entries)} files, ")
    return entries


def _too_many(path: str, count: str) -> DataError:
    return DataError(f"{path}: holds {count}more than {MAX_ENTRIES} files; make several archives of it")


def _inside(path: str, name: str) -> str:
    """The name of a file in an archive, checked to lead nowhere else; archives are made by anybody."""
    name = _plain(name)
    if not is_inside(name):
        raise DataError(f"{path}: names {name!r:.80}, which leads out of the archive; make it anew from a folder of images")
    return name


def _plain(name: str) -> str:
    return PurePosixPath(name).as_posix()  # without ./ and double slashes


def is_inside(name: str) -> bool:
    """Whether a name with ``/`` between folders stays below any folder that it is joined to."""
    windows = os.name == "nt" and any(sign in name for sign in "\\:")
    return not windows and "\0" not in name and not {"", ".", ".."} & {*name.split("/")}


def _there(path: str, names: dict[str, T], name: str) -> T:
    if name not in names:
        raise FileNotFoundError(errno.ENOENT, "no such file in the archive", f"{path}/{name}")
    return names[name]


def _bounded(size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise OSError(errno.EFBIG, f"unpacks to more than {MAX_IMAGE_BYTES} bytes")


def _said(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200] or type(error).__name__
