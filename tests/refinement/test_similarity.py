"""The random walk over similar features: beside its definition solved densely, and what it does to maps."""

import pytest
import torch

from advcam.errors import InputError
from advcam.refinement import on_one_grid, similarity_walk


def scene(height=5, width=7, k=2, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(k, height, width, generator=generator), torch.randn(d, height, width, generator=generator)


def by_definition(maps, features, temperature, restart, reach):
    """y = c (I - (1 - c) T)^-1 x, in float64, pair by pair."""
    height, width = features.shape[1:]
    cells = [(y, x) for y in range(height) for x in range(width)]
    weights = torch.zeros(len(cells), len(cells), dtype=torch.float64)
    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            cosine = torch.cosine_similarity(features[:, y, x].double(), features[:, v, u].double(), dim=0)
            away = ((y - v) ** 2 + (x - u) ** 2) / (2 * (reach * max(height, width)) ** 2)
            weights[i, j] = torch.exp((cosine - 1) / temperature - away)
    walk = weights / weights.sum(1, keepdim=True)
    system = torch.eye(len(cells), dtype=torch.float64) - (1 - restart) * walk
    return (restart * torch.linalg.solve(system, maps.double().flatten(1).T)).T.reshape(maps.shape).float()


@pytest.mark.parametrize("size", [(1, 2), (1, 9), (5, 7)])
@pytest.mark.parametrize(("temperature", "restart", "reach"), [(0.1, 0.02, 0.3), (0.5, 0.3, 1.0), (0.05, 0.001, 10.0)])
def test_it_is_its_definition(size, temperature, restart, reach):
    maps, features = scene(*size)
    ours = similarity_walk(maps, features, temperature, restart, reach)
    assert torch.allclose(ours, by_definition(maps, features, temperature, restart, reach), atol=2e-3)


def test_a_map_fills_the_object_that_it_marks_and_no_other():
    features = -torch.ones(1, 8, 12)
    features[:, 2:6, 1:5] = features[:, 2:6, 8:11] = 1  # two like objects, of which the map marks a corner of one
    maps = torch.zeros(1, 8, 12)
    maps[:, 2, 1] = 1
    spread = similarity_walk(maps, features, reach=0.1)[0]
    left, right, rest = spread[2:6, 1:5], spread[2:6, 8:11], spread[:, 6]
    assert left.min() > 3 * right.max() > 0
    assert left.min() > 3 * rest.max()


def test_constants_and_ranges_stay():
    maps, features = scene()
    assert torch.allclose(similarity_walk(torch.full_like(maps, 0.3), features), torch.tensor(0.3), atol=1e-3)
    spread = similarity_walk(maps, features)
    assert maps.min() - 1e-3 <= spread.min()
    assert spread.max() <= maps.max() + 1e-3
    assert torch.allclose(similarity_walk(maps, features, restart=1), maps, atol=1e-5)
    assert torch.equal(similarity_walk(torch.zeros_like(maps), features), torch.zeros_like(maps))
    assert similarity_walk(maps[:0], features).shape == (0, 5, 7)


def test_maps_do_not_touch_each_other():
    maps, features = scene()
    both = similarity_walk(maps, features)
    assert torch.allclose(both[1:], similarity_walk(maps[1:], features), atol=1e-3)
    assert similarity_walk(maps.half(), features).dtype == torch.float16


MAPS, FEATURES = scene()
BAD = {
    "another grid": (MAPS, FEATURES[:, :4], {}, r"5 x 7 cells and the features \(3, 4, 7\).*on_one_grid"),
    "no channel": (MAPS, FEATURES[:0], {}, "expected .d, h, w."),
    "one cell": (MAPS[:, :1, :1], FEATURES[:, :1, :1], {}, "1 x 1 cells: expected 2 to"),
    "too many": (torch.zeros(1, 101, 100), torch.rand(1, 101, 100), {}, "coarser grid"),
    "constant": (MAPS, torch.ones(3, 5, 7), {}, "same in every cell.*another layer"),
    "zero": (MAPS, torch.zeros(3, 5, 7), {}, "same in every cell"),
    "nan": (MAPS, torch.full((3, 5, 7), float("nan")), {}, "features"),
    "infinite map": (MAPS / 0, FEATURES, {}, "maps"),
    "whole numbers": (MAPS.long(), FEATURES, {}, "maps"),
    "temperature": (MAPS, FEATURES, {"temperature": 0}, "temperature 0: expected"),
    "restart": (MAPS, FEATURES, {"restart": 1.5}, "restart 1.5: expected"),
    "reach": (MAPS, FEATURES, {"reach": -1}, "reach -1: expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    maps, features, settings, words = BAD[case]
    with pytest.raises(InputError, match=words):
        similarity_walk(maps, features, **settings)


def test_cosines_of_joined_features_are_means():
    _, one = scene(4, 6, d=5)
    _, two = scene(4, 6, d=2, seed=1)
    made = on_one_grid([one, two], (4, 6)).flatten(1)

    def cosines(level):
        unit = torch.nn.functional.normalize((level - level.mean((1, 2), keepdim=True)).flatten(1), dim=0)
        return unit.T @ unit

    assert torch.allclose(made.T @ made, (cosines(one) + cosines(two)) / 2, atol=1e-6)
    assert on_one_grid([one, torch.rand(3, 16, 12)], (8, 8)).shape == (8, 8, 8)


@pytest.mark.parametrize(
    ("levels", "size", "words"),
    [
        ([], (4, 4), "no levels"),
        ([FEATURES], (4, 0), "side"),
        ([FEATURES[0]], (4, 4), "a level"),
        ([FEATURES[:, :0]], (4, 4), "at least one channel"),
    ],
)
def test_bad_levels(levels, size, words):
    with pytest.raises(InputError, match=words):
        on_one_grid(levels, size)
