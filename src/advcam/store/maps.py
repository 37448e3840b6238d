"""Map files: ``.npz`` without pickle."""

from __future__ import annotations

import contextlib
import math
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from advcam.errors import StoreError
from advcam.limits import MAX_MAP_VALUES

from .atomic import atomic_write

STRIDE = 4
"""Pixels a cell of stored maps."""


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one image.

    Args:
        classes: the class id of each map, as in masks.
        maps: [k, h, w] at stride 4, each with maximum 1 (or all zeros).
        size: (H, W) of the image.
    """

    classes: tuple[int, ...]
    maps: Float[Tensor, "k h w"]
    size: tuple[int, int]


def save_maps(path: Path, stored: StoredMaps) -> None:
    """Writes ``classes`` int16 [k], ``maps`` float16 [k, h, w], ``size`` int32 [2], compressed and atomically."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            classes=np.array(stored.classes, dtype=np.int16),
            maps=stored.maps.cpu().numpy().astype(np.float16),
            size=np.array(stored.size, dtype=np.int32),
        )


def load_maps(path: Path) -> StoredMaps:
    """Reads a map file; the maps become float32.

    Raises:
        StoreError: missing, or not a map file.
    """
    try:
        with _opened(path) as archive:
            forms = _forms(archive)
            lacking = {"classes", "maps", "size"} - forms.keys()
            if lacking:
                raise StoreError(f"{path}: not a map file (it has no array {min(lacking)!r}); delete it")
            shapes, kinds = zip(*(forms[name] for name in ("classes", "maps", "size")), strict=True)
            size = _array(archive, "size").tolist() if (shapes[2], kinds[2]) == ((2,), "i") else [0, 0]
            count = shapes[0][0] if len(shapes[0]) == 1 else -1
            if kinds != ("i", "f", "i") or min(size) < 1 or shapes[1] != (count, -(-size[0] // STRIDE), -(-size[1] // STRIDE)):
                raise StoreError(
                    f"{path}: not a map file: expected classes int [k], size int [2] and, at stride {STRIDE} of it, maps float"
                    f" [k, h, w]; got shapes {', '.join(map(str, shapes))}, size {size}; delete it"
                )
            held = _arrays(path, archive, forms, ("classes", "maps"))
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such map file") from None
    if not np.isfinite(held["maps"]).all() or (held["classes"] < 0).any():
        raise StoreError(f"{path}: holds maps that are not finite, or no class ids; delete it")
    return StoredMaps(tuple(held["classes"].tolist()), torch.from_numpy(held["maps"]).float(), (size[0], size[1]))


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file, whose headers are checked against the size limit before anything is unpacked.

    Args:
        path: of the file.
        names: of the arrays to read; empty reads all.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: not such a file, or too large.
    """
    with _opened(path) as archive:
        forms = _forms(archive)
        return _arrays(path, archive, forms, list(names or forms))


Forms = dict[str, tuple[tuple[int, ...], str]]
"""Shape and dtype kind of each array in a file, by name."""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens an ``.npz`` file; what goes wrong while it is read is damage."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:  # zipfile raises anything from KeyError to zlib.error on a damaged file
        raise _damaged(path, error) from error


def _forms(archive: zipfile.ZipFile) -> Forms:
    """The forms of a file's arrays, read from the headers."""
    found: Forms = {}
    for entry in archive.infolist():
        with archive.open(entry) as stream:
            shape, _, kind = _header(stream)
            found[entry.filename.removesuffix(".npy")] = shape, kind.kind
    return found


def _arrays(path: Path, archive: zipfile.ZipFile, forms: Forms, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Unpacks arrays whose forms are within the limits."""
    if sum(math.prod(forms[name][0]) for name in names) > MAX_MAP_VALUES:
        raise StoreError(f"{path}: unpacks to more than {MAX_MAP_VALUES} numbers; delete it")
    if odd := [name for name in names if forms[name][1] not in "biuf"]:
        raise StoreError(f"{path}: {odd[0]} holds no real numbers; delete it")
    return {name: _array(archive, name) for name in names}


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        shape, by_columns, kind = _header(stream)
        values = np.frombuffer(bytearray(stream.read()), kind)
    return values.reshape(shape, order="F" if by_columns else "C")


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path}: not a map file, or damaged ({type(error).__name__}: {error}); delete it")


_PARSING = threading.Lock()
"""NumPy parses headers by Python's own parser, which raises SystemError where several threads use it (Python 3.11)."""


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype of an array in an archive."""
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)[0]
    with _PARSING:
        shape, by_columns, kind = read[version](stream)
    if min(shape, default=0) < 0:
        raise ValueError(f"a shape of {shape}")
    return shape, by_columns, kind
