"""The unary term of a dense CRF, -log probability, from labels or from probabilities."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_number, expect_tensor, expect_whole
from advcam.limits import IGNORE, MAX_COSTS


def unary_from_labels(
    labels: Int[Tensor, "n y x"], num_classes: int, certainty: float = 0.7, ignore: int = IGNORE
) -> Float[Tensor, "n l y x"]:
    """Costs of hard labels for a CRF.

    ``-log(certainty)`` for the given label, ``-log((1 - certainty) / (L - 1))`` for each other label.

    Args:
        labels: integers [N, H, W], 0 to num_classes - 1 or ``ignore``.
        num_classes: L, background included, at least 2.
        certainty: probability that a label is right (gt_prob), above 1 / L and below 1.
        ignore: the label of unknown pixels, whose cost is ``-log(1 / L)`` for all labels.

    Returns:
        float32 [N, L, H, W], above 0, for :func:`dense_crf`.

    Raises:
        InputError: labels that are not integers or not among the classes, fewer than 2 classes, more numbers than fit in
            memory, certainty out of range.

    Source: pydensecrf, ``unary_from_labels``; 0.7 is IRN's gt_prob.

    Example:
        >>> probabilities = (-unary_from_labels(torch.tensor([[[0, 255]]]), num_classes=2)).exp()
        >>> [[round(p, 2) for p in label.flatten().tolist()] for label in probabilities[0]]
        [[0.7, 0.5], [0.3, 0.5]]
    """
    expect_tensor(labels, "labels", "numbers")
    num_classes, ignore = expect_whole(num_classes, "num_classes"), expect_whole(ignore, "ignore")
    certainty = expect_number(certainty, "certainty")
    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"expected integer labels [N, H, W], got {labels.dtype} {tuple(labels.shape)}; give class ids, one per pixel"
        )
    if labels.numel() * max(num_classes, 1) > MAX_COSTS:
        raise InputError(f"{num_classes:,} classes of {labels.numel():,} pixels: expected at most {MAX_COSTS:,} numbers in all")
    if num_classes < 2:
        raise InputError(f"expected at least 2 classes, got {num_classes}; background counts as one")
    if not 1 / num_classes < certainty < 1:
        raise InputError(f"expected certainty above chance, 1/{num_classes}, and below 1, got {certainty}; 0.7 is usual")
    labels = labels.long()
    unsure = labels == ignore
    if bool(((labels < 0) | (labels >= num_classes)).logical_and_(~unsure).any()):
        there = labels[~unsure]
        raise InputError(
            f"expected labels 0 to {num_classes - 1} or {ignore} (ignored), got {int(there.min())} to {int(there.max())}; "
            "set num_classes to the largest label + 1, or ignore to the label of unknown pixels"
        )
    others = -math.log((1 - certainty) / (num_classes - 1))
    unary = torch.full((len(labels), num_classes, *labels.shape[1:]), others, device=labels.device)
    unary.scatter_(1, labels.masked_fill(unsure, 0)[:, None], -math.log(certainty))
    return unary.masked_fill_(unsure[:, None], math.log(num_classes))


def unary_from_probabilities(probabilities: Float[Tensor, "n l y x"], floor: float = 1e-5) -> Float[Tensor, "n l y x"]:
    """Costs of probabilities for a CRF: ``-log(max(p, floor))``.

    Args:
        probabilities: float [N, L, H, W], at least 0, summing to 1 over L (within 0.001), such as a softmax of logits.
        floor: the least probability that counts, 1e-30 to 1, so that no label is impossible.

    Returns:
        [N, L, H, W], 0 to -log(floor), for :func:`dense_crf`; float64 for float64, else float32.

    Raises:
        InputError: probabilities that are negative, NaN, or do not sum to 1; a floor of 0.

    Source: ours; the unary of :func:`dense_crf` is -log probability.

    Example:
        >>> p = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
        >>> [round(cost, 3) for cost in unary_from_probabilities(p).flatten().tolist()]
        [0.693, 0.693]
    """
    expect_tensor(probabilities, "probabilities", "numbers")
    floor = expect_number(floor, "floor", 1e-30, 1)
    if probabilities.ndim != 4 or not probabilities.is_floating_point():
        raise InputError(f"expected float probabilities [N, L, H, W], got {probabilities.dtype} {tuple(probabilities.shape)}")
    p = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    if not bool((p >= 0).all()):
        raise InputError("expected probabilities in [0, 1], got negative numbers or NaN; apply softmax to logits first")
    if p.numel() and not bool(((error := (p.sum(1) - 1).abs()) <= 1e-3).all()):
        raise InputError(
            f"expected probabilities that sum to 1 over labels, got sums up to {float(error.max()):.3g} away; "
            "apply softmax to logits, or divide by the sum; one foreground map p needs its background: stack [1 - p, p]"
        )
    return p.clamp(min=floor).log_().neg_()
