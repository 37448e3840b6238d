"""Whether confidences can be believed."""

import pytest
import torch

from advcam.errors import InputError
from advcam.metrics import Calibration, finds
from advcam.refinement import confidence


def test_a_calibrated_image_has_no_error():
    """Of 100 pixels with confidence .8, 80 are right: error 0; with 60 right it is .2."""
    sure = torch.full((10, 10), 204, dtype=torch.uint8)
    known = torch.ones(10, 10, dtype=torch.bool)
    for right, error in ((80, 0.0), (60, 0.2)):
        found = Calibration.of(sure, torch.arange(100).reshape(10, 10) < right, known)
        assert found.error() == pytest.approx(error, abs=1e-6)
        assert found.diagram() == [pytest.approx({"confidence": 0.8, "right": right / 100, "share": 1.0})]
    assert found.best_factor() == pytest.approx(3.4, rel=0.06)  # logit(.8) / logit(.6)
    assert found.error(found.best_factor()) < 0.01


def test_only_known_pixels_count_and_images_add_up():
    sure = torch.tensor([[255, 128]], dtype=torch.uint8)
    right = torch.tensor([[True, False]])
    one = Calibration.of(sure, right, torch.tensor([[True, False]]))
    both = one + Calibration.of(sure, right, torch.tensor([[True, True]]))
    assert both.counts.sum().item() == 3
    assert both.counts[255].tolist() == [0, 2]
    assert both.counts[128].tolist() == [1, 0]
    with pytest.raises(InputError, match="must have one shape"):
        Calibration.of(sure, right, torch.tensor([[True]]))


def test_scores_that_find_bad_masks():
    bad = torch.tensor([True, True, False, False])
    assert finds(torch.tensor([0.1, 0.2, 0.8, 0.9]), bad) == 1.0
    assert finds(torch.tensor([0.9, 0.8, 0.2, 0.1]), bad) == 0.0
    assert finds(torch.tensor([0.5, 0.5, 0.5, 0.5]), bad) == 0.5
    assert finds(torch.tensor([0.5]), bad[:1]) is None
    with pytest.raises(InputError, match="4 scores need as many answers, got 1"):
        finds(torch.rand(4), bad[:1])
    with pytest.raises(InputError, match="scores"):
        finds(torch.tensor([float("nan")] * 4), bad)


def test_confidence_by_hand():
    """Two labels, threshold .5, T = .1: the map .6 has p = 1 / (1 + exp(-1)); the mask is its first two pixels."""
    maps = torch.tensor([[[0.6, 0.9, 0.4, 0.0]]])
    p = torch.sigmoid(torch.tensor([1.0, 4.0, -1.0, -5.0]))
    sure, score = confidence(maps, 0.5, 0.1)
    assert torch.allclose(sure[0], torch.maximum(p, 1 - p))
    assert score.item() == pytest.approx(float((p[0] + p[1]) ** 2 / (2 * (2 + p[2] + p[3]))))


def test_confidence_with_a_background_map_and_of_nothing():
    maps = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])
    sure, score = confidence(maps, -1.0, 0.1)
    assert sure[0].tolist() == pytest.approx([float(torch.sigmoid(torch.tensor(8.0)))] * 2)
    assert score.tolist() == pytest.approx([0.999, 0.999], abs=1e-3)
    assert confidence(torch.zeros(2, 3, 3), 0.3)[1].tolist() == [0.0, 0.0]
    for temperature in (0, -1, float("nan")):
        with pytest.raises(InputError):
            confidence(maps, 0.3, temperature)
