"""Atomic writes of files, and typed reading of JSON."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from advcam.cells import as_text
from advcam.errors import StoreError
from advcam.limits import MAX_RECORD_BYTES

from .lock import lock

T = TypeVar("T")

BEGINNING = ".advcam-"
"""Prefix of the names of files that are being written."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it to ``path`` if the block succeeds, else removes it.

    Its permissions follow the umask. It is locked until it is complete, so :func:`sweep` skips it.

    Raises:
        StoreError: the disk is full or the write fails; an existing file is left untouched.
    """
    temporary = path.parent / f"{BEGINNING}{secrets.token_hex(4)}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _being_written(temporary):
            yield temporary
            with temporary.open("r+b") as written:  # Windows syncs only files open for writing
                os.fsync(written.fileno())
            if os.name != "nt":
                temporary.replace(path)
        if os.name == "nt":  # Windows cannot rename an open file
            temporary.replace(path)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _being_written(path: Path) -> Iterator[None]:
    """Creates a file and holds a lock on it."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Removes partial files that killed processes left in a folder or below it; does not follow links."""
    for root, _, names in os.walk(folder):
        for name in names:
            if name.startswith(BEGINNING):
                _remove_if_left(Path(root, name))


def _remove_if_left(path: Path) -> None:
    """Removes a file unless a process holds its lock."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            if lock(handle):
                path.unlink()
        finally:
            os.close(handle)


def refused(path: Path, error: OSError) -> StoreError:
    """Returns the StoreError for a failed write, with its remedy."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "the disk is full" if full else (error.strerror or str(error))
    remedies = {errno.ENAMETOOLONG: "shorten the name"}
    remedy = "free some space" if full else remedies.get(error.errno or 0, "make the folder writable")
    return StoreError(f"{path}: cannot be written ({what}); {remedy} and give the same command again: what is done is kept")


def remove(path: Path) -> None:
    """Removes a file if it exists.

    Raises:
        StoreError: the file cannot be removed.
    """
    try:
        if path.exists() or path.is_symlink():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise refused(path, error) from None


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically; NaN becomes null."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Returns indented JSON; NaN becomes null."""
    return json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file atomically; see :func:`csv_text`."""
    write_text(path, csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns rows as CSV; cells that a spreadsheet would run as formulas are escaped, see :mod:`advcam.cells`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[as_text(cell) for cell in row] for row in (header, *rows)])
    return text.getvalue()


def read_json(
    path: Path, form: type[T], remedy: str = "copy it again from where it came, or delete it", wrong: str = "cannot be read"
) -> T:
    """Reads JSON as a type that msgspec can decode, e.g. one of :mod:`advcam.store.records`.

    Args:
        path: path of the file.
        form: the type; unknown fields are ignored.
        remedy: advice for a damaged file, for the message.
        wrong: what is wrong with a damaged file, for the message.

    Raises:
        StoreError: the file is missing, malformed, or of another type; the message says where in the file.
    """
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise StoreError(f"{path}: has more than {MAX_RECORD_BYTES} bytes; {remedy}")
        return json_of(path.read_bytes(), path, form, remedy, wrong)
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such file") from None
    except OSError as error:
        raise StoreError(f"{path}: {wrong} ({str(error).replace('`', '')}); {remedy}") from None


def json_of(data: bytes, where: object, form: type[T], remedy: str, wrong: str = "cannot be read") -> T:
    """Returns JSON as a type that msgspec can decode; see :func:`read_json`.

    Raises:
        StoreError: it is malformed, or of another type; the message says where it is from, and where in it.
    """
    try:
        return msgspec.json.decode(data, type=form)
    except RecursionError:
        raise StoreError(f"{where}: {wrong} (nested too deeply); {remedy}") from None
    except ValueError as error:
        raise StoreError(f"{where}: {wrong} ({str(error).replace('`', '')}); {remedy}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return str(value) if isinstance(value, Path) else value
