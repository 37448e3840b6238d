"""Maps that walk: beside the published walk, and beside the same walk with a dense matrix."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from advcam.errors import InputError
from advcam.refinement.paths import line, offsets, pair_affinity
from advcam.refinement.walk import feature_walk, random_walk, walk


def affinity_matrix(height, width, radius, affinity):
    """[cells, cells], pair by pair; affinity(one cell, other cell)."""
    matrix = torch.eye(height * width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for dy, dx in offsets(radius):
                if y + dy < height and 0 <= x + dx < width:
                    i, j = y * width + x, (y + dy) * width + x + dx
                    matrix[i, j] = matrix[j, i] = affinity((y, x), (y + dy, x + dx))
    return matrix


def dense_walk(maps, matrix, log2_steps):
    transition = matrix / matrix.sum(0)
    for _ in range(log2_steps):
        transition = transition @ transition
    return (maps.double().flatten(1) @ transition).view(maps.shape).float()


def random_scene(height, width, k=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(k, height, width, generator=generator), torch.rand(1, height, width, generator=generator) ** 2


def test_offsets_and_paths_are_the_published_ones(parity):
    published = np.load(parity / "walk.npz")
    for radius in (5, 10):
        assert [list(offset) for offset in offsets(radius)] == published[f"offsets.radius{radius}"].tolist()
    assert line(0, 3) == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert line(2, -2) == ((0, -1), (0, 0), (1, -2), (1, -1), (1, 0), (2, -2), (2, -1))


@pytest.mark.parametrize(("beta", "log2_steps", "radius"), [(10, 8, 5), (8, 4, 5), (10, 8, 3)])
def test_walk_equals_the_published_one(parity, beta, log2_steps, radius):
    published = np.load(parity / "walk.npz")
    ours = random_walk(torch.tensor(published["cam"]), torch.tensor(published["edge"]), radius, beta, log2_steps)
    theirs = torch.tensor(published[f"walk.beta{beta}.log2t{log2_steps}.radius{radius}"])[:, 0]
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 4), (9, 7)])  # a grid smaller than the radius too
@pytest.mark.parametrize(("radius", "beta", "log2_steps"), [(2, 1, 0), (3, 10, 1), (5, 4, 3), (5, 0.5, 8), (5, 10, 11)])
def test_sparse_is_dense(size, radius, beta, log2_steps):
    maps, boundary = random_scene(*size)

    def free(one, other):
        cells = [(one[0] + y, one[1] + x) for y, x in line(other[0] - one[0], other[1] - one[1])]
        return (1 - max(float(boundary[0][cell]) for cell in cells)) ** beta

    dense = dense_walk(maps * (1 - boundary), affinity_matrix(*size, radius, free), log2_steps)
    assert torch.allclose(random_walk(maps, boundary, radius, beta, log2_steps), dense, atol=3e-6)


@pytest.mark.parametrize(("radius", "beta"), [(2, 1), (5, 8)])
def test_feature_walk_is_dense(radius, beta):
    maps, _ = random_scene(6, 8)
    features = torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(1))

    def alike(one, other):
        return float((-beta * (features[:, *one] - features[:, *other]).abs().mean()).exp())

    dense = dense_walk(maps, affinity_matrix(6, 8, radius, alike), 4)
    assert torch.allclose(feature_walk(maps, features, radius, beta, 4), dense, atol=3e-6)


def test_a_constant_map_stays_and_the_range_holds():
    maps, boundary = random_scene(20, 30)
    assert torch.allclose(random_walk(torch.ones(1, 20, 30), torch.zeros(1, 20, 30)), torch.ones(1, 20, 30), atol=1e-5)
    assert torch.allclose(feature_walk(torch.ones(1, 20, 30), maps), torch.ones(1, 20, 30), atol=1e-5)
    spread = random_walk(maps, boundary)
    assert spread.min() >= 0
    assert spread.max() <= maps.max()


def test_what_a_walk_weighs_is_kept():
    """The chain is reversible: the sum, weighted by the affinities of each cell, does not change."""
    maps, _ = random_scene(9, 7)
    affinity = torch.rand(len(offsets(3)), 9, 7, generator=torch.Generator().manual_seed(2))
    position = dict(zip(offsets(3), affinity, strict=True))
    matrix = affinity_matrix(9, 7, 3, lambda one, other: position[other[0] - one[0], other[1] - one[1]][one])
    weight = matrix.sum(0).view(9, 7)
    after = walk(maps, affinity, 3, 6)
    assert torch.allclose((after * weight).sum((1, 2)), (maps * weight).sum((1, 2)), rtol=1e-5)


def test_a_wall_stops_the_walk():
    maps, boundary = torch.zeros(1, 12, 20), torch.zeros(1, 12, 20)
    maps[:, :, :3], boundary[:, :, 8] = 1, 1
    spread = random_walk(maps, boundary, log2_steps=12)
    assert spread[..., 8:].max() < 1e-5
    assert spread[..., :8].min() > 0.3


def test_the_same_every_time_and_for_every_map_alone():
    maps, boundary = random_scene(30, 40, k=3)
    together = random_walk(maps, boundary)
    assert torch.equal(together, random_walk(maps, boundary))
    assert torch.allclose(together[1:2], random_walk(maps[1:2], boundary), atol=1e-6)
    assert random_walk(maps.half(), boundary).dtype == torch.float16
    assert random_walk(maps.double(), boundary).dtype == torch.float64


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x.layout == torch.strided:
                self.numbers = max(self.numbers, x.numel())
        return out


def test_memory_is_linear():
    """No tensor holds more than the 69 neighbours of each cell; benchmarks/walk.py measures the whole process."""
    for side in (20, 60):
        with Largest() as largest:
            random_walk(torch.rand(2, side, side), torch.rand(1, side, side))
        assert largest.numbers <= 69 * side**2


def test_nobody_reads_that_sparse_matrices_are_in_beta():
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            random_walk(*random_scene(4, 5))
    finally:
        torch.set_warn_always(False)


def test_pair_affinity_has_the_gradient_of_the_highest_cell():
    boundary = torch.rand(2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: pair_affinity(b, 3), boundary)
    assert pair_affinity(boundary, 3).shape == (2, len(offsets(3)), 3, 2)


MAPS, OPEN = torch.rand(2, 6, 7), torch.zeros(1, 6, 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"boundary": torch.zeros(1, 12, 14)},
            "the maps are 6 x 7 cells and the boundary 12 x 14.*strides differ, resize the maps",
        ),
        ({"boundary": torch.zeros(6, 7)}, "the boundary"),
        ({"boundary": torch.zeros(2, 6, 7)}, "boundary of 2 channels"),
        ({"boundary": OPEN - 3}, "-3 to -3: expected one channel in .0, 1.; if these are logits, apply sigmoid first"),
        ({"boundary": OPEN / 0}, "the boundary hold NaN"),
        ({"maps": MAPS / 0}, "the maps hold NaN or infinity"),
        ({"maps": MAPS - 2}, "expected no negative values: apply relu"),
        ({"maps": MAPS[:0]}, r"\(0, 6, 7\).*at least one map; an image without a class needs no walk"),
        ({"maps": MAPS[0]}, r"\(6, 7\)"),
        ({"maps": MAPS.long()}, "torch.int64: expected float"),
        ({"radius": 1}, "radius 1 holds no pair of cells: expected a whole number from 2 to 256"),
        ({"beta": 0}, "beta 0: expected a power above 0"),
        ({"beta": float("nan")}, "beta nan"),
        ({"log2_steps": -1}, "log2_steps -1: expected 0 to 20"),
        ({"log2_steps": 64}, "log2_steps 64: expected 0 to 20"),
    ],
)
def test_bad_input(change, words):
    with pytest.raises(InputError, match=words):
        random_walk(**{"maps": MAPS, "boundary": OPEN, **change})


def test_bad_features_and_affinities():
    with pytest.raises(InputError, match="the maps are 6 x 7 cells and the features 3 x 4.*grid of the features"):
        feature_walk(MAPS, torch.rand(8, 3, 4))
    with pytest.raises(InputError, match="the features hold NaN"):
        feature_walk(MAPS, torch.full((8, 6, 7), torch.nan))
    with pytest.raises(InputError, match=r"affinity \(3, 6, 7\): expected \(34, 6, 7\)"):
        walk(MAPS, torch.rand(3, 6, 7), 5)
    with pytest.raises(InputError, match="a grid of 8 x 30 cells has no pairs within radius 10.*at least 10 x 19"):
        pair_affinity(torch.rand(1, 8, 30), 10)
