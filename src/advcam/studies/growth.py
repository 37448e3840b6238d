"""The study growth: which cells of the map grow during the climb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from advcam.attribution import ClimbSettings
from advcam.data import Item
from advcam.errors import DataError, SettingsError
from advcam.metrics import resampled, resampled_mean

from . import paragraphs
from .cache import Part, Setting
from .climbs import Climber, as_they_are
from .sample import draw, truth
from .study import Outcome, Row, Study, identity, with_intervals

DISCRIMINATIVE, LEAST = 0.5, 0.1  # shares of the first map's maximum
BY_MAP, BY_TRUTH = ("discriminative", "non-discriminative"), ("part", "body", "background")
COMPARED = {"non-discriminative": "discriminative", "body": "part", "background": "part"}

RULE = (
    "amplification: CAM(x^t)_i / CAM(x^0)_i, mean over the cells i of a group with CAM(x^0)_i of at least .1 of the"
    " maximum, then over an image's classes, then over images; total: sum of CAM(x^t) over all cells of the group / the"
    " same of CAM(x^0); discriminative: CAM(x^0) of at least .5 of its maximum, non-discriminative: .1 to .5; part, body,"
    " background: what most of the cell is by ground truth, cells of other objects left out; bootstrap over images, 95 %"
    " percentile intervals, differences paired"
)


def by_map(first: Float[Tensor, "k h w"]) -> Bool[Tensor, "2 k h w"]:
    """Returns the paper's two groups of cells: discriminative, ``CAM(x^0) / max >= .5``, and non-discriminative, .1 to .5."""
    share = first / first.amax((1, 2), keepdim=True).clamp_min(torch.finfo(first.dtype).tiny)
    return torch.stack([share >= DISCRIMINATIVE, (share >= LEAST) & (share < DISCRIMINATIVE)])


def by_truth(
    mask: Float[Tensor, "y x"], part: Float[Tensor, "y x"], ids: Sequence[int], size: tuple[int, int]
) -> Bool[Tensor, "3 k h w"]:
    """Returns the cells of the class's telling parts, of the rest of its objects, and of the background, by largest area.

    Args:
        mask: class positions, 0 background.
        part: the same, for the telling parts only.
        ids: the k classes.
        size: (h, w) of the grid.
    """
    kinds = []
    for c in ids:
        own = [part == c, (mask == c) & (part != c), mask == 0, (mask != c) & (mask != 0)]
        shares = F.adaptive_avg_pool2d(torch.stack(own)[None].double(), size)[0]
        kinds.append(F.one_hot(shares.argmax(0), 4).movedim(-1, 0)[:3].bool())
    return torch.stack(kinds, 1)


def amplification(
    maps: Float[Tensor, "k t h w"], groups: Bool[Tensor, "g k h w"]
) -> tuple[Float[Tensor, "g k t"], Float[Tensor, "g k t"]]:
    """Returns the growth of a group's cells relative to the first step: the mean of cell ratios, and the ratio of sums.

    The mean is over cells with at least a tenth of the first map's maximum; NaN for a group without such a cell.

    Args:
        maps: the map of each step.
        groups: the cells of each group.

    Example:
        >>> maps = torch.tensor([[[[1.0, 4.0]], [[3.0, 4.0]]]])
        >>> [found.tolist() for found in amplification(maps, torch.ones(1, 1, 1, 2, dtype=torch.bool))]
        [[[[1.0, 2.0]]], [[[1.0, 1.4]]]]
    """
    maps = maps.double()
    first = maps[:, :1]
    seen = groups[:, :, None] & (first >= LEAST * first.amax((2, 3), keepdim=True)) & (first > 0)
    ratios = torch.where(seen, maps / first, 0).sum((3, 4)) / seen.sum((3, 4))
    sums = torch.where(groups[:, :, None], maps, 0).sum((3, 4))
    return ratios, torch.where(sums[..., :1] > 0, sums / sums[..., :1], torch.nan)


@dataclass(frozen=True)
class Truth:
    """Folders of the ground truth of generated scenes: objects, and their telling parts."""

    masks: Path
    parts: Path


def measure(climber: Climber, s: ClimbSettings, known: Truth | None, item: Item) -> Part:
    """Returns ``amplification`` and ``total`` [groups, k, T] of an image's k classes."""
    maps = torch.stack(list(climber.steps(climber.image(item), item.labels, s)), 1).cpu()
    groups = by_map(maps[:, 0])
    if known:
        classes = climber.context.data.classes
        mask, part = (truth(folder, item, classes) for folder in (known.masks, known.parts))
        ids = [label + 1 for label in item.labels]
        groups = torch.cat([groups, by_truth(mask, part, ids, (maps.shape[2], maps.shape[3]))])
    ratios, totals = amplification(maps, groups)
    return {"amplification": ratios.numpy(), "total": totals.numpy()}


def growth(study: Study) -> Outcome:
    """How much discriminative and other cells grow over the steps, of one scale."""
    from . import figures

    config, known = study.config, _truth(study)
    longest = config.longest or 2 * config.climb.steps
    s = replace(as_they_are(config.climb), scales=(1.0,), steps=longest)
    more = {"masks": known.masks, "parts": known.parts} if known else {}
    asked = Setting({}, identity(study.context, "growth", s, **more), partial(measure, Climber(study.context), s, known))
    wanted = draw(study.context, known.masks if known else None, config.sample, config.list)
    sample, (parts,), skipped = study.collect([asked], wanted)
    names = BY_MAP + (BY_TRUTH if known else ())
    rows = _rows(parts, names, resampled(len(parts), config.resamples, sample.seed), longest)
    last = min(config.climb.steps, longest - 1)
    text = paragraphs.growth(rows, last, str(sample), ", mirror" if s.mirror else "")
    about = {"longest": longest, "climb": asdict(s), "parts": str(known.parts) if known else None}
    return Outcome(rows, text, partial(figures.growth, rows), RULE, about, [sample], skipped)


def _rows(parts: Sequence[Part], names: Sequence[str], weights: Float[Tensor, "b n"], longest: int) -> list[Row]:
    found = {}
    for kind in ("amplification", "total"):
        values = torch.stack([torch.from_numpy(part[kind]).nanmean(1) for part in parts])  # [N, groups, T]
        found[kind] = resampled_mean(values, weights)
    nothing = torch.full((len(weights),), torch.nan, dtype=torch.float64)
    rows = []
    for at, name in enumerate(names):
        for t in range(longest):
            numbers = {kind: mean[:, at, t] for kind, mean in found.items()} | {"difference": nothing}
            if name in COMPARED:
                other = found["amplification"][:, names.index(COMPARED[name]), t]
                numbers["difference"] = numbers["amplification"] - other
            rows.append({"cells": name, "t": t, "images": len(parts), **with_intervals(**numbers)})
    return rows


def _truth(study: Study) -> Truth | None:
    """Returns the ground truth if --parts is given; the objects' masks are --masks, or the folder masks beside the parts.

    Raises:
        DataError: there is no such folder.
        SettingsError: parts are given without masks.
    """
    parts = study.config.parts
    if parts is None:
        return None
    if not parts.is_dir():
        raise DataError(f"{parts}: there is no such folder of telling parts (generated scenes have one); check --parts")
    masks = study.config.masks[0] if study.config.masks else parts.parent / "masks"
    if not masks.is_dir():
        raise SettingsError(f"--parts needs the objects' masks too: there is no {masks}; give --masks DIR")
    return Truth(masks, parts)
