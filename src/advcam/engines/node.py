"""What a machine of a cluster is asked before it works. Sent there as code, since advcam may not be installed on it."""

from __future__ import annotations

from typing import Any

PACKAGES = ("advcam", "torch", "torchvision", "timm", "numpy", "pillow")
"""Packages whose versions decide the bytes of maps and masks."""


def look(known: str | None) -> dict[str, Any]:
    """Says which Python and packages a machine has, and what keeps it from using a folder; an empty text if nothing does.

    Args:
        known: a file that was just made elsewhere, in a folder to read and to write; None where there is none.
    """
    import sys

    return {"python": sys.executable, "versions": versions(), "folder": unfit(known) if known else ""}


def unfit(known: str) -> str:
    """Says what keeps this machine from using the folder of a file; an empty text if nothing does."""
    import os
    import time

    for wait in (0.2, 1.0, 3.0, 0.0):  # a network's file system may need a moment
        if os.path.exists(known):
            break
        time.sleep(wait)
    else:
        return "is not there"
    own = f"{known}-{os.getpid()}"
    try:
        os.close(os.open(own, os.O_CREAT | os.O_EXCL | os.O_RDWR))
        os.replace(own, f"{own}-moved")
        os.unlink(f"{own}-moved")
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return ""


def versions() -> dict[str, str]:
    """Returns the versions of the packages here, and a checksum of advcam's own code; those not installed are left out."""
    import importlib.metadata
    import importlib.util
    import zlib
    from pathlib import Path

    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]  # +cpu and +cu126 are builds of one version
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        spec = importlib.util.find_spec("advcam")
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        found.pop("advcam", None)
        return found
    checksum, room = 0, Path(spec.origin).parent
    for file in sorted(room.rglob("*.py")):
        checksum = zlib.crc32(file.relative_to(room).as_posix().encode() + file.read_bytes(), checksum)
    return found | {"advcam": f"{found.get('advcam', '')} {checksum:08x}".strip()}
