"""Labels as other tools export them: seen by what a file or folder holds, and named with the way to what is read here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROW = "write CSV with the columns image,labels, one row for each image"


def of_text(text: str) -> str:
    """What a text that is no CSV looks like; empty where it looks like none of these."""
    start = text.lstrip()
    if start.startswith("<"):
        if re.search(r"<annotations\b", start) and re.search(r"<image\b", start):
            return f"This looks like CVAT's XML for images: {ROW}, with the labels of its <tag> separated by ';'"
        return f"This is XML: {ROW}, its labels separated by ';'"
    if start.startswith("{") and _is_json(start.splitlines()[0]):
        return (
            f"This looks like JSON lines (metadata.jsonl of Hugging Face): {ROW}, with its file_name and its labels separated"
            " by ';'"
        )
    return ""


def of_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """What a CSV with other columns looks like; empty where it looks like none of these."""
    if "choice" in header and {"annotator", "lead_time", "annotation_id"} & set(header):
        return f"This looks like Label Studio's CSV: {ROW}, with the file's name and what stands under choice, separated by ';'"
    classes = [name for at, name in enumerate(header) if at and all(_is_flag(row, at) for row in rows if any(row))]
    if rows and classes and len(classes) >= len(header) - 2:
        return (
            f"This looks like one-hot columns ({', '.join(classes[:4])}{', ...' if len(classes) > 4 else ''}): {ROW}, with the"
            " names of the columns that hold 1 separated by ';'"
        )
    return ""


def of_json(value: Any) -> str:
    """What JSON of another form looks like; empty where it looks like none of these."""
    if not (isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)):
        return ""
    keys = set().union(*value)
    if "choice" in keys or {"annotations", "data"} <= keys:
        return f"This looks like Label Studio's JSON: {ROW}, with the file's name and its choices separated by ';'"
    return f"It lists objects with {', '.join(sorted(map(str, keys))[:6])}: {ROW}, its labels separated by ';'"


def of_folder(folder: Path, suffixes: frozenset[str]) -> str:
    """What a folder given as labels looks like, or which JSON lies in it."""
    classes = [
        sub.name
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and any(path.suffix.lower() in suffixes for path in sub.iterdir())
    ]
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))
    if found:
        return f"It holds {', '.join(found[:6])}{', ...' if len(found) > 6 else ''}; give one of these as --labels"
    if classes:
        first = next(path for path in sorted((folder / classes[0]).iterdir()) if path.suffix.lower() in suffixes)
        return (
            f"This looks like a folder for each class ({', '.join(classes[:4])}{', ...' if len(classes) > 4 else ''}): {ROW},"
            f" such as {classes[0]}/{first.name},{classes[0]}"
        )
    return ""


def _is_flag(row: Sequence[str], at: int) -> bool:
    return at < len(row) and row[at].strip() in ("0", "1", "", "0.0", "1.0")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
