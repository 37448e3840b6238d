"""File locks that the kernel releases when their owner ends in any way."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, inherited: bool) -> None:
        os.lseek(handle, 2**30, os.SEEK_SET)  # far beyond the content, which other processes can then still read
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
        inherited: whether forked processes hold the lock too. If not, closing any handle of the file in this process releases
            the lock.
    """
    try:
        _lock(handle, inherited)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # ENOLCK, ENOSYS
        pass
    return True
