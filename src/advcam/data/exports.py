"""Recognises label exports of other tools by content, and says how to convert them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROW = "write CSV with the columns image,labels, one row for each image"


def of_text(text: str) -> str:
    """What a text that is not CSV looks like; empty if unknown."""
    start = text.lstrip()
    if start.startswith("<"):
        if re.search(r"<annotations\b", start) and re.search(r"<image\b", start):
            return f"This looks like CVAT's XML for images: {ROW}, with the labels of its <tag> separated by ';'"
        if re.search(r"<annotation\b", start):
            return (
                "This looks like one file of PASCAL VOC's: put all of them into FOLDER/Annotations, their images into"
                " FOLDER/JPEGImages, and give FOLDER as --labels; labels that are no boxes go into CSV, separated by ';'"
            )
        return f"This is XML: {ROW}, its labels separated by ';'"
    if start.startswith(("{", "[")) and _is_json(start.splitlines()[0]):
        return (
            f"This looks like JSON lines (metadata.jsonl of Hugging Face): {ROW}, with its file_name and its labels separated"
            " by ';'"
        )
    return ""


def of_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """What a CSV with other columns looks like; empty if unknown."""
    if len(LABEL_STUDIO & set(header)) > 1:
        choices = "choice" if "choice" in header else "the question's name"
        return (
            f"This looks like Label Studio's CSV: {ROW}, with the file's name and what stands under {choices}, separated by ';'"
        )
    rows = [row for row in rows if any(row)]
    classes = [name for at, name in enumerate(header) if at and _are_flags([row[at] for row in rows if at < len(row)])]
    one_label = {"label", "labels", "class", "class_name", "category", "name"} & {name.lower() for name in header}
    if classes and (len(classes) >= len(header) - 2 or (len(classes) > 1 and not one_label)):
        return (
            f"This looks like one-hot columns ({_some(classes)}): {ROW}, with the names of the columns that hold 1 (or true)"
            " separated by ';'"
        )
    if any(re.search(r"\.\w{3,4}$", cell) for cell in header):
        return "This looks like a file without a header: write image,labels in the line before"
    return ""


def of_json(value: Any) -> str:
    """What JSON of another structure looks like; empty if unknown."""
    if not (isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)):
        return ""
    keys = set().union(*value)
    if "choice" in keys or {"annotations", "data"} <= keys or {"completions", "data"} <= keys or len(LABEL_STUDIO & keys) > 1:
        return f"This looks like Label Studio's JSON: {ROW}, with the file's name and its choices separated by ';'"
    return f"It lists objects with {', '.join(sorted(map(str, keys))[:6])}: {ROW}, its labels separated by ';'"


def of_folder(folder: Path, suffixes: frozenset[str]) -> str:
    """What a folder given as labels looks like, and the JSON files in it."""
    below = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    below = [path for path in below if not any(part.startswith(".") for part in path.parts)]
    json_files = [path.as_posix() for path in below if path.suffix.lower() == ".json"]
    first: dict[str, str] = {}
    for path in below:
        if path.suffix.lower() in suffixes and path.parent.name and not re.fullmatch(NO_CLASS, path.parent.name.lower()):
            first.setdefault(path.parent.name, path.as_posix())
    said = [f"It holds {_some(json_files, 6)}; give one of these as --labels"] if json_files else []
    if len(first) > 1:
        name, image = next(iter(first.items()))
        said.append(f"This looks like a folder for each class ({_some(list(first))}): {ROW}, such as {image},{name}")
    elif any(path.suffix.lower() == ".xml" for path in below):
        said.append("VOC's XML is read from a folder Annotations in it, its images from JPEGImages beside that")
    return ". ".join(said)


LABEL_STUDIO = {"annotator", "annotation_id", "lead_time", "choice", "created_at", "updated_at"}
"""Columns of Label Studio's exports beside the labels."""

NO_CLASS = r"(jpeg|png)?images?|labels?|masks?|annotations?|(train|val|valid|validation|test|trainval)\w*|segmentation\w*|data"
"""Names of folders that hold images of all classes, or no images."""


def _some(names: Sequence[str], most: int = 4) -> str:
    return f"{', '.join(names[:most])}{', ...' if len(names) > most else ''}"


def _are_flags(cells: Sequence[str]) -> bool:
    """Whether all cells of a column mean yes or no."""
    words = {cell.strip().lower() for cell in cells} - {""}
    return bool(words) and words <= {"0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false", "yes", "no", "x"}


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
