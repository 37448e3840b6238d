"""Runs whose images have been moved to another folder."""

from __future__ import annotations

from dataclasses import replace

from advcam.data import Dataset, Item, Place, images_of, list_images, look_at
from advcam.errors import RunError

from .context import Context, save_data


def folder_of(data: Dataset) -> Place:
    """Returns the folder or archive of a run's images."""
    return data.items[0].folder


def moved(context: Context, images: Place) -> Context:
    """Points a run to another folder of images, which must hold all of them by name and content, and records it.

    Args:
        context: the run.
        images: the folder (or the VOC folder that contains it).

    Raises:
        RunError: an image is missing there, or differs.
        DataError: there is no such folder, or no image in it.
    """
    data = relocated(context.data, images)
    if data is context.data:
        return context
    for item in context.reporter.track(data.items, len(data.items), "compare the images"):
        found = look_at(item.path, item.reading)
        if found.size != item.size or (item.content and found.content != item.content):
            was, now = (f"{size[1]}x{size[0]}" for size in (item.size, found.size))
            raise RunError(
                f"{item.path}: is {now}, the run's image of this name was {was if now != was else 'another of that size'};"
                " give --images the folder of the images that the run was made from"
            )
    save_data(context.run, data)
    context.reporter.say(f"the images are in {folder_of(data)} from now on")
    return replace(context, data=data)


def relocated(data: Dataset, images: Place) -> Dataset:
    """Returns a run's data set with its images in another folder, which must hold all of them by name; the same if they are.

    Args:
        data: the data set.
        images: the folder (or the VOC folder that contains it).

    Raises:
        RunError: an image is missing there.
        DataError: there is no such folder, or no image in it.
    """
    folder = images_of(images, images).resolve()
    if folder == folder_of(data):
        return data
    files, items = list_images(folder), data.items
    if all(files.get(item.id) == item.path for item in items):  # as those of a pattern of archives are
        return data
    missing = [item for item in items if item.id not in files or files[item.id].suffix.lower() != item.path.suffix.lower()]
    if missing:
        first = f"{missing[0].id}{missing[0].path.suffix}"
        raise RunError(
            f"{folder}: lacks {len(missing)} of the run's {len(items)} images, the first {first}; give --images the folder that"
            f" holds all images of {folder_of(data)}"
        )

    def here(part: tuple[Item, ...]) -> tuple[Item, ...]:
        return tuple(replace(item, path=files[item.id]) for item in part)

    return replace(data, train=here(data.train), eval=here(data.eval))
