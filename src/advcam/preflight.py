"""Checks before the first step of what would otherwise fail hours later: the images' names, and that none has changed."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from advcam.data import Dataset, Item, Skip, at_once, content_of
from advcam.errors import DataError, ImageError, RunError
from advcam.limits import MAX_NAME_BYTES, MAX_PATH_BYTES
from advcam.stages.context import Context, list_skips


def check_names(root: Path, data: Dataset) -> None:
    """Checks that every image's name fits the files of a run folder.

    Raises:
        DataError: a name is too long, or the files of one image would need a folder that is a file of another.
    """
    longest, names = root.resolve() / "3-refine" / "confident", {item.id for item in data.items}
    for item in data.items:
        whole = len(os.fsencode(longest / item.id)) + len(".json") > MAX_PATH_BYTES
        if whole or any(len(part.encode()) > MAX_NAME_BYTES for part in item.id.split("/")):
            raise DataError(
                f"{item.path}: the name is too long for the files of a run (at most {MAX_NAME_BYTES} bytes, and"
                f" {MAX_PATH_BYTES} with all folders); rename it"
            )
        for above in PurePosixPath(item.id).parents:
            if above.suffix in (".png", ".npz", ".json") and above.with_suffix("").as_posix() in names:
                raise DataError(
                    f"{item.path}: its files would need a folder {above.name}, which is a file of image"
                    f" {above.with_suffix('').as_posix()!r}; rename one"
                )


def check_images(context: Context) -> None:
    """Checks that the run's images still exist and are unchanged, before anything is deleted or computed.

    Raises:
        RunError: images are missing, or have changed since the run read them; those are listed in changed.csv.
    """
    items, root = context.data.items, context.run.root
    with at_once(items[0].path) as mapped:
        changes = list(context.reporter.track(mapped(_change, items), len(items), "compare the images"))
    odd = [Skip(item.id, change) for item, change in zip(items, changes, strict=True) if change]
    list_skips(root / "changed.csv", odd)
    if odd:
        raise RunError(
            f"{root}: {len(odd)} of its {len(items)} images are gone or have changed, the first {odd[0].reason} (all are listed"
            f" in {root / 'changed.csv'}); restore them and give the same command again, give the folder that they have moved"
            " to, --images DIR, or start another run with the images that are there: advcam run ... --out ANOTHER"
        )


def _change(item: Item) -> str | None:
    """Says whether an image is gone or has changed; None if it is as it was."""
    try:
        same = item.path.is_file() if item.content is None else content_of(item.path) == item.content
    except ImageError as error:
        return str(error) if item.path.is_file() else f"{item.path}: is gone"
    if same:
        return None
    return f"{item.path}: {'is gone' if item.content is None else 'has changed since this run looked at it'}"


def warn_of_missing(context: Context) -> None:
    """Warns of images of a finished run that are gone: what is there cannot be shown or scored without them."""
    gone = [item.path for item in context.data.items if not item.path.is_file()]
    if gone:
        context.reporter.warn(
            f"{context.run.root}: {len(gone)} of its {len(context.data.items)} images are gone, the first {gone[0]}; the report"
            " shows those that are there; if they have moved, give their folder: --images DIR"
        )
