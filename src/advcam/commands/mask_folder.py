"""A folder of masks, on disk or in a store: what they were made of, and its files, each written whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.attribution import PRECISIONS
from advcam.data import Address, Place, Skip, place, remote
from advcam.errors import DataError, RunError
from advcam.store import csv_text, json_of, json_text, made_of, read_json, remove, sweep, write_bytes


def folder_to_fill(given: object) -> Place:
    """The folder that a text names: a local path, also behind ``file://``, or an address of a store that can be written to.

    Raises:
        ValueError: it is empty.
        TypeError: neither text nor a place.
        DataError: an address with a password in it, or of what is only read.
    """
    if not isinstance(given, (str, Path, Address)):
        raise TypeError(f"expected a path or an address, got {type(given).__name__}")
    text = re.sub(r"^(file|local)://(localhost(?=/))?", "", str(given), flags=re.IGNORECASE)
    if re.match(r"(file|local):/", text, re.IGNORECASE):
        raise DataError(f"{text}: write a path, such as /data/masks, or file:///data/masks")
    if not text:
        raise ValueError("a path is empty")
    if not remote.is_remote(text):
        return Path(text)
    found = place(text)
    if (isinstance(found, Address) and found.below) or text.lower().endswith((".zip", ".tar", ".parquet")):
        raise DataError(f"{text}: masks are not written into archives; give a folder, such as s3://bucket/masks")
    if "::" in text or text.lower().startswith(tuple(f"{name}://" for name in remote.WEB)):
        raise DataError(f"{text}: can be read only; give the address of a store, such as s3://bucket/masks, or a folder")
    return found


@dataclass(frozen=True)
class MaskFolder:
    """Where masks are written to.

    Args:
        at: the folder.
    """

    at: Place

    def file(self, name: str) -> Place:
        """The place of a file."""
        return self.at / name if isinstance(self.at, Path) else Address(f"{self.at}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Writes a file whole."""
        where = self.file(name)
        if isinstance(where, Path):
            write_bytes(where, data)
        else:
            remote.write(str(where), data)

    def mask_made_of(self, name: str) -> str | None:
        """What a mask was made of; None where there is none, or it does not say."""
        where = self.file(name)
        return made_of(where if isinstance(where, Path) else remote.read_small(str(where)) or b"")

    def record(self) -> dict[str, Any]:
        """What the masks were made of, and how; empty where there are none."""
        where = self.file("predict.json")
        if isinstance(where, Path):
            return read_json(where, dict[str, Any]) if where.is_file() else {}
        data = remote.read_small(str(where))
        return json_of(data, where, dict[str, Any], "give another --out") if data else {}

    def precision(self, known: Mapping[str, Any]) -> str:
        """The precision that its masks were made in, on any machine; ``auto`` if there are none.

        Raises:
            RunError: the record has none that there is.
        """
        made = known.get("precision") if known else "auto"
        if made not in PRECISIONS:
            raise RunError(
                f"{self.file('predict.json')}: has precision {made!r}, expected one of {', '.join(PRECISIONS)};"
                " give another --out"
            )
        return str(made)

    def claim(self, known: dict[str, Any], key: dict[str, Any]) -> None:
        """Checks that the folder is new, or holds masks of the same network and options, and records these.

        Args:
            known: what :meth:`record` gave.
            key: of the masks that are to be made.

        Raises:
            RunError: it holds other masks, or images that are none of ours.
        """
        if isinstance(self.at, Path):
            sweep(self.at)
        if known and (other := [name for name in key if known.get(name) != key[name]]):
            raise RunError(f"{self.at}: holds masks {_made_otherwise(other, known, key)}; give another --out")
        if not known and self._holds_masks():
            raise RunError(f"{self.at}: holds images that `advcam predict` did not make; give another --out")
        if known != key:
            self.write("predict.json", json_text(key).encode())

    def list_skipped(self, skipped: list[Skip]) -> None:
        """Lists what was left out in ``skipped.csv``; with nothing to list, removes it."""
        where = self.file("skipped.csv")
        if skipped:
            self.write("skipped.csv", csv_text(("image", "reason"), [(skip.image, skip.reason) for skip in skipped]).encode())
        elif isinstance(where, Path):
            remove(where)
        else:
            remote.remove(str(where))

    def _holds_masks(self) -> bool:
        if isinstance(self.at, Path):
            return any(path.suffix == ".png" for path in self.at.rglob("*"))
        return any(name.endswith(".png") for name in remote.found_below(str(self.at)))


def _made_otherwise(names: list[str], old: dict[str, Any], new: dict[str, Any]) -> str:
    if "model.json" in names or "model.safetensors" in names:
        return "of another model"
    if "images" in names:
        return "of another folder of images"
    return f"made with other options ({', '.join(f'{name}: {old.get(name)} -> {new[name]}' for name in names)})"
