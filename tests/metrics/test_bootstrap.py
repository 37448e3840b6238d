"""Intervals by drawing images again, against one draw at a time."""

import numpy as np
import pytest
import torch

from advcam.errors import InputError
from advcam.metrics import interval, iou, mean_iou, noise, resampled, resampled_iou, resampled_mean, resampled_seeds


def test_draws_are_of_n_images_and_the_same_for_the_same_seed():
    weights = resampled(7, 50, seed=3)
    assert weights.shape == (51, 7)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 7).all()
    assert len(weights[1:].unique(dim=0)) > 40
    assert torch.equal(weights, resampled(7, 50, seed=3))
    assert not torch.equal(weights, resampled(7, 50, seed=4))
    with pytest.raises(InputError, match="at least one image"):
        resampled(0)


def test_seed_numbers_are_those_of_a_loop_over_draws_and_images():
    images, thresholds, labels = 6, 5, 4
    confused = torch.randint(0, 50, (images, thresholds, labels, labels))
    confused[:, :, :, 3] = 0  # predicted nowhere, and in two images not there either
    confused[:, :, 3, 1:] = 0
    confused[:2, :, 3] = 0
    true = torch.randint(100, 200, (images, labels))
    true[:, 3] = torch.tensor([0, 0, 9, 9, 0, 9])
    for label in range(labels):  # so that every threshold has the same truth
        confused[:, :, label, 0] = true[:, None, label] * 4 - confused[:, :, label, 1:].sum(-1)
    hits, predicted, true = confused.diagonal(dim1=2, dim2=3), confused.sum(2), confused[:, 0].sum(2)
    weights = resampled(images, 30, seed=1)
    found, noises = resampled_seeds(hits, predicted, true, weights, at_once=7)
    for row, drawn in enumerate(weights.long()):
        summed = sum(int(count) * confused[at] for at, count in enumerate(drawn))
        assert torch.allclose(found[row], mean_iou(summed))
        assert torch.allclose(noises[row], noise(summed))


def test_means_leave_out_what_is_not_there():
    values, weights = torch.randn(5, 2, 3), resampled(5, 20)
    values[1, 0, 0] = torch.nan
    found = resampled_mean(values, weights)
    for row, drawn in enumerate(weights):
        for at in np.ndindex(2, 3):
            drawn_values = np.repeat(values[(slice(None), *at)].numpy(), drawn.long().numpy())
            assert float(found[row][at]) == pytest.approx(np.nanmean(drawn_values), rel=1e-6)


def test_the_interval_is_of_the_draws_alone():
    values = torch.cat([torch.tensor([1000.0]), torch.arange(101.0)])
    assert [float(end) for end in interval(values)] == pytest.approx([2.5, 97.5])
    low, high = interval(torch.cat([torch.zeros(1, 2), torch.rand(200, 2)]), level=0.5)
    assert low.shape == (2,)
    assert (low < high).all()


def test_a_mean_of_equal_images_has_no_width():
    low, high = interval(resampled_mean(torch.full((9,), 2.5), resampled(9, 40)))
    assert float(low) == float(high) == 2.5


def test_the_interval_holds_the_mean_of_what_was_drawn_from():
    drawn = torch.distributions.Normal(3.0, 1.0).sample((200, 40))
    inside = 0
    for sample in drawn:
        low, high = interval(resampled_mean(sample, resampled(40, 200)))
        inside += bool(low <= 3 <= high)
    assert 0.85 < inside / 200 <= 1


def test_ious_are_those_of_a_loop_over_draws_and_images():
    confused = torch.randint(0, 50, (6, 4, 4))
    confused[:, 3], confused[:, :, 3] = 0, 0  # a label that is nowhere
    confused[1:, 2], confused[1:, :, 2] = 0, 0  # one in a single image
    weights = resampled(6, 30, seed=1)
    found = resampled_iou(confused.diagonal(dim1=1, dim2=2), confused.sum(1), confused.sum(2), weights)
    assert found[:, 3].isnan().all()
    assert torch.equal(found[:, 2].isnan(), weights[:, 0] == 0)
    for row, drawn in enumerate(weights.long()):
        assert torch.allclose(found[row], iou(torch.einsum("n,nij->ij", drawn, confused)), equal_nan=True)


def test_counts_of_other_images_have_no_iou():
    hits = torch.ones(3, 2)
    with pytest.raises(InputError, match=r"predicted \(3, 3\).*expected \[n, l\], the same"):
        resampled_iou(hits, torch.ones(3, 3), hits, resampled(3, 1))
    with pytest.raises(InputError, match="n images and b"):
        resampled_iou(hits, hits, hits, resampled(4, 1))
