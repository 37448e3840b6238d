"""What was found of one image with one setting, a file each: a study that was stopped goes on from these."""

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
        columns: what its row of the table says of it.
        about: all that its parts depend on, as plain data; parts of other settings lie in other folders.
        measure: an image to what is kept of it.
    """

    columns: dict[str, Any]
    about: dict[str, Any]
    measure: Callable[[Item], Part]


def collect(
    folder: Path, settings: Sequence[Setting], items: Sequence[Item], reporter: Reporter, what: str
) -> tuple[list[Item], list[list[Part]], list[Skip]]:
    """Measures every image with every setting, where that was not done before.

    Args:
        folder: of the parts; each setting has its own below it, named by the digest of what its parts depend on.
        settings: all are measured of an image before the next image.
        items: the images.
        reporter: shows the bar.
        what: the bar's name.

    Returns:
        The images of which everything was found, for each setting their parts in this order, and the other images.
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
