"""Mirror images and scales: how an image becomes views, and how their maps become one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import describe, expect_list, expect_number, expect_size, expect_tensor, expect_whole
from advcam.limits import MAX_CELLS


def make_views(images: Float[Tensor, "n 3 y x"], scale: float, mirror: bool) -> Float[Tensor, "n v 3 h w"]:
    """The images at a scale (bilinear, sizes rounded, at least 1), and their mirror images as a second view.

    Raises:
        InputError: images that are none, or a scale that is no factor up to 16.
    """
    expect_tensor(images, "images", "float", "n 3 y x")
    scale = expect_number(scale, "scale", 1e-9, 16)
    if 0 in images.shape or not isinstance(mirror, bool):
        raise InputError(f"images {tuple(images.shape)}, mirror {describe(mirror)}: expected a pixel, and True or False")
    if scale != 1:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return torch.stack([images, images.flip(-1)], 1) if mirror else images[:, None]


def add_views(maps: Float[Tensor, "c v h w"]) -> Float[Tensor, "c h w"]:
    """A map and its mirror image's, turned back and added; of one view, the map itself.

    Raises:
        InputError: maps of another form, or of more than two views.
    """
    expect_tensor(maps, "maps", "float", "c v h w")
    if maps.shape[1] not in (1, 2):
        raise InputError(f"maps {tuple(maps.shape)}: expected [c, v, h, w] of an image, or of it and its mirror image")
    return maps[:, 0] if maps.shape[1] == 1 else maps[:, 0] + maps[:, 1].flip(-1)


def strided_size(size: tuple[int, int], stride: int = 4) -> tuple[int, int]:
    """The grid of an image at a stride: ``(ceil(H / stride), ceil(W / stride))``.

    Raises:
        InputError: a size that is no (H, W), or a stride below 1.
    """
    size, stride = expect_size(size, most=MAX_CELLS), expect_whole(stride, "stride", 1)
    return -(-size[0] // stride), -(-size[1] // stride)


def fuse_scales(maps: Sequence[Float[Tensor, "c _ _"]], size: tuple[int, int], grid: int = 1) -> Float[Tensor, "c y x"]:
    """Maps of several grids resized to one size (bilinear) and summed.

    With ``grid`` > 1 they are resized to the next multiple of it and cut, as the published code does at full size.

    Raises:
        InputError: no maps, maps of another form or number, a size that is no (H, W), a grid out of range.
    """
    size, grid = expect_size(size, most=MAX_CELLS), expect_whole(grid, "grid", 1, 256)
    maps = expect_list(maps, "maps")
    for m in maps:
        expect_tensor(m, "maps of a scale", "float", "c y x", beside=maps[0])
    if len({len(m) for m in maps}) != 1 or not all(m.shape[1] and m.shape[2] for m in maps):
        raise InputError(
            f"maps {[tuple(m.shape) for m in maps]}: expected [c, y, x] of at least one scale, as many maps at each"
        )
    enlarged = [-(-side // grid) * grid for side in size]
    resized = [F.interpolate(m[:, None], size=enlarged, mode="bilinear", align_corners=False)[:, 0] for m in maps]
    return torch.stack(resized).sum(0)[:, : size[0], : size[1]]


def normalise(maps: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Each map divided by its own maximum; a map of zeros stays zeros.

    Raises:
        InputError: maps of another form, or without a cell.
    """
    expect_tensor(maps, "maps", "float", "c h w")
    if not (maps.shape[1] and maps.shape[2]):
        raise InputError(f"maps {tuple(maps.shape)}: expected [c, h, w] of at least one cell")
    peak = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(peak > 0, peak, 1)
