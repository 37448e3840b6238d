"""Maps of the IRN family: ``.npy`` files that hold a dict ``{"keys": ..., "cam": ..., "high_res": ...}``, pickled.

Reading such a file with ``numpy.load(allow_pickle=True)`` runs whatever it says. Here its instructions build numbers, arrays
and tensors, and anything else is an error.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advcam.data import Drawn
from advcam.errors import DataError, ImageError, StoreError
from advcam.limits import MAX_IMAGE_BYTES
from advcam.refinement import argmax_mask

from .masks import Found, Names, Size

KINDS = "biuf"
"""Kinds of numbers that arrays may hold."""
MAX_MAPS = 254


def read(source: Path, names: Names, threshold: float) -> Iterator[Found]:
    """Reads a folder of ``ID.npy``, whose key k is the class in place k of the class list.

    Args:
        source: the folder, or one file.
        names: our classes.
        threshold: the background threshold of the maps.

    Raises:
        DataError: no such folder, or no file in it.
    """
    files = [source] if source.is_file() else sorted(source.rglob("*.npy"))
    if not files:
        raise DataError(f"{source}: expected a folder of maps ID.npy; there is none")
    for path in files:
        own = path.name if path == source else path.relative_to(source).as_posix()
        yield Found((own.removesuffix(".npy"),), partial(_mask, path, names.classes.ids, threshold))


def _mask(path: Path, ids: tuple[int, ...], threshold: float, size: Size) -> Drawn:
    try:
        held = load(path)
    except StoreError as error:
        raise ImageError(str(error)) from None
    maps, keys = next((held[name] for name in ("high_res", "cam") if name in held), None), held.get("keys")
    if maps is None or keys is None or maps.ndim != 3 or keys.shape != maps.shape[:1] or keys.dtype.kind not in "iu":
        raise ImageError(f"{path}: expected keys [k] and high_res or cam [k, h, w], got {_shapes(held)}")
    if len(keys) and (keys.min() < 0 or keys.max() >= len(ids)):
        raise ImageError(f"{path}: has the keys {keys.tolist()}, and the class list has {len(ids)} classes; the first is key 0")
    small = tuple(-(-side // 4) for side in size)
    if maps.shape[1:] not in (size, small) or not np.isfinite(maps).all():
        raise ImageError(f"{path}: expected finite maps of {size} or, at stride 4, {small}, got {maps.shape[1:]}")
    found = argmax_mask(torch.from_numpy(maps.astype(np.float32)), [ids[key] for key in keys.tolist()], threshold, size)
    return Drawn(found.numpy(), ())


def _shapes(held: dict[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in held.items()) or "nothing"


def load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npy`` file with a dict of arrays or tensors.

    Raises:
        StoreError: missing, too large, or it holds something other than a dict of numbers, arrays and tensors.
    """
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise StoreError(f"{path}: has more than {MAX_IMAGE_BYTES} bytes, which no maps of an image have")
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = header(file)
            if shape != () or kind != np.dtype(object):
                raise ValueError(f"an array {shape} of {kind}")
            value = _Arrays(io.BytesIO(file.read())).load()
        value = value.held if isinstance(value, _Array) else value
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise ValueError(f"a {type(value).__name__}")
        return {name: _array(entry) for name, entry in value.items()}
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such file of maps") from None
    except StoreError:
        raise
    except Exception as error:  # a damaged file raises anything
        raise StoreError(f"{path}: expected a dict of arrays, as IRN's code saves it ({error!s:.120})") from None


class _Array:
    """An array that is being built from its parts, of which only numbers are accepted."""

    def __init__(self, *_: Any) -> None:
        self.made: NDArray[Any] | None = None
        self.held: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if type(data) is list and shape == () and len(data) == 1:  # an object in an array, as numpy saves a dict
            self.held = data[0]
            return
        kind = _kind(kind)
        if type(data) is not bytes or any(type(side) is not int or side < 0 for side in shape):
            raise ValueError("an array of other things than numbers")
        if math.prod(shape) * kind.itemsize != len(data):
            raise ValueError(f"an array {shape} of {len(data)} bytes")
        self.made = np.frombuffer(data, dtype=kind).reshape(shape, order="F" if fortran is True else "C")


class _Kind:
    """A type of numbers that is being built."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def _kind(made: Any) -> np.dtype[Any]:
    if not isinstance(made, _Kind) or type(made.name) is not str or made.order not in ("<", ">", "=", "|"):
        raise ValueError("an array of an unknown type")
    name = made.name if len(made.name) <= 3 and made.name[:1] in KINDS + "?" else ""
    kind = np.dtype(name or "V")
    if kind.kind not in KINDS or kind.itemsize > 8:
        raise ValueError(f"an array of type {made.name!r:.20}")
    return kind.newbyteorder("=" if made.order == "|" else made.order)  # type: ignore[arg-type]


def _scalar(kind: Any, data: Any) -> Any:
    if type(data) is not bytes or len(data) != _kind(kind).itemsize:
        raise ValueError("a number of an unknown type")
    return np.frombuffer(data, dtype=_kind(kind))[0].item()


def _storage(data: Any) -> _Array:
    """The numbers of a tensor, in torch's own format; torch's reader of plain weights builds nothing else either."""
    if type(data) is not bytes:
        raise ValueError("a tensor without bytes")
    stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    flat = torch.tensor([], dtype=stored.dtype).set_(stored)
    return _made((flat.float() if flat.dtype == torch.bfloat16 else flat).numpy())


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Array:
    flat = storage.made if isinstance(storage, _Array) else None
    numbers = (offset, *size, *stride)
    if flat is None or flat.ndim != 1 or len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("a tensor without its numbers")
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if math.prod(size) > flat.size or (math.prod(size) and last >= flat.size):
        raise ValueError(f"a tensor {size} of {flat.size} numbers")
    steps = tuple(step * flat.itemsize for step in stride)
    return _made(np.lib.stride_tricks.as_strided(flat[offset:], tuple(size), steps).copy())


def _made(array: NDArray[Any]) -> _Array:
    found = _Array()
    found.made = array
    return found


def _nothing(*_: Any) -> Any:
    raise ValueError("a call of a class that is only named")


PARTS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "_reconstruct"): _Array,
    ("numpy", "scalar"): _scalar,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _nothing,
    ("torch", "_rebuild_tensor_v2"): _tensor,
    ("torch", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): OrderedDict,
}
"""What a file may name, by its package, and what stands here for it."""
WHERE = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "torch._utils", "torch.storage", "collections")


class _Arrays(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Python's own unpickler, which trusts no length that the file claims, with :data:`PARTS` in place of what is named."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        part = PARTS.get((module.split(".")[0], name)) if module in WHERE else None
        if part is None:
            raise ValueError(f"it names {module}.{name}, which is no array")
        return lambda *given: part(*given)


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, (list, tuple)) and len(value) > MAX_MAPS:
        raise ValueError(f"a list of {len(value)} entries")
    found: NDArray[Any] = np.asarray(value.made if isinstance(value, _Array) else value)
    if found.dtype.kind not in KINDS:
        raise ValueError("something that is no array")
    return found
