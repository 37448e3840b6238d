"""What a user gives, checked: images, and the classes to look at in each."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

from advcam.errors import InputError

Targets = Sequence[Sequence[int]] | Tensor | None


def check_images(images: object, bounds: tuple[float, float] | None) -> Tensor:
    """The images, if they are what they must be.

    Raises:
        InputError: another form, no image, pixels that are not finite or outside the bounds.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        came = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(
            "images must be a float tensor [N, 3, H, W], normalised as the model wants it, or a list of such [3, H, W];"
            f" got {came}"
        )
    if not images.numel():
        raise InputError(f"images must hold at least one image of at least one pixel; got none: {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        raise InputError("images hold NaN or infinite pixels; look at how they were normalised")
    if bounds is not None and (images.min() < bounds[0] or images.max() > bounds[1]):
        raise InputError(
            f"images have values from {images.min():.4g} to {images.max():.4g}, outside the bounds {bounds} that were set:"
            " give the bounds of normalised pixels, or none (then each climb keeps to its own image's range)"
        )
    return images


def check_list(images: Sequence[object]) -> list[Tensor]:
    """Images of several sizes, each [3, H, W].

    Raises:
        InputError: an entry of another form.
    """
    for at, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3:
            came = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise InputError(f"images as a list must be float tensors [3, H, W], one an image; entry {at} is {came}")
    return list(images)  # type: ignore[arg-type]


def as_lists(targets: Sequence[Sequence[int]] | Tensor, images: int, classes: int) -> list[list[int]]:
    """The class ids of each image, of lists of ids or of a 0/1 table (a tensor, or a two-dimensional array).

    Raises:
        InputError: another form, another number of images, or a class that the model does not have.
    """
    if not isinstance(targets, Tensor) and getattr(targets, "ndim", 0) == 2:
        targets = torch.as_tensor(targets)
    if isinstance(targets, Tensor):
        if targets.ndim != 2 or targets.shape[1] != classes or not ((targets == 0) | (targets == 1)).all():
            raise InputError(
                f"targets as a tensor must be 0/1 [N, {classes}]; got {tuple(targets.shape)}."
                " Class ids go in lists, e.g. [[0, 2], [1]]"
            )
        lists = [row.nonzero()[:, 0].tolist() for row in targets]
    else:
        try:
            lists = [[_id(name) for name in names] for names in targets]
        except TypeError:
            raise InputError(
                f"targets must be a list of class ids for each image, e.g. [[0, 2], [1]]; got {targets!r}"
            ) from None
    if len(lists) != images:
        raise InputError(f"targets must name the classes of each of the {images} images; got {len(lists)} of them")
    for row, names in enumerate(lists):
        for c in names:
            if not 0 <= c < classes:
                raise InputError(f"image {row}: class id {c} is out of range; the model has classes 0 to {classes - 1}")
    return lists


def _id(name: object) -> int:
    if isinstance(name, bool):
        raise TypeError("True and False are entries of a table, not class ids")
    return index(name)  # type: ignore[arg-type]


def pairs(lists: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and class of every pair, [M] each.

    Raises:
        InputError: no class at all.
    """
    found = [(row, c) for row, names in enumerate(lists) for c in names]
    if not found:
        raise InputError("targets name no class at all: expected at least one class of one image")
    rows, ids = zip(*found, strict=True)
    return torch.tensor(rows, device=device), torch.tensor(ids, device=device)
