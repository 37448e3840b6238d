"""Every connected region of a map at every threshold, by a component tree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

ALL, HEAD, TAIL = slice(None), slice(None, -1), slice(1, None)


@dataclass(frozen=True)
class Regions:
    """One row for each region of ``{level > t}``, for each t from 0 at which there is one.

    Args:
        threshold: t.
        first: its first pixel in reading order.
        box: x0, y0, x1, y1 of its pixels, the last column and row included.
        weight: the sum of the weights of its pixels.
        peak: one of its pixels, the same at all thresholds at which it keeps its name.
    """

    threshold: Int[Tensor, " m"]
    first: Int[Tensor, " m"]
    box: Int[Tensor, "m 4"]
    weight: Int[Tensor, " m"]
    peak: Int[Tensor, " m"]


@dataclass(frozen=True)
class Forest:
    """The component tree of a map: how its regions merge as the threshold falls.

    A hill is the set of pixels from which steepest ascent leads to one peak. A region is named after one of its hills. Where
    two regions touch, one is merged into the other and loses its name.

    Args:
        peaks: the pixel of each hill's peak.
        hill: the hill of every pixel.
        into: the hill that each hill is merged into; itself where it is never merged.
        at: the level at which it is merged, 0 where it never is. A region is named after hill b where
            ``at[b] <= t < level[peaks[b]]``.
    """

    peaks: Int[Tensor, " b"]
    hill: Int[Tensor, " n"]
    into: Int[Tensor, " b"]
    at: Int[Tensor, " b"]

    def region(self, hill: Int[Tensor, " k"], level: Int[Tensor, " k"]) -> Int[Tensor, " k"]:
        """The region that a pixel of this hill and level (at least 1) belongs to at ``t = level - 1``, by name."""
        found = hill.clone()
        rows = (self.at[found] >= level).nonzero()[:, 0]
        while len(rows):
            found[rows] = self.into[found[rows]]
            rows = rows[self.at[found[rows]] >= level[rows]]
        return found

    def connected(self, ground: int, level: Int[Tensor, "y x"]) -> Int[Tensor, "y x"]:
        """For each pixel, the highest level at which it is connected to the pixel ``ground``.

        ``ground`` has the highest level of all, and its hill is never merged into another.
        """
        at, into = self.at.clone(), self.into
        at[self.hill[ground]] = level.flatten()[ground]
        while not torch.equal(into, further := into[into]):
            at, into = torch.minimum(at, at[into]), further
        return torch.minimum(level, at[self.hill].view(level.shape))


def forest(order: Float[Tensor, "y x"], level: Int[Tensor, "y x"], diagonal: bool, ground: int | None = None) -> Forest:
    """Build the component tree of a map.

    Args:
        order: the values to ascend; a pixel of higher value must not have a lower level. The finer, the fewer hills.
        level: 0 and above; pixels of level 0 are in no region.
        diagonal: whether pixels that touch at a corner are connected (8 neighbours, else 4).
        ground: a pixel whose hill is never merged into another.
    """
    pixels = torch.arange(order.numel(), device=order.device)
    up = _highest_beside(order, pixels.view(order.shape), diagonal).flatten()
    while not torch.equal(up, further := up[up]):
        up = further
    peaks = (up == pixels).nonzero()[:, 0]
    number = torch.zeros_like(pixels)
    number[peaks] = pixels[: len(peaks)]
    hill = number[up]
    passes = _passes(hill.view(order.shape), level, len(peaks), diagonal)
    into, at = _join(len(peaks), passes.tolist(), None if ground is None else int(hill[ground]))
    return Forest(peaks, hill, pixels.new_tensor(into), pixels.new_tensor(at))


def regions(trees: Forest, level: Int[Tensor, "y x"], weight: Int[Tensor, "y x"] | None = None) -> Regions:
    """List every region at every threshold.

    The rows of one name are consecutive, from its peak downwards. A pixel is added at the row of its level, a merged region at
    the row below its own last; then every row is added to the next.

    Args:
        trees: the component tree of these levels.
        level: 0 and above.
        weight: of every pixel; 0 if not given.
    """
    width, pixels, levels = level.shape[1], level.numel(), level.flatten()
    top = levels[trees.peaks]
    length = top - trees.at
    start = length.cumsum(0) - length
    name = torch.repeat_interleave(length)

    there = levels.nonzero()[:, 0]
    mine = trees.region(trees.hill[there], levels[there])
    y, x = there // width, there % width
    inward = torch.stack([pixels - there, width - x, x + 1, y + 1])  # a region's is the maximum; all above 0
    heavy = torch.zeros_like(there) if weight is None else weight.flatten()[there]
    extent, total = levels.new_zeros(4, len(name)), levels.new_zeros(len(name))
    _bring_in(extent, total, start[mine] + top[mine] - levels[there], inward, heavy)

    taken = ((trees.at > 0) & (length > 0)).nonzero()[:, 0]
    taker = trees.region(trees.into[taken], trees.at[taken])
    own, own_total = levels.new_zeros(4, len(top)), levels.new_zeros(len(top))
    _bring_in(own, own_total, name, extent, total)
    whole, whole_total = own, own_total
    while True:  # few rounds, since smaller regions are merged into larger ones
        more, more_total = own.clone(), own_total.clone()
        _bring_in(more, more_total, taker, whole[:, taken], whole_total[taken])
        if torch.equal(more, whole) and torch.equal(more_total, whole_total):
            break
        whole, whole_total = more, more_total
    _bring_in(extent, total, start[taker] + top[taker] - trees.at[taken], whole[:, taken], whole_total[taken])

    apart = name * (pixels + 1)  # so that cummax does not carry over from one name to the next
    first, left, right, bottom = (extent + apart).cummax(1).values - apart
    running = total.cumsum(0)
    before = (running - total)[start[name]]
    first = pixels - first
    return Regions(
        threshold=top[name] - 1 - (torch.arange(len(name), device=level.device) - start[name]),
        first=first,
        box=torch.stack([width - left, first // width, right - 1, bottom - 1], 1),
        weight=running - before,
        peak=trees.peaks[name],
    )


def _bring_in(extent: Tensor, total: Tensor, row: Tensor, extents: Tensor, totals: Tensor) -> None:
    extent.scatter_reduce_(1, row.expand(4, -1), extents, "amax")
    total.scatter_add_(0, row, totals)


def _highest_beside(order: Float[Tensor, "y x"], pixels: Int[Tensor, "y x"], diagonal: bool) -> Int[Tensor, "y x"]:
    """The highest of a pixel and those beside it; of equal ones the first in reading order, so that no ascent is a cycle."""
    best, place = order.clone(), pixels.clone()

    def take(to: tuple[slice, slice], value: Tensor, at: Tensor) -> None:
        higher = (value > best[to]) | ((value == best[to]) & (at < place[to]))
        best[to], place[to] = torch.where(higher, value, best[to]), torch.where(higher, at, place[to])

    for to, source in ((TAIL, HEAD), (HEAD, TAIL)):
        take((ALL, to), order[:, source], pixels[:, source])
    rows, places = (best.clone(), place.clone()) if diagonal else (order, pixels)
    for to, source in ((TAIL, HEAD), (HEAD, TAIL)):
        take((to, ALL), rows[source], places[source])
    return place


def _passes(hill: Int[Tensor, "y x"], level: Int[Tensor, "y x"], hills: int, diagonal: bool) -> Int[Tensor, "3 k"]:
    """Pairs of hills that touch and the highest level at which they do, above 0; from high to low."""
    sides = [((HEAD, ALL), (TAIL, ALL)), ((ALL, HEAD), (ALL, TAIL))]
    sides += [((HEAD, HEAD), (TAIL, TAIL)), ((HEAD, TAIL), (TAIL, HEAD))] if diagonal else []
    found = []
    for here, there in sides:
        apart = hill[here] != hill[there]
        a, b = hill[here][apart], hill[there][apart]
        height = torch.minimum(level[here][apart], level[there][apart])
        found.append(torch.stack([torch.minimum(a, b), torch.maximum(a, b), height])[:, height > 0])
    a, b, height = torch.cat(found, 1)
    pair, which = (a * hills + b).unique(return_inverse=True)
    highest = torch.zeros_like(pair).scatter_reduce_(0, which, height, "amax")
    highest, order = highest.sort(descending=True, stable=True)
    return torch.stack([pair[order] // hills, pair[order] % hills, highest])


def _join(hills: int, passes: list[list[int]], ground: int | None) -> tuple[list[int], list[int]]:
    """For each hill, the one it is merged into and the level: the smaller into the larger, over the passes from high to low."""
    into, at, leader, size = list(range(hills)), [0] * hills, list(range(hills)), [1] * hills
    if ground is not None:
        size[ground] = hills + 1
    for one, other, height in zip(*passes, strict=True):
        while leader[one] != one:
            leader[one] = one = leader[leader[one]]
        while leader[other] != other:
            leader[other] = other = leader[leader[other]]
        if one != other:
            smaller, larger = (one, other) if size[one] < size[other] else (other, one)
            into[smaller] = leader[smaller] = larger
            at[smaller] = height
            size[larger] += size[smaller]
    return into, at
