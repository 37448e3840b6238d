"""Instance masks from a displacement field that points from every cell to the centre of its object (IRN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_number, expect_tensor, expect_whole

STILL = 1e-3


@torch.no_grad()
def find_centroids(displacement: Float[Tensor, "2 h w"], iterations: int = 300) -> Float[Tensor, "2 h w"]:
    """The place at which every cell arrives that follows the displacement field: ``p <- p + D(p)``, bilinear, kept on the grid.

    Args:
        displacement: D, float [2, h, w], (dy, dx) in cells.
        iterations: at most; it ends earlier when nothing moves any more.

    Returns:
        [2, h, w], (y, x) in cells.

    Raises:
        InputError: a field of another shape, or that is NaN.
    """
    _check_field(displacement)
    iterations = expect_whole(iterations, "iterations", 0)
    displacement = displacement.resolve_neg()
    height, width = displacement.shape[1:]
    last = displacement.new_tensor([height - 1, width - 1])[:, None, None]
    axes = [torch.arange(n, dtype=displacement.dtype, device=displacement.device) for n in (height, width)]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    for _ in range(iterations):
        at = (2 * place / last.clamp(min=1) - 1).flip(0).movedim(0, -1)  # grid_sample: (x, y) from -1 to 1
        step = F.grid_sample(displacement[None], at[None], padding_mode="border", align_corners=True)[0]
        before, place = place, torch.minimum((place + step).clamp(min=0), last)
        if bool(((place - before).abs() < STILL).all()):
            break
    return place


@torch.no_grad()
def cluster(displacement: Float[Tensor, "2 h w"], iterations: int = 300, threshold: float = 2.5) -> Int[Tensor, "h w"]:
    """Group cells into instances: those whose displacements lead to the same centre.

    A centre is a 4-connected region in which the displacement is shorter than ``threshold``.

    Args:
        displacement: float [2, h, w], (dy, dx) in cells.
        iterations: how often, at most, a cell moves on by the displacement where it is.
        threshold: length, in cells, above 0.

    Returns:
        int64 [h, w]: ids 0 to n - 1, in reading order of the centres. Cells that arrive at no centre share one id, the last.

    Raises:
        InputError: a field of another shape or that is NaN, or a threshold that is not above 0.

    Source: Ahn, Cho & Kwak, CVPR 2019; jiwoon-ahn/irn, ``step/make_ins_seg_labels.py`` (300 rounds, 2.5 cells). The bilinear
    steps are ours.

    Example:
        >>> dx = torch.tensor([[1.0, 0.0, -1.0, 1.0, 0.0, -1.0]])  # towards cell 1, and towards cell 4
        >>> cluster(torch.stack([torch.zeros(1, 6), dx]), threshold=0.5).tolist()
        [[0, 0, 0, 1, 1, 1]]
    """
    _check_field(displacement)
    threshold = expect_number(threshold, "threshold", most=1e9)
    if not threshold > 0:
        raise InputError(f"threshold {threshold:g}: expected a length above 0, in cells (2.5 is usual)")
    centres = connected_components(displacement.square().sum(0) < threshold**2)
    y, x = find_centroids(displacement, iterations).round().long()
    reached = centres[y, x]
    reached[reached == 0] = centres.numel() + 1  # an id after those of all centres
    return reached.unique(return_inverse=True)[1]


def instance_maps(
    maps: Float[Tensor, "k h w"], instances: Integer[Tensor, "h w"]
) -> tuple[Float[Tensor, "m h w"], Int[Tensor, " m"]]:
    """Cut each class's map into the instances, to be spread by a random walk one by one.

    Args:
        maps: float [k, h, w], one for each class.
        instances: integers [h, w], ids of :func:`cluster`.

    Returns:
        The M pieces in which a map is anywhere above 0, [M, h, w], 0 outside the instance; and int64 [M], 0 to k - 1, the map
        that each was cut from.

    Raises:
        InputError: maps and instances of different size.

    Source: jiwoon-ahn/irn, ``step/make_ins_seg_labels.py``.

    Example:
        >>> pieces, class_index = instance_maps(torch.tensor([[[0.5, 0.9, 0.0]]]), torch.tensor([[0, 1, 2]]))
        >>> [[round(value, 1) for value in piece.flatten().tolist()] for piece in pieces], class_index.tolist()
        ([[0.5, 0.0, 0.0], [0.0, 0.9, 0.0]], [0, 0])
    """
    expect_tensor(maps, "maps", finite=True)
    expect_tensor(instances, "instances", "numbers", beside=maps)
    if maps.ndim != 3 or maps.shape[1:] != instances.shape:
        raise InputError(f"maps {tuple(maps.shape)} and instances {tuple(instances.shape)}: expected [k, h, w] and [h, w]")
    pieces = instances == instances.unique()[:, None, None]
    held, piece = (maps > 0).flatten(1).float().mm(pieces.flatten(1).float().T).nonzero(as_tuple=True)
    return maps[held] * pieces[piece], held


def detect(
    scores: Float[Tensor, "m y x"], class_index: Integer[Tensor, " m"], threshold: float, min_size: int
) -> tuple[Bool[Tensor, "j y x"], Integer[Tensor, " j"], Float[Tensor, " j"]]:
    """Make instance masks of instance maps, ``argmax [t | scores]``: a pixel belongs to the strongest instance above t.

    Args:
        scores: float [M, H, W], one map for each instance.
        class_index: integers [M], the class of each.
        threshold: t, the background threshold, in the unit of the scores.
        min_size: pixels; 4-connected parts of a mask that are smaller are removed.

    Returns:
        The J masks that are not empty, bool [J, H, W]; their classes [J]; and their confidences [J], the largest score in each.

    Raises:
        InputError: another number of classes than of scores, or scores that are NaN.

    Source: jiwoon-ahn/irn, ``step/make_ins_seg_labels.py``. That small parts are removed, and the others stay one object, is
    ours.

    Example:
        >>> scores = torch.tensor([[[0.9, 0.8, 0.1, 0.1]], [[0.2, 0.3, 0.4, 0.1]]])
        >>> masks, classes, confidence = detect(scores, torch.tensor([3, 7]), threshold=0.3, min_size=2)
        >>> masks.int().tolist(), classes.tolist(), [round(c, 1) for c in confidence.tolist()]
        ([[[1, 1, 0, 0]]], [3], [0.9])
    """
    expect_tensor(scores, "scores")
    expect_tensor(class_index, "class_index", "numbers", finite=True, beside=scores)
    threshold, min_size = expect_number(threshold, "threshold"), expect_whole(min_size, "min_size")
    if scores.ndim != 3 or class_index.shape != scores.shape[:1]:
        raise InputError(f"scores {tuple(scores.shape)} need as many classes as maps, got {tuple(class_index.shape)}")
    if not scores.isfinite().all():
        raise InputError(
            "the scores hold NaN or infinity, expected numbers in [0, 1]; was a map of zeros divided by its maximum?"
        )
    if not len(scores):
        return scores.bool(), class_index, scores.new_zeros(0)
    value, winner = scores.max(0)
    masks = (winner == torch.arange(len(scores), device=scores.device)[:, None, None]) & (value > threshold)
    masks = torch.stack([_without_fragments(mask, min_size) for mask in masks])
    left = masks.flatten(1).any(1)
    confidence = (scores[left] * masks[left]).amax((1, 2)) if bool(left.any()) else scores.new_zeros(0)
    return masks[left], class_index[left], confidence


def connected_components(mask: Bool[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """The 4-connected regions of a mask, numbered from 1 in reading order; 0 is outside.

    Each round, every region takes the highest number next to it, then all chains of such references are followed to their end.

    Args:
        mask: bool [h, w].

    Returns:
        int64 [h, w].

    Raises:
        InputError: no mask [h, w] of booleans.

    Example:
        >>> connected_components(torch.tensor([[1, 0, 1], [1, 0, 1], [0, 1, 0]]).bool()).tolist()
        [[1, 0, 2], [1, 0, 2], [0, 3, 0]]
    """
    expect_tensor(mask, "mask", "booleans", "h w")
    cells = mask.numel()
    region = torch.arange(cells, 0, -1, device=mask.device).view(mask.shape) * mask
    while True:
        hooks = torch.arange(cells + 1, device=mask.device)
        hooks.scatter_reduce_(0, region.flatten(), (_highest_beside(region) * mask).flatten(), "amax")
        while not torch.equal(hooks, further := hooks[hooks]):
            hooks = further
        before, region = region, hooks[region]
        if torch.equal(before, region):
            break
    first = cells - region[mask]  # the first cell of each region
    region[mask] = first.unique(return_inverse=True)[1] + 1
    return region


def _highest_beside(x: Int[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """The maximum over each cell and its four neighbours."""
    highest = x.clone()
    for one, other in ((highest[1:], x[:-1]), (highest[:-1], x[1:]), (highest[:, 1:], x[:, :-1]), (highest[:, :-1], x[:, 1:])):
        torch.maximum(one, other, out=one)
    return highest


def _without_fragments(mask: Bool[Tensor, "h w"], min_size: int) -> Bool[Tensor, "h w"]:
    if min_size <= 1 or not bool(mask.any()):
        return mask
    region = connected_components(mask)
    return mask & (region.flatten().bincount()[region] >= min_size)


def _check_field(displacement: Tensor) -> None:
    expect_tensor(displacement, "displacement")
    if displacement.ndim != 3 or len(displacement) != 2 or not displacement.numel():
        raise InputError(f"displacement {tuple(displacement.shape)}: expected [2, h, w], (dy, dx) in cells")
    if not bool(displacement.isfinite().all()):
        raise InputError(
            "the displacement holds NaN or infinity, expected finite numbers: the network that made it diverged; train it again"
        )
