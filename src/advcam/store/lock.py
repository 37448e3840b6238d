"""Locks on files that the kernel gives back when their owner dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, inherited: bool) -> None:
        os.lseek(handle, 2**30, os.SEEK_SET)  # far behind what stands in the file, which others may then read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int, inherited: bool) -> None:
        (fcntl.flock if inherited else fcntl.lockf)(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(handle: int, inherited: bool = True) -> Iterator[bool]:
    """Locks an open file until its handle is closed; gives False where another process holds it.

    A file system that has no locks gives True.

    Args:
        handle: of a file that is open for writing.
        inherited: whether processes forked from this one hold the lock too. Where they do not, closing any handle of the file
            in this process gives the lock back.
    """
    try:
        _lock(handle, inherited)
        free = True
    except (BlockingIOError, PermissionError):
        free = False
    except OSError:  # ENOLCK, ENOSYS
        free = True
    yield free
