"""Training views: image and mask stay together, and depend on seed, epoch and position alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from advcam.data import IGNORE, Augmentation, Item, NetworkInput, Normalisation, TrainingViews

NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(("crop", "scales"), [(32, (0.5, 1.5)), (96, (0.5, 1.0)), (48, (2.0, 2.0))])
def test_the_mask_follows_the_image(crop, scales):
    """An image that shows its own mask."""
    ids = np.zeros((40, 60), np.uint8)
    ids[10:30, 20:50] = 1
    image = Image.fromarray(np.repeat(ids[..., None] * 255, 3, 2))
    for seed in range(8):
        view, mask = Augmentation(crop, scales, 640)(image, Image.fromarray(ids), NORMALISE, np.random.default_rng(seed))
        assert view.shape == (3, crop, crop)
        inside = mask != IGNORE
        assert (view[:, ~inside] == 0).all()  # padding is the mean
        agree = ((view[0] > 0).long() == mask)[inside].float().mean()
        assert agree > 0.93


def test_views_depend_on_seed_epoch_and_position_alone(scenes):
    paths = sorted((scenes / "images").iterdir())[:3]
    items = [Item(p.stem, p, (0,), (64, 64)) for p in paths]
    views = TrainingViews(items, Augmentation(32, (0.5, 1.5), 640), NORMALISE, 7, 2)
    first = [views[i][0] for i in (2, 0, 1)]
    again = TrainingViews(items, Augmentation(32, (0.5, 1.5), 640), NORMALISE, 7, 2)
    assert all(torch.equal(again[i][0], v) for i, v in zip((2, 0, 1), first, strict=True))
    again.epoch = 1
    assert not torch.equal(again[0][0], first[1])
    assert again[0][1].tolist() == [1.0, 0.0]


def test_large_images_are_trained_on_at_the_long_side():
    image = Image.new("RGB", (4000, 3000), "white")
    view, _ = Augmentation(64, (1.0, 1.0), 80)(image, None, NORMALISE, np.random.default_rng(0))
    assert int((view[0] != 0).sum()) == 64 * 60  # 80 x 60 cut to 64 x 60


@pytest.mark.parametrize(
    ("size", "seen"), [((20, 10), (64, 128)), ((100, 80), (80, 100)), ((1000, 500), (100, 200))], ids=["small", "fits", "large"]
)
def test_a_classifier_sees_no_side_below_64_and_none_above_its_own(size, seen):
    shown = NetworkInput((0.5,) * 3, (0.5,) * 3, 200)(Image.new("RGB", size, "white"))
    assert shown.shape == (3, *seen)
    assert torch.allclose(shown, torch.ones(()))
