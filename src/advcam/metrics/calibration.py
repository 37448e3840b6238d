"""Whether confidences can be believed: calibration of pixels, and scores that find bad masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_tensor

LEVELS = 256
BINS = 16
FACTORS = [2 ** (at / 16) for at in range(-48, 49)]
"""Factors of the temperature that are tried: 1/8 to 8."""


@dataclass(frozen=True)
class Calibration:
    """Counts of pixels by confidence; add those of all images.

    Args:
        counts: int64 [256, 2]: pixels by confidence in 255ths, wrong and right.

    Source: Guo et al., ICML 2017 (arXiv 1706.04599).

    Example:
        >>> sure, right = torch.tensor([[204] * 5], dtype=torch.uint8), torch.tensor([[True, True, True, False, False]])
        >>> found = Calibration.of(sure, right, torch.ones(1, 5, dtype=torch.bool))
        >>> round(found.error(), 3)  # .8 was said, .6 is right
        0.2
    """

    counts: Int[Tensor, "256 2"]

    @classmethod
    def of(cls, confidence: UInt8[Tensor, "y x"], right: Bool[Tensor, "y x"], known: Bool[Tensor, "y x"]) -> Calibration:
        """Counts an image's pixels.

        Args:
            confidence: uint8 [H, W], the probability that the label is right, times 255.
            right: bool [H, W], whether it is.
            known: bool [H, W], the pixels that count.

        Returns:
            The counts; add those of other images.

        Raises:
            InputError: tensors that do not fit.
        """
        for value, name in ((confidence, "confidence"), (right, "right"), (known, "known")):
            expect_tensor(value, name, "whole numbers" if value is confidence else "booleans", "h w")
        if not confidence.shape == right.shape == known.shape:
            shapes = ", ".join(str(tuple(value.shape)) for value in (confidence, right, known))
            raise InputError(f"confidence, right and known must have one shape; got {shapes}")
        at = confidence[known].long() * 2 + right[known].long()
        return cls(torch.bincount(at, minlength=2 * LEVELS).reshape(LEVELS, 2))

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.counts + other.counts)

    def error(self, factor: float = 1.0) -> float:
        """Compute the expected calibration error: ``sum_b n_b / n |right_b / n_b - mean confidence_b|`` over 16 bins b.

        Args:
            factor: of the temperature that the confidences were made with.

        Returns:
            In [0, 1]; 0 without a pixel.

        Source: Guo et al., ICML 2017 (arXiv 1706.04599), equation 3; 16 bins instead of 15.
        """
        n = self.counts.sum(1).double()
        said, bins = self._at(factor), BINS
        bin_of = (said * bins).long().clamp(max=bins - 1)
        zero = torch.zeros(bins, dtype=torch.float64)
        right = zero.index_add(0, bin_of, self.counts[:, 1].double())
        expected = zero.index_add(0, bin_of, said * n)
        return float((right - expected).abs().sum() / n.sum().clamp_min(1))

    def diagram(self) -> list[dict[str, float]]:
        """Compute the reliability diagram.

        Returns:
            Of each of 16 bins with pixels: ``confidence`` (their mean), ``right`` and ``share`` (of all pixels).
        """
        n, said = self.counts.sum(1).double(), self._at(1.0)
        rows = []
        for low in range(0, LEVELS, LEVELS // BINS):
            part = slice(low, low + LEVELS // BINS)
            if total := float(n[part].sum()):
                right, mean = float(self.counts[part, 1].sum()) / total, float((said[part] * n[part]).sum()) / total
                rows.append({"confidence": mean, "right": right, "share": total / float(n.sum())})
        return rows

    def best_factor(self) -> float:
        """Find the factor of the temperature with the highest likelihood of what is right and wrong.

        Returns:
            From 1/8 to 8; above 1: the confidences claim too much.
        """
        wrong, right = self.counts.double().unbind(1)

        def loss(factor: float) -> float:
            z = self._logits() / factor
            return -float((right * F.logsigmoid(z) + wrong * F.logsigmoid(-z)).sum())

        return min(FACTORS, key=loss)

    def _at(self, factor: float) -> Tensor:
        """The confidences [256] with another temperature, as if of two labels: ``sigmoid(logit(c) / factor)``."""
        return torch.sigmoid(self._logits() / factor)

    @staticmethod
    def _logits() -> Tensor:
        levels = torch.arange(LEVELS, dtype=torch.float64) / (LEVELS - 1)
        return torch.logit(levels.clamp(0.5 / LEVELS, 1 - 0.5 / LEVELS))


def finds(scores: Float[Tensor, " n"], bad: Bool[Tensor, " n"]) -> float | None:
    """Compute how well low scores find bad masks: the probability that a bad one has a lower score than a good one.

    It is the area under the ROC curve; a tie counts one half.

    Args:
        scores: float [n].
        bad: bool [n].

    Returns:
        In [0, 1], .5 by chance; None without a bad or without a good one.

    Raises:
        InputError: tensors that do not fit, or NaN.

    Source: Mann & Whitney, Annals of Mathematical Statistics 1947.

    Example:
        >>> finds(torch.tensor([0.2, 0.9, 0.4, 0.4]), torch.tensor([True, False, True, False]))
        0.875
    """
    expect_tensor(scores, "scores", "float", "n", finite=True)
    expect_tensor(bad, "bad", "booleans", "n", beside=scores)
    if len(scores) != len(bad):
        raise InputError(f"{len(scores)} scores need as many answers, got {len(bad)}")
    low, high = scores[bad].double(), scores[~bad].double().sort().values
    if not len(low) or not len(high):
        return None
    above = len(high) - torch.searchsorted(high, low, right=True)
    ties = torch.searchsorted(high, low, right=True) - torch.searchsorted(high, low)
    return float((above + ties / 2).sum() / (len(low) * len(high)))
