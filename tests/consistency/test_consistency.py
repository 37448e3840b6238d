"""Training with few labels: every perturbation does what its definition says, every loss is its equation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advcam.consistency import (
    CctLoss,
    Pseudo,
    UniMatchLoss,
    confident_cross_entropy,
    consistency_loss,
    context_mask,
    cross_entropy,
    cutmix,
    cutmix_boxes,
    feature_dropout,
    feature_noise,
    guided_cutout,
    object_mask,
    pseudo_labels,
    ramp_up,
    spatial_dropout,
    virtual_adversarial,
    weak_loss,
)
from advcam.errors import InputError

IGNORE = 255


def objects():
    """Two images 24 x 32: a square of class 2, and one of class 2 beside a strip of class 5."""
    prediction = torch.zeros(2, 24, 32, dtype=torch.long)
    prediction[0, 4:14, 8:28] = 2
    prediction[1, 0:10, 0:10] = 2
    prediction[1, 20:24, 12:32] = 5
    return prediction


class Decoder(nn.Sequential):
    """Like an auxiliary decoder: linear but for a ReLU."""

    def __init__(self, channels=6, classes=4):
        super().__init__(nn.Conv2d(channels, classes, 1), nn.Conv2d(classes, 4 * classes, 1), nn.ReLU(), nn.PixelShuffle(2))


def divergence(decoder, z, noise):
    """KL(p(z) || p(z + r)) of each image."""
    with torch.no_grad():
        here, there = decoder(z).double().log_softmax(1), decoder(z + noise).double().log_softmax(1)
    return (here.exp() * (here - there)).sum((1, 2, 3))


@pytest.mark.parametrize(
    ("progress", "share", "weight"),
    [(0, 0.1, math.exp(-5)), (0.05, 0.1, math.exp(-1.25)), (0.1, 0.1, 1), (0.9, 0.1, 1), (0.5, 1, math.exp(-1.25)), (0, 0, 1)],
)
def test_the_ramp(progress, share, weight):
    assert ramp_up(progress, share) == pytest.approx(weight)


def test_the_ramp_only_rises():
    weights = [ramp_up(i / 100) for i in range(101)]
    assert weights == sorted(weights)
    for progress, share in ((1.5, 0.1), (-0.1, 0.1), (0.5, 2)):
        with pytest.raises(InputError, match="expected parts of the training"):
            ramp_up(progress, share)


def test_feature_dropout_takes_the_most_active_cells():
    z = torch.zeros(1, 2, 1, 11)
    z[:, 0] = torch.arange(11) / 5  # the mean over channels is 0, 0.1, ..., 1
    for _ in range(20):
        kept = (feature_dropout(z) == z)[0].all(0)[0]
        assert kept[:7].all()
        assert not kept[9:].any()
    assert torch.equal(feature_dropout(z, 0.35, 0.35 + 1e-6), z * (torch.arange(11) < 4))


def test_feature_dropout_draws_a_threshold_for_every_image():
    kept = feature_dropout((torch.arange(1, 1001) / 1000).expand(500, 1, 1, 1000)).ne(0).sum((1, 2, 3)).float()
    assert kept.min() >= 699
    assert kept.max() <= 900
    assert kept.mean() == pytest.approx(800, abs=10)


def test_feature_noise_is_within_its_bound():
    z = torch.rand(2, 8, 20, 20) + 0.1
    ratio = feature_noise(z) / z - 1
    assert ratio.abs().max() <= 0.3 + 1e-6
    assert ratio.abs().mean() == pytest.approx(0.15, abs=0.01)
    assert ratio.mean() == pytest.approx(0, abs=0.01)
    assert not torch.allclose(ratio[0], ratio[1])
    assert torch.equal(feature_noise(torch.zeros(1, 2, 3, 3)), torch.zeros(1, 2, 3, 3))


def test_spatial_dropout_takes_whole_channels():
    dropped = spatial_dropout(torch.ones(4, 500, 2, 3))
    channels = dropped.flatten(2)
    assert (channels == channels[..., :1]).all()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (channels[..., 0] > 0).float().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("stride", [1, 4])
def test_masks_cover_exactly_the_objects(stride):
    prediction = objects()
    z = torch.rand(2, 3, 24 // stride, 32 // stride) + 1
    seen = (prediction > 0)[:, None, ::stride, ::stride]
    assert torch.equal(context_mask(z, prediction), z * seen)
    assert torch.equal(object_mask(z, prediction), z * ~seen)


def test_cutout_erases_a_box_within_each_region():
    prediction, z = objects(), torch.ones(2, 3, 24, 32)
    places = set()
    for _ in range(30):
        erased = guided_cutout(z, prediction) == 0
        assert (erased == erased[:, :1]).all()  # in all channels
        for image, region, height, width in ((0, 2, 4, 8), (1, 2, 4, 4), (1, 5, 1, 8)):
            box = (erased[image, 0] & (prediction[image] == region)).nonzero()
            assert len(box) == height * width
            assert (box.amax(0) - box.amin(0) + 1).tolist() == [height, width]
            places.add((image, *box.amin(0).tolist()))
        assert not erased[:, 0][prediction == 0].any()
    corners = torch.tensor([place[1:] for place in places if place[0] == 0])
    assert (corners.amin(0) <= torch.tensor([5, 9])).all()  # from one end of the region
    assert (corners.amax(0) >= torch.tensor([9, 19])).all()  # to the other: 14 - 4 and 28 - 8


def test_cutout_on_a_coarser_grid_and_without_objects():
    prediction = torch.zeros(1, 32, 32, dtype=torch.long)
    assert torch.equal(guided_cutout(torch.ones(1, 2, 4, 4), prediction), torch.ones(1, 2, 4, 4))
    prediction[:] = 1
    erased = guided_cutout(torch.ones(1, 2, 8, 8), prediction)[0, 0] == 0  # 12 of 32 pixels are 3 of 8 cells
    assert erased.any(0).sum() == 3
    assert erased.any(1).sum() == 3


def test_masks_of_a_batch_are_those_of_each_image():
    prediction, z = objects(), torch.rand(2, 3, 6, 8)
    for perturb in (context_mask, object_mask):
        one_by_one = [perturb(z[i : i + 1], prediction[i : i + 1]) for i in range(2)]
        assert torch.equal(perturb(z, prediction), torch.cat(one_by_one))


def test_the_adversarial_noise_has_its_length_and_finds_its_direction():
    decoder, z = Decoder(), torch.rand(3, 6, 8, 8)
    noise = virtual_adversarial(z, decoder) - z
    assert noise.flatten(1).norm(dim=1).tolist() == pytest.approx([2] * 3, rel=1e-4)
    far = divergence(decoder, z, noise)
    for _ in range(5):
        random = F.normalize(torch.randn(3, 6 * 8 * 8), dim=1).view_as(z) * 2
        assert (far > 1.5 * divergence(decoder, z, random)).all()
    again = virtual_adversarial(z, decoder, iterations=10) - z
    assert (divergence(decoder, z, 0.05 * again) >= 0.99 * divergence(decoder, z, 0.05 * noise)).all()


def test_the_adversarial_direction_is_that_of_the_divergence():
    """One step of the power method: the gradient of KL at a small xi d, in double precision, for xi -> 0."""
    decoder, z = Decoder().double(), torch.rand(2, 6, 4, 4)
    torch.manual_seed(5)
    start = F.normalize((torch.rand_like(z) - 0.5).flatten(1), dim=1).view_as(z).double().requires_grad_()
    p = decoder(z.double()).softmax(1).detach()
    F.kl_div(decoder(z + 1e-4 * start).log_softmax(1), p, reduction="sum").backward()
    expected = F.normalize(start.grad.flatten(1), dim=1)
    torch.manual_seed(5)
    noise = virtual_adversarial(z, decoder.float()) - z
    assert torch.allclose(noise.flatten(1), 2 * expected.float(), atol=1e-2)


def test_the_adversarial_noise_of_an_image_does_not_depend_on_the_others():
    decoder, z = Decoder(), torch.rand(2, 6, 8, 8)
    torch.manual_seed(1)
    both = virtual_adversarial(z, decoder)
    torch.manual_seed(1)
    assert torch.allclose(both[:1], virtual_adversarial(z[:1], decoder), atol=1e-6)


def test_the_adversarial_noise_leaves_gradients_alone():
    decoder, z = Decoder(), torch.rand(2, 6, 8, 8, requires_grad=True)
    perturbed = virtual_adversarial(z, decoder)
    assert all(p.grad is None for p in decoder.parameters())
    perturbed.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))
    constant = Decoder()
    nn.init.zeros_(constant[0].weight)
    assert torch.equal(virtual_adversarial(z, constant), z)  # nothing to find


def test_the_adversarial_noise_in_half_precision():
    decoder, z = Decoder(), torch.rand(2, 6, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        noise = virtual_adversarial(z.bfloat16(), decoder) - z.bfloat16()
        decoder(z).float().square().sum().backward()
    assert noise.flatten(1).norm(dim=1).tolist() == pytest.approx([2] * 2, rel=1e-2)
    assert all(p.grad.abs().sum() > 0 for p in decoder.parameters())  # no weight was kept without its graph


@pytest.mark.parametrize(
    "perturb",
    [
        feature_dropout,
        feature_noise,
        spatial_dropout,
        lambda z: guided_cutout(z, objects()),
        lambda z: context_mask(z, objects()),
        lambda z: object_mask(z, objects()),
        lambda z: virtual_adversarial(z, Decoder()),
    ],
)
def test_randomness_is_torchs_own_and_gradients_reach_z(perturb):
    z = torch.rand(2, 6, 12, 16, requires_grad=True)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(perturb(z))
    assert torch.equal(*results)
    assert results[0].shape == z.shape
    results[0].square().sum().backward()
    assert z.grad.abs().sum() > 0


def test_cross_entropy_of_known_pixels():
    logits = torch.tensor([[[[0.0, 1.0, 5.0]], [[0.0, 0.0, -2.0]]]])
    labels = torch.tensor([[[0, 1, IGNORE]]])
    expected = (math.log(2) + math.log(1 + math.e)) / 2
    assert float(cross_entropy(logits, labels)) == pytest.approx(expected)
    assert float(cross_entropy(logits, labels.to(torch.uint8))) == pytest.approx(expected)


def test_consistency_equals_the_equation_and_spares_the_main_decoder():
    main = torch.randn(2, 3, 4, 5, requires_grad=True)
    auxiliaries = [torch.randn(2, 3, 4, 5, requires_grad=True) for _ in range(3)]
    loss = consistency_loss(auxiliaries, main)
    squares = [(a.softmax(1) - main.softmax(1)).square().sum() / (2 * 3 * 4 * 5) for a in auxiliaries]
    assert loss.item() == pytest.approx(sum(squares).item() / 3)
    loss.backward()
    assert main.grad is None
    assert all(a.grad.abs().sum() > 0 for a in auxiliaries)
    assert consistency_loss([main], main) == 0


def test_weak_loss_is_the_mean_over_decoders():
    auxiliaries = [torch.randn(2, 3, 4, 5) for _ in range(3)]
    pseudo = torch.randint(0, 3, (2, 4, 5))
    pseudo[0, :2] = IGNORE
    expected = sum(float(F.cross_entropy(a, pseudo, ignore_index=IGNORE)) for a in auxiliaries) / 3
    assert float(weak_loss(auxiliaries, pseudo)) == pytest.approx(expected)


def test_where_nothing_is_known_losses_are_zero_with_a_graph():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    nothing = torch.full((2, 4, 5), IGNORE)
    unknown = Pseudo(nothing, torch.ones(2, 4, 5))
    losses = [cross_entropy(logits, nothing), weak_loss([logits], nothing), confident_cross_entropy(logits, unknown)]
    assert losses == [0, 0, 0]
    sum(losses).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_totals():
    cct = CctLoss(*torch.tensor([1.0, 0.5, 2.0]))
    assert float(cct.total(1)) == pytest.approx(1 + 30 * 0.5 + 0.4 * 2)
    assert float(cct.total(0.1)) == pytest.approx(1 + 0.1 * (30 * 0.5 + 0.4 * 2))
    assert float(cct.total(1, unsupervised=2, weak=0)) == pytest.approx(2)
    assert float(UniMatchLoss(*torch.tensor([1.0, 2.0, 4.0, 8.0])).total) == pytest.approx((1 + 0.5 + 1 + 4) / 2)


def test_pseudo_labels_are_the_argmax_and_its_probability():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    padding = torch.zeros(2, 4, 5, dtype=torch.bool)
    padding[:, :, 3:] = True
    labels, confidence = pseudo_labels(logits, padding)
    assert torch.equal(labels[~padding], logits.argmax(1)[~padding])
    assert (labels[padding] == IGNORE).all()
    assert torch.allclose(confidence, logits.softmax(1).amax(1))
    assert not confidence.requires_grad
    assert torch.equal(pseudo_labels(logits).labels, logits.argmax(1))


def test_only_confident_pixels_teach_and_all_pixels_of_the_image_divide():
    logits = torch.zeros(1, 2, 1, 4, requires_grad=True)
    pseudo = Pseudo(torch.tensor([[[0, 1, 0, IGNORE]]]), torch.tensor([[[0.95, 0.99, 0.94, 1.0]]]))
    loss = confident_cross_entropy(logits, pseudo)
    assert loss.item() == pytest.approx(2 * math.log(2) / 3)  # two of three pixels, the fourth is padding
    loss.backward()
    assert logits.grad[0, 0, 0].ne(0).tolist() == [True, True, False, False]
    assert confident_cross_entropy(logits, pseudo, threshold=0.5).item() == pytest.approx(math.log(2))


def test_boxes_are_as_often_and_as_large_as_asked():
    height, width = 40, 60
    boxes = cutmix_boxes(400, (height, width))
    filled = boxes[boxes.flatten(1).any(1)]
    assert len(filled) / 400 == pytest.approx(0.5, abs=0.1)
    for box in filled:
        rows, columns = box.any(1).sum(), box.any(0).sum()
        assert box.sum() == rows * columns  # one rectangle
        share = float(rows * columns) / (height * width)
        assert 0.02 * 0.6 < share <= 0.4  # sides are rounded down
        assert (rows + 1) / height / (columns / width) > 0.3
        assert rows / height / ((columns + 1) / width) < 1 / 0.3
    assert filled.float().mean((1, 2)).max() > 0.3
    assert not cutmix_boxes(9, (8, 8), probability=0).any()
    assert cutmix_boxes(9, (8, 200), probability=1).flatten(1).any(1).all()


def test_cutmix_pastes_the_same_pixels_of_everything():
    labels = torch.randint(0, 5, (4, 20, 30))
    images = labels[:, None].float().repeat(1, 3, 1, 1) / 10
    boxes, partner = cutmix_boxes(4, (20, 30), probability=1), torch.tensor([1, 2, 3, 0])
    mixed = cutmix(labels, boxes, partner)
    assert torch.equal(cutmix(images, boxes, partner), mixed[:, None].float().repeat(1, 3, 1, 1) / 10)
    assert torch.equal(cutmix(labels / 7, boxes, partner), mixed / 7)
    for i in range(4):
        assert torch.equal(mixed[i][boxes[i]], labels[partner[i]][boxes[i]])
        assert torch.equal(mixed[i][~boxes[i]], labels[i][~boxes[i]])
    assert torch.equal(cutmix(labels, torch.zeros_like(boxes), partner), labels)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda x, y: cross_entropy(x, y[:, 1:]),
            r"logits \(2, 3, 4, 5\) and labels \(2, 3, 5\) do not fit: expected \[n, k, h",
        ),
        (lambda x, y: cross_entropy(x, y.float()), "labels of torch.float32: expected whole numbers"),
        (lambda x, y: confident_cross_entropy(x[0], Pseudo(y, y)), r"logits \(3, 4, 5\) and labels"),
        (lambda x, y: weak_loss([], y), "logits of at least one auxiliary decoder, got none"),
        (lambda x, y: consistency_loss([], x), "logits of at least one auxiliary decoder, got none"),
        (
            lambda x, y: consistency_loss([x[:1]], x),
            r"auxiliary logits \(1, 3, 4, 5\) and main logits \(2, 3, 4, 5\) must have",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call(torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.long))
