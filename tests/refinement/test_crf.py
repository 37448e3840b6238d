"""The fully connected CRF, beside the C++ code's marginals."""

import math

import numpy as np
import pytest
import torch

from advcam.errors import InputError
from advcam.refinement import unary_from_labels, unary_from_probabilities
from advcam.refinement.crf import _marginals, dense_crf

SETTINGS = {
    "hard": ((3.0, 3.0), (50.0, 5.0, 10.0)),
    "soft": ((3.0, 3.0), (80.0, 13.0, 10.0)),
    "test": ((1.0, 3.0), (67.0, 3.0, 4.0)),
}


@pytest.fixture(scope="module")
def published(parity):
    with np.load(parity / "crf.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def images():
    """Two images of blobs with some noise."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(30.0), indexing="ij")
    waves = torch.stack([torch.sin(x / 5) + torch.cos(y / 4), torch.sin((x + y) / 6), torch.cos((x - y) / 3)])
    noise = 8 * torch.randn(2, 3, 24, 30)
    return (60 * torch.stack([waves, waves.flip(0)]) + 128 + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("iterations", [1, 10])
@pytest.mark.parametrize("setting", SETTINGS)
def test_marginals_are_those_of_the_cpp_code(published, setting, iterations):
    image = published["image"].permute(2, 0, 1)[None]
    gaussian, bilateral = SETTINGS[setting]
    ours = dense_crf(image, published[f"{setting}.unary"][None], iterations, gaussian, bilateral)[0, 1]
    theirs = published[f"{setting}.q{iterations}"]
    assert float((ours - theirs).abs().mean()) < 1e-6
    assert float((ours - theirs).abs().max()) < 1e-3
    assert float(((ours > 0.5) == (theirs > 0.5)).float().mean()) >= 0.9999


def test_unaries_are_those_of_the_cpp_code(published):
    score = published["score"][None]
    hard = unary_from_labels((score > 0.45).long(), 2, 0.7)
    soft = unary_from_probabilities(torch.stack([1 - (0.9 * score + 0.05), 0.9 * score + 0.05], 1))
    assert torch.allclose(hard[0], published["hard.unary"], atol=1e-6)
    assert torch.allclose(soft[0], published["soft.unary"], atol=1e-5)


def test_a_noisy_image_is_cleaned():
    image = torch.full((1, 3, 40, 50), 60, dtype=torch.uint8)
    image[..., 10:30, 15:40] = 180
    image += torch.randint(0, 12, image.shape, dtype=torch.uint8)
    truth = torch.zeros(1, 40, 50, dtype=torch.long)
    truth[:, 10:30, 15:40] = 1
    seen = torch.where(torch.rand(truth.shape) < 0.2, 1 - truth, truth)
    unary = unary_from_labels(seen, 2)
    assert (dense_crf(image, unary).argmax(1) == truth).float().mean() > 0.995
    assert (dense_crf(image, unary, gaussian=None).argmax(1) == truth).float().mean() > 0.995
    assert (dense_crf(image, unary, bilateral=None).argmax(1) == truth).float().mean() > 0.95


def test_a_batch_gives_what_one_at_a_time_gives_twice(images):
    unary = torch.rand(2, 4, 24, 30) * 3
    before = unary.clone()
    together = dense_crf(images, unary)
    alone = torch.cat([dense_crf(p[None], u[None]) for p, u in zip(images, unary, strict=True)])
    assert torch.allclose(together, alone, atol=1e-6)
    at_once = _marginals(images, unary, 10, (3.0, 3.0), (80.0, 13.0, 10.0), None)  # what is done on other devices than a CPU
    assert torch.allclose(at_once, together, atol=1e-6)
    assert torch.equal(together, dense_crf(images, unary))
    assert torch.equal(unary, before)
    assert torch.allclose(together.sum(1), torch.ones(2, 24, 30), atol=1e-5)


def test_one_image_serves_several_unaries(images):
    unary = torch.rand(3, 4, 24, 30) * 3
    assert torch.allclose(dense_crf(images[:1], unary), dense_crf(images[:1].expand(3, -1, -1, -1), unary), atol=1e-6)


def test_labels_have_no_order(images):
    unary = torch.rand(2, 5, 24, 30) * 3
    order = [3, 0, 4, 1, 2]
    assert torch.allclose(dense_crf(images, unary)[:, order], dense_crf(images, unary[:, order]), atol=1e-5)


def test_compatibility(images):
    unary = torch.rand(2, 3, 24, 30) * 3
    potts = dense_crf(images, unary)
    assert torch.allclose(dense_crf(images, unary, compatibility=1 - torch.eye(3)), potts, atol=1e-4)
    assert torch.allclose(dense_crf(images, unary, compatibility=torch.zeros(3, 3)), (-unary).softmax(1), atol=1e-6)
    lopsided = torch.tensor([[0.0, 2, 1], [0, 0, 1], [1, 1, 0]])
    even = dense_crf(images, unary, compatibility=(lopsided + lopsided.T) / 2)
    assert torch.equal(dense_crf(images, unary, compatibility=lopsided), even)
    costly = 1 - torch.eye(3)
    costly[0] = costly[:, 0] = torch.tensor([0.0, 9, 9])  # label 0 beside another costs more: it wins all or nothing
    assert not torch.allclose(dense_crf(images, unary, compatibility=costly), potts, atol=0.1)


def test_no_step_or_no_kernel_is_softmax(images):
    unary = torch.rand(2, 3, 24, 30) * 3
    assert torch.allclose(dense_crf(images, unary, iterations=0), (-unary).softmax(1), atol=1e-6)
    assert torch.allclose(dense_crf(images, unary, gaussian=None, bilateral=None), (-unary).softmax(1), atol=1e-6)
    assert dense_crf(images[:0], unary[:0]).shape == (0, 3, 24, 30)


def test_precision(images):
    unary = torch.rand(2, 3, 24, 30) * 3
    single, double = dense_crf(images, unary), dense_crf(images, unary.double())
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.allclose(single.double(), double, atol=1e-4)
    assert torch.equal(dense_crf(images, unary.half()), dense_crf(images, unary.half().float()))
    assert torch.allclose(dense_crf(images, 1000 * unary).sum(1), torch.ones(2, 24, 30), atol=1e-5)


def test_what_labels_say():
    unary = unary_from_labels(torch.tensor([[[0, 2, 255]]], dtype=torch.uint8), 3, certainty=0.8)
    expected = [[0.8, 0.1, 1 / 3], [0.1, 0.1, 1 / 3], [0.1, 0.8, 1 / 3]]
    assert torch.allclose((-unary).exp()[0, :, 0], torch.tensor(expected), atol=1e-6)


def test_what_probabilities_say():
    p = torch.tensor([1.0, 0.25])[None, None, None]
    unary = unary_from_probabilities(torch.cat([p, 1 - p], 1).double())
    assert unary.dtype == torch.float64
    assert unary[0, :, 0, 0].tolist() == pytest.approx([0, -math.log(1e-5)])
    assert unary[0, 1, 0, 1].item() == pytest.approx(-math.log(0.75))


def with_one(value):
    unary = torch.rand(2, 3, 24, 30)
    unary[1, 2, 3, 4] = value
    return unary


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": torch.randn(2, 3, 24, 30)}, "the image itself, uint8 0..255, .*torch.float32"),
        ({"images": torch.zeros(2, 0, 24, 30, dtype=torch.uint8)}, "no alpha channel"),
        ({"images": torch.zeros(3, 24, 30, dtype=torch.uint8)}, r"\[N, C, H, W\], got .*\(3, 24, 30\)"),
        ({"unary": torch.rand(2, 3, 12, 15)}, "number and size of images"),
        ({"unary": torch.rand(1, 3, 24, 30)}, "number and size of images"),
        ({"unary": with_one(math.nan)}, "finite float unary"),
        ({"unary": with_one(math.inf)}, "unary_from_probabilities avoids"),
        ({"unary": torch.zeros(2, 3, 24, 30, dtype=torch.long)}, "got torch.int64"),
        ({"unary": torch.rand(2, 1, 24, 30)}, "at least 2 labels, got 1"),
        ({"unary": torch.rand(2, 3, 24, 30, device="meta")}, "on one device"),
        ({"iterations": -1}, "iterations >= 0, got -1"),
        ({"gaussian": (0.0, 3.0)}, r"gaussian = \(sxy, compat\), .* got \(0.0, 3.0\)"),
        ({"bilateral": (80.0, 0.0, 10.0)}, "bilateral = .* above 0"),
        ({"bilateral": (-80.0, 13.0, 10.0)}, "bilateral = .* above 0"),
        ({"bilateral": (80.0, 10.0)}, r"bilateral = \(sxy, srgb, compat\)"),
        ({"gaussian": (3.0, math.nan)}, "gaussian = "),
        ({"bilateral": (1e-6, 1e-6, 1.0)}, "wider kernels"),
        ({"compatibility": torch.ones(2, 2)}, r"compatibility \[3, 3\].* got \(2, 2\)"),
    ],
)
def test_bad_input(images, changes, words):
    with pytest.raises(InputError, match=words):
        dense_crf(**({"images": images, "unary": torch.rand(2, 3, 24, 30)} | changes))


@pytest.mark.parametrize(
    ("labels", "settings", "words"),
    [
        ([[[0, 1, 7]]], {}, "labels 0 to 2 or 255 .*, got 0 to 7; set num_classes"),
        ([[[0, -1, 255]]], {}, "got -1 to 0"),
        ([[[0.0, 1.0]]], {}, "expected integer labels"),
        ([[0, 1]], {}, "expected integer labels"),
        ([[[0, 1]]], {"num_classes": 1}, "at least 2 classes, got 1"),
        ([[[0, 1]]], {"certainty": 1.0}, "certainty above chance, 1/3, and below 1, got 1.0"),
        ([[[0, 1]]], {"certainty": 0.33}, "got 0.33"),
    ],
)
def test_bad_labels(labels, settings, words):
    with pytest.raises(InputError, match=words):
        unary_from_labels(torch.tensor(labels), **({"num_classes": 3} | settings))


def test_bad_probabilities():
    with pytest.raises(InputError, match="sum to 1 over labels, got sums up to 0.5 away"):
        unary_from_probabilities(torch.full((1, 3, 2, 2), 0.5))
    with pytest.raises(InputError, match="negative numbers or NaN"):
        unary_from_probabilities(torch.tensor([1.5, -0.5])[None, :, None, None])
    with pytest.raises(InputError, match="expected float probabilities"):
        unary_from_probabilities(torch.ones(3, 4, 4))


def _coloured(channels, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, channels, 6, 8), generator=random).repeat_interleave(3, 2).repeat_interleave(3, 3)
    unary = torch.rand(2, 3, 18, 24, generator=random) * 3
    return images.byte(), unary


def test_one_channel_is_as_three_equal_ones():
    images, unary = _coloured(1)
    one, three = dense_crf(images, unary, 1), dense_crf(images.expand(2, 3, 18, 24), unary, 1)
    assert (one - three).abs().mean() < 0.02  # two lattices
    assert (one - unary.neg().softmax(1)).abs().mean() > 0.05


def test_colours_that_are_repeated_change_nothing():
    """Six channels, red, green, blue, red, green, blue: differences are as of three, along three principal components."""
    images, unary = _coloured(3)
    three, six = dense_crf(images, unary, 1), dense_crf(images.repeat(1, 2, 1, 1), unary, 1)
    assert (three - six).abs().mean() < 0.02  # the lattice is turned
    assert (three - unary.neg().softmax(1)).abs().mean() > 0.1


def test_an_edge_in_a_fourth_channel_alone_is_followed():
    images = torch.full((1, 4, 12, 12), 90, dtype=torch.uint8)
    images[:, 3, :, 6:] = 200
    truth = (torch.arange(12) >= 6).long().expand(1, 12, 12)
    labels = truth.clone()
    labels[:, ::3, 2] = 1
    labels[:, ::3, 9] = 0
    refined = dense_crf(images, unary_from_labels(labels, 2), 10, None, (30.0, 5.0, 10.0)).argmax(1)
    assert (refined == truth).all()
    assert (dense_crf(images[:, :3], unary_from_labels(labels, 2), 10, None, (30.0, 5.0, 10.0)).argmax(1) != truth).any()


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_an_image_of_any_channels_in_a_batch_is_as_alone(channels):
    images, unary = _coloured(channels)
    together = dense_crf(images, unary)
    assert torch.allclose(together.sum(1), torch.ones(2, 18, 24), atol=1e-5)
    for at in range(2):
        assert torch.equal(together[at], dense_crf(images[at : at + 1], unary[at : at + 1])[0])
