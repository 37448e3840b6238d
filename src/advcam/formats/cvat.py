"""CVAT's "Segmentation mask 1.1": a zip archive of coloured masks of classes and of objects.

CVAT makes an annotation of each colour of ``SegmentationObject``; without it, of each colour of ``SegmentationClass``, the
background too, which is no label of a task, so that the import fails.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from advcam.limits import IGNORE

from .colours import CLASS_FOLDER, LABELMAP, OBJECT_FOLDER, PALETTE, found_in, labelmap, line_of, objects
from .files import held, replaced, sign
from .masks import Add, Found, Ids, Losses, Masked, Names, Wishes

MOST_OBJECTS = 255
"""Most objects of an image: Datumaro, by which CVAT imports, knows the colours of so many."""


@contextmanager
def write(out: Path, wishes: Wishes, losses: Losses) -> Iterator[Add]:
    """Writes the archive. Pixels 255 keep a colour that CVAT makes no annotation of, unless a label stands for them."""
    named, listed = wishes.names.written(), list[str]()
    with_unknown = labelmap(named | {IGNORE: wishes.names.label})

    def add(masked: Masked) -> None:
        line, unknown = line_of(masked), masked.ids == IGNORE
        numbered, _ = objects(masked.ids, MOST_OBJECTS - 1)
        if wishes.names.unknown:
            numbered[unknown] = MOST_OBJECTS
        else:
            losses.unknown += int(unknown.sum())
        losses.pixels += unknown.size
        _add(archive, f"{CLASS_FOLDER}/{masked.id}.png", _coloured(masked.ids))
        _add(archive, f"{OBJECT_FOLDER}/{masked.id}.png", _coloured(numbered))
        listed.append(line)

    with replaced(out, "--to cvat") as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.comment = sign("--to cvat").encode()
        yield add
        _add(archive, "ImageSets/Segmentation/default.txt", "".join(listed).encode())
        _add(archive, LABELMAP, (with_unknown if losses.unknown else labelmap(named)).encode())


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads an export, the zip archive or its folder.

    Raises:
        DataError: another archive, or a label map that cannot be read.
    """
    with held(source) as files:
        yield from found_in(files, files.root_of(CLASS_FOLDER), names)


def _coloured(ids: Ids) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PALETTE[ids]).save(stream, format="PNG")
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED)
