"""Networks whose input has not three channels: how they start, and that everything of a run takes them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import advcam
from advcam.errors import NetworkError, SettingsError
from advcam.models.affinity import AffinityNet, BoundaryNet
from advcam.models.cct import CCT
from advcam.models.classifiers import Backbone, feature_network, new_classifier, pretrained_classifier, saved_classifier
from advcam.models.encoders import start
from advcam.models.levels import find_levels
from advcam.models.segmentation import NETWORKS, segmentation_network

SMALL = Backbone("test_resnet")


@pytest.fixture
def weights(tmp_path):
    """A network of three channels, and the file of its weights."""
    torch.manual_seed(0)
    model = SMALL.create(num_classes=2)
    torch.save(model.state_dict(), tmp_path / "rgb.pt")
    return model, tmp_path / "rgb.pt"


def first(model):
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d)).weight.detach()


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_convolution_of_given_weights_is_adapted_as_timm_does(channels, weights):
    """Colours in turn, scaled by 3 / channels; one channel has their sum, as grey in three channels would give."""
    rgb, path = weights
    backbone = replace(SMALL, channels=channels)
    expected = (
        first(rgb).sum(1, keepdim=True) if channels == 1 else first(rgb)[:, [c % 3 for c in range(channels)]] * 3 / channels
    )
    model, _ = new_classifier(backbone, 5, path, pretrained=False)
    assert torch.allclose(first(model), expected, atol=1e-6)
    assert torch.allclose(first(feature_network(backbone, path, "").model), expected, atol=1e-6)
    network = segmentation_network("unet", backbone, 3)
    start(network, backbone, None, str(path), False)
    assert torch.allclose(first(network.encoder), expected, atol=1e-6)
    grey = torch.rand(2, 1, 64, 64)
    same = model.eval()(grey.expand(2, channels, 64, 64))
    assert model.num_classes == 5
    if channels == 1:
        three, _ = new_classifier(SMALL, 5, path, pretrained=False)
        three.get_classifier().load_state_dict(model.get_classifier().state_dict())
        assert torch.allclose(three.eval()(grey.expand(2, 3, 64, 64)), same, atol=1e-5)


def test_a_trained_classifier_must_have_the_channels(weights):
    with pytest.raises(NetworkError, match=r"has shape .*, 3, .* the model expects .*, 4, "):
        saved_classifier(replace(SMALL, channels=4), 2, weights[1])


def test_mean_and_standard_deviation_are_those_of_the_colours_in_turn():
    known = Backbone("resnet18")
    mean, std = known.normalisation()
    assert mean == (0.485, 0.456, 0.406)
    assert replace(known, channels=5).normalisation() == ((*mean, *mean[:2]), (*std, *std[:2]))
    assert replace(known, channels=1).normalisation() == ((pytest.approx(sum(mean) / 3),), (pytest.approx(sum(std) / 3),))
    given = replace(known, channels=4, mean=(0.1, 0.2, 0.3, 0.4), std=(1.0, 1.0, 1.0, 2.0))
    assert given.normalisation() == ((0.1, 0.2, 0.3, 0.4), (1.0, 1.0, 1.0, 2.0))
    assert Backbone.from_record(given.record()) == given
    old = {name: value for name, value in known.record().items() if name != "channels"}
    assert Backbone.from_record(old) == known
    with pytest.raises(SettingsError, match=r"--mean and --std have a number for each of 4 channels; got \(0.5, 0.5, 0.5\)"):
        replace(known, channels=4, mean=(0.5, 0.5, 0.5)).normalisation()
    with pytest.raises(SettingsError, match="'in_chans' is not taken: --bands and --one-channel say how many there are"):
        Backbone("resnet18", {"in_chans": 4})


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", [*(name for name in NETWORKS if name != "dpt"), "cct"])
def test_segmentation_networks(name, channels):
    backbone = replace(SMALL, channels=channels)
    network = CCT(backbone, 3, auxiliary={}) if name == "cct" else segmentation_network(name, backbone, 3)
    start(network, backbone, None, None, True)
    state = backbone.create(num_classes=2).state_dict()
    start(network, backbone, state, None, False)
    assert torch.equal(first(network.encoder), first_of(state))
    assert network.eval()(torch.rand(1, channels, 64, 96)).shape == (1, 3, 64, 96)


def first_of(state):
    return next(value for value in state.values() if value.ndim == 4)


def test_a_transformer(weights):
    backbone = Backbone("test_vit", channels=4)
    network = segmentation_network("dpt", backbone, 3)
    assert network.eval()(torch.rand(1, 4, 64, 64)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("kind", [AffinityNet, BoundaryNet])
@pytest.mark.parametrize("channels", [1, 5])
def test_networks_of_refinements(kind, channels):
    assert kind(replace(SMALL, channels=channels)).eval()(torch.rand(1, channels, 64, 64)).ndim == 4


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
@pytest.mark.parametrize("preset", ["default", "official", "multiscale"])
def test_advcam_and_features(channels, preset):
    torch.manual_seed(0)
    model, _ = new_classifier(replace(SMALL, channels=channels), 5, None, pretrained=False)
    images = torch.rand(2, channels, 64, 64)
    adv = advcam.AdvCAM(model, preset=preset, steps=3)
    out = adv(images, [[0, 3], [1]])
    assert out.maps.shape[0] == 3
    assert torch.isfinite(out.maps).all()
    assert torch.allclose(adv.scores(images), model.eval()(images), atol=1e-4)
    assert advcam.cam(model, images, [[0], [1]]).maps.shape[0] == 2
    assert find_levels(model, images[:1])(images)[0].shape[0] == 2


def test_every_channel_is_climbed():
    """The pixels of a fourth channel move, and the map is that of a network that sees it alone."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    body[0].weight.data[:, :3] = 0
    images = torch.rand(1, 4, 32, 32)
    out = advcam.AdvCAM(body, steps=3)(images, [[1]], record=True)
    moved = (out.images - images).abs().amax((0, 2, 3))
    assert moved[:3].max() == 0
    assert moved[3] > 0
    alone = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *body[1:])
    alone[0].load_state_dict({"weight": body[0].weight.data[:, 3:], "bias": body[0].bias.data})
    assert torch.allclose(advcam.AdvCAM(alone, steps=1)(images[:, 3:], [[1]]).maps, out.steps[:, 0], atol=1e-5)


def test_images_of_another_number_of_channels_are_an_error_that_says_so():
    model = SMALL.create(num_classes=2)
    for images in (torch.rand(1, 4, 64, 64), torch.rand(1, 64, 64, 3)):
        with pytest.raises(NetworkError, match=r"to have 3 channels, but got (4|64) channels"):
            advcam.AdvCAM(model)(images, [[0]])


def test_a_pretrained_file_of_four_channels_is_a_classifier(tmp_path):
    torch.save(replace(SMALL, channels=4).create(num_classes=6).state_dict(), tmp_path / "four.pt")
    made = pretrained_classifier(replace(SMALL, channels=4), tmp_path / "four.pt")
    assert len(made.mean) == 4
    assert made.model(torch.rand(1, 4, 64, 64)).shape == (1, 6)
