"""Gaussian filtering in many dimensions: the permutohedral lattice (Adams, Baek & Davis, Eurographics 2010).

The kernel ``K_ij = exp(-|f_i - f_j|^2 / 2)`` of n points is never formed. Space is tiled by simplices; every point adds
its value to the d + 1 vertices around it (splat), vertices are blurred along the d + 1 directions of the lattice, and every
point reads the values of its vertices (slice): ``K ~ slice B_d ... B_0 splat``, sparse matrices, time and memory linear in n.

A vertex has d + 1 integer coordinates that sum to 0 and have the same remainder modulo d + 1: ``x = (d + 1) c + remainder``.
The integers c and the remainder are the digits of one number, its code. Equal vertices are found by sorting codes, and the code
of a neighbour differs by a constant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from advcam.errors import InputError

REACH = 2**16  # standard deviations; beyond, float32 cannot tell where in its simplex a point lies


class Sparse(NamedTuple):
    """A sparse matrix, row after row: ``Sparse @ x`` sums weighted rows of x, in a fixed order."""

    columns: Int[Tensor, " nonzeros"]
    starts: Int[Tensor, " rows"]
    weights: Float[Tensor, " nonzeros"]

    @classmethod
    def of(cls, columns: Int[Tensor, "rows k"], weights: Float[Tensor, "rows k"]) -> Sparse:
        """A matrix with k entries in every row."""
        rows, k = columns.shape
        starts = torch.arange(0, rows * k, k, dtype=columns.dtype, device=columns.device)
        return cls(columns.reshape(-1), starts, weights.reshape(-1))

    def __matmul__(self, x: Float[Tensor, "columns l"]) -> Float[Tensor, "rows l"]:
        return F.embedding_bag(self.columns, x, self.starts, mode="sum", per_sample_weights=self.weights)


class Lattice(NamedTuple):
    """The kernel of some points; ``Lattice @ x`` filters values [n, l]."""

    splat: Sparse
    blur: tuple[Sparse, ...]
    slice: Sparse

    @property
    def points(self) -> int:
        """How many: n."""
        return len(self.slice.starts)

    def __matmul__(self, x: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        for matrix in (self.splat, *self.blur, self.slice):
            x = matrix @ x
        return x

    def normalised(self, weight: float = 1.0) -> Lattice:
        """``weight D^-1/2 K D^-1/2``, ``D = diag(K 1)``: symmetric, and of about the same weight for all points."""
        root = (self @ self.slice.weights.new_ones(self.points, 1) + 1e-20).rsqrt_()  # [n, 1]
        into = self.splat.weights * root.view(-1).index_select(0, self.splat.columns)
        back = self.slice.weights.view(self.points, -1) * (weight * root)
        return Lattice(self.splat._replace(weights=into), self.blur, self.slice._replace(weights=back.view(-1)))


def permutohedral(features: Float[Tensor, "d n"], images: int = 1) -> Lattice:
    """The Gaussian kernel of n points: ``exp(-|f_i - f_j|^2 / 2)`` within an image, 0 between images.

    Args:
        features: [d, n], one column for each point, in standard deviations of the kernel; the points of an image are
            consecutive.
        images: how many images of n / images points each; the kernel is 0 between images.

    Returns:
        A lattice of n points in the type and on the device of ``features``.

    Raises:
        InputError: features that span so many standard deviations that a vertex has no 63-bit code; too many points.
    """
    d, n = features.shape
    if n * (d + 1) >= 2**31:
        raise InputError(f"expected fewer than {2**31 // (d + 1):,} points, got {n:,}; take fewer images at once")
    if not (reach := float(features.abs().max())) < REACH:
        raise InputError(f"expected features within {REACH:,} standard deviations, got {reach:,.0f}; take wider kernels")
    cell, rank, weights = _simplices(features)
    codes, strides = _codes(cell, rank, images)
    del cell, rank  # the sort is where memory peaks
    ordered, order = codes.view(-1).sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    first = new.nonzero()[:, 0]
    vertex = torch.empty_like(order, dtype=torch.int32).scatter_(0, order, new.cumsum(0, dtype=torch.int32) - 1)
    point = torch.arange(n, dtype=torch.int32, device=order.device).repeat(d + 1)
    alpha = 1 / (1 + 2**-d)  # scales back what the blur adds
    return Lattice(
        splat=Sparse(point.index_select(0, order), first.int(), weights.view(-1).index_select(0, order)),
        blur=_blur(ordered[first], strides, weights.dtype),
        slice=Sparse.of(vertex.view(d + 1, n).T, weights.T * alpha),
    )


def _simplices(
    features: Float[Tensor, "d n"],
) -> tuple[Float[Tensor, "d n"], Int[Tensor, "dplus1 n"], Float[Tensor, "dplus1 n"]]:
    """The simplex around every point: c of its vertex of remainder 0, the ranks of the residuals, the barycentric weights."""
    d, n = features.shape
    elevated = features.new_empty(d + 1, n)  # on the plane where coordinates sum to 0, scaled for the variance of the blur
    total = features.new_zeros(n)
    for j in range(d, 0, -1):
        step = features[j - 1] * (math.sqrt(2 / 3) * (d + 1) / math.sqrt(j * (j + 1)))
        torch.sub(total, step, alpha=j, out=elevated[j])
        total += step
    elevated[0] = total

    cell = (elevated * (1 / (d + 1))).round_()
    residual = elevated.sub_(cell, alpha=d + 1)
    rank = cell.sum(0).to(torch.int8).repeat(d + 1, 1)  # the sum is not 0 where rounding left the plane
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = residual[i] < residual[j]
            rank[i] += less
            rank[j] += ~less
    back = (rank < 0).to(torch.int8) - (rank > d).to(torch.int8)
    rank += (d + 1) * back
    cell += back
    residual.sub_(back, alpha=d + 1)

    ranks = rank.long()
    falling = torch.empty_like(residual).scatter_(0, ranks, residual.div_(d + 1))
    weights = falling.flip(0)
    weights[1:] -= weights[:-1].clone()
    weights[0] += 1 - falling[0]
    return cell[:d], ranks, weights


def _codes(
    cell: Float[Tensor, "d n"], rank: Int[Tensor, "dplus1 n"], images: int
) -> tuple[Int[Tensor, "dplus1 n"], Int[Tensor, " dplus1"]]:
    """The code of each point's vertex of each remainder; by how much it grows with each c (0 for the last, not stored)."""
    d, n = cell.shape
    low = cell.amin(1) - 2  # vertices reach one below, and their neighbours one more on both sides
    sizes = [images, *(cell.amax(1) - low + 2).long().tolist()]
    if (span := math.prod(sizes) * (d + 1)) >= 2**63:
        raise InputError(f"expected features of fewer than 2^63 lattice cells, got 2^{math.log2(span):.0f}; take wider kernels")
    dtype = torch.int32 if span < 2**31 else torch.int64
    image_stride, *steps = [math.prod(sizes[k:]) * (d + 1) for k in range(1, d + 2)]
    strides = torch.tensor([*steps, 0], dtype=dtype, device=cell.device)

    codes = torch.empty_like(rank, dtype=dtype)
    codes[0] = torch.arange(images, dtype=dtype, device=cell.device).repeat_interleave(n // images) * image_stride
    for i in range(d):
        codes[0].add_((cell[i] - low[i]).to(dtype), alpha=steps[i])
    by_rank = torch.empty_like(codes).scatter_(0, rank, strides[:, None].expand_as(rank))
    for remainder in range(1, d + 1):  # the coordinates that rank last wrap around first
        torch.sub(codes[remainder - 1], by_rank[d + 1 - remainder], out=codes[remainder]).add_(1)
    return codes, strides


def _blur(vertices: Int[Tensor, " m"], strides: Int[Tensor, " dplus1"], dtype: torch.dtype) -> tuple[Sparse, ...]:
    """``B_j x = x + (x[next] + x[previous]) / 2``, a missing vertex counting 0; next: coordinate j + d, all others - 1."""
    directions, m = len(strides), len(vertices)
    ahead = strides[:, None] - 1
    wrapped = ahead + directions - strides.sum()  # remainder 0 goes to d
    target = vertices + torch.where(vertices % directions > 0, ahead, wrapped)
    place = torch.searchsorted(vertices, target).clamp_(max=m - 1)
    found: Bool[Tensor, "dplus1 m"] = vertices[place] == target

    near = torch.arange(m, dtype=torch.int32, device=vertices.device)[:, None].repeat(directions, 1, 3)  # [direction, m, 3]
    weights = torch.tensor([1.0, 0.0, 0.0], dtype=dtype, device=vertices.device).repeat(directions, m, 1)
    direction, here = found.nonzero(as_tuple=True)
    there = place[direction, here]
    for column, (source, neighbour) in enumerate([(here, there), (there, here)], 1):
        near[direction, source, column] = neighbour.int()
        weights[direction, source, column] = 0.5
    return tuple(map(Sparse.of, near, weights))
