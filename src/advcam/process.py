"""Process-wide matters of the command line: help at once, OpenMP's waiting (set before torch loads it), memory, signals.

Imported as a library, advcam changes none of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import signal
import sys
import threading
from pathlib import Path

from advcam.version import __version__

STOPPED = "advcam: stopped; give the same command again to resume"

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)
_MOST = 2**31 - 1
_HELP = Path(__file__).parent / "cli" / "help.json"
_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def is_command() -> bool:
    """Whether this process was started as ``advcam ...`` or ``python -m advcam ...``."""
    module = sys.argv[:1] == ["-m"] and "advcam" in sys.orig_argv
    return module or bool(sys.argv and Path(sys.argv[0]).stem == "advcam")


def answer_help() -> None:
    """Answers ``advcam [VERB] --help`` from a file and exits; loading torch for it would take seconds.

    The file is written by ``make reference``. Without it, or where the words are no verb's, the parser answers.
    """
    if sys.argv[1:] == ["--version"]:
        print(f"advcam {__version__}")
        os._exit(0)
    verb, asked = " ".join(sys.argv[1:-1]), {"-h": "--help"}.get(sys.argv[-1], sys.argv[-1])
    if asked not in ("--help", "--help-all"):
        return
    try:
        text: str = json.loads(_HELP.read_text(encoding="utf-8"))[verb][asked]
    except (OSError, ValueError, KeyError, TypeError):
        return
    with contextlib.suppress(OSError):  # the reader may be gone, as after `| head`
        os.write(1, text.encode())
    os._exit(0)


def share_cores() -> None:
    """Makes OpenMP threads sleep while they wait; takes effect only before torch is loaded.

    By default they spin, which beside another busy process takes the core from the thread they wait for. Settings that are
    already in the environment stay.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def need_a_folder() -> None:
    """Exits with a clear message if the current folder was deleted; torch's libraries would fail with an obscure one."""
    try:
        os.getcwd()
    except OSError:
        sys.stderr.write("advcam: the current folder is gone; cd to another\n")
        os._exit(2)


def stop_quietly() -> None:
    """Makes Ctrl-C print one line and exit while torch is loaded; :func:`advcam.cli.main` handles it afterwards."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _stop)


def _stop(*_: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(130)


def take_interrupts() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt again if :func:`stop_quietly` had changed it."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def keep_memory() -> None:
    """Makes glibc keep freed memory instead of returning it to the kernel, which would zero every page again.

    By default glibc maps and unmaps each large tensor separately. Does nothing without glibc, or if the environment already
    sets malloc (``MALLOC_MMAP_MAX_`` and the like).
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _MOST)


def usable_cores() -> int:
    """Returns the number of cores that this process may use, by its affinity and its container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return max(1, cores)
