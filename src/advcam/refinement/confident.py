"""What a map is sure of: labels that a network may learn from, 255 where nothing is sure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_number, expect_tensor, expect_whole
from advcam.limits import IGNORE

from .crf import dense_crf
from .unary import unary_from_labels


def confident_labels(
    image: UInt8[Tensor, "3 y x"],
    maps: Float[Tensor, "k y x"],
    classes: Sequence[int],
    foreground: float = 0.35,
    background: float = 0.15,
    certainty: float = 0.7,
) -> UInt8[Tensor, "y x"]:
    """IRN's: a class where even a high threshold finds it, background where even a low one finds none, else 255.

    ``argmax [t | maps]``, cleaned by a dense CRF (Gaussian 3, compatibility 3; bilateral 50 and 5, compatibility 10; ten
    iterations), once with each threshold.

    Args:
        image: uint8 [3, H, W].
        maps: [k, H, W] in [0, 1], at least one.
        classes: the k class ids, 1 to 254.
        foreground: the high threshold; IRN 0.30, AdvCAM 0.35.
        background: the low threshold; IRN 0.05, AdvCAM 0.15.
        certainty: probability of the label that the CRF is given.

    Returns:
        uint8 [H, W]: class ids, 0 and 255.

    Raises:
        InputError: no maps, maps of another size than the image, or thresholds out of order.

    Source: Ahn, Cho, Kwak, CVPR 2019, section 4.3.1; jiwoon-ahn/irn, ``step/cam_to_ir_label.py``.
    """
    classes = _check(image, maps, classes)
    foreground, background = expect_number(foreground, "foreground"), expect_number(background, "background")
    if not 0 <= background <= foreground <= 1:
        raise InputError(f"expected 0 <= background <= foreground <= 1, got background {background}, foreground {foreground}")
    seeds = torch.stack([torch.cat([maps.new_full((1, *maps.shape[1:]), t), maps]).argmax(0) for t in (foreground, background)])
    unary = unary_from_labels(seeds, len(classes) + 1, certainty)
    cleaned = dense_crf(image[None], unary, 10, gaussian=(3, 3), bilateral=(50, 5, 10)).argmax(1)
    return agreed(cleaned[0], cleaned[1], classes)


def confident_affinity_labels(
    image: UInt8[Tensor, "3 y x"],
    maps: Float[Tensor, "k y x"],
    classes: Sequence[int],
    foreground: float = 4,
    background: float = 32,
) -> UInt8[Tensor, "y x"]:
    """PSA's: as :func:`confident_labels`, of probabilities ``[(1 - max map)^alpha | maps]``, for a low alpha and a high one.

    The CRF: Gaussian 3, compatibility 3; bilateral 80 and 13, compatibility 10; ten iterations.

    Args:
        image: uint8 [3, H, W].
        maps: [k, H, W] in [0, 1], at least one.
        classes: the k class ids, 1 to 254.
        foreground: the low alpha, with which background is likely everywhere: what stays a class is one.
        background: the high alpha, with which only what no map shows is background.

    Returns:
        uint8 [H, W]: class ids, 0 and 255.

    Raises:
        InputError: no maps, maps of another size than the image, or alphas out of order.

    Source: Ahn & Kwak, CVPR 2018, section 3.2; jiwoon-ahn/psa, ``voc12/data.py``.
    """
    classes = _check(image, maps, classes)
    foreground, background = expect_number(foreground, "foreground"), expect_number(background, "background")
    if not 0 < foreground <= background:
        raise InputError(
            f"expected 0 < foreground <= background (powers), got foreground {foreground}, background {background}"
        )
    rest = 1 - maps.amax(0, keepdim=True).clamp(0, 1)
    scores = torch.stack([torch.cat([rest**alpha, maps]) for alpha in (foreground, background)])
    unary = -scores.clamp_min(1e-5).log()  # not divided by their sum: a constant of a pixel changes no marginal
    found = dense_crf(image[None], unary, 10, gaussian=(3, 3), bilateral=(80, 13, 10)).argmax(1)
    return agreed(found[0], found[1], classes)


def agreed(foreground: Int[Tensor, "y x"], background: Int[Tensor, "y x"], classes: Sequence[int]) -> UInt8[Tensor, "y x"]:
    """The class where the first labelling has one, 0 where both have background, 255 elsewhere; labels are positions 0 to k."""
    ids = torch.tensor([0, *classes], dtype=torch.uint8, device=foreground.device)[foreground]
    return torch.where((foreground == 0) & (background != 0), IGNORE, ids)


def _check(image: Tensor, maps: Tensor, classes: Sequence[int]) -> list[int]:
    """The class ids.

    Raises: an image or maps that are none, of different size, or NaN; another number of ids, or ids outside 1 to 254.
    """
    expect_tensor(image, "image", "numbers", "c y x")
    expect_tensor(maps, "maps", "float", "k y x", finite=True, beside=image)
    classes = [expect_whole(c, "a class id", 1, IGNORE - 1) for c in expect_list(classes, "classes")]
    if not len(maps):
        raise InputError("an image without a class has no map to be sure of: its label is background, or it is left out")
    if len(classes) != len(maps):
        raise InputError(f"{len(maps)} maps need as many class ids, got {len(classes)}")
    if image.shape[1:] != maps.shape[1:]:
        raise InputError(f"the image is {tuple(image.shape[1:])}, the maps {tuple(maps.shape[1:])}; bring them to one size")
    return classes
