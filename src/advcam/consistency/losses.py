"""Losses of semi-supervised training: consistent decoders (CCT), consistent views (UniMatch)."""

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
    """The three parts of the loss of CCT.

    Args:
        labelled: cross entropy of labelled images, at least 0.
        unsupervised: :func:`consistency_loss` of unlabelled images, in [0, 1].
        weak: :func:`weak_loss` of images with pseudo labels, at least 0.

    Source: Ouali, Hudelot & Tami, CVPR 2020 (arXiv 2003.09005); yassouali/CCT. Its pair-wise loss, which never reaches the
    published total, is left out.

    Example:
        >>> loss = CctLoss(torch.tensor(1.0), torch.tensor(0.1), torch.tensor(0.5))
        >>> round(loss.total(ramp=0.5).item(), 2)
        2.6
    """

    labelled: Float[Tensor, ""]
    unsupervised: Float[Tensor, ""]
    weak: Float[Tensor, ""]

    def total(self, ramp: float, unsupervised: float = 30.0, weak: float = 0.4) -> Float[Tensor, ""]:
        """The weighted sum ``labelled + ramp (w_u unsupervised + w_w weak)``.

        Args:
            ramp: factor of both parts, 0 to 1, see :func:`.ramp_up`.
            unsupervised: w_u, as in yassouali/CCT, ``configs/config.json``.
            weak: w_w, likewise.

        Returns:
            A scalar of at least 0.
        """
        return self.labelled + ramp * (unsupervised * self.unsupervised + weak * self.weak)


class UniMatchLoss(NamedTuple):
    """The four parts of the loss of UniMatch.

    Args:
        labelled: cross entropy of labelled images, at least 0.
        strong1: :func:`confident_cross_entropy` of the first strongly augmented view, at least 0.
        strong2: the same of the second strong view.
        feature: the same of the weakly augmented view with perturbed features.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``unimatch.py``.

    Example:
        >>> round(UniMatchLoss(*torch.tensor([1.0, 0.4, 0.8, 0.2])).total.item(), 2)  # (1 + 0.1 + 0.2 + 0.1) / 2
        0.7
    """

    labelled: Float[Tensor, ""]
    strong1: Float[Tensor, ""]
    strong2: Float[Tensor, ""]
    feature: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """``(labelled + strong1 / 4 + strong2 / 4 + feature / 2) / 2``, a scalar of at least 0."""
        return (self.labelled + self.strong1 / 4 + self.strong2 / 4 + self.feature / 2) / 2


class Pseudo(NamedTuple):
    """Pseudo labels and their confidence, from the logits of the weakly augmented view.

    Args:
        labels: integers [n, H, W], 0 to k - 1, and 255 for pixels that are ignored.
        confidence: float [n, H, W] in [0, 1], the probability of the label.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910).

    Example:
        >>> pseudo = Pseudo(labels=torch.tensor([[[1, 255]]]), confidence=torch.tensor([[[0.9, 0.6]]]))
        >>> (pseudo.labels != IGNORE).tolist()
        [[[True, False]]]
    """

    labels: Integer[Tensor, "n h w"]
    confidence: Float[Tensor, "n h w"]


def cross_entropy(logits: Float[Tensor, "n k h w"], labels: Integer[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """The mean of ``-log softmax(logits)[label]`` over the pixels whose label is not 255.

    Args:
        logits: float [n, k, H, W].
        labels: integers [n, H, W], 0 to k - 1, and 255 for pixels that are ignored.

    Returns:
        A scalar of at least 0; 0, and still differentiable, where all pixels are ignored.

    Raises:
        InputError: labels that are no whole numbers, or not one for every pixel of the logits.

    Source: yassouali/CCT; 0 where all pixels are ignored is ours.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 255]]])
        >>> round(cross_entropy(logits, labels).item(), 3)  # log 2
        0.693
    """
    _check(logits, labels)
    total = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def consistency_loss(auxiliaries: Sequence[Float[Tensor, "n k h w"]], main: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
    """CCT's unsupervised loss: the mean over auxiliary decoders of ``mean (softmax(auxiliary) - softmax(main))^2``.

    No gradient reaches the main decoder.

    Args:
        auxiliaries: logits [n, k, H, W] of each auxiliary decoder, at least one.
        main: logits [n, k, H, W] of the main decoder for the same images.

    Returns:
        A scalar in [0, 1].

    Raises:
        InputError: no auxiliary decoder, or logits of different shapes.

    Source: Ouali, Hudelot & Tami, CVPR 2020 (arXiv 2003.09005); yassouali/CCT.

    Example:
        >>> main = torch.tensor([9.0, -9.0]).view(1, 2, 1, 1)
        >>> round(consistency_loss([main, torch.zeros(1, 2, 1, 1)], main).item(), 3)
        0.125
    """
    target = main.detach().softmax(1)
    for auxiliary in auxiliaries:
        if auxiliary.shape != main.shape:
            raise InputError(
                f"auxiliary logits {tuple(auxiliary.shape)} and main logits {tuple(main.shape)} must have one shape"
            )
    return _mean([F.mse_loss(auxiliary.softmax(1), target) for auxiliary in auxiliaries])


def weak_loss(auxiliaries: Sequence[Float[Tensor, "n k h w"]], pseudo: Integer[Tensor, "n h w"]) -> Float[Tensor, ""]:
    """CCT's weak loss: the mean over auxiliary decoders of :func:`cross_entropy` with pseudo labels.

    Args:
        auxiliaries: logits [n, k, H, W] of each auxiliary decoder, at least one.
        pseudo: integers [n, H, W], masks made from image-level labels, 0 to k - 1, and 255 for pixels that are ignored.

    Returns:
        A scalar of at least 0; 0 where all pixels are ignored.

    Raises:
        InputError: no auxiliary decoder, or masks that do not fit the logits.

    Source: Ouali, Hudelot & Tami, CVPR 2020 (arXiv 2003.09005); yassouali/CCT.

    Example:
        >>> logits, pseudo = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 255]]])
        >>> round(weak_loss([logits, logits], pseudo).item(), 3)  # log 2
        0.693
    """
    return _mean([cross_entropy(auxiliary, pseudo) for auxiliary in auxiliaries])


def pseudo_labels(logits: Float[Tensor, "n k h w"], padding: Bool[Tensor, "n h w"] | None = None) -> Pseudo:
    """Make pseudo labels of logits: the argmax and its probability, ``max softmax(logits)``; no gradient passes.

    Args:
        logits: float [n, k, H, W], of the weakly augmented view.
        padding: bool [n, H, W], where the crop lies outside the image; the label there is 255.

    Returns:
        Labels, integers [n, H, W], and confidences in [1 / k, 1], [n, H, W].

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``unimatch.py``.

    Example:
        >>> pseudo = pseudo_labels(torch.tensor([0.0, 2.0]).view(1, 2, 1, 1))
        >>> pseudo.labels.item(), round(pseudo.confidence.item(), 2)
        (1, 0.88)
    """
    confidence, labels = logits.detach().softmax(1).max(1)
    return Pseudo(labels if padding is None else labels.masked_fill(padding, IGNORE), confidence)


def confident_cross_entropy(logits: Float[Tensor, "n k h w"], pseudo: Pseudo, threshold: float = 0.95) -> Float[Tensor, ""]:
    """Cross entropy with the confident pseudo labels: ``sum -log softmax(logits)[label] [confidence >= threshold] / |K|``.

    K are all pixels whose label is not 255, confident or not, so the fewer are confident, the smaller the loss.

    Args:
        logits: float [n, k, H, W], of a strongly augmented view, or of perturbed features.
        pseudo: pseudo labels of the same pixels (after :func:`.cutmix`).
        threshold: confidence from which a label counts, in [0, 1].

    Returns:
        A scalar of at least 0; 0 where all pixels are ignored.

    Raises:
        InputError: labels that do not fit the logits.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``unimatch.py``, ``configs/pascal.yaml``.

    Example:
        >>> pseudo = Pseudo(torch.tensor([[[0, 0]]]), confidence=torch.tensor([[[0.99, 0.6]]]))
        >>> round(confident_cross_entropy(torch.zeros(1, 2, 1, 2), pseudo).item(), 3)  # log 2 of one of two pixels
        0.347
    """
    _check(logits, pseudo.labels)
    each = F.cross_entropy(logits, pseudo.labels.long(), ignore_index=IGNORE, reduction="none")
    return (each * (pseudo.confidence >= threshold)).sum() / (pseudo.labels != IGNORE).sum().clamp(min=1)


def _mean(losses: list[Tensor]) -> Float[Tensor, ""]:
    if not losses:
        raise InputError("expected the logits of at least one auxiliary decoder, got none")
    return torch.stack(losses).mean()


def _check(logits: Tensor, labels: Tensor) -> None:
    """Raise InputError on labels that are no whole numbers, or not one for every pixel."""
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(f"labels of {labels.dtype}: expected whole numbers, one class id for each pixel, {IGNORE} for unknown")
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise InputError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit: expected [n, k, h, w] and [n, h, w]"
        )
