"""Objects told apart by where their cells point."""

import pytest
import torch

from advcam.errors import InputError
from advcam.refinement.instances import cluster, connected_components, detect, find_centroids, instance_maps


def two_centres(height=40, width=60):
    """Every cell points at the nearer of two centres."""
    centres = torch.tensor([[12.0, 15.0], [25.0, 44.0]])
    grid = torch.stack(torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij"))
    towards = centres[:, :, None, None] - grid  # [2 centres, 2, h, w]
    nearer = towards.norm(dim=1).argmin(0)
    return torch.where(nearer == 0, towards[0], towards[1]), nearer


def components_by_flooding(mask):
    found, number = torch.zeros(mask.shape, dtype=torch.long), 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x] and not found[y, x]:
                number += 1
                open_cells = [(y, x)]
                while open_cells:
                    v, u = open_cells.pop()
                    if 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u] and not found[v, u]:
                        found[v, u] = number
                        open_cells += [(v + 1, u), (v - 1, u), (v, u + 1), (v, u - 1)]
    return found


def spiral(size):
    """One path that turns inwards, one cell wide, one cell apart."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    y, x, length, (dy, dx) = 0, 0, size - 1, (0, 1)
    mask[0, 0] = True
    for turn in range(size):
        for _ in range(length):
            y, x = y + dy, x + dx
            mask[y, x] = True
        dy, dx = dx, -dy
        length -= 2 if turn % 2 == 0 and turn > 0 else 0
        if length <= 0:
            break
    return mask


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_components_are_those_of_a_flood(share):
    mask = torch.rand(31, 43, generator=torch.Generator().manual_seed(3)) < share
    assert torch.equal(connected_components(mask), components_by_flooding(mask))


def test_components_of_a_spiral_and_of_nothing():
    mask = spiral(101)
    assert mask.sum() > 4000
    assert torch.equal(connected_components(mask), components_by_flooding(mask))
    assert connected_components(torch.zeros(0, 4, dtype=torch.bool)).shape == (0, 4)


@pytest.mark.parametrize("strength", [1.0, 0.4, 1.5])  # straight there, in small steps, too far and back
def test_cells_arrive_where_the_field_ends(strength):
    field, nearer = two_centres()
    arrived = find_centroids(strength * field)
    for side, centre in enumerate([(12, 15), (25, 44)]):
        deep = (nearer == side) & (field.norm(dim=0) < 12)
        assert (arrived[:, deep] - torch.tensor(centre)[:, None]).abs().max() < 0.1


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_two_centres_are_two_instances(strength):
    field, nearer = two_centres()
    instances = cluster(strength * field)
    assert instances.unique().tolist() == [0, 1]
    inside = (field.norm(dim=0) < 12).nonzero(as_tuple=True)
    assert torch.equal(instances[inside], nearer[inside])
    assert (instances == nearer).float().mean() > 0.97


def test_what_arrives_nowhere_has_the_last_id():
    field = torch.zeros(2, 9, 30)
    field[1, :, :10], field[1, :, 10:20], field[1, :, 20:] = -5, 0, 5  # out to the left, still, out to the right
    assert cluster(field).unique(return_counts=True)[1].tolist() == [90, 180]
    assert cluster(field)[0, [0, 15, 29]].tolist() == [1, 0, 1]
    assert cluster(field + 9).unique().tolist() == [0]  # no centre at all


def test_maps_are_cut_and_found_again():
    instances = torch.tensor([[0, 0, 1, 1, 2, 2]])
    maps = torch.tensor([[[0.9, 0.5, 0.0, 0.7, 0.0, 0.0]], [[0.0, 0.0, 0.0, 0.0, 0.8, 0.1]], [[0.0] * 6]])
    pieces, held = instance_maps(maps, instances)
    assert held.tolist() == [0, 0, 1]
    assert torch.equal(pieces.sum(0), maps.sum(0))
    masks, classes, confidence = detect(pieces, torch.tensor([4, 9, 9])[held], threshold=0.3, min_size=1)
    assert masks.int().tolist() == [[[1, 1, 0, 0, 0, 0]], [[0, 0, 0, 1, 0, 0]], [[0, 0, 0, 0, 1, 0]]]
    assert classes.tolist() == [4, 4, 9]
    assert confidence.tolist() == pytest.approx([0.9, 0.7, 0.8])


def test_fragments_go():
    scores = torch.zeros(2, 8, 8)
    scores[0, :4, :4], scores[0, 6, 6], scores[1, 7, 0] = 0.6, 0.9, 0.8
    masks, classes, confidence = detect(scores, torch.tensor([1, 2]), 0.3, min_size=4)
    assert masks.sum((1, 2)).tolist() == [16]
    assert (classes.tolist(), confidence.tolist()) == ([1], pytest.approx([0.6]))  # not the 0.9 of the part taken out


def test_nothing_is_an_answer():
    for scores in (torch.zeros(2, 5, 6), torch.zeros(0, 5, 6)):
        masks, classes, confidence = detect(scores, torch.arange(len(scores)), 0.3, 4)
        assert (masks.shape, len(classes), len(confidence)) == ((0, 5, 6), 0, 0)
    pieces, held = instance_maps(torch.zeros(0, 5, 6), torch.zeros(5, 6, dtype=torch.long))
    assert (pieces.shape, len(held)) == ((0, 5, 6), 0)


def test_one_cell():
    assert cluster(torch.zeros(2, 1, 1)).tolist() == [[0]]
    assert find_centroids(torch.ones(2, 1, 5))[1].tolist() == [[4.0] * 5]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cluster(torch.zeros(3, 4, 4)), r"displacement \(3, 4, 4\): expected \[2, h, w\]"),
        (lambda: find_centroids(torch.full((2, 4, 4), torch.nan)), "displacement holds NaN"),
        (lambda: cluster(torch.zeros(2, 4, 4), threshold=0), "threshold 0: expected a length above 0"),
        (lambda: instance_maps(torch.zeros(1, 4, 4), torch.zeros(4, 5)), r"maps \(1, 4, 4\) and instances \(4, 5\)"),
        (lambda: detect(torch.zeros(2, 4, 4), torch.zeros(3), 0.3, 1), "need as many classes as maps"),
        (lambda: detect(torch.full((1, 4, 4), torch.nan), torch.zeros(1), 0.3, 1), "scores hold NaN.*divided by its maximum"),
        (lambda: connected_components(torch.zeros(4, 4)), "torch.float32: expected booleans"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
