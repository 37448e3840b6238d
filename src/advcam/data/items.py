"""A data set: images with labels, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from .images import AS_IT_IS, read_image
from .labels import ClassTable
from .places import Place, above
from .reading import Reading


@dataclass(frozen=True)
class Item:
    """One image of a data set.

    Args:
        id: path below the folder, without suffix.
        path: of the file, or its address in an archive, a table or a remote store.
        labels: class positions.
        size: (H, W) in pixels.
        content: hash of the file when it was first read; None if unknown.
        reading: how its values become 8-bit channels, the same for all images of a data set.
        unknown: positions of the classes that it may show or not: nobody knows.
    """

    id: str
    path: Place
    labels: tuple[int, ...]
    size: tuple[int, int]
    content: str | None = None
    reading: Reading = AS_IT_IS
    unknown: tuple[int, ...] = ()

    @property
    def folder(self) -> Place:
        """The folder or archive that its id is the path below."""
        return above(self.path, self.id)

    def read(self) -> Image.Image:
        """The image as networks are given it, 8-bit RGB or :class:`~.channels.Channels`; see :func:`.images.read_image`.

        Raises:
            ImageError: it cannot be read, or has changed since it was first read.
        """
        return read_image(self.path, self.content, self.reading)


@dataclass(frozen=True)
class Skip:
    """An image, name or class that was left out or looks wrong, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """The images and classes of a run.

    Args:
        classes: the classes of the class list, or those that some image has.
        train: images to train on.
        eval: images to score on; empty without a list.
        skipped: what was left out, and why.
        doubts: what is used although it looks wrong, and why.
        unlabelled: images in the folder that the labels do not name and that are therefore not part of the data set.
        form: what the labels were read as, for a message; empty if they were not read now.
    """

    classes: ClassTable
    train: tuple[Item, ...]
    eval: tuple[Item, ...]
    skipped: tuple[Skip, ...]
    doubts: tuple[Skip, ...] = ()
    unlabelled: tuple[str, ...] = ()
    form: str = ""

    @property
    def reading(self) -> Reading:
        """How the values of all its images become 8-bit RGB."""
        return self.train[0].reading

    @property
    def items(self) -> tuple[Item, ...]:
        """All images, each once, in order of id."""
        return tuple(sorted({item.id: item for item in self.train + self.eval}.values(), key=lambda item: item.id))
