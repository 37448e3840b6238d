"""Files of other tools: a folder that is filled, a file that is replaced, a folder or zip archive that is read."""

from __future__ import annotations

import io
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from advcam.data import Place as Where
from advcam.data.images import bytes_of
from advcam.errors import DataError, ImageError, RunError, StoreError
from advcam.limits import MAX_ENTRIES, MAX_IMAGE_BYTES
from advcam.store import atomic_write, read_json, remove, save_mask, sweep, write_bytes, write_json, write_text
from advcam.store.records import is_below

from .masks import Ids, Size

RECORD = ".advcam.json"
"""The command that filled a folder, and the files that it wrote."""
MAX_TEXT_BYTES = 2**26
"""Most bytes of a list, a table of names, or the text of one image's regions."""


def sign(made: str) -> str:
    """What an output says of itself, so that it may be replaced: the command that made it, such as ``--to coco``."""
    return f"advcam convert masks {made}"


@contextmanager
def replaced(path: Path, made: str) -> Iterator[Path]:
    """Yields a temporary path; the file appears at ``path`` if the block succeeds.

    Raises:
        RunError: something lies there that was not made so.
    """
    if path.is_symlink() or (path.exists() and not (path.is_file() and _is_signed(path, made))):
        raise RunError(f"{path}: exists and was not made by `{sign(made)}`; give another --out")
    with atomic_write(path) as temporary:
        yield temporary


def _is_signed(path: Path, made: str) -> bool:
    mark, reach = sign(made).encode(), 4096
    with path.open("rb") as file:
        begin = file.read(reach)
        file.seek(max(0, path.stat().st_size - reach))
        return mark in begin or mark in file.read(reach)


class Filled(TypedDict):
    """``.advcam.json``."""

    made_by: str
    files: list[str]


def claimed(root: Path, made: str) -> list[str]:
    """The files in a folder that an earlier command of this kind has written; none if it is new or empty.

    Raises:
        RunError: it holds something else.
    """
    if (root / RECORD).is_file():
        known = read_json(root / RECORD, Filled)
        if known["made_by"] == sign(made):
            sweep(root)
            return [name for name in known["files"] if is_below(name)]
    if root.is_symlink() or (root.exists() and (not root.is_dir() or any(root.iterdir()))):
        raise RunError(f"{root}: exists and was not made by `{sign(made)}`; give another folder")
    return []


def record(root: Path, made: str, files: Iterable[str] = ()) -> None:
    """Records which command has written which files of a folder."""
    write_json(root / RECORD, {"made_by": sign(made), "files": list(files)})


class Folder:
    """A folder that a conversion fills; each file appears whole.

    Where the ``with`` block fails, the files that are new are removed; where it succeeds, those of an earlier conversion that
    this one does not have.

    Args:
        root: the folder, new, empty, or filled by an earlier conversion to the same format.
        made: the command that fills it, such as ``--to voc``.

    Raises:
        RunError: it holds something else.
    """

    def __init__(self, root: Path, made: str) -> None:
        self.root, self.made, self.files = root, made, dict[str, None]()
        self.before = claimed(root, made)

    def __enter__(self) -> Folder:
        record(self.root, self.made, self.before)
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        old, new = set(self.before), set(self.files)
        for name in sorted(new - old if failed else old - new):
            path = self.root / name
            if path.resolve().is_relative_to(self.root.resolve()):
                remove(path)
        record(self.root, self.made, self.before if failed else self.files)

    def place(self, name: str) -> Path:
        """The path of a file in it, which is about to be written.

        Raises:
            ImageError: a name that leads out of the folder, or that another image has already.
        """
        path = self.root / name
        if not is_below(name) or name in self.files or not path.resolve().is_relative_to(self.root.resolve()):
            raise ImageError(f"{name!r:.80} cannot be a file of its own in {self.root}; rename the image")
        self.files[name] = None
        return path

    def text(self, name: str, text: str) -> None:
        """Writes a text file."""
        write_text(self.place(name), text)

    def mask(self, name: str, ids: Ids) -> None:
        """Writes a palette PNG."""
        save_mask(self.place(name), ids)

    def grey(self, name: str, ids: Ids) -> None:
        """Writes a greyscale PNG."""
        with atomic_write(self.place(name)) as temporary:
            Image.fromarray(ids).save(temporary, format="PNG", optimize=True)

    def copy(self, name: str, path: Where) -> None:
        """Copies an image, unless the copy that is there has its size and date.

        Raises:
            ImageError: it cannot be read.
        """
        place = self.place(name)
        if not isinstance(path, Path):
            write_bytes(place, bytes_of(path))
            return
        try:
            if not (place.is_file() and _stamp(place) == _stamp(path)):
                with atomic_write(place) as temporary:
                    shutil.copyfile(path, temporary)
                    shutil.copystat(path, temporary)
        except (StoreError, OSError) as error:
            if path.is_file():
                raise
            raise ImageError(f"{path}: cannot be copied ({error}); --no-copy-images leaves the images where they are") from None


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Held:
    """The files of a folder or a zip archive.

    Args:
        path: of the folder or archive.
        names: of its files, with ``/`` between folders.
        take: the bytes of a file, given its name and the most that it may have.
    """

    path: Path
    names: frozenset[str]
    take: Callable[[str, int], bytes]

    def where(self, name: str) -> str:
        """A file's name, for messages."""
        return f"{self.path}/{name}"

    def text(self, name: str) -> str:
        """A text file in UTF-8.

        Raises:
            ImageError: missing, too large, or not UTF-8.
        """
        try:
            return self.take(name, MAX_TEXT_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ImageError(f"{self.where(name)}: not UTF-8; export it again") from None

    def root_of(self, folder: str) -> str:
        """The folder, with a slash behind it, that the folder ``folder`` with files lies in; empty where it is the outermost.

        Raises:
            DataError: there is no such folder, or there are several.
        """
        found = {name[: at if name.startswith(folder) else at + 1] for name in self.names if (at := _start(name, folder)) >= 0}
        if len(found) != 1:
            what = "there is none" if not found else f"there are {len(found)}"
            raise DataError(
                f"{self.path}: expected one folder {folder} in it, {what}; give the folder or zip that was exported"
            )
        return found.pop()


def _start(name: str, folder: str) -> int:
    return 0 if name.startswith(f"{folder}/") else name.find(f"/{folder}/")


@contextmanager
def held(path: Path) -> Iterator[Held]:
    """Opens a folder or zip archive for reading; nothing is unpacked.

    Raises:
        DataError: neither, or an archive that names files outside of it.
    """
    if path.is_dir():
        names = frozenset(
            below for file in path.rglob("*") if file.is_file() and not (below := _below(file, path)).startswith(".")
        )
        yield Held(path, names, lambda name, most: _of_file(path, names, name, most))
        return
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such folder or file; check --in") from None
    except Exception as error:  # zipfile raises anything on a damaged archive
        raise DataError(f"{path}: expected a folder or a zip archive ({error})") from None
    with archive:
        entries = {entry.filename.replace("\\", "/"): entry for entry in archive.infolist() if not entry.is_dir()}
        if len(entries) > MAX_ENTRIES:
            raise DataError(f"{path}: holds {len(entries)} files, more than {MAX_ENTRIES}; convert it in parts")
        odd = next((name for name in entries if not is_below(name)), None)
        if odd is not None:
            raise DataError(f"{path}: names {odd!r:.80}, which leads out of the archive; it was not made by an annotation tool")
        yield Held(path, frozenset(entries), lambda name, most: _of_archive(archive, path, entries.get(name), name, most))


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _of_file(path: Path, names: frozenset[str], name: str, most: int) -> bytes:
    if name not in names:
        raise ImageError(f"{path}: has no {name!r:.80}")
    try:
        with (path / name).open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ImageError(f"{path / name}: cannot be read ({error.strerror or error})") from None
    if len(data) > most:
        raise ImageError(f"{path / name}: has more than {most} bytes, which none of its kind has")
    return data


def _of_archive(archive: zipfile.ZipFile, path: Path, entry: zipfile.ZipInfo | None, name: str, most: int) -> bytes:
    if entry is None:
        raise ImageError(f"{path}: has no {name!r:.80}")
    try:
        with archive.open(entry) as file:
            data = file.read(most + 1)
    except Exception as error:  # as above, also for a password
        raise ImageError(f"{path}/{name}: cannot be unpacked ({error})") from None
    if len(data) > most:
        raise ImageError(f"{path}/{name}: unpacks to more than {most} bytes, which none of its kind has")
    return data


def png(files: Held, name: str, size: Size) -> Image.Image:
    """A PNG of an image's size, decoded.

    Raises:
        ImageError: missing, damaged, or of another size; its size is looked at before anything is unpacked.
    """
    where = files.where(name)
    return decoded(files.take(name, min(MAX_IMAGE_BYTES, 8 * size[0] * size[1] + 2**20)), size, where)


def decoded(data: bytes, size: Size, where: str) -> Image.Image:
    """A PNG in memory; as :func:`png`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=["PNG"])
            if (image.height, image.width) != size:
                raise ImageError(
                    f"{where}: is {image.width}x{image.height}, its image {size[1]}x{size[0]} (of another version of it?)"
                )
            image.load()
            return image
    except ImageError:
        raise
    except Exception as error:  # Pillow may raise anything on a damaged file
        raise ImageError(f"{where}: cannot be read as a PNG ({error}); export it again") from None


def class_ids(image: Image.Image, where: str) -> Ids:
    """The values of a palette or greyscale image as ids.

    Raises:
        ImageError: it holds colours.
    """
    if image.mode not in ("P", "L"):
        raise ImageError(f"{where}: expected a palette or greyscale PNG of class ids, got one of mode {image.mode}")
    return np.asarray(image, dtype=np.uint8)
