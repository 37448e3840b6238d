"""Locks on files that the kernel gives back when their owner dies, however it dies."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, inherited: bool) -> None:
        os.lseek(handle, 2**30, os.SEEK_SET)  # far behind what stands in the file, which others may then read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int, inherited: bool) -> None:
        (fcntl.flock if inherited else fcntl.lockf)(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock(handle: int, inherited: bool = True) -> bool:
    """Locks an open file until its handle is closed; False where another process holds it.

    On a file system without locks it is always True.

    Args:
        handle: of a file that is open for writing.
        inherited: whether processes forked from this one hold the lock too. Where they do not, closing any handle of the file
            in this process gives the lock back.
    """
    try:
        _lock(handle, inherited)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # ENOLCK, ENOSYS
        pass
    return True
