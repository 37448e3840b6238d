"""Losses whose parts, computed one after the other or in several processes, add up to the loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from advcam.errors import SettingsError
from advcam.limits import IGNORE


class Objective(Protocol):
    """The training objective. A batch may come in parts, each of which gets the counts of the whole batch."""

    def forward(self, model: nn.Module, inputs: Any, share: float) -> Any:
        """The model's output for the inputs of a part; ``share`` of the training's steps is done, in [0, 1)."""

    def counts(self, output: Any, targets: Any) -> Tensor:
        """The counts of a part, which are summed over parts; only the shape of ``output`` is used."""

    def __call__(self, output: Any, targets: Any, counts: Tensor) -> Tensor:
        """A part's share of the batch's loss, a scalar."""


@dataclass(frozen=True)
class ImageLoss:
    """A mean over the images of a batch; a part is weighted by its share of the images."""

    loss: Callable[[Any, Any], Tensor]

    def forward(self, model: nn.Module, inputs: Any, share: float) -> Any:
        """The model's output."""
        return model(inputs)

    def counts(self, output: Any, targets: Any) -> Tensor:
        """The number of images."""
        return torch.tensor([float(len(targets))])

    def __call__(self, output: Any, targets: Any, counts: Tensor) -> Tensor:
        """The part's share of the mean."""
        return self.loss(output, targets) * (len(targets) / float(counts[0]))


@dataclass(frozen=True)
class PixelLoss:
    """A loss averaged over all pixels that are not 255, and summed over outputs (scales).

    With z the target's one-hot code, p the softmax:

    * ``cross_entropy``: ``- sum z log p``;
    * ``bootstrapped``: ``- sum (beta z + (1 - beta) q) log p``, q the one-hot code of the network's own prediction, beta 0.8
      (Reed et al., ICLR workshop 2015, arXiv 1412.6596, eq. 7);
    * ``symmetric``: ``alpha (- sum z log p) + beta (- sum p log z)``, log 0 = -4, alpha 0.5, beta 0.5 (after Wang et al., ICCV
      2019, arXiv 1908.06112, eq. 7; alpha and beta are chosen for each data set there).

    ``balanced`` is half the mean over foreground pixels and half that over background pixels (AdvCAM's training); where a
    batch has only one of the two, the plain mean.

    Args:
        kind: of the loss.
        balanced: give background and foreground the same total weight.
    """

    kind: str = "cross_entropy"
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(f"loss is {', '.join(KINDS)}; got {self.kind!r}")

    def forward(self, model: nn.Module, inputs: Any, share: float) -> Any:
        """The model's output."""
        return model(inputs)

    def counts(self, output: Tensor | Sequence[Tensor], targets: Int[Tensor, "n y x"]) -> Float[Tensor, "outputs 2"]:
        """Pixels of background and of foreground on the grid of each output."""
        labels = [_on_grid(targets, scores) for scores in _listed(output)]
        return torch.stack([torch.stack([(at == 0).sum(), ((at != 0) & (at != IGNORE)).sum()]) for at in labels]).float()

    def __call__(
        self, output: Tensor | Sequence[Tensor], targets: Int[Tensor, "n y x"], counts: Float[Tensor, "outputs 2"]
    ) -> Tensor:
        """The part's share of the mean; 0, with a gradient of 0, where all pixels of all parts are 255."""
        total = torch.zeros((), device=targets.device)
        for scores, count in zip(_listed(output), counts, strict=True):
            labels = _on_grid(targets, scores)
            known = labels != IGNORE
            weight = self._weights(count).to(scores)[(labels != 0).long()] * known
            total = total + (weight * KINDS[self.kind](scores, labels.where(known, 0))).sum()
        return total

    def _weights(self, count: Float[Tensor, 2]) -> Float[Tensor, 2]:
        """The weights of a background pixel and a foreground pixel."""
        if self.balanced and bool((count > 0).all()):
            return 0.5 / count
        return torch.full_like(count, 1 / max(1.0, float(count.sum())))


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores, labels, reduction="none")


def _bootstrapped(scores: Tensor, labels: Tensor, beta: float = 0.8) -> Tensor:
    own = scores.detach().argmax(1)
    return beta * _cross_entropy(scores, labels) + (1 - beta) * _cross_entropy(scores, own)


def _symmetric(scores: Tensor, labels: Tensor, alpha: float = 0.5, beta: float = 0.5, log_zero: float = -4.0) -> Tensor:
    right = scores.softmax(1).gather(1, labels[:, None])[:, 0]
    return alpha * _cross_entropy(scores, labels) - beta * log_zero * (1 - right)


KINDS = {"cross_entropy": _cross_entropy, "bootstrapped": _bootstrapped, "symmetric": _symmetric}
"""Loss of each pixel, of scores [N, L, H, W] and labels [N, H, W]."""


def _listed(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [output] if isinstance(output, Tensor) else output


def _on_grid(labels: Int[Tensor, "n y x"], scores: Float[Tensor, "n l h w"]) -> Int[Tensor, "n h w"]:
    """Labels at the nearest pixel of each cell of the scores."""
    if labels.shape[1:] == scores.shape[2:]:
        return labels
    return F.interpolate(labels[:, None].float(), size=scores.shape[2:], mode="nearest")[:, 0].long()
