"""``advcam data convert``: writes VOC and COCO as labels.csv, classes.csv, lists and masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from advcam.data import (
    ClassTable,
    Coco,
    Row,
    Skip,
    class_indices,
    coco_classes,
    coco_files,
    csv_rows,
    draw,
    found_in,
    normal,
    read_classes,
    read_coco,
    read_source,
    source_files,
    voc_lists,
    voc_root,
)
from advcam.errors import DataError, RunError
from advcam.limits import MAX_NAME_BYTES
from advcam.options import Config, option
from advcam.progress import Reporter
from advcam.stages.context import list_skips
from advcam.store import csv_text, digest, read_json, save_mask, sweep, write_bytes, write_json, write_text

from .session import Outcome, Session


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(Config):
    """The data set to convert, and the output folder."""

    labels: Path = option(help="a VOC folder, COCO's instances_*.json, a COCO or Roboflow folder", flag="labels", common=True)
    classes: Path | None = option(
        None, "CSV id,name: the ids that masks have, by name; none: the source's own", flag="classes", common=True
    )
    out: Path = option(help="where the files go; the folder is made", flag="out", common=True)


def run(config: ConvertConfig, session: Session) -> Outcome:
    """Writes labels.csv, classes.csv and lists; for COCO also masks/ID.png.

    COCO gets a list of each annotation file's images; VOC's lists are copied and its masks are used as they are. Existing
    masks are not drawn again. The text is parsed again and compared before it is written; faulty regions are listed in
    skipped.csv.

    Raises:
        DataError: neither VOC nor COCO, a category missing in the class list, or names that a list cannot hold.
        RunError: the folder holds something else.
    """
    labels, classes, out, reporter = config.labels, config.classes, config.out, session.reporter
    root, folder = (voc_root(labels), labels) if labels.is_dir() else (None, None)
    paths = coco_files(labels) if folder else [labels]
    if not (root or paths) or not labels.exists():
        what = "got a folder that is neither" if labels.exists() else "there is no such file or folder"
        raise DataError(f"{labels}: expected a VOC or COCO folder, or COCO's instances_*.json; {what}")
    if labels.is_file() and labels.suffix.lower() != ".json":
        raise DataError(f"{labels}: only VOC and COCO are converted; `advcam run --labels {labels}` reads a CSV as it is")
    files = [] if root else [read_coco(path, folder) for path in paths]
    given = read_classes(classes) if classes else None
    notes: tuple[str, ...] = ()
    if root:
        rows, table = read_source(labels, given)
    else:
        table, found = given or coco_classes(files), found_in(labels, files, given)
        rows, notes = found.rows, found.notes
    texts = _texts(rows, table, files)
    _begin(out, labels, classes)
    skipped: list[Skip] = []
    for file in files:
        ids = {number: table.ids[table.names.index(name)] for number, name in file.names.items() if name in table.names}
        skipped += _masks(file, ids, out, reporter)
    for path in voc_lists(root) if root else ():
        write_bytes(out / path.name, path.read_bytes())
    for name, text in texts.items():
        write_text(out / name, text)
    list_skips(out / "skipped.csv", skipped)
    lines = [f"{len(rows)} images, {len(table)} classes; masks: {_place_of_masks(root, out)}", *notes]
    return Outcome(f"labels, classes, lists: {out}", lines, len(skipped), out / "skipped.csv", "faults")


def _place_of_masks(root: Path | None, out: Path) -> str:
    """Says where the masks are: those that were drawn, or a VOC folder's own, if it has some."""
    own = root / "SegmentationClass" if root else out / "masks"
    return f"{own}{' as it is' * bool(root)}" if own.is_dir() else "none" + f" ({own} is not there)" * bool(root)


def _texts(rows: list[Row], table: ClassTable, files: list[Coco]) -> dict[str, str]:
    """Returns lists, class list and labels as text, by file name; labels are ids if a class name would be misread.

    Raises:
        DataError: a text read back differs from what was written.
    """
    indices = {row.name: class_indices(row, table) for row in rows}
    _see_masks(indices)
    texts = {f"{file.split}.txt": "".join(f"{image.name}\n" for image in file.images) for file in files}
    for file in files:
        lines = texts[f"{file.split}.txt"].encode().decode("utf-8-sig").splitlines()  # as a list is read
        for image, line in zip(file.images, lines, strict=False):
            if normal(line) != image.name or image.name.split() == []:
                raise DataError(f"{file.path}: {image.name!r} cannot be a line of a list; rename the image")
    texts["classes.csv"] = csv_text(("id", "name"), zip(table.ids, table.names, strict=True))
    read = read_classes(Path("classes.csv"), texts["classes.csv"])
    back: dict[str, Row] = {}
    for ours, name in zip(read.names, table.names, strict=False):
        if ours != name:
            raise DataError(f"class {name!r} would be read back as {ours!r}; rename it")
    wrong: list[str] = []
    for forms in (table.names, tuple(map(str, table.ids))):
        cells = ((name, ";".join(forms[at] for at in labels)) for name, labels in indices.items())
        texts["labels.csv"] = csv_text(("image", "labels"), cells)
        back = {row.name: row for row in csv_rows(Path("labels.csv"), texts["labels.csv"])}
        try:
            wrong = [name for name in indices if name not in back or class_indices(back[name], table) != indices[name]]
        except DataError:  # a name that would be read as another
            wrong = list(indices)
        if not wrong:
            return texts
    absent = next((name for name in indices if name not in back), None)
    if absent is not None:
        raise DataError(f"image {absent!r} cannot be written to a CSV and read back; rename it")
    names = [name for name in table.names if ";" in name or name.isdecimal()]
    raise DataError(
        f"the labels of {wrong[0]!r} cannot be written and read back: of the classes"
        f" {', '.join(map(repr, names[:4]))}, rename those that contain ';' or are the id of another"
    )


def _see_masks(names: Iterable[str]) -> None:
    """Checks that each image's name gives a mask file of its own.

    Raises:
        DataError: two images would share a mask, a mask would be a folder of another, or a name is too long for a file.
    """
    masks: dict[str, str] = {}
    for name in names:
        if (other := masks.setdefault(f"{Path(name).with_suffix('')}.png", name)) != name:
            raise DataError(f"{other!r} and {name!r} would have the same mask; rename one")
    for mask, name in masks.items():
        for above in map(str, Path(mask).parents):
            if above in masks:
                raise DataError(f"the mask of {masks[above]!r} would be a folder of the mask of {name!r}; rename one")
        if any(len(part.encode()) > MAX_NAME_BYTES for part in Path(mask).parts):
            raise DataError(f"{name[:40]!r}...: the name is too long for a file; rename it")


def _masks(file: Coco, ids: dict[int, int], out: Path, reporter: Reporter) -> list[Skip]:
    """Draws the masks that do not exist yet; returns the faults of regions of all images."""
    skipped, places = [], {image.name: out / "masks" / f"{Path(image.name).with_suffix('')}.png" for image in file.images}
    done = sum(place.is_file() for place in places.values())
    with reporter.bar(f"masks, {file.split}", len(file.images), done=done) as advance:
        for image in file.images:
            there = places[image.name].is_file()
            try:
                drawn = draw(image, ids)
            except DataError as error:
                skipped.append(Skip(image.name, f"{file.path}: {error}"))
            else:
                skipped += [Skip(image.name, f"{file.path}: {image.name}: {fault}") for fault in drawn.faults]
                if drawn.ids is None:
                    skipped.append(Skip(image.name, f"{file.path}: {image.name}: no pixel is known, so it has no mask"))
                elif not there:
                    save_mask(places[image.name], drawn.ids)
            if not there:
                advance(1)
    return skipped


class Converted(TypedDict):
    """``convert.json``."""

    source: str


def _begin(out: Path, labels: Path, classes: Path | None) -> None:
    """Starts a conversion in a new folder, or resumes this one."""
    read = [*source_files(labels), *([classes] if classes else [])]
    record, source = out / "convert.json", digest([_stamp(path) for path in read if isinstance(path, Path)])
    if record.is_file():
        sweep(out)
        if read_json(record, Converted)["source"] != source:
            raise RunError(f"{out}: was converted from files other than those {labels} holds now; give another --out")
    elif out.exists() and (not out.is_dir() or any(not path.name.startswith(".advcam-") for path in out.iterdir())):
        raise RunError(f"{out}: exists and was not made by `advcam data convert`; give another --out")
    write_json(record, {"labels": labels.resolve(), "source": source})


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return path.name, found.st_size, found.st_mtime_ns
