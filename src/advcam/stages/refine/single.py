"""Refinements that need only the image and its maps: threshold, PAMR, dense CRF."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL.Image import Image
from torch import Tensor

from advcam.refinement import argmax_mask, dense_crf, pamr, unary_from_labels

from .settings import Crf, Pamr, Threshold


class Instances(NamedTuple):
    """The objects found in an image, by descending score: masks bool [j, H, W], class ids and scores."""

    masks: Tensor
    classes: tuple[int, ...]
    scores: tuple[float, ...]


class Found(NamedTuple):
    """Refined maps of an image; the label of a pixel is the argmax of ``[threshold | maps]``.

    Args:
        maps: [m, h, w], on any grid.
        ids: the label of each map; the threshold's is 0.
        threshold: background threshold; negative if one of the maps is the background's.
        instances: the objects, if the method finds objects.
    """

    maps: Float[Tensor, "m h w"]
    ids: tuple[int, ...]
    threshold: float
    instances: Instances | None = None


Refiner = Callable[[Image, Float[Tensor, "k h w"], tuple[int, ...]], Found]
"""A function from image (at working size), maps and their class ids to refined maps, on the device of the maps."""

NO_THRESHOLD = -1.0


def pixels(image: Image, like: Tensor) -> UInt8[Tensor, "b y x"]:
    """Returns the image's pixels on the device of another tensor."""
    return torch.from_numpy(np.array(image)).to(like.device).permute(2, 0, 1)


def resize(maps: Float[Tensor, "k h w"], size: tuple[int, int]) -> Float[Tensor, "k y x"]:
    """Resizes maps (bilinear)."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def by_threshold(settings: Threshold) -> Refiner:
    """Returns the threshold method: the maps unchanged."""
    return lambda image, maps, ids: Found(resize(maps, (image.height, image.width)), ids, settings.background)


def along_edges(image: Image, maps: Float[Tensor, "k h w"], iterations: int) -> Float[Tensor, "k y x"]:
    """Returns the maps at the image's size, refined to its edges by PAMR."""
    full = resize(maps, (image.height, image.width))
    refined: Tensor = pamr(pixels(image, maps)[None].float(), full[None], iterations)[0]
    return refined


def by_pamr(settings: Pamr) -> Refiner:
    """Returns PAMR: refines the maps to the image's edges."""
    return lambda image, maps, ids: Found(along_edges(image, maps, settings.iterations), ids, settings.background)


def by_crf(settings: Crf) -> Refiner:
    """Returns the CRF method: the marginals of a dense CRF on the thresholded maps, background included."""

    def refine(image: Image, maps: Tensor, ids: tuple[int, ...]) -> Found:
        full = resize(maps, (image.height, image.width))
        seeds = argmax_mask(full, range(1, len(ids) + 1), settings.background)[None].long()
        unary = unary_from_labels(seeds, len(ids) + 1, settings.certainty)
        marginals = dense_crf(pixels(image, maps)[None], unary, settings.iterations, settings.gaussian, settings.bilateral)
        return Found(marginals[0], (0, *ids), NO_THRESHOLD)

    return refine
