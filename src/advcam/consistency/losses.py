"""What is learnt from images without labels: decoders that agree (CCT), views that agree (UniMatch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.limits import IGNORE


class CctLoss(NamedTuple):
    """The three parts of CCT: labelled images, agreement of the decoders, pseudo masks."""

    labelled: Float[Tensor, ""]
    unsupervised: Float[Tensor, ""]
    weak: Float[Tensor, ""]

    def total(self, ramp: float, unsupervised: float = 30.0, weak: float = 0.4) -> Float[Tensor, ""]:
        """``labelled + w_u ramp unsupervised + w_w ramp weak``, with the ramp of :func:`.ramp_up`.

        The published code also computes a loss of pairs of decoders, which never reaches its total: it is left out on purpose.

        Source: Ouali, Hudelot & Tami, CVPR 2020 (arXiv 2003.09005); weights as in yassouali/CCT, ``configs/config.json``.
        """
        return self.labelled + ramp * (unsupervised * self.unsupervised + weak * self.weak)


class UniMatchLoss(NamedTuple):
    """The four parts of UniMatch: labelled images, two strong views, the weak view with perturbed features."""

    labelled: Float[Tensor, ""]
    strong1: Float[Tensor, ""]
    strong2: Float[Tensor, ""]
    feature: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """``(labelled + strong1 / 4 + strong2 / 4 + feature / 2) / 2``.

        Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``unimatch.py``.
        """
        return (self.labelled + self.strong1 / 4 + self.strong2 / 4 + self.feature / 2) / 2


class Pseudo(NamedTuple):
    """What the weak view says: its labels, 255 where there is no image, and their probability."""

    labels: Integer[Tensor, "n h w"]
    confidence: Float[Tensor, "n h w"]


def cross_entropy(logits: Float[Tensor, "n k h w"], labels: Integer[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """The mean of ``-log softmax(logits)[label]`` over pixels that are not 255; 0, with a graph, where there is none.

    Raises:
        InputError: labels that are no whole numbers, or not one for every pixel of the logits.
    """
    _check(logits, labels)
    total = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def consistency_loss(auxiliaries: Sequence[Float[Tensor, "n k h w"]], main: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
    """CCT's unsupervised part, the mean over the auxiliary decoders of ``mean (softmax(auxiliary) - softmax(main))^2``.

    The main decoder is what they are to agree with: no gradient reaches it.

    Args:
        auxiliaries: logits of each auxiliary decoder.
        main: logits of the main decoder for the same images.

    Raises:
        InputError: no auxiliary decoder, or logits of different shapes.
    """
    target = main.detach().softmax(1)
    for auxiliary in auxiliaries:
        if auxiliary.shape != main.shape:
            raise InputError(f"auxiliary logits {tuple(auxiliary.shape)} and main ones {tuple(main.shape)} do not fit")
    return _mean([F.mse_loss(auxiliary.softmax(1), target) for auxiliary in auxiliaries])


def weak_loss(auxiliaries: Sequence[Float[Tensor, "n k h w"]], pseudo: Integer[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """CCT's weak part, the mean over the auxiliary decoders of their :func:`cross_entropy` with a pseudo mask.

    Args:
        auxiliaries: logits of each auxiliary decoder.
        pseudo: masks made from image-level labels, 255 unknown; where all is unknown the loss is 0.

    Raises:
        InputError: no auxiliary decoder, or masks that do not fit the logits.
    """
    return _mean([cross_entropy(auxiliary, pseudo) for auxiliary in auxiliaries])


def pseudo_labels(logits: Float[Tensor, "n k h w"], padding: Bool[Tensor, "n h w"] | None = None) -> Pseudo:
    """The argmax of the weak view and its probability, ``max softmax(logits)``; no gradient passes.

    Args:
        logits: of the weak view.
        padding: where the crop lies outside the image; its labels are 255.
    """
    confidence, labels = logits.detach().softmax(1).max(1)
    return Pseudo(labels if padding is None else labels.masked_fill(padding, IGNORE), confidence)


def confident_cross_entropy(logits: Float[Tensor, "n k h w"], pseudo: Pseudo, threshold: float = 0.95) -> Float[Tensor, ""]:
    """``sum -log softmax(logits)[label] [confidence >= threshold] / |K|``, over the pixels K whose label is not 255.

    What is not confident counts among the pixels that are divided by: the less is, the less it weighs.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``unimatch.py``, ``configs/pascal.yaml``.

    Args:
        logits: of a strong view, or of perturbed features.
        pseudo: what the weak view says of the same pixels (see :func:`.cutmix`).
        threshold: from which on it is believed.

    Raises:
        InputError: labels that do not fit the logits.
    """
    _check(logits, pseudo.labels)
    each = F.cross_entropy(logits, pseudo.labels.long(), ignore_index=IGNORE, reduction="none")
    return (each * (pseudo.confidence >= threshold)).sum() / (pseudo.labels != IGNORE).sum().clamp(min=1)


def _mean(losses: list[Tensor]) -> Float[Tensor, ""]:
    if not losses:
        raise InputError("no auxiliary decoder's logits were given; a network without any learns from labelled images alone")
    return torch.stack(losses).mean()


def _check(logits: Tensor, labels: Tensor) -> None:
    """Raises: labels that are no whole numbers, or not one for every pixel."""
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(f"labels of {labels.dtype}: expected whole numbers, one id a pixel, {IGNORE} for unknown")
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise InputError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit: expected [n, k, h, w] and [n, h, w]"
        )
