"""What every format is given and gives: masks of images, class names, and what a conversion lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcam.data import ClassTable, Drawn, normal
from advcam.data import Place as Where
from advcam.errors import DataError, SettingsError, known
from advcam.limits import IGNORE

Size = tuple[int, int]
Ids = NDArray[np.uint8]
Place = NDArray[np.bool_]

IGNORED = "ignored"
"""The label of 255 where no other was given, as Datumaro calls it."""
BACKGROUND = ("background", "_background_", "__background__", "bg")
"""Names that stand for no class, in any case."""


@dataclass(frozen=True)
class Masked:
    """An image with its mask, to be written.

    Args:
        id: path of the image below its folder, without suffix.
        path: of the image file.
        ids: class ids [H, W], 0 background, 255 not known.
        scored: whether it is one of the images for scoring, of a data set that has such.
        scores: of each class id, how good its mask can be expected to be, 0 to 1, where that is known. Formats that can hold
            them write them.
    """

    id: str
    path: Where
    ids: Ids
    scored: bool = False
    scores: Mapping[int, float] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The path below the folder of images, as it is on disk."""
        return "/".join(self.path.parts[-1 - self.id.count("/") :])


@dataclass(frozen=True)
class Found:
    """A mask in another tool's files, to be drawn before the next one is asked for.

    Args:
        names: what the file calls the image; the first name that is an image's counts.
        draw: makes the mask of an image (H, W), in the ids of our classes, and says what could not be drawn.
        loose: whether the tool forgets folders, so that the one image of the same last name is meant.
    """

    names: tuple[str, ...]
    draw: Callable[[Size], Drawn]
    loose: bool = False


@dataclass(frozen=True)
class Names:
    """What the other tool calls our ids.

    Args:
        classes: our classes.
        unknown: the label that stands for 255, not known; None if there is none.
    """

    classes: ClassTable
    unknown: str | None = None

    def __post_init__(self) -> None:
        if self.unknown is not None and normal(self.unknown) in ("", *BACKGROUND, *self.classes.names):
            raise SettingsError(f"--not-known {self.unknown!r}: is a class or the background; give a name of its own")

    @property
    def label(self) -> str:
        """The label of 255 in formats that always have one.

        Raises:
            SettingsError: a class has the usual label.
        """
        if self.unknown is None and IGNORED in self.classes.names:
            raise SettingsError(f"a class is called {IGNORED!r}, which is what 255 is called here; name it with --not-known")
        return self.unknown or IGNORED

    def written(self) -> dict[int, str]:
        """The name of each id that a format without 255 writes."""
        named = dict(zip(self.classes.ids, self.classes.names, strict=True))
        return named | ({IGNORE: self.unknown} if self.unknown else {})

    def id_of(self, name: str, where: str) -> int:
        """The id that a name of the other tool stands for.

        Raises:
            DataError: no class has this name.
        """
        name = normal(name)
        if name in self.classes.names:
            return self.classes.ids[self.classes.names.index(name)]
        if self.unknown is not None and name == normal(self.unknown):
            return IGNORE
        if name.lower() in BACKGROUND:
            return 0
        if name == IGNORED:
            return IGNORE
        raise DataError(
            f"{where}: no class is called {name!r:.80}; {known(name, self.classes.names)} (a label for pixels that nobody"
            " knows is named with --not-known)"
        )


@dataclass(frozen=True)
class Wishes:
    """How masks are written.

    Args:
        names: what the other tool calls our ids.
        shapes: ``masks`` or ``polygons``, for formats that have both; None is the format's own default.
        tolerance: by how many pixels polygons may differ from the outline, so that they have fewer points.
        copy_images: whether the images are copied too, by formats that are a data set with its images.
        from_name, to_name, variable: Label Studio's names of the brush, of the image, and of the image's address in a task.
        address: what stands in front of the image's name in Label Studio's address.
        model_version: what Label Studio calls these predictions.
    """

    names: Names
    shapes: str | None = None
    tolerance: float = 0.0
    copy_images: bool = True
    from_name: str = "tag"
    to_name: str = "image"
    variable: str = "image"
    address: str = "/data/local-files/?d="
    model_version: str = "advcam"


@dataclass
class Losses:
    """Counts what a format cannot hold.

    Args:
        pixels: of all masks.
        unknown: pixels 255 that the other tool takes for background.
        changed: pixels that differ when the polygons are drawn again; None if there are no polygons.
        program: what draws them again.
        unplaced: images without a place on a map, of a format that gives masks the place of their images.
    """

    pixels: int = 0
    unknown: int = 0
    changed: int | None = None
    program: str = "advcam"
    unplaced: int = 0

    def lines(self) -> list[str]:
        """Says it in a line each."""
        said = []
        if self.unknown:
            said.append(f"{self._share(self.unknown)} are 255 (not known): background there; --not-known NAME labels them")
        if self.changed is not None:
            said.append(f"{self._share(self.changed)} change when {self.program} draws the polygons again")
        if self.unplaced:
            said.append(f"{self.unplaced} images have no transform and no CRS, and so have their masks none")
        return said

    def _share(self, count: int) -> str:
        return f"{count} of {self.pixels} pixels ({count / max(1, self.pixels):.2%})"


Add = Callable[[Masked], None]
Write = Callable[[Path, Wishes, Losses], AbstractContextManager[Add]]
"""Begins an output; gives the function that adds an image to it. What the block does not complete is not left behind."""


def places(masked: Masked, written: dict[int, str], losses: Losses) -> Iterator[tuple[int, str, Place]]:
    """The pixels [H, W] of each id of a mask that is written, with its name; counts what is not written."""
    held = np.bincount(masked.ids.ravel(), minlength=IGNORE + 1)
    losses.pixels += masked.ids.size
    losses.unknown += int(held[IGNORE]) if IGNORE not in written else 0
    for number in np.flatnonzero(held).tolist():
        if number in written:
            yield number, written[number], masked.ids == number


def bounds(place: Place) -> list[int]:
    """The box [x, y, width, height] of the pixels of a region, of which there is at least one."""
    rows, columns = np.flatnonzero(place.any(1)), np.flatnonzero(place.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
