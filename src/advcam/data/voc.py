"""PASCAL VOC folders: images, objects in XML, lists."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.etree import ElementTree

from advcam.errors import DataError

from .labels import ClassTable, Row, normal, written

NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's classes; their ids in masks are 1 to 20 in this order."""

SIGNS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"),
)  # fmt: skip
"""First bytes of a file and the encoding that they imply, whatever the XML declaration says."""

WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "x-sjis": "cp932", "euc-kr": "cp949"}
"""Declared encodings, and the superset that is usually meant."""

CLASSES = ClassTable(tuple(range(1, len(NAMES) + 1)), NAMES)


def voc_root(folder: Path) -> Path | None:
    """The folder with ``Annotations/*.xml``: this one, or the only ``VOC*`` in it (``VOCdevkit``); None where there is none.

    Raises:
        DataError: several years in one ``VOCdevkit``.
    """
    roots = [root for root in (folder, *sorted(folder.glob("VOC*"))) if any((root / "Annotations").glob("*.xml"))]
    if len(roots) > 1:
        raise DataError(f"{folder}: holds {', '.join(root.name for root in roots)}; name one of these folders itself")
    return roots[0] if roots else None


def voc_files(root: Path) -> list[Path]:
    """The XML files of a VOC folder."""
    return sorted((root / "Annotations").glob("*.xml"))


def voc_lists(root: Path) -> list[Path]:
    """The lists for segmentation that exist: train.txt, val.txt, trainval.txt, trainaug.txt."""
    return sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))


def read_voc(root: Path) -> tuple[list[Row], ClassTable | None]:
    """The labels of each image: all its objects, difficult ones included, as in IRN and AdvCAM.

    Returns:
        A row for each XML file, and VOC's classes; None for the classes if a name is not VOC's.

    Raises:
        DataError: a file that is not VOC's XML; names file and line.
    """
    rows = [Row(normal(written(str(root), path.stem)), _objects(path), str(path)) for path in voc_files(root)]
    ours = {label for row in rows for label in row.labels} <= set(NAMES)
    return rows, CLASSES if ours else None


def _text(path: Path, data: bytes) -> str:
    """XML as text without its declaration, decoded by its first bytes, its declared encoding, or as UTF-8.

    Raises:
        DataError: an unknown or wrong encoding, or a document type, which could define anything.
    """
    said = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"'>]*)[\"']", data)
    declared = said[1].decode("ascii", "backslashreplace") if said else "utf-8"
    name = next((encoding for sign, encoding in SIGNS if data.startswith(sign)), WIDER.get(declared.lower(), declared))
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: encoding {declared}, but byte {error.start} is invalid in it; save it as UTF-8") from None
    except (LookupError, ValueError):
        raise DataError(f"{path}: encoding {name:.40} is not known; save it as UTF-8") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: has a document type (<!DOCTYPE ...>), which annotations do not need; remove it")
    return re.sub(r"^\s*<\?xml[^>]*\?>", lambda found: "\n" * found[0].count("\n"), text)  # keeps the line numbers


def _objects(path: Path) -> tuple[str, ...]:
    try:
        root = ElementTree.fromstring(_text(path, path.read_bytes()))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: not valid XML ({error}); copy the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid XML ({error}); save it as UTF-8") from None
    if root.tag != "annotation":
        raise DataError(f"{path}:1: expected VOC's <annotation>, got <{root.tag}>")
    names = [normal(made.findtext("name", "")) for made in root.findall("object")]
    if "" in names:
        raise DataError(f"{path}: object {names.index('') + 1} of {len(names)} has no <name>; add it or remove the object")
    return tuple(dict.fromkeys(names))
