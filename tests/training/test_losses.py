"""Losses of pixels: known answers, parts that add up, and crops that lack a side."""

import pytest
import torch
import torch.nn.functional as F

from advcam.errors import SettingsError
from advcam.training import ImageLoss, PixelLoss


def whole(objective, output, targets):
    return objective(output, targets, objective.counts(output, targets))


@pytest.fixture
def batch():
    scores = torch.randn(4, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 3, (4, 6, 5))
    targets[0, :3] = 255
    targets[1] = 255
    return scores, targets


def test_cross_entropy_is_torchs(batch):
    torch.testing.assert_close(whole(PixelLoss(), *batch), F.cross_entropy(*batch, ignore_index=255))


@pytest.mark.parametrize("kind", ["cross_entropy", "bootstrapped", "symmetric"])
@pytest.mark.parametrize("balanced", [False, True])
def test_parts_add_up(batch, kind, balanced):
    objective, (scores, targets) = PixelLoss(kind, balanced), batch
    parts = [(scores[a:b], targets[a:b]) for a, b in ((0, 1), (1, 2), (2, 4))]
    counts = sum(objective.counts(*part) for part in parts)
    torch.testing.assert_close(sum(objective(*part, counts) for part in parts), whole(objective, scores, targets))


def test_balanced_is_half_of_each_side(batch):
    scores, targets = batch
    each = F.cross_entropy(scores, targets, ignore_index=255, reduction="none")
    background, foreground = targets == 0, (targets != 0) & (targets != 255)
    expected = each[background].mean() / 2 + each[foreground].mean() / 2
    torch.testing.assert_close(whole(PixelLoss(balanced=True), scores, targets), expected)


@pytest.mark.parametrize("only", [0, 2])
def test_balanced_where_a_side_is_missing(batch, only):
    scores, targets = batch[0], torch.full((4, 6, 5), only)
    found = whole(PixelLoss(balanced=True), scores, targets)
    torch.testing.assert_close(found, F.cross_entropy(scores, targets))


@pytest.mark.parametrize("balanced", [False, True])
def test_nothing_is_known(batch, balanced):
    scores = batch[0]
    found = whole(PixelLoss(balanced=balanced), scores, torch.full((4, 6, 5), 255))
    found.backward()
    assert float(found.detach()) == 0
    assert not scores.grad.any()


def test_bootstrapped_and_symmetric_by_hand():
    scores = torch.tensor([[[[2.0]], [[0.0]]]], dtype=torch.float64)
    p = scores.softmax(1)[0, :, 0, 0]
    target = torch.ones(1, 1, 1, dtype=torch.long)
    torch.testing.assert_close(whole(PixelLoss("bootstrapped"), scores, target), -(0.8 * p[1].log() + 0.2 * p[0].log()))
    torch.testing.assert_close(whole(PixelLoss("symmetric"), scores, target), -0.5 * p[1].log() + 0.5 * 4 * p[0])


def test_several_outputs_are_summed_each_on_its_own_grid(batch):
    scores, targets = batch
    small = torch.randn(4, 3, 3, 2, dtype=torch.float64)
    at = F.interpolate(targets[:, None].double(), size=(3, 2), mode="nearest")[:, 0].long()
    expected = F.cross_entropy(scores, targets, ignore_index=255) + F.cross_entropy(small, at, ignore_index=255)
    torch.testing.assert_close(whole(PixelLoss(), (scores, small), targets), expected)


def test_a_loss_of_images():
    output, targets = torch.randn(6, 4), torch.randint(0, 2, (6, 4)).float()
    objective = ImageLoss(F.multilabel_soft_margin_loss)
    parts = [objective(output[a:b], targets[a:b], torch.tensor([6.0])) for a, b in ((0, 2), (2, 6))]
    torch.testing.assert_close(sum(parts), F.multilabel_soft_margin_loss(output, targets))


def test_an_unknown_loss():
    with pytest.raises(SettingsError, match="loss is cross_entropy, bootstrapped, symmetric; got 'focal'"):
        PixelLoss("focal")
