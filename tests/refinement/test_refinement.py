"""Masks from maps."""

import math

import pytest
import torch

from advcam.errors import InputError
from advcam.refinement import argmax_mask, pamr


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
