"""What a map is sure of."""

import pytest
import torch

from advcam.errors import InputError
from advcam.refinement import argmax_mask, confident_affinity_labels, confident_labels


@pytest.fixture
def image():
    """Dark left of column 20, bright right of it, with a little noise."""
    image = torch.zeros(3, 24, 40, dtype=torch.uint8)
    image[:, :, 20:] = 200
    return image + torch.randint(0, 8, image.shape, dtype=torch.uint8)


@pytest.fixture
def ramp():
    """A map that grows from left to right, 0 to 1."""
    return torch.linspace(0, 1, 40).expand(1, 24, 40)


@pytest.mark.parametrize("confident", [confident_labels, confident_affinity_labels])
def test_sure_at_both_ends_and_open_between(confident):
    bands = torch.arange(3).repeat_interleave(16)  # three grey bands, and a map that is low, middling and high on them
    image = (100 * bands).to(torch.uint8).expand(3, 24, 48)
    ids = confident(image, torch.tensor([0.02, 0.25, 1.0])[bands].expand(1, 24, 48), [12])
    assert ids[12].tolist() == torch.tensor([0, 255, 12])[bands].tolist()


def test_thresholds_decide_what_is_sure(image, ramp):
    loose, strict = (confident_labels(image, ramp, [3], *pair) for pair in ((0.35, 0.3), (0.8, 0.1)))
    assert (strict == 255).sum() > (loose == 255).sum()
    same = confident_labels(image, ramp, [3], 0.4, 0.4)
    assert not (same == 255).any()


def test_two_classes_keep_their_ids(image):
    maps = torch.zeros(2, 24, 40)
    maps[0, :, :14], maps[1, :, 26:] = 1, 1
    ids = confident_labels(image, maps, [17, 8])
    assert ids[12, 2] == 17
    assert ids[12, -3] == 8
    assert ids.dtype == torch.uint8


def test_the_margin_leaves_open_what_is_close():
    maps = torch.tensor([[[0.9, 0.52, 0.1, 0.48]], [[0.2, 0.5, 0.45, 0.1]]])
    assert argmax_mask(maps, [8, 12], 0.4).tolist() == [[8, 8, 12, 8]]
    assert argmax_mask(maps, [8, 12], 0.4, margin=0.07).tolist() == [[8, 255, 255, 8]]
    assert argmax_mask(maps, [8, 12], 0.4, margin=0.0).tolist() == [[8, 8, 12, 8]]
    marginals = torch.tensor([[[0.6, 0.45]], [[0.4, 0.55]]])
    assert argmax_mask(marginals, [0, 5], -1.0, margin=0.15).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, m: confident_labels(i, m[:0], []), "expected at least one map, got none: an image without a class"),
        (
            lambda i, m: confident_labels(i, m[:, :9], [1]),
            r"the image is \(24, 40\), the maps \(9, 40\); bring them to one size",
        ),
        (lambda i, m: confident_labels(i, m, [1, 2]), "1 maps need as many class ids, got 2"),
        (lambda i, m: confident_labels(i, m, [1], 0.1, 0.3), "expected 0 <= background <= foreground <= 1"),
        (lambda i, m: confident_affinity_labels(i, m, [1], 32, 4), "expected 0 < foreground <= background"),
        (lambda i, m: argmax_mask(m * torch.nan, [1], 0.3), "the maps hold NaN"),
    ],
)
def test_bad_input(image, ramp, call, message):
    with pytest.raises(InputError, match=message):
        call(image, ramp)
