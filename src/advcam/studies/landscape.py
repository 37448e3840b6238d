"""The study landscape: the score on a plane around the climbed, the attacked and the original image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from advcam.attribution import ClimbSettings, ascend
from advcam.attribution.objective import suppressed
from advcam.data import Item
from advcam.errors import SettingsError
from advcam.metrics import resampled, resampled_mean
from advcam.models import find, fused
from advcam.runtime import resolve_precision
from advcam.store import digest

from . import paragraphs
from .cache import Part, Setting
from .climbs import Climber
from .sample import draw
from .study import Outcome, Row, Study, identity, with_intervals

Classifier = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A function from images to (features, logits)."""

AROUND = ("original", "climbed", "attacked")
RULE = (
    "y_c, the logit of the class, at x + a u + b v on a grid of a and b: u the gradient of the climb's scores at x,"
    " normalised as in the climb, v a random direction, both made as long as u is at the original image; x the original"
    " image, the same after T steps of the climb, and after T steps of the attack (the opposite sign, no penalty); one"
    " scale, no mirror, the plane not clipped. change: root mean square of y - y(x) over the plane; curvature: mean"
    " magnitude of the second differences along a and b, for half the plane's side as unit; both divided by the standard"
    " deviation of the classes' logits at the original image; loss_change: change of log(1 + exp(-y)), not divided. Mean"
    " over an image's classes, then over images; bootstrap over images, 95 % percentile intervals, differences paired"
)


def gradient(network: Classifier, x: Float[Tensor, "c 3 y x"], target: Tensor, s: ClimbSettings) -> Float[Tensor, "c 3 y x"]:
    """Returns ``d (y_c - weight sum_{k != c} y_k) / dx``, separately for each row."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(suppressed(network(x)[1], target, s.suppress).sum(), x)
    return found


def attacked(network: Classifier, x: Float[Tensor, "c 3 y x"], target: Tensor, s: ClimbSettings) -> Float[Tensor, "c 3 y x"]:
    """Returns the attacked image, ``x^t = x^(t-1) - xi dL/dx`` for T steps: the climb downwards, without penalty."""
    for _ in range(s.steps):
        x = ascend(x[:, None], -gradient(network, x, target, s)[:, None], s)[:, 0]
    return x


def direction(g: Float[Tensor, "c 3 y x"], x: Float[Tensor, "c 3 y x"], s: ClimbSettings) -> Float[Tensor, "c 3 y x"]:
    """Returns the change of the pixels by a step of size 1 without clipping."""
    return ascend(x[:, None], g[:, None], replace(s, step_size=1.0, clip=False))[:, 0] - x


def plane(
    x: Float[Tensor, "b y x"], u: Float[Tensor, "b y x"], v: Float[Tensor, "b y x"], reach: float, points: int
) -> Float[Tensor, "p 3 y x"]:
    """Returns ``x + a u + b v`` for a (slow) and b (fast) from -reach to reach, ``points`` values each."""
    a = torch.linspace(-reach, reach, points, dtype=x.dtype, device=x.device)
    along, across = (part.flatten()[:, None, None, None] for part in torch.meshgrid(a, a, indexing="ij"))
    return x + along * u + across * v


def change(surface: Float[Tensor, "... p p"]) -> Float[Tensor, ...]:
    """Returns the root mean square difference of a surface from its centre."""
    middle = surface.shape[-1] // 2
    return (surface - surface[..., middle : middle + 1, middle : middle + 1]).square().mean((-2, -1)).sqrt()


def curvature(surface: Float[Tensor, "... p p"]) -> Float[Tensor, ...]:
    """Returns the mean magnitude of the second differences along both axes, with half a side as unit; 0 for a plane.

    Example:
        >>> a = torch.linspace(-1, 1, 5)
        >>> round(float(curvature(a[:, None] ** 2 + a * 7)), 4)  # 2 along one axis, 0 along the other
        1.0
    """
    step = 2 / (surface.shape[-1] - 1)
    down, right = surface.diff(n=2, dim=-2).abs(), surface.diff(n=2, dim=-1).abs()
    return (down.mean((-2, -1)) + right.mean((-2, -1))) / 2 / step**2


def measure(climber: Climber, s: ClimbSettings, reach: float, points: int, seed: int, item: Item) -> Part:
    """Returns ``surfaces`` [k, 3, p, p] of an image's k classes around the three images, and ``spread`` [] of all logits."""
    image, target = climber.image(item), torch.tensor(item.labels)
    adv, scores = climber.at(s), climber.at(replace(s, bounds=None)).scores
    network = fused(find(climber.model, image).at(resolve_precision(s.precision, image.device)), image)
    target = target.to(image.device)
    original = image.expand(len(target), -1, -1, -1)
    climbed = adv(image, [list(item.labels)], record=True).images
    assert climbed is not None, "a record has the pixels"
    u = direction(gradient(network, original, target, s), original, s)
    length = u.flatten(1).norm(dim=1)[:, None, None, None]
    generator = torch.Generator().manual_seed(int(digest([seed, item.id]), 16) % 2**63)  # each image's own direction
    v = torch.randn(image.shape, generator=generator, dtype=image.dtype).to(image.device)
    surfaces = torch.zeros(len(target), len(AROUND), points, points)
    for at, x in enumerate((original, climbed, attacked(network, original, target, s))):
        here = direction(gradient(network, x, target, s), x, s)
        here = here * (length / here.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None])
        for row, c in enumerate(item.labels):
            y = scores(plane(x[row], here[row], v[0] * (length[row] / v.norm()), reach, points))[:, c]
            surfaces[row, at] = y.float().cpu().view(points, points)
    spread = scores(image).float().cpu()[0].std(correction=0)
    return {"surfaces": surfaces.numpy(), "spread": spread.numpy()}


def landscape(study: Study) -> Outcome:
    """How flat the score is around the climbed, the attacked and the original image."""
    from . import figures

    config = study.config
    s = replace(config.climb, scales=(1.0,), mirror=False)
    if s.score == "relu":
        raise SettingsError(
            "landscape needs a climb of the network's logits; this climb has score='relu' (preset official): give --preset"
            " default"
        )
    if s.space != "pixels":
        raise SettingsError(
            "landscape shows the score around pixels, and this climb moves features where it can: give --space pixels"
        )
    reach = config.reach or s.steps * s.step_size
    more: dict[str, Any] = {"reach": reach, "points": config.points, "seed": study.context.seed}
    measured = partial(measure, Climber(study.context), s, reach, config.points, study.context.seed)
    asked = Setting({}, identity(study.context, "landscape", s, **more), measured)
    sample, (parts,), skipped = study.collect([asked], draw(study.context, None, config.sample, config.list))
    rows = _rows(parts, resampled(len(parts), config.resamples, sample.seed))
    centred = [
        part["surfaces"] - part["surfaces"][..., config.points // 2, config.points // 2][..., None, None] for part in parts
    ]
    mean = np.stack([surface.mean(0) for surface in centred]).mean(0)
    text = paragraphs.landscape(rows, str(sample), config.points, reach)
    about = {"climb": asdict(s), **more}
    return Outcome(rows, text, partial(figures.landscape, mean, reach, AROUND), RULE, about, [sample], skipped)


def _rows(parts: list[Part], weights: Float[Tensor, "b n"]) -> list[Row]:
    found: dict[str, list[Tensor]] = {"score": [], "change": [], "curvature": [], "loss_change": []}
    for part in parts:
        surfaces, spread = torch.from_numpy(part["surfaces"]).double(), float(part["spread"]) or 1.0
        middle = surfaces.shape[-1] // 2
        found["score"].append(surfaces[..., middle, middle].mean(0))
        found["change"].append(change(surfaces).mean(0) / spread)
        found["curvature"].append(curvature(surfaces).mean(0) / spread)
        found["loss_change"].append(change(F.softplus(-surfaces)).mean(0))
    values = {name: torch.stack(each) for name, each in found.items()}
    means = {name: resampled_mean(value, weights) for name, value in values.items()}
    rows = []
    for at, name in enumerate(AROUND):
        numbers = {kind: mean[:, at] for kind, mean in means.items()}
        numbers |= {f"{kind}_difference": mean[:, at] - mean[:, AROUND.index("attacked")] for kind, mean in means.items()}
        deviations = {f"{kind}_deviation": float(value[:, at].std(correction=0)) for kind, value in values.items()}
        rows.append({"around": name, "images": len(parts), **with_intervals(**numbers), **deviations})
    return rows
