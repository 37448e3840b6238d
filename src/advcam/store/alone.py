"""One process at a time in a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from advcam.errors import RunError

from .atomic import refused
from .lock import lock

LOCK = ".lock"
"""The file in a run folder that says who works there; it is gone when nobody does."""


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Holds a run folder, made where it is not there.

    The lock of an owner that died, on this machine or on one that shares its locks, is taken over.

    Raises:
        RunError: another process works there; says which, on what host, since when, with what command.
        StoreError: the folder refuses.
    """
    if root.exists() and not root.is_dir():
        yield  # whoever opens it says what it is
        return
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = _taken(root / LOCK)
    except OSError as error:
        raise refused(root, error) from error
    try:
        yield
    finally:
        _give_back(handle, root / LOCK)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()  # nothing came of it


def _taken(path: Path) -> int:
    """The handle of a lock file that this process holds now, with its name in it."""
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if not lock(handle, inherited=False):
            os.close(handle)
            raise RunError(f"{path.parent}: {_owner(path)} works there; wait until it has ended, or stop it")
        if _is_file(handle, path):
            break
        os.close(handle)  # its owner has just removed it
    about = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(about | {"command": shlex.join(sys.argv)}).encode())
    except OSError:
        _give_back(handle, path)
        raise
    return handle


def _give_back(handle: int, path: Path) -> None:
    """Removes the file before the lock is given back: whoever waits for it looks whether it is still the file."""
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(handle)


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return "process {process} on {host}, since {since}, with {command!r},".format(**about)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it has not said yet
        return "another process"
