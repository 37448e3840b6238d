"""Images in the rows of a table: a data set saved by Hugging Face's ``datasets``, or a Parquet file."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from advcam.errors import DataError
from advcam.limits import MAX_ENTRIES, MAX_IMAGE_BYTES

from .remote import again, is_remote
from .tables import is_image, key

IMAGE = ("image", "img", "images", "picture", "photo", "pixel_values", "jpg", "jpeg", "png", "webp")
"""Names of the column of images, the likeliest first; of several, others are taken to be masks."""

MAX_GROUP = 2**29
"""Most bytes of the images of a Parquet file's row group: all are read for each of them."""

KEPT_BYTES = 2**29
"""Most bytes of the row groups of all Parquet files that are kept in memory; the one that was read last is kept in any case."""

BATCH = 16
"""Rows that are read at once, so that what is larger than its size says is found before it fills the memory."""

SIGNS = ((b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"))
"""First bytes of images and the suffix of their names; others are called .png."""

Values = Callable[[int], bytes | None]


def is_saved(folder: Path) -> bool:
    """Whether a folder is a data set that ``datasets`` has saved with ``save_to_disk``."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


@dataclass(frozen=True)
class Column:
    """A column of labels.

    Args:
        name: of the column.
        values: of each row: a class, a list of classes, or objects with them; None where nothing is said.
        names: of the classes, where the table has them.
    """

    name: str
    values: list[Any]
    names: tuple[str, ...] = ()


class Rows:
    """The rows of a table with a column of images; their names are file names where all have different ones, or numbers."""

    def __init__(self, path: str, table: Any, features: dict[str, Any], values: Values, files: list[Any], count: int) -> None:
        self.path, self._table, self._features, self._value = path, table, features, values
        known = [PurePath(re.sub(r".*[/\\]", "", file)).name if isinstance(file, str) else "" for file in files]
        if not all(map(is_image, known)) or len({name.casefold() for name in known}) < count:
            first = next((data for at in range(min(count, BATCH)) if (data := values(at))), b"")
            suffix = next((suffix for sign, suffix in SIGNS if first.startswith(sign)), ".png")
            known = [f"{at:0{len(str(max(count - 1, 0)))}}{suffix}" for at in range(count)]
        self.names = {name: at for at, name in enumerate(known)}

    def read(self, name: str) -> bytes:
        """The bytes of an image."""
        if name not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such row", f"{self.path}/{name}")
        try:
            data = self._value(self.names[name])
        except OSError:
            raise
        except Exception as error:
            raise OSError(errno.EIO, f"cannot be read from its row: {_said(error)}") from None
        if data is None:
            raise OSError(
                errno.ENODATA, "its row holds no image, or only the name of one; save the data set with its images in it"
            )
        if len(data) > MAX_IMAGE_BYTES:
            raise OSError(errno.EFBIG, f"has more than {MAX_IMAGE_BYTES} bytes")
        return data

    def labels(self) -> Column | list[Column]:
        """The column of labels; several of 0 and 1, one for each class, where there is none.

        Raises:
            DataError: there are no labels, several columns of classes, or they cannot be read.
        """
        try:
            return self._labels()
        except DataError:
            raise
        except Exception as error:  # of pyarrow, on a damaged file
            remedy = again(error) if isinstance(error, OSError) else "copy it again"
            raise DataError(f"{self.path}: its labels cannot be read ({_said(error)}); {remedy}") from None

    def _labels(self) -> Column | list[Column]:
        schema = {field.name: field for field in self._table.schema}
        others = [name for name in schema if name not in _image_columns(self._table.schema, self._features)]
        classes = [name for name in others if _names_of(self._features.get(name)) is not None]
        usual = [name for wanted in LABELS for name in others if key(name) == wanted]
        objects = [name for name in others if key(name) == "objects"]
        if not usual and len(classes) > 1:
            raise DataError(
                f"{self.path}: several columns hold classes, {', '.join(map(repr, classes))}; name the one to use 'label', as"
                f" in ds.rename_column({classes[0]!r}, 'label').save_to_disk(...)"
            )
        found = (usual or classes or objects)[:1]
        if found:
            return self._column(found[0])
        types = importlib.import_module("pyarrow").types
        flags = [name for name in others if types.is_boolean(schema[name].type) or types.is_integer(schema[name].type)]
        if not flags:
            raise DataError(
                f"{self.path}: has no column of labels; expected 'label', or one of classes, objects, or 0 and 1; it has"
                f" {', '.join(map(repr, others[:8])) or 'no other column'}. Give a file of labels: --labels FILE"
            )
        return [self._column(name) for name in flags]

    def _column(self, name: str) -> Column:
        values = self._table.read(name)
        if len(values) != len(self.names):
            raise DataError(f"{self.path}: column {name!r} has {len(values)} rows of {len(self.names)}; copy it again")
        feature = self._features.get(name)
        if isinstance(feature, dict) and key(name) == "objects":
            feature = feature.get("feature", feature)
            kinds = {part: _names_of(about) for part, about in feature.items()} if isinstance(feature, dict) else {}
            part = next((part for part, names in kinds.items() if names is not None), None)
            values = [_only(value, part) for value in values] if part else values
            names = kinds.get(part or "")
        else:
            names = _names_of(feature)
        return Column(name, [_named(value, names) for value in values] if names else values, names or ())


LABELS = ("labels", "label", "classes", "class", "class_name", "tags", "tag", "categories", "category")
"""Names of the column of labels, the likeliest first."""


@dataclass(frozen=True)
class _Saved:
    """A table in the memory of the system's files: nothing is read before it is used."""

    table: Any

    @property
    def schema(self) -> Any:
        return self.table.schema

    def read(self, name: str) -> list[Any]:
        column = self.table[name]
        column.validate(full=True)
        return list(column.to_pylist())


@dataclass(frozen=True)
class _Parquet:
    """A Parquet file, which is opened for every read: a folder may have more of them than a process may open."""

    path: str
    about: Any
    schema: Any

    def read(self, name: str) -> list[Any]:
        return [value for part in self.batches([name]) for value in part.to_pylist()]

    def batches(self, columns: list[str]) -> Any:
        """Parts of a column."""
        return self.parts(2**12, columns)

    def parts(self, rows: int, columns: list[str], groups: list[int] | None = None) -> Iterator[Any]:
        """Parts of a column, of so many rows each."""
        with importlib.import_module("pyarrow.parquet").ParquetFile(self.path, metadata=self.about) as file:
            for batch in file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
                yield batch.column(0)


def open_rows(path: str) -> Rows:
    """A table of images, by its path.

    Raises:
        DataError: pyarrow is missing, the file is damaged, or no column holds images.
        OSError: there is none.
    """
    if is_remote(path):
        raise DataError(f"{path}: tables of images are read from local files only; download it first")
    try:
        pyarrow = importlib.import_module("pyarrow")
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading it needs pyarrow: pip install 'advcam[datasets]'") from None
    try:
        return _of_saved(path, pyarrow) if Path(path).is_dir() else _of_parquet(path)
    except (DataError, FileNotFoundError):
        raise
    except Exception as error:  # of pyarrow, on a damaged file
        remedy = again(error) if isinstance(error, OSError) else "copy it again"
        raise DataError(f"{path}: cannot be read as a table ({_said(error)}); {remedy}") from None


def _of_saved(path: str, pyarrow: Any) -> Rows:
    files = [entry["filename"] for entry in json.loads((Path(path) / "state.json").read_bytes())["_data_files"]]
    if not files or any(not isinstance(name, str) or PurePath(name).name != name or ".arrow" not in name for name in files):
        raise DataError(f"{path}: its state.json names no data file beside it; save the data set again")
    tables = [_mapped(pyarrow, str(Path(path) / name)) for name in files]
    table = pyarrow.concat_tables([one.replace_schema_metadata(tables[0].schema.metadata) for one in tables])
    features = _features(table.schema)
    name = _image_column(path, table.schema, features)
    column = table[name]
    column.validate(full=True)
    if pyarrow.types.is_struct(column.type):
        held = pyarrow.chunked_array([chunk.field("bytes") for chunk in column.chunks], column.type.field("bytes").type)
        names = [one.as_py() for chunk in column.chunks for one in chunk.field("path")] if _has(column.type, "path") else []
    else:
        held, names = column, []
    _few(path, len(held))
    return Rows(path, _Saved(table), features, lambda at: held[at].as_py(), names, len(held))


def _mapped(pyarrow: Any, path: str) -> Any:
    source = pyarrow.memory_map(path)
    try:
        return pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowInvalid:
        source.seek(0)
        return pyarrow.ipc.open_file(source).read_all()


def _of_parquet(path: str) -> Rows:
    with importlib.import_module("pyarrow.parquet").ParquetFile(path) as file:
        table, about = _Parquet(path, file.metadata, file.schema_arrow), file.metadata
    _few(path, about.num_rows)
    features = _features(table.schema)
    name = _image_column(path, table.schema, features)
    kind = table.schema.field(name).type
    deep = _has(kind, "bytes")
    names = (
        [v for part in table.batches([f"{name}.path"]) for v in part.field("path").to_pylist()] if _has(kind, "path") else []
    )
    groups = _Groups(table, f"{name}.bytes" if deep else name, deep)
    return Rows(path, table, features, groups.value, names, about.num_rows)


class _Groups:
    """The images of a Parquet file, read by row groups, of which :data:`_kept` keeps some."""

    def __init__(self, table: _Parquet, column: str, deep: bool) -> None:
        self.table, self.column, self.deep = table, column, deep
        self.starts, self.lock = [0], threading.Lock()
        for at in range(table.about.num_row_groups):
            self.starts.append(self.starts[-1] + table.about.row_group(at).num_rows)

    def value(self, at: int) -> bytes | None:
        """The bytes in a row."""
        group = bisect_right(self.starts, at) - 1
        with self.lock:
            held = _kept.get(self, group)
            if held is None:
                held = self._read(group)
                _kept.add(self, group, held)
        within = at - self.starts[group]
        data: bytes | None = held[within // BATCH][within % BATCH].as_py()
        return data

    def _read(self, group: int) -> list[Any]:
        held, total = list[Any](), 0
        for column in self.table.parts(BATCH, [self.column], [group]):
            part = column.field("bytes") if self.deep else column
            total += part.nbytes
            if total > MAX_GROUP:
                raise OSError(
                    errno.EFBIG,
                    f"the images of row group {group} have more than {MAX_GROUP} bytes, and all are read for each of them;"
                    " write the file with row_group_size=100, or save it with datasets' save_to_disk and give that folder",
                )
            held.append(part)
        return held


@dataclass
class _Kept:
    """The row groups that were read last, of all Parquet files: one of each file, :data:`KEPT_BYTES` of all."""

    groups: OrderedDict[_Groups, tuple[int, list[Any]]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, of: _Groups, group: int) -> list[Any] | None:
        """A group of a file, if it is kept."""
        with self.lock:
            number, held = self.groups.get(of, (-1, []))
            if number != group:
                return None
            self.groups.move_to_end(of)
            return held

    def add(self, of: _Groups, group: int, held: list[Any]) -> None:
        """Keeps a group in place of the file's other one, and of those that were used longest ago."""
        with self.lock:
            self.groups.pop(of, None)
            self.groups[of] = group, held
            while len(self.groups) > 1 and self.size() > KEPT_BYTES:
                self.groups.popitem(last=False)

    def size(self) -> int:
        """The bytes of all."""
        return sum(part.nbytes for _, held in self.groups.values() for part in held)

    def forget(self) -> None:
        """Begins anew, in a forked process: another thread may have held the parent's lock."""
        self.groups, self.lock = OrderedDict(), threading.Lock()


_kept = _Kept()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.forget)


def _few(path: str, count: int) -> None:
    if count > MAX_ENTRIES:
        raise DataError(f"{path}: has {count} rows, more than {MAX_ENTRIES}; save it in parts")


def _features(schema: Any) -> dict[str, Any]:
    """What ``datasets`` says of the columns; nothing where another program wrote the table."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _image_columns(schema: Any, features: dict[str, Any]) -> list[str]:
    """The columns of images: by what ``datasets`` says, or those of bytes with a path, or of bytes with a usual name."""
    types = importlib.import_module("pyarrow").types
    binary = [f.name for f in schema if _is_bytes(types, f.type) and (key(f.name) in IMAGE or key(f.name) == "bytes")]
    deep = [f.name for f in schema if _has(f.type, "bytes") and _is_bytes(types, f.type.field("bytes").type)]
    said = [name for name in deep + binary if isinstance(features.get(name), dict) and features[name].get("_type") == "Image"]
    found = said or deep or binary
    return sorted(found, key=lambda name: IMAGE.index(key(name)) if key(name) in IMAGE else len(IMAGE))


def _image_column(path: str, schema: Any, features: dict[str, Any]) -> str:
    found = _image_columns(schema, features)
    if not found:
        there = ", ".join(repr(name) for name in schema.names[:8]) or "none"
        raise DataError(f"{path}: no column holds images (datasets' Image, or their bytes in a column 'image'); it has {there}")
    return found[0]


def _has(kind: Any, name: str) -> bool:
    """Whether a type is a struct with a field of this name."""
    return bool(importlib.import_module("pyarrow").types.is_struct(kind)) and kind.get_field_index(name) >= 0


def _is_bytes(types: Any, kind: Any) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _names_of(feature: Any) -> tuple[str, ...] | None:
    """The names of a column's classes: of ``ClassLabel``, or of a list of it."""
    for _ in range(3):
        if isinstance(feature, list):
            feature = feature[0] if len(feature) == 1 else None
        if not isinstance(feature, dict):
            return None
        if feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            return tuple(names) if isinstance(names, list) and names and all(isinstance(n, str) for n in names) else None
        feature = feature.get("feature")
    return None


def _named(value: Any, names: tuple[str, ...]) -> Any:
    """A class's number, or a list of them, as names; None for -1, which means that the class is not known."""
    if value is None or value == -1:
        return None
    numbers = value if isinstance(value, list) else [value]
    return [names[n] if type(n) is int and 0 <= n < len(names) else {"no class has the number": n} for n in numbers]


def _only(value: Any, part: str) -> Any:
    """One field of objects, which are a dict of lists or a list of dicts."""
    if isinstance(value, dict):
        return value.get(part)
    return [one.get(part) if isinstance(one, dict) else one for one in value] if isinstance(value, list) else value


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
