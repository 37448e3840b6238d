"""VOC and COCO as labels.csv, classes.csv, lists and masks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from advcam.data import (
    Coco,
    Skip,
    coco_classes,
    coco_files,
    draw,
    joined,
    read_coco,
    read_source,
    source_files,
    voc_lists,
    voc_root,
)
from advcam.errors import DataError, RunError
from advcam.progress import Reporter
from advcam.stages.context import list_skips
from advcam.store import digest, read_json, save_mask, write_json, write_text


def convert(labels: Path, out: Path, reporter: Reporter) -> tuple[list[str], list[Skip]]:
    """Writes labels.csv, classes.csv and, of COCO, masks/ID.png and a list of each annotation file's pictures; of VOC, whose
    masks are used as they are, its lists. A mask that is there is not drawn again.

    Args:
        labels: a VOC or COCO folder, or a COCO annotation file.
        out: the folder; is made.
        reporter: shows progress.

    Returns:
        Lines that say what was written, and the pictures whose mask could not be drawn; they are listed in skipped.csv.

    Raises:
        DataError: neither VOC nor COCO.
        RunError: the folder holds something else.
    """
    root, folder = (voc_root(labels), labels) if labels.is_dir() else (None, None)
    paths = coco_files(labels) if folder else [labels]
    if not (root or paths) or not labels.exists():
        what = "got a folder that is neither" if labels.exists() else "there is no such file or folder"
        raise DataError(f"{labels}: expected a VOC or COCO folder, or COCO's instances_*.json; {what}")
    _begin(out, labels)
    files = [] if root else [read_coco(path, folder) for path in paths]
    rows, table = read_source(labels) if root else (joined(files), coco_classes(files))
    skipped: list[Skip] = []
    for file in files:
        skipped += _masks(file, out, reporter)
        write_text(out / f"{file.split}.txt", "".join(f"{image.name}\n" for image in file.images))
    for path in voc_lists(root) if root else ():
        write_text(out / path.name, path.read_text(encoding="utf-8"))
    write_text(out / "classes.csv", _csv(("id", "name"), zip(table.ids, table.names, strict=True)))
    write_text(out / "labels.csv", _csv(("image", "labels"), ((row.name, ";".join(row.labels)) for row in rows)))
    list_skips(out / "skipped.csv", skipped)
    masks = f"{root / 'SegmentationClass'} as it is" if root else str(out / "masks")
    return [f"{len(rows)} pictures, {len(table)} classes; masks: {masks}"], skipped


def _masks(file: Coco, out: Path, reporter: Reporter) -> list[Skip]:
    skipped, places = [], {image.name: out / "masks" / f"{Path(image.name).with_suffix('')}.png" for image in file.images}
    left = [image for image in file.images if not places[image.name].is_file()]
    with reporter.bar(f"masks, {file.split}", len(file.images), done=len(file.images) - len(left)) as advance:
        for image in left:
            try:
                save_mask(places[image.name], draw(image))
            except DataError as error:
                skipped.append(Skip(image.name, f"{file.path}: {error}"))
            advance(1)
    return skipped


def _begin(out: Path, labels: Path) -> None:
    """Sees that the folder is new, or this conversion taken up again."""
    record, source = out / "convert.json", digest([_stamp(path) for path in source_files(labels)])
    if record.is_file():
        if read_json(record)["source"] != source:
            raise RunError(f"{out}: was converted from other files than {labels} holds now; give another --out")
    elif out.exists() and (not out.is_dir() or any(not path.name.startswith(".convert.json.") for path in out.iterdir())):
        raise RunError(f"{out}: exists and is no conversion; give another --out")
    write_json(record, {"labels": labels.resolve(), "source": source})


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return path.name, found.st_size, found.st_mtime_ns


def _csv(header: tuple[str, str], rows: Iterable[tuple[Any, Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
