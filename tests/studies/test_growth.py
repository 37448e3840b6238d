"""Which cells grow, of maps made by hand."""

import pytest
import torch

from advcam.studies.growth import amplification, by_map, by_truth


def test_groups_are_shares_of_the_first_maximum():
    first = torch.tensor([[[10.0, 5.0, 4.9], [1.0, 0.9, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    strong, weak = by_map(first)
    assert strong[0].tolist() == [[True, True, False], [False, False, False]]
    assert weak[0].tolist() == [[False, False, True], [True, False, False]]
    assert not strong[1].any()
    assert not weak[1].any()


def test_amplification_is_a_mean_of_ratios_and_a_ratio_of_sums():
    first = torch.tensor([[8.0, 4.0], [2.0, 0.1]])
    maps = torch.stack([first, first * torch.tensor([[1.5, 2.5], [4.0, 100.0]])])[None]
    groups = torch.stack([by_map(maps[:, 0])[0], by_map(maps[:, 0])[1], torch.ones(1, 2, 2, dtype=torch.bool)])
    ratios, totals = amplification(maps, groups)
    assert ratios[:, 0].tolist() == [pytest.approx([1, 2]), pytest.approx([1, 4]), pytest.approx([1, 8 / 3])]
    assert totals[:, 0, 1].tolist() == pytest.approx([22 / 12, 4, (12 + 10 + 8 + 10) / 14.1])


def test_a_group_without_cells_has_no_number():
    ratios, totals = amplification(torch.rand(1, 3, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    assert ratios.isnan().all()
    assert totals.isnan().all()


def test_cells_are_what_most_of_them_is():
    mask, part = torch.zeros(4, 8, dtype=torch.long), torch.zeros(4, 8, dtype=torch.long)
    mask[:2, :4], part[:2, :2] = 3, 3  # a part and, beside it, body; below background
    mask[2:, 6:] = 1  # another class
    groups = by_truth(mask, part, [3, 1], (2, 4))
    part3, body3, ground3 = groups[:, 0].int().tolist()
    assert part3 == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert body3 == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert ground3 == [[0, 0, 1, 1], [1, 1, 1, 0]]
    assert groups[1, 1].int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
