"""Confident labels made of maps, for a network to learn from; 255 (ignored) where maps are not confident."""

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
    image: UInt8[Tensor, "b y x"],
    maps: Float[Tensor, "k y x"],
    classes: Sequence[int],
    foreground: float = 0.35,
    background: float = 0.15,
    certainty: float = 0.7,
) -> UInt8[Tensor, "y x"]:
    """IRN's labels to train on: a class or background where a CRF finds it with both of two thresholds, 255 elsewhere.

    ``argmax [t | maps]``, refined by a dense CRF (Gaussian 3, compatibility 3; bilateral 50 and 5, compatibility 10; ten
    iterations), once for each background threshold t: a class where the high threshold gives it, background where the low one
    does.

    Args:
        image: uint8 [C, H, W].
        maps: float [k, H, W] in [0, 1], at least one.
        classes: the k class ids, 1 to 254.
        foreground: the high threshold, in [0, 1]; IRN 0.30, AdvCAM 0.35.
        background: the low threshold, in [0, 1]; IRN 0.05, AdvCAM 0.15.
        certainty: probability of the label that the CRF is given, above 1 / (k + 1) and below 1.

    Returns:
        uint8 [H, W]: class ids, 0 and 255.

    Raises:
        InputError: no maps, maps of another size than the image, or thresholds out of order.

    Source: Ahn, Cho, Kwak, CVPR 2019, section 4.3.1; jiwoon-ahn/irn, ``step/cam_to_ir_label.py``.

    Example:
        >>> image = torch.tensor([0, 0, 100, 200, 200], dtype=torch.uint8).expand(3, 1, 5)
        >>> confident_labels(image, torch.tensor([[[0.0, 0.0, 0.2, 0.9, 0.9]]]), [7]).tolist()
        [[0, 0, 255, 7, 7]]
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
    image: UInt8[Tensor, "b y x"],
    maps: Float[Tensor, "k y x"],
    classes: Sequence[int],
    foreground: float = 4,
    background: float = 32,
) -> UInt8[Tensor, "y x"]:
    """PSA's labels to train on: as :func:`confident_labels`, with a background score ``(1 - max map)^alpha`` for two alphas.

    The CRF is applied to ``[(1 - max map)^alpha | maps]``: Gaussian 3, compatibility 3; bilateral 80 and 13, compatibility 10;
    ten iterations. A class where the low alpha gives it, background where the high one does, else 255.

    Args:
        image: uint8 [C, H, W].
        maps: float [k, H, W] in [0, 1], at least one.
        classes: the k class ids, 1 to 254.
        foreground: the low alpha, above 0: background scores are high, so only strong maps win.
        background: the high alpha, at least ``foreground``: background scores are low, so it wins where all maps are near 0.

    Returns:
        uint8 [H, W]: class ids, 0 and 255.

    Raises:
        InputError: no maps, maps of another size than the image, or alphas out of order.

    Source: Ahn & Kwak, CVPR 2018, section 3.2; jiwoon-ahn/psa, ``infer_cls.py``, ``voc12/data.py``. A class by the low alpha
    counts even where the high one gives background: ours.

    Example:
        >>> image = torch.tensor([0, 0, 100, 200, 200], dtype=torch.uint8).expand(3, 1, 5)
        >>> confident_affinity_labels(image, torch.tensor([[[0.0, 0.0, 0.1, 0.9, 0.9]]]), [7]).tolist()
        [[0, 0, 255, 7, 7]]
    """
    classes = _check(image, maps, classes)
    foreground, background = expect_number(foreground, "foreground"), expect_number(background, "background")
    if not 0 < foreground <= background:
        raise InputError(
            f"expected 0 < foreground <= background (powers), got foreground {foreground}, background {background}"
        )
    rest = 1 - maps.amax(0, keepdim=True).clamp(0, 1)
    scores = torch.stack([torch.cat([rest**alpha, maps]) for alpha in (foreground, background)])
    unary = -scores.clamp_min(1e-5).log()  # not normalised: a constant added to all labels of a pixel changes no marginal
    found = dense_crf(image[None], unary, 10, gaussian=(3, 3), bilateral=(80, 13, 10)).argmax(1)
    return agreed(found[0], found[1], classes)


def agreed(foreground: Int[Tensor, "y x"], background: Int[Tensor, "y x"], classes: Sequence[int]) -> UInt8[Tensor, "y x"]:
    """The class that ``foreground`` gives, 0 where both give background, 255 elsewhere; labels are positions 0 to k."""
    ids = torch.tensor([0, *classes], dtype=torch.uint8, device=foreground.device)[foreground]
    return torch.where((foreground == 0) & (background != 0), IGNORE, ids)


def _check(image: Tensor, maps: Tensor, classes: Sequence[int]) -> list[int]:
    """Check the arguments; return the class ids as a list of int.

    Raises:
        InputError: an image or maps of another form, of different size, or NaN; another number of ids, or ids outside 1 to 254.
    """
    expect_tensor(image, "image", "numbers", "c y x")
    expect_tensor(maps, "maps", "float", "k y x", finite=True, beside=image)
    classes = [expect_whole(c, "a class id", 1, IGNORE - 1) for c in expect_list(classes, "classes")]
    if not len(maps):
        raise InputError("expected at least one map, got none: an image without a class is all background, or is left out")
    if len(classes) != len(maps):
        raise InputError(f"{len(maps)} maps need as many class ids, got {len(classes)}")
    if image.shape[1:] != maps.shape[1:]:
        raise InputError(f"the image is {tuple(image.shape[1:])}, the maps {tuple(maps.shape[1:])}; bring them to one size")
    return classes
