"""Views of an image (mirror image, scales), and how their maps are combined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import describe, expect_list, expect_number, expect_size, expect_tensor, expect_whole
from advcam.limits import MAX_CELLS


def make_views(images: Float[Tensor, "n b y x"], scale: float, mirror: bool) -> Float[Tensor, "n v b h w"]:
    """Resize images by a factor (bilinear, sides rounded, at least 1 pixel) and add their mirror images as a second view.

    Args:
        images: float [N, C, H, W].
        scale: factor, above 0 and up to 16.
        mirror: whether to add the mirror images.

    Returns:
        [N, V, C, round(scale H), round(scale W)], V = 2 with mirror images, else 1; within the range of ``images``.

    Raises:
        InputError: images of another form or without a pixel, or a scale out of range.

    Source: jbeomlee93/AdvCAM (image and mirror image, scales 0.5 to 2); checked against ``parity/climb.npz``.

    Example:
        >>> make_views(torch.zeros(1, 3, 4, 6), scale=0.5, mirror=True).shape
        torch.Size([1, 2, 3, 2, 3])
    """
    expect_tensor(images, "images", "float", "n b y x")
    scale = expect_number(scale, "scale", 1e-9, 16)
    if 0 in images.shape or not isinstance(mirror, bool):
        raise InputError(
            f"images {tuple(images.shape)}, mirror {describe(mirror)}: expected at least one pixel, and mirror True or False"
        )
    if scale != 1:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return torch.stack([images, images.flip(-1)], 1) if mirror else images[:, None]


def add_views(maps: Float[Tensor, "c v h w"]) -> Float[Tensor, "c h w"]:
    """Sum the map of an image and the map of its mirror image, the latter mirrored back; a single view stays as it is.

    Args:
        maps: float [C, V, h, w], V = 1 (image) or 2 (image, mirror image).

    Returns:
        [C, h, w].

    Raises:
        InputError: maps of another form, or of more than two views.

    Source: jbeomlee93/AdvCAM, whose map is that of the image plus the mirrored-back one of its mirror image.

    Example:
        >>> add_views(torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])).tolist()
        [[[3.0, 0.0]]]
    """
    expect_tensor(maps, "maps", "float", "c v h w")
    if maps.shape[1] not in (1, 2):
        raise InputError(f"maps {tuple(maps.shape)}: expected [c, v, h, w], v = 1 (image) or 2 (image, mirror image)")
    return maps[:, 0] if maps.shape[1] == 1 else maps[:, 0] + maps[:, 1].flip(-1)


def strided_size(size: tuple[int, int], stride: int = 4) -> tuple[int, int]:
    """The size of an image's grid at a stride: ``(ceil(H / stride), ceil(W / stride))``.

    Args:
        size: (H, W) in pixels.
        stride: pixels between cells, at least 1.

    Returns:
        (h, w) in cells.

    Raises:
        InputError: a size that is no (H, W), or a stride below 1.

    Source: jbeomlee93/AdvCAM, whose maps are at stride 4.

    Example:
        >>> strided_size((375, 500))
        (94, 125)
    """
    size, stride = expect_size(size, most=MAX_CELLS), expect_whole(stride, "stride", 1)
    return -(-size[0] // stride), -(-size[1] // stride)


def fuse_scales(maps: Sequence[Float[Tensor, "c _ _"]], size: tuple[int, int], grid: int = 1) -> Float[Tensor, "c y x"]:
    """Resize the maps of several scales to one size (bilinear) and sum them.

    Args:
        maps: for each scale, float [C, h, w].
        size: (H, W) of the result.
        grid: 1 resizes to ``size`` itself; above 1 (up to 256), to the next multiple of ``grid``, and cuts what is too much.

    Returns:
        [C, H, W].

    Raises:
        InputError: no maps, maps of another form or number, a size that is no (H, W), a grid out of range.

    Source: jbeomlee93/AdvCAM; ``get_strided_up_size`` for the multiple of 16 (preset ``official``, at full size).

    Example:
        >>> fuse_scales([torch.ones(1, 1, 2), torch.full((1, 2, 3), 2.0)], size=(2, 2)).tolist()
        [[[3.0, 3.0], [3.0, 3.0]]]
    """
    size, grid = expect_size(size, most=MAX_CELLS), expect_whole(grid, "grid", 1, 256)
    maps = expect_list(maps, "maps")
    for m in maps:
        expect_tensor(m, "maps of a scale", "float", "c y x", beside=maps[0])
    if len({len(m) for m in maps}) != 1 or not all(m.shape[1] and m.shape[2] for m in maps):
        raise InputError(
            f"maps {[tuple(m.shape) for m in maps]}: expected [c, y, x] for at least one scale, with the same c at each"
        )
    enlarged = [-(-side // grid) * grid for side in size]
    resized = [F.interpolate(m[:, None], size=enlarged, mode="bilinear", align_corners=False)[:, 0] for m in maps]
    return torch.stack(resized).sum(0)[:, : size[0], : size[1]]


def normalise(maps: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Divide each map by its own maximum: ``A / max A``; a map of zeros stays zeros.

    Args:
        maps: float [C, h, w], at least 0.

    Returns:
        [C, h, w] in [0, 1].

    Raises:
        InputError: maps of another form, or without a cell.

    Source: jbeomlee93/AdvCAM, which adds 1e-5 to the maximum; the exact maximum is ours.

    Example:
        >>> normalise(torch.tensor([[[1.0, 4.0]], [[0.0, 0.0]]])).tolist()
        [[[0.25, 1.0]], [[0.0, 0.0]]]
    """
    expect_tensor(maps, "maps", "float", "c h w")
    if not (maps.shape[1] and maps.shape[2]):
        raise InputError(f"maps {tuple(maps.shape)}: expected [c, h, w] of at least one cell")
    peak = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(peak > 0, peak, 1)
