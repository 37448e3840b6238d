"""Hugging Face's ``imagefolder``: ``metadata.jsonl``, images and masks, in a folder for each split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypedDict

import msgspec
import numpy as np

from advcam.data import read_classes
from advcam.errors import DataError
from advcam.store import csv_text

from .fiftyone import by_number
from .files import Folder, held
from .masks import Add, Found, Losses, Masked, Names, Wishes

METADATA, CLASSES = "metadata.jsonl", "classes.csv"


class Row(TypedDict):
    """A line of ``metadata.jsonl``: an image and its mask, below its folder."""

    file_name: str
    mask_file_name: str


@contextmanager
def write(out: Path, wishes: Wishes, _losses: Losses) -> Iterator[Add]:
    """Writes a data set with the columns ``image``, ``mask`` and ``labels``, and ``classes.csv``; 255 stays 255."""
    folder, rows = Folder(out, "--to hf"), dict[str, list[str]]()
    named = Names(wishes.names.classes).written()

    def add(masked: Masked) -> None:
        split = "validation" if masked.scored else "train"
        image, mask = f"images/{masked.file}", f"masks/{masked.id}.png"
        if wishes.copy_images:
            folder.copy(f"{split}/{image}", masked.path)
        folder.mask(f"{split}/{mask}", masked.ids)
        labels = [named[number] for number in np.unique(masked.ids).tolist() if number in named]
        row = json.dumps({"file_name": image, "mask_file_name": mask, "labels": labels}, ensure_ascii=False)
        rows.setdefault(split, []).append(f"{row}\n")

    with folder:
        yield add
        for split, lines in rows.items():
            folder.text(f"{split}/{METADATA}", "".join(lines))
        folder.text(CLASSES, csv_text(("id", "name"), named.items()))


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads the folder, or a zip archive of it.

    Raises:
        DataError: no ``metadata.jsonl`` or no ``classes.csv``, or one that cannot be read.
    """
    with held(source) as files:
        tables = sorted(name for name in files.names if PurePosixPath(name).name == METADATA)
        if not tables or CLASSES not in files.names:
            raise DataError(f"{source}: expected {METADATA} and {CLASSES} (id,name: the classes of its masks)")
        classes = read_classes(Path(files.where(CLASSES)), files.text(CLASSES))
        named = dict(zip(classes.ids, classes.names, strict=True))
        for table in tables:
            folder = table.removesuffix(METADATA)
            for at, line in enumerate(files.text(table).splitlines(), 1):
                try:
                    row = msgspec.json.decode(line, type=Row)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{files.where(table)}:{at}: expected file_name and mask_file_name ({error})") from None
                image, mask = row["file_name"], folder + row["mask_file_name"]
                yield Found((image.removeprefix("images/"), image), by_number(files, mask, named, names))
