"""The one exception tree of advcam.

AdvcamError
├── InputError       a tensor, class id or file list is not what was asked for
├── SettingsError    a setting has a value that cannot work, or two that contradict each other
├── NetworkError     the network has no class activation map, or its weights do not fit
│   └── RefusedImagesError   it takes no images of this size (an InputError too)
├── DataError        the data set cannot be used; says file and line
├── ImageError       one image cannot be used; the rest of the run goes on without it
├── StoreError       the disk refused (full, read-only, not there)
└── RunError         a run folder is missing something or was made with other settings

Every message says what was expected, what came, and what to do. The command line prints it on one line and
exits with status 2. An :class:`ImageError` met while a data set or a folder is first read is collected instead: the image
is left out and listed, and the status is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AdvcamError(Exception):
    """Whatever advcam raises on purpose."""


class InputError(AdvcamError, ValueError):
    """A value given to a function is not what it takes."""


class SettingsError(AdvcamError, ValueError):
    """A setting that cannot work."""


class NetworkError(AdvcamError):
    """A network without a class activation map, or weights that do not fit it."""


class RefusedImagesError(NetworkError, InputError):
    """Images of a size that a network refuses: give it others, or another network."""


class DataError(AdvcamError):
    """A data set that cannot be used."""


class ImageError(DataError):
    """One image that cannot be used."""


class StoreError(AdvcamError):
    """The disk refused to read or write."""


class RunError(AdvcamError):
    """A run folder that lacks something, or was made otherwise."""


class AdvcamWarning(UserWarning):
    """Something that works, and that its user should know of. The command line prints it on one line."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    said = str(error).lower()
    words = ("not enough memory", "out of memory", "allocate memory")  # the last: torch on a CPU under Linux
    return isinstance(error, MemoryError) or any(word in said for word in words)


def known(name: object, choices: Iterable[str]) -> str:
    """The tail of an "unknown name" message: the closest names first, then all of them (at most twelve)."""
    names = list(choices)
    close = get_close_matches(str(name), names, n=3, cutoff=0.5)
    listed = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return (f"did you mean {' or '.join(close)}? " if close else "") + f"known: {listed}"
