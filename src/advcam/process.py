"""How this process waits and keeps memory, where it is the command line: said to OpenMP before torch loads it, and to glibc.

As a library advcam changes neither.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
from pathlib import Path

STOPPED = "advcam: stopped; the same command goes on from here"

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)
_MOST = 2**31 - 1
_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def is_command() -> bool:
    """Whether this process was started as ``advcam ...`` or ``python -m advcam ...``."""
    module = sys.argv[:1] == ["-m"] and "advcam" in sys.orig_argv
    return module or bool(sys.argv and Path(sys.argv[0]).stem == "advcam")


def share_cores() -> None:
    """Lets threads that wait for one another sleep; takes effect only before torch is loaded.

    OpenMP lets them spin, which beside another busy process takes the core away from the very thread that is waited for. What
    the environment says already stays.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def need_a_folder() -> None:
    """Ends the command where the current folder is gone: torch's libraries would end it in words of their own."""
    try:
        os.getcwd()
    except OSError:
        sys.stderr.write("advcam: the current folder is gone; cd to another\n")
        os._exit(2)


def stop_quietly() -> None:
    """Makes Ctrl-C one line while torch is loaded; :func:`advcam.cli.main` takes it from there."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _stop)


def _stop(*_: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(130)


def take_interrupts() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again, if :func:`stop_quietly` took it."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def keep_memory() -> None:
    """Keeps memory that tensors gave back instead of returning it to the kernel, which clears every page anew.

    glibc maps each large tensor by itself and unmaps it afterwards. Elsewhere than on glibc this does nothing, and what the
    environment says already (``MALLOC_MMAP_MAX_`` and the like) stays.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _MOST)


def usable_cores() -> int:
    """Cores that this process may use: by its affinity, and by the quota of its container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return max(1, cores)
