"""Masks from maps."""

import math

import pytest
import torch

from advcam.errors import InputError
from advcam.refinement import argmax_mask, pamr, separation


def pamr_by_loops(image, maps, iterations, dilations):
    """The same formula, pixel by pixel."""
    channels, height, width = image.shape
    for _ in range(iterations):
        new = torch.zeros_like(maps)
        for y in range(height):
            for x in range(width):
                near = [
                    (min(max(y + dy * d, 0), height - 1), min(max(x + dx * d, 0), width - 1))
                    for d in dilations
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                    if dy or dx
                ]
                weights = []
                spread = [
                    torch.stack([image[c][p] for p in near] + [image[c, y, x]] * len(dilations)).std().item()
                    for c in range(channels)
                ]
                for p in near:
                    parts = [-abs(image[c][p] - image[c, y, x]).item() / (0.1 * spread[c] + 1e-8) for c in range(channels)]
                    weights.append(math.exp(sum(parts) / channels))
                for k in range(len(maps)):
                    new[k, y, x] = sum(w * maps[k][p] for w, p in zip(weights, near, strict=True)) / sum(weights)
        maps = new
    return maps


def test_pamr_equals_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    image, maps = torch.rand(3, 6, 7, generator=generator), torch.rand(2, 6, 7, generator=generator)
    ours = pamr(image[None], maps[None], iterations=2, dilations=(1, 3))[0]
    assert torch.allclose(ours, pamr_by_loops(image, maps, 2, (1, 3)), atol=1e-4)


def test_pamr_moves_a_map_to_the_edge_of_the_image():
    image = torch.zeros(1, 3, 40, 40)
    image[:, :, :, 20:] = 1
    image += 0.02 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    truth = (image[0, 0] > 0.5).float()
    rough = torch.zeros(1, 1, 40, 40)
    rough[..., 16:] = 1  # four columns too many

    def wrong(maps):
        return float(((maps[0, 0] > 0.5).float() - truth).abs().sum())

    assert wrong(pamr(image, rough)) < 0.25 * wrong(rough)


def test_pamr_keeps_the_range_and_is_batched():
    images, maps = torch.rand(2, 3, 12, 15), torch.rand(2, 3, 12, 15)
    out = pamr(images, maps)
    assert out.min() >= maps.min()
    assert out.max() <= maps.max()
    assert torch.allclose(out[1], pamr(images[1:], maps[1:])[0], atol=1e-6)
    assert torch.allclose(pamr(images, torch.ones(2, 1, 12, 15)), torch.ones(2, 1, 12, 15), atol=1e-5)


def test_label():
    maps = torch.tensor([[[0.9, 0.2, 0.3]], [[0.1, 0.25, 0.8]]])
    assert argmax_mask(maps, [8, 12], 0.25).tolist() == [[8, 0, 12]]  # a tie with the threshold is background
    assert argmax_mask(torch.zeros(0, 2, 2), [], 0.3).tolist() == [[0, 0], [0, 0]]


def test_bad_input():
    with pytest.raises(InputError, match="one number and size"):
        pamr(torch.rand(1, 3, 4, 4), torch.rand(1, 1, 5, 4))
    with pytest.raises(InputError, match="2 maps need as many class ids, got 1"):
        argmax_mask(torch.rand(2, 4, 4), [1], 0.3)


def separation_by_loops(maps, image, thresholds):
    """The definition, threshold by threshold."""
    found = torch.zeros(len(maps), len(thresholds), dtype=torch.float64)
    colours = image.double().flatten(1)
    total = colours.var(1, unbiased=False).sum()
    for k, one in enumerate(maps):
        for at, t in enumerate(thresholds):
            inside = one.flatten() > t
            a = inside.double().mean()
            if 0 < a < 1 and total > 0:
                between = colours[:, inside].mean(1) - colours[:, ~inside].mean(1)
                found[k, at] = a * (1 - a) * between.square().sum() / total
    return found


def test_separation_equals_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    maps, image = torch.rand(3, 9, 11, generator=generator), 255 * torch.rand(3, 9, 11, generator=generator)
    maps[2] = 0  # nothing exceeds a threshold
    thresholds = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]
    ours = separation(maps, image, thresholds)
    assert torch.allclose(ours, separation_by_loops(maps, image, thresholds))
    assert ours[:2].max() > 0
    assert torch.allclose(separation(maps, 3 * image + 7, thresholds), ours)  # in any unit


def test_an_image_of_one_colour_is_separated_by_nothing():
    assert not separation(torch.rand(2, 4, 4), torch.full((3, 4, 4), 0.3), [0.2, 0.5]).any()


@pytest.mark.parametrize(
    ("maps", "image", "thresholds", "words"),
    [
        (torch.zeros(1, 2, 2), torch.zeros(3, 2, 3), [0.5], "the same size"),
        (torch.zeros(1, 2, 2), torch.full((3, 2, 2), float("nan")), [0.5], "features"),
        (torch.zeros(1, 2, 2), torch.zeros(3, 2, 2), [], "at least one"),
        (torch.zeros(1, 2, 2), torch.zeros(3, 2, 2), [0.5, 0.4], "each above"),
        (torch.zeros(1, 2, 2), torch.zeros(3, 2, 2), [0.5, "x"], "a threshold"),
    ],
)
def test_separation_of_bad_input(maps, image, thresholds, words):
    with pytest.raises(InputError, match=words):
        separation(maps, image, thresholds)
