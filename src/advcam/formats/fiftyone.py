"""FiftyOne's ``ImageSegmentationDirectory``: images in ``data``, greyscale masks of ids in ``labels``.

The masks are greyscale because FiftyOne reads with OpenCV, which turns a palette into colours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from advcam.data import Drawn
from advcam.errors import DataError, ImageError, StoreError
from advcam.limits import IGNORE
from advcam.store import read_json

from .files import Folder, Held, class_ids, held, png
from .masks import Add, Found, Losses, Masked, Names, Size, Wishes

TARGETS = "mask_targets.json"


@contextmanager
def write(out: Path, wishes: Wishes, _losses: Losses) -> Iterator[Add]:
    """Writes ``data``, ``labels`` and the names of the ids; 255 stays 255."""
    folder = Folder(out, "--to fiftyone")
    named = Names(wishes.names.classes).written() | {IGNORE: wishes.names.label}

    def add(masked: Masked) -> None:
        if wishes.copy_images:
            folder.copy(f"data/{masked.file}", masked.path)
        folder.grey(f"labels/{masked.id}.png", masked.ids)

    with folder:
        yield add
        folder.text(
            TARGETS, json.dumps({str(number): name for number, name in named.items()}, ensure_ascii=False, indent=1) + "\n"
        )


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads the folder.

    Raises:
        DataError: no such folder, or one without ``mask_targets.json``.
    """
    try:
        named = {int(number): name for number, name in read_json(source / TARGETS, dict[str, str]).items()}
    except (StoreError, ValueError) as error:
        raise DataError(f"{source}: expected {TARGETS} with the name of each id ({error})") from None
    with held(source) as files:
        for name in sorted(files.names):
            if name.startswith("labels/") and name.lower().endswith(".png"):
                yield Found((name.removeprefix("labels/")[:-4],), by_number(files, name, named, names))


def by_number(files: Held, name: str, named: dict[int, str], names: Names) -> Any:
    """Draws a PNG of ids whose names the data set lists."""

    def drawer(size: Size) -> Drawn:
        where = files.where(name)
        values = class_ids(png(files, name, size), where)
        table = np.zeros(256, dtype=np.uint8)
        for value in np.unique(values).tolist():
            if value in named:
                table[value] = names.id_of(named[value], where)
            elif value in (0, IGNORE):
                table[value] = value
            else:
                raise ImageError(f"{where}: holds {value}, which no class of the data set has")
        return Drawn(table[values], ())

    return drawer
