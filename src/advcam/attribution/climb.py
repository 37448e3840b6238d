"""Anti-adversarial climbing (Lee, Kim, Yoon, CVPR 2021): the reason for this project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .maps import Head, class_activation_map, gradient_scale
from .objective import logit_scores, penalty, relu_scores, suppressed
from .settings import ClimbSettings
from .views import add_views

Features = Callable[[Float[Tensor, "n 3 y x"]], Float[Tensor, "n d h w"]]


@dataclass(frozen=True)
class Step:
    """What one step t saw: of the pixels x^t, before they move on to x^(t+1).

    Args:
        maps: [C, h, w], the map of each climb's class, views added.
        scores: [C, K], the score of every class.
        pixels: [C, V, 3, H, W], x^t.
    """

    maps: Float[Tensor, "c h w"]
    scores: Float[Tensor, "c k"]
    pixels: Float[Tensor, "c v 3 y x"]


def climb(
    features: Features, head: Head, views: Float[Tensor, "c v 3 y x"], target: Int[Tensor, " c"], s: ClimbSettings
) -> Iterator[Step]:
    """Climb C images, each along the gradient of its own class, and yield what every step sees; it never ends.

    ``x^t = x^(t-1) + xi dL/dx``, ``L = y_c - sum_{k != c} y_k - lambda || M |CAM(x) - CAM(x^0)| ||_1`` (equations 3-7).
    The AdvCAM is the sum of the first T maps. Every quantity is one climb's own (gradient maximum, bounds, mask), so
    a batch gives what one at a time gives. Nothing of a step is kept for the next but its pixels.

    Args:
        features: the network up to its last feature map, in eval mode.
        head: its linear head.
        views: [C, V, 3, H, W] the image, and its mirror image where there is one.
        target: [C] the class of each climb.
        s: the settings.
    """
    x, first = views.detach(), None
    while True:
        with torch.enable_grad():
            x.requires_grad_()
            f = features(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            cam = class_activation_map(f, head, target)
            if s.weights == "gradient":
                cam = cam * gradient_scale(f, head, target)
            cam = add_views(cam)
            first = cam.detach() if first is None else first
            y = relu_scores(f, head) if s.score == "relu" else logit_scores(f, head)
        yield Step(cam.detach(), y.detach(), x.detach())

        with torch.enable_grad():
            objective = suppressed(y, target, s.suppress)
            if s.restrain:
                objective = objective - s.restrain * penalty(cam, first, s.threshold, s.penalty, x.shape[1])
            (gradient,) = torch.autograd.grad(objective.sum(), x)
        del f, cam, y, objective
        x = ascend(x.detach(), gradient, s)


def ascend(x: Float[Tensor, "c v 3 y x"], gradient: Float[Tensor, "c v 3 y x"], s: ClimbSettings) -> Tensor:
    """One step up: ``clip(x + xi g / max|g|)``, with maximum and bounds over one climb's views together.

    A gradient of zero leaves the pixels where they are.
    """
    low, high = x.amin((1, 2, 3, 4), keepdim=True), x.amax((1, 2, 3, 4), keepdim=True)
    if s.gradient == "maximum":
        gradient = gradient / (gradient.abs().amax((1, 2, 3, 4), keepdim=True) + 1e-12)
    if s.step_unit == "range":
        gradient = gradient * (high - low)
    x = x + s.step_size * gradient
    return torch.maximum(torch.minimum(x, high), low) if s.clip else x
