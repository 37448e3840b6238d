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
"""The lock file of a run folder, which names the process that works there; removed when that ends."""


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Locks a run folder, which is created if missing.

    The lock of a process that died is taken over, also on another machine that shares file locks.

    Raises:
        RunError: another process works there; names it with host, start time and command.
        StoreError: the folder is not writable.
    """
    if root.exists() and not root.is_dir():
        yield  # opening it as a run raises the error
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
        _release(handle, root / LOCK)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()  # if still empty


def at_work(root: Path) -> str:
    """Returns who works in a run folder, with host, start time and command; empty if nobody does, or if that cannot be told."""
    try:
        handle = os.open(root / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # none is there, or none that may be locked
        return ""
    try:
        return "" if lock(handle, inherited=False) else _owner(root / LOCK)
    finally:
        os.close(handle)


def _taken(path: Path) -> int:
    """Locks the file, writes who holds it, and returns its handle."""
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
        _release(handle, path)
        raise
    return handle


def _release(handle: int, path: Path) -> None:
    """Removes the file before the lock is released: others check that the file they locked still exists."""
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
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # not written yet
        return "another process"
