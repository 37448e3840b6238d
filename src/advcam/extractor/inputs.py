"""Checks of what a user passes: images, and the classes of each."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, TypeGuard

import torch
from torch import Tensor

from advcam.attribution import ClimbSettings, settings
from advcam.errors import AdvcamError, InputError, SettingsError
from advcam.expect import describe
from advcam.models import describe_error, describe_value

_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
Targets = Sequence[Sequence[int]] | Tensor | None


def check_images(images: object, bounds: tuple[float, float] | None) -> Tensor:
    """The images, checked to be finite floats [N, C, H, W] within the bounds.

    Raises:
        InputError: another shape or type, no image, pixels that are not finite or outside the bounds.
    """
    form = "float tensor [N, C, H, W] (C is 3 for RGB), normalised as the model wants it, or a list of such [C, H, W]"
    if not _dense(images) or images.ndim != 4 or not images.is_floating_point():
        raise InputError(f"images must be a {form}; got {_came(images)}")
    if images.is_meta:
        raise InputError("images are on the meta device, where there are no pixels: give them on the device of the model")
    if images.dtype not in _TYPES:
        raise InputError(f"images are {images.dtype}, which networks do not compute in: convert them, images.float()")
    if not images.numel():
        raise InputError(f"images must hold at least one image of at least one pixel; got none: {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        raise InputError("images hold NaN or infinite pixels; check how they were normalised")
    if bounds is not None and (images.min() < bounds[0] or images.max() > bounds[1]):
        raise InputError(
            f"images have values from {images.min():.4g} to {images.max():.4g}, outside the bounds {bounds}:"
            " give the bounds of normalised pixels, or none (then each climb stays within its own image's range)"
        )
    return images


def check_list(images: Sequence[object]) -> list[Tensor]:
    """Images of several sizes, each [C, H, W].

    Raises:
        InputError: an entry of another shape or type.
    """
    for at, image in enumerate(images):
        if not _dense(image) or image.ndim != 3:
            raise InputError(f"images as a list must be float tensors [C, H, W], one an image; entry {at} is {_came(image)}")
        if (image.dtype, image.device) != (images[0].dtype, images[0].device):  # type: ignore[attr-defined]
            raise InputError(
                f"images in a list must be of one type and on one device; entry 0 is {_came(images[0])}, entry {at}"
                f" {_came(image)}. Convert them, e.g. image.to(images[0])"
            )
    return list(images)  # type: ignore[arg-type]


def _dense(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested


def _came(value: object) -> str:
    if not _dense(value):
        return f"a {value.layout} tensor" if isinstance(value, Tensor) else type(value).__name__
    return f"{value.dtype} {tuple(value.shape)}" + (f" on {value.device}" if value.device.type != "cpu" else "")


def as_lists(targets: Sequence[Sequence[int]] | Tensor, images: int, classes: int) -> list[list[int]]:
    """The class ids of each image, from lists of ids or a 0/1 table (a tensor, or a two-dimensional array).

    Raises:
        InputError: another type, another number of images, or a class that the model does not have.
    """
    try:
        if not isinstance(targets, Tensor) and getattr(targets, "ndim", 0) == 2:
            targets = torch.as_tensor(targets)
        is_table = isinstance(targets, Tensor) and targets.ndim == 2 and targets.shape[1] == classes
        if isinstance(targets, Tensor) and not (is_table and ((targets == 0) | (targets == 1)).all()):
            raise InputError(
                f"targets as a tensor must be 0/1 [N, {classes}]; got {tuple(targets.shape)}."
                " Class ids go in lists, e.g. [[0, 2], [1]]"
            )
        if isinstance(targets, Tensor):
            lists = [row.nonzero()[:, 0].tolist() for row in targets]
        else:
            lists = [[_id(name, row, classes) for name in names] for row, names in enumerate(targets)]
    except InputError:
        raise
    except Exception:  # foreign objects may raise anything
        raise InputError(
            f"targets must be a list of class ids for each image, e.g. [[0, 2], [1]]; got {describe_value(targets)}"
        ) from None
    if len(lists) != images:
        raise InputError(f"targets must name the classes of each of the {images} images; got {len(lists)} of them")
    return lists


def _id(name: object, row: int, classes: int) -> int:
    if isinstance(name, bool):
        raise TypeError("True and False are entries of a table, not class ids")
    if not 0 <= (c := index(name)) < classes:  # type: ignore[arg-type]
        raise InputError(f"image {row}: class id {describe(c)} is out of range; the model has classes 0 to {classes - 1}")
    return c


def check_flag(name: str, value: object) -> bool:
    """The truth value of an argument.

    Raises:
        InputError: an array of several values.
    """
    try:
        return bool(value)
    except Exception:  # arrays and tensors of several values
        raise InputError(f"{name} is True or False; got {describe_value(value)}") from None


def flatten_targets(lists: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Row and class of every pair, [M] each, and the rows as numbers.

    Raises:
        InputError: no class at all.
    """
    found = [(row, c) for row, names in enumerate(lists) for c in names]
    if not found:
        raise InputError("targets name no class at all: expected at least one class of one image")
    rows, ids = zip(*found, strict=True)
    return torch.tensor(rows, device=device), torch.tensor(ids, device=device), rows


def check_scales(images: Tensor, scales: tuple[float, ...]) -> None:
    """Checks that no scale leaves less than a pixel of the images [N, C, H, W].

    Raises:
        InputError: a scale that does.
    """
    least = 1 / min(images.shape[2:])
    if min(scales) < least:
        raise InputError(
            f"scales {scales} leave less than a pixel of images of {images.shape[2]}x{images.shape[3]}: give larger images, or"
            f" scales of at least {least:.3g}"
        )


def read_settings(preset: str, changes: dict[str, Any]) -> ClimbSettings:
    """A preset's settings with some of them changed.

    Raises:
        SettingsError: as :func:`advcam.attribution.settings`, also for values that cannot be compared.
    """
    try:
        return settings(preset, **changes)
    except AdvcamError:
        raise
    except Exception as error:  # arrays and other objects that cannot be compared
        came = ", ".join(f"{name}={describe_value(value)}" for name, value in {"preset": preset, **changes}.items())
        raise SettingsError(
            f"preset must be the name of one and settings plain numbers, words or tuples ({describe_error(error)}); got {came}"
        ) from error
