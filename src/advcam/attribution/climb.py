"""Anti-adversarial climbing (Lee, Kim, Yoon, CVPR 2021), the method that this library is named after."""

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
from .turns import Turns
from .views import add_views

Classifier = Callable[[Float[Tensor, "n b y x"]], tuple[Float[Tensor, "n d h w"], Float[Tensor, "n k"]]]


@dataclass(frozen=True)
class Step:
    """The maps, scores and pixels of one climbing step t, for C climbs.

    Args:
        maps: [C, h, w], at least 0: the map of each climb's class, summed over the image and its mirror image.
        scores: [C, K], the score y of every class, in the unit of the logits.
        pixels: [C, V, B, H, W], x^t, the pixels that the step was computed from, or what is climbed in their place.
        moved: [C, V, B, H, W], x^(t+1), the pixels after the step; None after the last step, unless ``move_last`` is set.
        pressure: [C, h, w], at least 0: the mean magnitude of the gradient in the pixels of each cell of the map; None where no
            gradient was taken.

    Source: the quantities of AdvCAM equations 1 and 3-7 (Lee, Kim, Yoon, CVPR 2021); ``pressure`` is ours.

    Example:
        >>> pixels = torch.zeros(1, 1, 3, 8, 8)
        >>> step = Step(maps=torch.ones(1, 2, 2), scores=torch.zeros(1, 5), pixels=pixels, moved=None)
        >>> step.maps.sum().item(), step.pressure is None
        (4.0, True)
    """

    maps: Float[Tensor, "c h w"]
    scores: Float[Tensor, "c k"]
    pixels: Float[Tensor, "c v b y x"]
    moved: Float[Tensor, "c v b y x"] | None
    pressure: Float[Tensor, "c h w"] | None = None


def climb(
    classifier: Classifier,
    views: Float[Tensor, "n v b y x"],
    image: Int[Tensor, " c"],
    target: Int[Tensor, " c"],
    s: ClimbSettings,
    *,
    head: Head | None = None,
    steps: int | None = None,
    move_last: bool = False,
) -> Iterator[Step]:
    """Climb C times, each along the gradient of its own class, and yield every step.

    ``x^t = x^(t-1) + xi dL/dx``, ``L = y_c - sum_{k != c} y_k - lambda || M |CAM(x) - CAM(x^0)| ||_1``. The AdvCAM is the sum
    of the maps; :func:`counted` first caps and weights them where the settings ask for it. The maximum of the gradient, the
    pixel range and the mask M belong to one climb each, so a batch gives the same result as one climb at a time. Between steps
    only the pixels and the first map are kept. A map value or gradient that is NaN or infinite is replaced by 0.

    Args:
        classifier: images [n, B, H, W] to (features [n, D, h, w], logits [n, K]), in eval mode, the logits differentiable in
            the features.
        views: [N, V, B, H, W], B channels, the images (V = 1), or the images and their mirror images (V = 2), normalised for
            the classifier; or features of these, where the classifier is the rest of a network.
        image: int [C], 0 to N - 1: the row of ``views`` that each climb starts from.
        target: int [C], 0 to K - 1: the class of each climb.
        s: the settings of the climb.
        head: the classifier's head, where it is linear: the weights of the map then need no backward pass.
        steps: number of steps; None is T of the settings.
        move_last: move the pixels after the last step too.

    Yields:
        One :class:`Step` for each t from 0 to ``steps`` - 1.

    Source: Lee, Kim, Yoon, CVPR 2021, equations 3-7; jbeomlee93/AdvCAM, ``obtain_CAM_masking.py``. SOURCES.md lists each rule.

    Example:
        >>> from advcam.attribution import Head, settings
        >>> head = Head(weight=torch.eye(3), bias=torch.zeros(3))  # the classifier: three logits, the means of three channels
        >>> views, start = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2), torch.tensor([0])
        >>> s = settings(step_size=0.1, steps=3)
        >>> steps = climb(lambda x: (x, x.mean((2, 3))), views, start, start + 1, s, head=head)
        >>> [round(float(step.scores[0, 1]), 2) for step in steps]  # the logit of class 1 rises
        [0.5, 0.6, 0.7]
    """
    x, turns, first = views.detach(), Turns.of(image, len(views), views.device), None
    target = target.to(views.device)
    steps = steps or s.steps
    for t in range(steps):
        moving = t + 1 < steps or move_last
        moved = pushed = None
        with torch.enable_grad():
            x.requires_grad_(moving)
            seen = observe(classifier, x, turns, target, s, head, keep=moving)
            first = first or Start.of(seen, s)
            if moving:
                ascent = gradients_in_turns(objective(seen, first, target, s), x, turns)
        pixels = turns.each(x.detach())
        if moving:
            moved, pushed = ascend(pixels, ascent, s), pressure(finite(ascent), seen.grid)
            del ascent
        step = Step(finite(seen.cam.detach()), seen.scores.detach(), pixels, moved, pushed)
        del seen, pixels
        yield step
        if moved is not None:
            x, turns = moved, Turns(len(moved))


class Seen(NamedTuple):
    """The classifier's output for the pixels of each climb.

    Args:
        f: [C, V, D, h, w], features.
        g: [C, V, D, h, w], ``dy_c / df``, a constant.
        scores: [C, K], y.
        cam: [C, h, w], ``CAM(x)``, summed over the views.
    """

    f: Float[Tensor, "c v d h w"]
    g: Float[Tensor, "c v d h w"]
    scores: Float[Tensor, "c k"]
    cam: Float[Tensor, "c h w"]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return self.cam.shape[1], self.cam.shape[2]


def observe(
    classifier: Classifier, x: Float[Tensor, "n v b y x"], turns: Turns, target: Int[Tensor, " c"], s: ClimbSettings,
    head: Head | None, keep: bool,
) -> Seen:  # fmt: skip
    """Features, scores and map (equation 1, or another method's) of the pixels; each image goes through the network once.

    Args:
        classifier: see :func:`climb`.
        x: [N, V, B, H, W], pixels.
        turns: the image of each climb.
        target: int [C], the class of each climb.
        s: the settings.
        head: see :func:`climb`.
        keep: keep the graph, for the gradient in the pixels.

    Returns:
        Features, gradient, scores and map of each climb.
    """
    features, logits = classifier(x.flatten(0, 1))
    f, y = (turns.each(part.unflatten(0, x.shape[:2])) for part in (features, logits))
    if head is not None:
        g = head.gradient(f, target)
    else:
        own = y.gather(2, target[:, None, None].expand(-1, y.shape[1], 1))[..., 0].sum(1)
        g = gradients_in_turns(own, features, turns, keep=keep)
    maps = METHODS[s.method](f, g)
    if s.weights == "gradient":
        maps = maps * gradient_scale(f, _linear(head), target)
    scores = relu_scores(f, _linear(head)) if s.score == "relu" else y.mean(1)
    return Seen(f, g, scores, add_views(maps))


class Start(NamedTuple):
    """The reference of the penalty: ``CAM(x^0)``, and the unit of its score (see :func:`.objective.unit_of`)."""

    cam: Float[Tensor, "c h w"]
    unit: Float[Tensor, " c"] | None

    @classmethod
    def of(cls, seen: Seen, s: ClimbSettings) -> Start:
        """The reference, from the output of the first step."""
        return cls(finite(seen.cam.detach()), unit_of(seen.f, seen.g) if s.penalty == "relative" else None)


def objective(seen: Seen, first: Start, target: Int[Tensor, " c"], s: ClimbSettings) -> Float[Tensor, " c"]:
    """``L = y_c - suppress sum_{k != c} y_k - lambda || M |CAM(x) - CAM(x^0)| ||_1`` (equations 5 and 6)."""
    value = suppressed(seen.scores, target, s.suppress)
    return value - s.restrain * penalty(seen.cam, first.cam, s.tau, first.unit) if s.restrain else value


def gradients(values: Float[Tensor, " c"], at: Tensor, rows: Int[Tensor, " c"], n: int, *, keep: bool = False) -> Tensor:
    """The gradient of each climb's value in its own image: ``d values_c / d at[rows_c]``.

    Climbs of different images share a backward pass, so there are as many passes as the most climbs that any one image has.

    Args:
        values: [C], each a function of its own row of ``at`` alone.
        at: [n * V, ...] or [n, V, ...] the pixels or features to differentiate by; the last three dimensions are those of one
            view.
        rows: int [C], 0 to n - 1: the image of each climb.
        n: number of images.
        keep: keep the graph for later backward passes.

    Returns:
        [C, V, ...], detached.

    Source: ours (the batching alone).

    Example:
        >>> x = torch.ones(1, 1, 3, 1, 1, requires_grad=True)
        >>> rows = torch.tensor([0, 0])  # two climbs of one image
        >>> gradients(torch.stack([x.sum(), 2 * x.sum()]), x, rows, 1).flatten().tolist()
        [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    """
    return gradients_in_turns(values, at, Turns.of(rows, n, at.device), keep=keep)


def gradients_in_turns(values: Float[Tensor, " c"], at: Tensor, turns: Turns, *, keep: bool = False) -> Tensor:
    """:func:`gradients` of climbs whose turns are known: nothing here waits for a device."""

    def of_images(values: Tensor, keep: bool) -> Tensor:
        (g,) = torch.autograd.grad(values.sum(), at, retain_graph=keep)
        return g.reshape(turns.images, -1, *at.shape[-3:])

    if not turns.parts:
        return turns.each(of_images(values, keep))
    last = len(turns.parts) - 1
    parts = [of_images(values[mine], keep or at_turn < last)[rows] for at_turn, (mine, rows) in enumerate(turns.parts)]
    return torch.cat(parts)[turns.order]


def ascend(x: Float[Tensor, "c v b y x"], gradient: Float[Tensor, "c v b y x"], s: ClimbSettings) -> Tensor:
    """Take one step up the gradient: ``clip(x + xi g / max|g|)``.

    The maximum, and the range that pixels are clipped to, are taken over the views of one climb together. A gradient of zero
    leaves the pixels as they are.

    Args:
        x: [C, V, B, H, W], pixels in the unit that the classifier is given.
        gradient: [C, V, B, H, W], dL/dx; NaN and infinity count as 0.
        s: the settings ``step_size`` (xi), ``gradient``, ``step_unit``, ``bounds`` and ``clip`` apply.

    Returns:
        [C, V, B, H, W]; with ``clip``, within the range of ``x`` or within ``bounds``.

    Source: AdvCAM equation 7; the division by the maximum and the clipping: jbeomlee93/AdvCAM, ``adv_climb``. xi as a share of
    the pixel range (preset ``default``) is ours.

    Example:
        >>> from advcam.attribution import settings
        >>> x, gradient = torch.tensor([[0.0, 0.5, 1.0], [1.0, -2.0, 2.0]]).view(2, 1, 1, 3, 1, 1)
        >>> [round(value, 2) for value in ascend(x, gradient, settings(step_size=0.1)).flatten().tolist()]
        [0.05, 0.4, 1.0]
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
    """Replace NaN and infinity by 0."""
    return value.nan_to_num(0, 0, 0)


def _linear(head: Head | None) -> Head:
    assert head is not None, "score='relu' and weights='gradient' are checked to have a linear head"
    return head
