"""The published code's loop at its cost, on any network with ``forward_features`` and a linear ``classifier``."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

from torch import Tensor, nn

from advcam.attribution import make_views, settings

from ..attribution import faithful_loop

OFFICIAL = settings("official", mirror=False)
"""Its four scales and steps. Without mirror images, as all maps that it is compared with: with them it costs twice as much."""


class Named(nn.Module):
    """A timm classifier by the names that the loop knows: ``layer4`` and ``fc``.

    Args:
        model: with ``forward_features`` and a linear ``classifier`` on pooled features; copied.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        model = copy.deepcopy(model).eval()
        self.layer4, self.fc = Features(model), model.classifier

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 3, y, x] to logits [n, k]."""
        logits: Tensor = self.fc(self.layer4(x).mean((2, 3)))
        return logits


class Features(nn.Module):
    """The network up to its last features, as a module that can be hooked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 3, y, x] to features [n, d, h, w]."""
        features: Tensor = self.model.forward_features(x)  # type: ignore[operator]
        return features


def published(
    model: Named, image: Tensor, labels: Sequence[int], most: int, scales: Sequence[float] = OFFICIAL.scales
) -> float:
    """Seconds that the published loop takes for an image: every class by itself, every scale, one step after the other.

    Args:
        model: the network.
        image: [1, 3, y, x].
        labels: class ids.
        most: steps taken at a scale; the time is scaled up to all of them. Steps cost the same.
        scales: of the image.
    """
    total = 0.0
    for label in labels:
        for scale in scales:
            steps = OFFICIAL.steps_at(scale)
            taken = min(most, steps)
            start = time.process_time()
            faithful_loop(model, make_views(image, scale, False)[0], label, taken)
            total += (time.process_time() - start) * steps / taken
    return total
