"""Anti-adversarial climbing (Lee, Kim, Yoon, CVPR 2021): the reason for this project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .emphasis import pressure
from .maps import METHODS, Head, gradient_scale
from .objective import penalty, relu_scores, suppressed, unit_of
from .settings import ClimbSettings
from .views import add_views

Classifier = Callable[[Float[Tensor, "n 3 y x"]], tuple[Float[Tensor, "n d h w"], Float[Tensor, "n k"]]]


@dataclass(frozen=True)
class Step:
    """What one step t saw of the pixels x^t, and where they went.

    Args:
        maps: [C, h, w], the map of each climb's class, views added.
        scores: [C, K], the score of every class.
        pixels: [C, V, 3, H, W], x^t.
        moved: [C, V, 3, H, W], x^(t+1); None after a last step that nobody asked to go on from.
        pressure: [C, h, w], how hard this step pushed the pixels of each cell, with mean 1; None where it pushed none.
    """

    maps: Float[Tensor, "c h w"]
    scores: Float[Tensor, "c k"]
    pixels: Float[Tensor, "c v 3 y x"]
    moved: Float[Tensor, "c v 3 y x"] | None
    pressure: Float[Tensor, "c h w"] | None = None


def climb(
    classifier: Classifier,
    views: Float[Tensor, "n v 3 y x"],
    image: Int[Tensor, " c"],
    target: Int[Tensor, " c"],
    s: ClimbSettings,
    *,
    head: Head | None = None,
    steps: int | None = None,
    move_last: bool = False,
) -> Iterator[Step]:
    """Climb C times, each along the gradient of its own class, and yield what every step sees.

    ``x^t = x^(t-1) + xi dL/dx``, ``L = y_c - sum_{k != c} y_k - lambda || M |CAM(x) - CAM(x^0)| ||_1`` (equations 3-7).
    The AdvCAM is the sum of the maps; :func:`~advcam.attribution.emphasis.counted` says what each counts for in it. Every
    quantity is one climb's own (gradient maximum, bounds, mask), so a batch gives what one at a time gives. Climbs of one image
    share its first forward pass. Between steps nothing is kept but the pixels and the first map. A map or gradient that is not
    finite counts as 0 there: the map shows nothing, the pixels stay.

    Args:
        classifier: images to (features, logits), in eval mode, the logits differentiable in the features.
        views: [N, V, 3, H, W] the images, and their mirror images where there are any.
        image: [C] row of ``views`` that each climb starts from.
        target: [C] the class of each climb.
        s: the settings.
        head: the classifier's head where that is linear: the map's weights then need no gradient.
        steps: how many; None is the settings' T.
        move_last: move the pixels after the last step too.
    """
    x, rows, first = views.detach(), image, None
    steps = steps or s.steps
    for t in range(steps):
        moving = t + 1 < steps or move_last
        moved = pushed = None
        with torch.enable_grad():
            x.requires_grad_(moving)
            seen = observe(classifier, x, rows, target, s, head, keep=moving)
            first = first or Start.of(seen, s)
            if moving:
                ascent = gradients(objective(seen, first, target, s), x, rows, len(x))
        if moving:
            moved, pushed = ascend(x.detach()[rows], ascent, s), pressure(finite(ascent), seen.grid)
            del ascent
        step = Step(finite(seen.cam.detach()), seen.scores.detach(), x.detach()[rows], moved, pushed)
        del seen
        yield step
        if moved is not None:
            x, rows = moved, torch.arange(len(moved), device=moved.device)


class Seen(NamedTuple):
    """What the classifier makes of each climb's pixels.

    Args:
        f: [C, V, D, h, w], features.
        g: [C, V, D, h, w], ``dy_c / df``, a constant.
        scores: [C, K], y.
        cam: [C, h, w], ``CAM(x)``, views added.
    """

    f: Float[Tensor, "c v d h w"]
    g: Float[Tensor, "c v d h w"]
    scores: Float[Tensor, "c k"]
    cam: Float[Tensor, "c h w"]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        return self.cam.shape[1], self.cam.shape[2]


def observe(
    classifier: Classifier, x: Float[Tensor, "n v 3 y x"], rows: Int[Tensor, " c"], target: Int[Tensor, " c"], s: ClimbSettings,
    head: Head | None, keep: bool,
) -> Seen:  # fmt: skip
    """Features, scores and map (equation 1, or another method's) of the pixels; each image goes through the network once.

    Args:
        classifier: see :func:`climb`.
        x: of N images.
        rows: the image of each climb.
        target: the class of each climb.
        s: the settings.
        head: see :func:`climb`.
        keep: the graph, for the gradient in the pixels.
    """
    features, logits = classifier(x.flatten(0, 1))
    f, y = features.unflatten(0, x.shape[:2])[rows], logits.unflatten(0, x.shape[:2])[rows]
    if head is not None:
        g = head.gradient(f, target)
    else:
        own = y[torch.arange(len(rows)), :, target].sum(1)
        g = gradients(own, features, rows, len(x), keep=keep)
    maps = METHODS[s.method](f, g)
    if s.weights == "gradient":
        maps = maps * gradient_scale(f, _linear(head), target)
    scores = relu_scores(f, _linear(head)) if s.score == "relu" else y.mean(1)
    return Seen(f, g, scores, add_views(maps))


class Start(NamedTuple):
    """What the penalty compares with: ``CAM(x^0)``, and the unit of its score; see :func:`.objective.unit_of`."""

    cam: Float[Tensor, "c h w"]
    unit: Float[Tensor, " c"] | None

    @classmethod
    def of(cls, seen: Seen, s: ClimbSettings) -> Start:
        """Of what the first step saw."""
        return cls(finite(seen.cam.detach()), unit_of(seen.f, seen.g) if s.penalty == "relative" else None)


def objective(seen: Seen, first: Start, target: Int[Tensor, " c"], s: ClimbSettings) -> Float[Tensor, " c"]:
    """``L = y_c - suppress sum_{k != c} y_k - lambda || M |CAM(x) - CAM(x^0)| ||_1`` (equations 5 and 6)."""
    value = suppressed(seen.scores, target, s.suppress)
    return value - s.restrain * penalty(seen.cam, first.cam, s.tau, first.unit) if s.restrain else value


def gradients(values: Float[Tensor, " c"], at: Tensor, rows: Int[Tensor, " c"], n: int, *, keep: bool = False) -> Tensor:
    """``d values_c / d at[rows_c]`` for every climb c: as many backward passes as climbs share one of the n rows.

    Args:
        values: [C], each depending on its own row alone.
        at: [n * V, ...] or [n, V, ...].
        rows: [C], in 0 .. n - 1.
        n: images.
        keep: the graph, for what is still to come.

    Returns:
        [C, V, ...], without gradient.
    """
    rank = (rows[:, None] == rows[None]).tril(-1).sum(1)  # how many climbs of the same image come before
    turns, parts, order = int(rank.max()) + 1, [], []
    for turn in range(turns):
        (mine,) = torch.where(rank == turn)
        (g,) = torch.autograd.grad(values[mine].sum(), at, retain_graph=keep or turn + 1 < turns)
        parts.append(g.reshape(n, -1, *at.shape[-3:])[rows[mine]])
        order.append(mine)
    return parts[0] if turns == 1 else torch.cat(parts)[torch.cat(order).argsort()]


def ascend(x: Float[Tensor, "c v 3 y x"], gradient: Float[Tensor, "c v 3 y x"], s: ClimbSettings) -> Tensor:
    """One step up: ``clip(x + xi g / max|g|)``, with maximum and bounds over one climb's views together.

    A gradient of zero leaves the pixels where they are, and so does a range of zero, the constant image's.
    """
    gradient = finite(gradient)
    low, high = x.amin((1, 2, 3, 4), keepdim=True), x.amax((1, 2, 3, 4), keepdim=True)
    if s.bounds is not None:
        low, high = torch.full_like(low, s.bounds[0]), torch.full_like(high, s.bounds[1])
    if s.gradient == "maximum":
        gradient = gradient / (gradient.abs().amax((1, 2, 3, 4), keepdim=True) + 1e-12)
    if s.step_unit == "range":
        gradient = gradient * (high - low)
    x = x + s.step_size * gradient
    return torch.maximum(torch.minimum(x, high), low) if s.clip else x


def finite(value: Tensor) -> Tensor:
    """What is not finite counts as 0."""
    return value.nan_to_num(0, 0, 0)


def _linear(head: Head | None) -> Head:
    assert head is not None, "score='relu' and weights='gradient' are checked to have a linear head"
    return head
