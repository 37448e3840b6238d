"""The result of :class:`~advcam.AdvCAM`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advcam.attribution import fuse_scales, normalise, strided_size
from advcam.drawn import Drawing, drawing
from advcam.errors import InputError, out_of_memory
from advcam.expect import expect_size, expect_whole
from advcam.limits import MAX_CELLS


@dataclass(frozen=True)
class Maps:
    """The AdvCAMs of M (image, class) pairs, in the order of the images.

    Args:
        maps: [M, h, w], at least 0: the sum over steps and mirror images, not normalised; on the grid of the feature map for
            one scale, at stride 4 for several. float32, or float64 where the images are.
        image: int64 [M], the row of each pair's image.
        target: int64 [M], class id.
        grids: for each scale, [M, h, w], the same sum for that scale alone, on its own grid.
        first: for each scale, [M, h, w], the map of the first step: the plain class activation map.
        size: (H, W) of the images, in pixels.
        grid: see :class:`~advcam.attribution.ClimbSettings`.
        layer: the layer and head that the maps were made from, in words.
        steps: [M, T, h, w], the map of every step as it enters the sum (capped and weighted where the settings say so), with
            ``record=True``.
        scores: [M, T, K], the score of every class at every step, with ``record=True``.
        images: [M, 3, H, W], or [M, 2, 3, H, W] (image, mirror image) with ``mirror``: the pixels after the last step, with
            ``record=True`` where pixels are climbed.

    Source: ours (a record); ``maps`` is the AdvCAM of Lee, Kim, Yoon, CVPR 2021.

    Example:
        >>> grids = (torch.tensor([[[1.0, 4.0]]]),)
        >>> maps = Maps.of(grids, (4, 8), image=torch.tensor([0]), target=torch.tensor([2]), first=grids)
        >>> maps.normalised().tolist()
        [[[0.25, 1.0]]]
    """

    maps: Float[Tensor, "m h w"]
    image: Int[Tensor, " m"]
    target: Int[Tensor, " m"]
    grids: tuple[Float[Tensor, "m _ _"], ...]
    first: tuple[Float[Tensor, "m _ _"], ...]
    size: tuple[int, int]
    grid: int = 1
    layer: str = ""
    steps: Float[Tensor, "m t h w"] | None = None
    scores: Float[Tensor, "m t k"] | None = None
    images: Tensor | None = None

    @classmethod
    def of(cls, grids: Sequence[Tensor], size: tuple[int, int], **rest: Any) -> Maps:
        """Make an object from the maps of each scale.

        Args:
            grids: for each scale, [M, h, w].
            size: (H, W) of the images, in pixels.
            rest: the other fields of the class.

        Returns:
            Maps whose ``maps`` are the sum over scales, at stride 4 if there are several.
        """
        maps = grids[0] if len(grids) == 1 else fuse_scales(grids, strided_size(size))
        return cls(maps, grids=tuple(grids), size=size, **rest)

    def __repr__(self) -> str:
        pairs, (h, w) = len(self.maps), self.maps.shape[-2:]
        return f"Maps({pairs} of {h}x{w} cells for images of {self.size[0]}x{self.size[1]}, {self.layer})"

    def _repr_html_(self) -> str:
        return drawing(self)._repr_html_()

    def plot(self, images: Any = None, names: Any = None, side: int = 160) -> Drawing:
        """Draw image, plain map and AdvCAM side by side, a row for each image and class, at most twelve rows.

        Args:
            images: what the maps were made of: a batch [N, C, H, W], or a list of tensors, arrays or PIL images. Whole
                numbers up to 255 and other numbers from 0 to 1 are shown as they are; others, such as normalised pixels, are
                stretched from each image's smallest to its largest. None draws the maps alone.
            names: the name of each class, as a list or as a dict from class id; None shows the ids.
            side: long side of each image, in pixels.

        Returns:
            A drawing that a notebook shows; ``save("maps.png")`` or ``save("maps.html")`` writes it.

        Raises:
            InputError: fewer images than the maps are of, an image of another shape, or a class without a name.
        """
        return drawing(self, images=images, names=names, side=side)

    @property
    def plain(self) -> Maps:
        """The plain class activation maps of the same views, as with ``steps=1``; nothing is recomputed."""
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        gone = ("maps", "grids", "steps", "scores", "images")
        return Maps.of(self.first, **{name: value for name, value in kept.items() if name not in gone})

    def normalised(self, size: tuple[int, int] | None = None) -> Float[Tensor, "m y x"]:
        """Each map divided by its own maximum; a map of zeros stays zeros.

        Args:
            size: (H, W) to resize to first, from each scale's own grid; None leaves them on the grid of ``maps``.

        Returns:
            [M, H, W] in [0, 1].

        Raises:
            InputError: a size that is not (H, W), or maps larger than memory.
        """
        if size is None:
            return normalise(self.maps)
        height, width = expect_size(size, most=MAX_CELLS // max(1, len(self.maps)))
        full = (height, width) == tuple(self.size)
        try:
            return normalise(fuse_scales(self.grids, (height, width), self.grid if full else 1))
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise InputError(
                f"not enough memory for {len(self.maps)} maps of {height}x{width}: give a smaller size, or take the maps of"
                " fewer images at once, of_image(row)"
            ) from error

    def of_image(self, row: int) -> Maps:
        """The pairs of one image, as if it had been the only one.

        Args:
            row: of the image, from 0; one without a pair gives no maps.

        Returns:
            Maps with ``image`` all 0.

        Raises:
            InputError: a row that is not a whole number of at least 0.
        """
        row = expect_whole(row, "row", 0)
        mine = (self.image == row).nonzero()[:, 0]

        def pick(value: object) -> object:
            if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
                return tuple(part[mine] for part in value)
            return value[mine] if isinstance(value, Tensor) else value

        kept = {f.name: pick(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return Maps(**(kept | {"image": torch.zeros_like(self.image[mine])}))  # type: ignore[arg-type]


def no_maps(size: tuple[int, int], like: Tensor) -> Maps:
    """The result of an image without any class."""
    none = torch.zeros(0, *strided_size(size), device=like.device)
    pairs = torch.zeros(0, dtype=torch.long, device=like.device)
    return Maps.of((none,), size, image=pairs, target=pairs, first=(none,))
