"""All exceptions of advcam.

AdvcamError
├── InputError       a tensor, class id or file list is invalid
├── SettingsError    a setting is invalid, or two settings contradict each other
├── NetworkError     the network has no class activation map, or its weights do not fit
│   └── RefusedImagesError   the network does not take images of this size (also an InputError)
├── DataError        the data set cannot be used; the message gives file and line
├── ImageError       one image cannot be used; the rest of the run continues without it
├── StoreError       a file cannot be read or written (disk full, read-only, missing)
└── RunError         a run folder lacks something or was made with other settings

Every message says what was expected, what came, and what to do. The command line prints it on one line and
exits with status 2. An :class:`ImageError` while a data set or a folder is first read is collected instead: the image is
left out and listed, and the status is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AdvcamError(Exception):
    """Base class of all errors that advcam raises on purpose."""


class InputError(AdvcamError, ValueError):
    """An argument of a function is invalid."""


class SettingsError(AdvcamError, ValueError):
    """A setting is invalid."""


class NetworkError(AdvcamError):
    """The network has no class activation map, or its weights do not fit."""


class RefusedImagesError(NetworkError, InputError):
    """The network does not take images of this size."""


class DataError(AdvcamError):
    """The data set cannot be used."""


class ImageError(DataError):
    """One image cannot be used."""


class StoreError(AdvcamError):
    """A file cannot be read or written."""


class RunError(AdvcamError):
    """A run folder lacks something, or was made with other settings."""


class AdvcamWarning(UserWarning):
    """A warning for the user. The command line prints it on one line."""


class NumberWarning(AdvcamWarning, RuntimeWarning):
    """A network gave NaN or infinity."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device."""
    said = str(error).lower()
    words = ("not enough memory", "out of memory", "allocate memory")  # the last: torch on a CPU under Linux
    return isinstance(error, MemoryError) or any(word in said for word in words)


def known(name: object, choices: Iterable[str]) -> str:
    """Returns the end of an "unknown name" message: the closest names first, then all of them (at most twelve)."""
    names = list(choices)
    close = get_close_matches(str(name), names, n=3, cutoff=0.5)
    listed = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return (f"did you mean {' or '.join(close)}? " if close else "") + f"known: {listed}"
