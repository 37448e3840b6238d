"""Map files: ``.npz`` without pickle."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from advcam.errors import StoreError
from advcam.limits import MAX_CLASSES, MAX_MAP_VALUES

from .atomic import whole


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one image.

    Args:
        classes: the class ids that masks use, one a map.
        maps: [k, h, w] at stride 4, each with maximum 1 (or all zeros).
        size: (H, W) of the image.
    """

    classes: tuple[int, ...]
    maps: Float[Tensor, "k h w"]
    size: tuple[int, int]


def save_maps(path: Path, stored: StoredMaps) -> None:
    """Writes ``classes`` int16 [k], ``maps`` float16 [k, h, w], ``size`` int32 [2], compressed, whole or not at all."""
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            classes=np.array(stored.classes, dtype=np.int16),
            maps=stored.maps.cpu().numpy().astype(np.float16),
            size=np.array(stored.size, dtype=np.int32),
        )


def load_maps(path: Path) -> StoredMaps:
    """Reads a map file; the maps become float32.

    Raises:
        StoreError: missing, or not such a file.
    """
    try:
        held = read_arrays(path)
        lacking = {"classes", "maps", "size"} - held.keys()
        if lacking:
            raise StoreError(f"{path}: not a map file (it has no array {min(lacking)!r}); delete it")
        classes, maps, size = (held[name] for name in ("classes", "maps", "size"))
        if (
            (classes.ndim, maps.ndim, size.shape) != (1, 3, (2,))
            or len(classes) != len(maps)
            or (classes.dtype.kind, maps.dtype.kind, size.dtype.kind) != ("i", "f", "i")
            or not size.min() > 0
        ):
            raise StoreError(
                f"{path}: not a map file: expected classes int [k], maps float [k, h, w] and size int [2], got"
                f" {_form(classes)}, {_form(maps)} and {_form(size)}; delete it"
            )
        if not (np.isfinite(maps).all() and ((classes >= 1) & (classes <= MAX_CLASSES)).all()):
            raise StoreError(f"{path}: holds maps that are not finite, or no class ids; delete it")
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such map file") from None
    return StoredMaps(tuple(classes.tolist()), torch.from_numpy(maps).float(), (int(size[0]), int(size[1])))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file, no larger than the limits; their headers are looked at before anything is unpacked.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: not such a file, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as stream:
                    shape, kind = _header(stream)
                if math.prod(shape) > MAX_MAP_VALUES or entry.file_size > 16 * MAX_MAP_VALUES:
                    raise StoreError(
                        f"{path}: {entry.filename} unpacks to {shape} values, more than {MAX_MAP_VALUES}; delete it"
                    )
                if kind not in "biuf":
                    raise StoreError(f"{path}: {entry.filename} holds no real numbers; delete it")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:  # a damaged zip raises anything from KeyError to zlib.error
        raise StoreError(f"{path}: not a map file, or damaged ({type(error).__name__}: {error}); delete it") from error


def _header(stream: Any) -> tuple[tuple[int, ...], str]:
    """Shape and kind of numbers of an array in an archive."""
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, _, kind = read[np.lib.format.read_magic(stream)[0]](stream)
    return shape, kind.kind


def _form(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
