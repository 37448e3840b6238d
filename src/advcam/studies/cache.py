"""The parts of a study, a file for each image and setting, from which a stopped study resumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advcam.data import Item, Skip
from advcam.errors import ImageError, InputError, StoreError
from advcam.progress import Reporter
from advcam.store import atomic_write, digest, read_arrays, write_json

Part = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """One setting of a study.

    Args:
        columns: the columns that describe it in the table.
        about: everything that its parts depend on, as plain data; parts of other settings go to other folders.
        measure: a function from an image to its part.
    """

    columns: dict[str, Any]
    about: dict[str, Any]
    measure: Callable[[Item], Part]


def collect(
    folder: Path, settings: Sequence[Setting], items: Sequence[Item], reporter: Reporter, what: str
) -> tuple[list[Item], list[list[Part]], list[Skip]]:
    """Measures every image with every setting, unless its part exists.

    Args:
        folder: folder of the parts; each setting has a subfolder, named by the digest of what its parts depend on.
        settings: the settings; all are measured on an image before the next image.
        items: the images.
        reporter: shows the progress bar.
        what: name of the bar.

    Returns:
        The images with all parts, for each setting their parts in this order, and the images left out.
    """
    folders = [folder / digest(setting.about) for setting in settings]
    for setting, place in zip(settings, folders, strict=True):
        if not (place / "settings.json").is_file():
            write_json(place / "settings.json", setting.about)
    paths = {item.id: [place / f"{item.id}.npz" for place in folders] for item in items}
    done = sum(path.is_file() for mine in paths.values() for path in mine)
    kept, skipped = [], []
    with reporter.bar(what, len(items) * len(settings), done=done) as advance:
        for item in items:
            try:
                for setting, path in zip(settings, paths[item.id], strict=True):
                    if not path.is_file():
                        _save(path, setting.measure(item))
                        advance(1)
            except (ImageError, InputError) as error:
                skipped.append(Skip(item.id, str(error)))
            else:
                kept.append(item)
    return kept, [[_load(paths[item.id][at]) for item in kept] for at in range(len(settings))], skipped


def _save(path: Path, part: Part) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = dict(part)
        np.savez_compressed(file, **named)


def _load(path: Path) -> Part:
    try:
        return read_arrays(path)
    except (FileNotFoundError, StoreError) as error:
        raise StoreError(f"{error}, and give the same command again") from None
