"""Files of remote stores by fsspec: listed, read and written, with retries, and errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import importlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote

from advcam.errors import DataError, StoreError
from advcam.limits import MAX_ENTRIES, MAX_IMAGE_BYTES

T = TypeVar("T")

URL = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""What an address begins with: a protocol, and caches before it (``filecache::s3://``). One letter is a drive of Windows."""

PASSWORD = re.compile(r"(?<=://)(?:[^/@]*:[^/]*(?=@)|(?<=http://)[^/]+(?=@)|(?<=https://)[^/]+(?=@))", re.IGNORECASE)
"""A name and password before a host; for the web also what has no colon, which may be a token. A name alone is none elsewhere:
``sftp://me@host``, ``abfs://container@account``."""

WAITS = (0.2, 1.0)
"""Seconds before the second and the third attempt."""

PATIENCE = 60.0
"""Seconds in which a store must answer, and one more for each :data:`SLOWEST` bytes: stores try again by themselves, some for
minutes at each of our attempts."""

SLOWEST = 2**17
"""Bytes a second of the slowest connection that is waited for."""

SMALL = 2**16
"""Bytes that the first request for a small file asks for; most masks have fewer."""

AT_ONCE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")
"""Protocols whose stores show a file when it is complete, and never a part of it; others write a file as it comes."""

WEB = ("http", "https")

BEING_WRITTEN = ".advcam-"
"""What names of files begin with that are being written; as all hidden files, these are no images."""


def is_remote(text: str) -> bool:
    """Whether a text is an address and not a local path."""
    return URL.match(text) is not None


def refuse_password(url: str) -> None:
    """Raises DataError for an address that has a password in it, without repeating it."""
    if PASSWORD.search(url):
        raise DataError(
            f"{PASSWORD.sub('...', url)}: leave name and password out of the address, since the run folder and the report would"
            " hold them; fsspec takes them from its own configuration: the environment, or ~/.config/fsspec"
        )


def again(error: OSError) -> str:
    """What to do about a file that cannot be read."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "more files are open than the system allows; close some, or allow more: ulimit -n 4096"
    return "copy it again"


def find(url: str) -> list[str]:
    """The names of all files below a folder, with ``/`` between folders.

    Raises:
        DataError: there is no such folder, no permission, or a package is missing.
    """
    if names := found_below(url):
        return names
    raise DataError(f"{url}: there is no such folder of images, or no file in it; check the address and the connection")


def found_below(url: str) -> list[str]:
    """As :func:`find`, but empty where there is no such folder."""
    store, path = _store(url)
    path = path.rstrip("/")
    try:
        store.invalidate_cache()
        found = [str(name).rstrip("/") for name in _tried(lambda: store.find(path, withdirs=False))]
    except FileNotFoundError:
        found = []
    except PermissionError as error:
        raise DataError(
            f"{url}: no permission to list it ({_said(error)}); check the account or key that {_of(url)} uses"
        ) from None
    except OSError as error:
        raise DataError(f"{url}: cannot be listed ({_said(error)}); check the address and the connection") from None
    if len(found) > MAX_ENTRIES:
        raise DataError(f"{url}: holds {len(found)} files, more than {MAX_ENTRIES}; give a folder of it")
    begin = f"{path}/" if path else ""
    return sorted(name.removeprefix(begin) for name in found if name.startswith(begin))


def is_inside(url: str, folder: str) -> bool:
    """Whether an address is that of a folder, or of something in it, however the two are written."""
    (store, path), (other, of_folder) = _store(url), _store(folder)
    return type(store) is type(other) and f"{path.strip('/')}/".startswith(f"{of_folder.strip('/')}/")


def name_of(url: str, name: str) -> str:
    """The name that people know a file by: the web's addresses have blanks and others as %20."""
    return unquote(name) if re.match(r"(?:.*::)?https?://", url) else name


def is_file(url: str) -> bool:
    """Whether there is such a file; false where that cannot be found out."""
    store, path = _store(url)
    try:
        return bool(_tried(lambda: _asked(store, "isfile", path)))
    except OSError:
        return False


def size(url: str) -> int:
    """The number of bytes of a file.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    store, path = _store(url)
    found = _tried(lambda: _asked(store, "info", path))["size"]
    if found is None:
        raise OSError(errno.ESPIPE, "the server does not say how large it is, so no part of it can be read; download it")
    return int(found)


def read(url: str, start: int = 0, end: int | None = None) -> bytes:
    """The bytes of a file, or a part of them.

    Raises:
        OSError: there is none, it cannot be read, or has more than an image has.
    """
    store, path = _store(url)
    if end is not None:
        part = bytes(_tried(lambda: _asked(store, "cat_file", path, wanted=end - start, start=start, end=end)))
        if len(part) > end - start:  # and which bytes these are is not known
            raise OSError(errno.ESPIPE, "the server gives whole files only, and no part of an archive; download it")
        return part
    if _answers_in_time(store) and _of(url) not in WEB:  # a server of the web may send more than it says
        whole = size(url)
        _bound(whole)
        return read(url, 0, whole) if whole else b""
    with _tried(lambda: store.open(path, "rb")) as file:
        data = bytes(_tried(lambda: file.read(MAX_IMAGE_BYTES + 1)))
    _bound(len(data))
    return data


def _bound(size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise OSError(errno.EFBIG, f"has more than {MAX_IMAGE_BYTES} bytes")


def read_small(url: str) -> bytes | None:
    """The bytes of a file, in one request if it has fewer than :data:`SMALL`; None where there is none.

    Raises:
        StoreError: it cannot be read.
        DataError: a package is missing, or there is no such protocol.
    """
    with _saying(url, "read"):
        try:
            data = read(url, 0, SMALL)
            return data if len(data) < SMALL else read(url)
        except FileNotFoundError:
            return None


def write(url: str, data: bytes) -> None:
    """Writes a file whole, in place of one of this name: nobody ever sees a part of it.

    That it has arrived is looked at; what was lost is written again, three times in all.

    Raises:
        StoreError: it cannot be written.
        DataError: as :func:`read_small`.
    """
    store, path = _store(url)
    write_once = _at_once if _of(url) in AT_ONCE else _beside
    with _saying(url, "written"):
        _tried(lambda: write_once(store, path, data))


def remove(url: str) -> None:
    """Removes a file if it exists.

    Raises:
        StoreError: it cannot be removed.
        DataError: as :func:`read_small`.
    """
    store, path = _store(url)
    with _saying(url, "removed"), contextlib.suppress(FileNotFoundError):
        if _tried(lambda: _asked(store, "isfile", path)):
            _tried(lambda: _asked(store, "rm_file", path))


@contextlib.contextmanager
def _saying(url: str, what: str) -> Iterator[None]:
    """Turns what a store raises into the error for a person, with its remedy."""
    try:
        yield
    except PermissionError as error:
        wrong, remedy = "no permission", f"check that the account or key that {_of(url)} uses may list, read, write and remove"
        said = _said(error)
    except FileNotFoundError as error:
        wrong, remedy, said = "no such place", "make the bucket first, or check the address", _said(error)
    except OSError as error:
        wrong, said = "tried three times" if error.errno == errno.EIO else "", _said(error)
        remedy = f"check the address, the account or key that {_of(url)} uses, and the connection"
    else:
        return
    why = f"{wrong}: {said}" if wrong else said
    raise StoreError(f"{url}: cannot be {what} ({why}); {remedy}, and give the same command again: what is done is kept")


def _at_once(store: Any, path: str, data: bytes) -> None:
    """Writes a file of a store that shows complete files only.

    Raises:
        OSError: it is not there afterwards.
    """
    _asked(store, "pipe_file", path, data, wanted=len(data))
    try:
        there = _asked(store, "info", path)["size"]
    except FileNotFoundError:
        there = 0
    if there not in (None, len(data)):  # some do not say
        raise OSError(errno.EIO, f"the store took {len(data)} bytes and has {there} of them")


def _beside(store: Any, path: str, data: bytes) -> None:
    """Writes a file beside its place, and moves it there when it is complete."""
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/{BEING_WRITTEN}{secrets.token_hex(4)}-{name}"
    store.makedirs(folder, exist_ok=True)
    try:
        _at_once(store, temporary, data)
        if store.exists(path):  # some stores do not move onto a file
            store.rm_file(path)
        store.mv(temporary, path)
    except BaseException:
        with contextlib.suppress(Exception):
            store.rm_file(temporary)
        raise


def _asked(store: Any, call: str, *given: Any, wanted: int = 0, **more: Any) -> Any:
    """What a call of a store gives, in bounded time where fsspec can end it: s3, gs, abfs and others, not sftp, ftp or smb.

    Raises:
        TimeoutError: no answer in time, for so many bytes.
    """
    if not _answers_in_time(store):
        return getattr(store, call)(*given, **more)
    sync, seconds = importlib.import_module("fsspec.asyn").sync, PATIENCE + wanted / SLOWEST
    try:
        return sync(store.loop, getattr(store, f"_{call}"), *given, timeout=seconds, **more)
    except TimeoutError as error:
        said = "" if type(error).__name__ == "FSTimeoutError" else _said(error)
        raise TimeoutError(errno.ETIMEDOUT, said or f"no answer within {seconds:.0f} seconds") from None


def _answers_in_time(store: Any) -> bool:
    """Whether fsspec runs a store's calls in a loop of its own, and can end them; a cache before a store does not."""
    return issubclass(type(store), importlib.import_module("fsspec.asyn").AsyncFileSystem)


def _store(url: str) -> tuple[Any, str]:
    """The file system of an address, which fsspec keeps one of in each process, and the path in it.

    Raises:
        DataError: fsspec or the package of the protocol is missing, or there is no such protocol.
    """
    try:
        fsspec = importlib.import_module("fsspec.core")
    except ModuleNotFoundError:
        raise DataError(f"{url}: addresses need fsspec: pip install 'advcam[remote]'") from None
    if "://" in url[: url.rfind("::") + 1]:
        raise DataError(f"{url}: write archives as folders, such as s3://bucket/photos.zip/cats, without ::")
    try:
        store, path = fsspec.url_to_fs(url)
    except ImportError as error:
        raise DataError(f"{url}: {_of(url)} needs another package ({_said(error)})") from None
    except Exception as error:  # stores raise anything where they are set up, such as botocore's errors
        raise DataError(f"{url}: cannot be opened ({_said(error)}); check the address") from None
    return store, str(path)


def _tried(call: Callable[[], T]) -> T:
    """What a call gives, at the third attempt at the latest.

    Raises:
        OSError: what it raised; errors of other libraries have become one.
    """
    for wait in (*WAITS, None):
        try:
            return call()
        except Exception as error:  # of aiohttp, botocore, google.auth: most are no OSError
            reason = _reason(error)
            if isinstance(reason, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)):
                raise reason from None
            if getattr(reason, "status", None) in (401, 403):
                raise PermissionError(errno.EACCES, _said(reason)) from None
            if isinstance(reason, NotImplementedError):
                raise OSError(errno.ENOTSUP, "a store of this kind cannot do that") from None
            if wait is None:
                raise OSError(errno.EIO, _said(reason)) from None
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _reason(error: BaseException) -> BaseException:
    """The error itself, or what is behind it: to fsspec a file of the web is missing for whatever reason it has no answer."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None or getattr(cause, "status", None) in (404, 410):
        return error
    of_the_net = type(cause).__module__.startswith("aiohttp") or isinstance(cause, (ConnectionError, TimeoutError))
    return cause if of_the_net else error


def _of(url: str) -> str:
    return url[: url.find("://")].rpartition("::")[2]


def _said(error: BaseException) -> str:
    """What an error says, on one line."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return f"{text or type(error).__name__}"[:300]
