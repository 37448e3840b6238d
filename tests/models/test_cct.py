"""CCT's network: grids, where gradients go, where it starts from, and that it can learn."""

import pytest
import torch
from torch import nn

from advcam.consistency import CctLoss, consistency_loss, cross_entropy, weak_loss
from advcam.errors import InputError, NetworkError, SettingsError
from advcam.models.cct import AUXILIARY, CCT, PERTURBATIONS, Shuffle
from advcam.models.classifiers import Backbone
from advcam.models.encoders import start, start_encoder
from advcam.models.weights import load_state

SMALL = Backbone("test_resnet")
ONE_EACH = dict.fromkeys(PERTURBATIONS, 1)


@pytest.mark.parametrize(
    ("name", "stride", "own"),
    [("test_resnet", 8, 8), ("mobilenetv2_050", 8, 8), ("mobilenetv2_050", 16, 16), ("efficientvit_b0", 8, 32)],
)
def test_grids_of_any_size(name, stride, own):
    network = CCT(Backbone(name), 5, stride, auxiliary={}).eval()
    assert network.stride == own
    images = torch.randn(1, 3, 70, 53)
    with torch.no_grad():
        assert network.encode(images).shape[2:] == (-(-70 // own), -(-53 // own))
        assert network(images).shape == (1, 5, 70, 53)
    assert sum(isinstance(layer, nn.PixelShuffle) for layer in network.decoder.modules()) == {8: 3, 16: 4, 32: 5}[own]


def test_auxiliary_decoders_are_as_many_as_asked():
    network, images = CCT(SMALL, 3).train(), torch.randn(2, 3, 64, 64)
    z = network.encode(images)
    main = network.decode(z, (64, 64))
    logits = network.auxiliaries(z, main)
    assert [x.shape for x in logits] == [main.shape] * sum(AUXILIARY.values()) == [(2, 3, 64, 64)] * 30
    assert AUXILIARY.keys() == PERTURBATIONS.keys()
    assert CCT(SMALL, 3, auxiliary={}).auxiliaries(z, main) == []
    assert len(CCT(SMALL, 3, auxiliary={"guided_cutout": 2, "feature_noise": 0}).auxiliaries(z, main)) == 2


def test_unknown_kinds_and_backbones_are_refused():
    with pytest.raises(SettingsError, match=r"no auxiliary decoder is called 'guided_cut'; did you mean guided_cutout"):
        CCT(SMALL, 3, auxiliary={"guided_cut": 1})
    with pytest.raises(SettingsError, match=r"'vit_tiny_patch16_224' has no features at several strides .* --backbone"):
        CCT(Backbone("vit_tiny_patch16_224"), 3)


def test_a_single_image_in_training_is_refused_unless_statistics_are_frozen():
    network, image = CCT(SMALL, 3, auxiliary={}).train(), torch.randn(1, 3, 64, 64)
    with pytest.raises(InputError, match="a single image in training: BatchNorm needs two"):
        network(image)
    network.pyramid.eval()
    assert network(image).shape == (1, 3, 64, 64)


def test_outside_training_an_image_does_not_depend_on_chance_or_on_the_others():
    network, images = CCT(SMALL, 3, auxiliary={}).eval(), torch.randn(2, 3, 48, 40)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
        assert torch.allclose(network(images)[1:], network(images[1:]), atol=1e-5)


def test_a_shuffle_starts_as_nearest_enlargement():
    layer = Shuffle(3)
    nn.init.zeros_(layer[0].bias)
    x = torch.randn(1, 3, 4, 5)
    enlarged = layer(x)
    assert enlarged.shape == (1, 3, 8, 10)
    assert torch.allclose(enlarged, enlarged[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert enlarged[..., ::2, ::2].std() > 0


def test_gradients_reach_every_parameter_that_is_used():
    network = CCT(SMALL, 3, auxiliary=ONE_EACH).train()
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    z = network.encode(images)
    main = network.decode(z, (64, 64))
    auxiliaries = network.auxiliaries(z, main)
    loss = CctLoss(cross_entropy(network(images), labels), consistency_loss(auxiliaries, main), weak_loss(auxiliaries, labels))
    loss.total(1.0).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_each_kind_teaches_its_decoder_and_the_encoder_but_not_the_main_decoder(kind):
    network = CCT(SMALL, 3, auxiliary={kind: 1}).train()
    images = torch.randn(2, 3, 64, 64)
    z = network.encode(images)
    main = network.decode(z, (64, 64))
    main.retain_grad()
    # half is object and half is not, whatever an untrained decoder says
    seen = torch.zeros_like(main)
    seen[:, 0, :, :32] = seen[:, 1, :, 32:] = 1
    auxiliaries = network.auxiliaries(z, seen)
    (consistency_loss(auxiliaries, main) + weak_loss(auxiliaries, torch.randint(0, 3, (2, 64, 64)))).backward()
    for part in (network.encoder, network.pyramid, network.auxiliary):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0
    assert main.grad is None
    assert all(p.grad is None for p in network.decoder.parameters())


def test_the_encoder_starts_from_the_classifier():
    classifier, network = SMALL.create(num_classes=3), CCT(SMALL, 3)
    start(network, SMALL, classifier.state_dict(), None, from_scratch=False)
    assert torch.equal(network.encoder.model.state_dict()["conv1.0.weight"], classifier.state_dict()["conv1.0.weight"])
    with pytest.raises(NetworkError, match="the classifier: lacks"):
        start_encoder(network, {"other": torch.zeros(1)}, "the classifier")


def test_weights_come_back_from_a_file_without_pickle(tmp_path):
    network, images = CCT(SMALL, 3).eval(), torch.randn(1, 3, 48, 40)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = CCT(SMALL, 3).eval()
    other.load_state_dict(load_state(tmp_path / "weights.pt"))
    with torch.no_grad():
        assert torch.equal(network(images), other(images))


def test_it_learns_from_pseudo_masks_alone():
    """The weak term alone, which never touches the main decoder, brings the auxiliary decoders to the masks."""
    network = CCT(SMALL, 2, auxiliary={"feature_noise": 1, "spatial_dropout": 1}).train()
    images, masks = torch.randn(4, 3, 32, 32) * 0.1, torch.zeros(4, 32, 32, dtype=torch.long)
    images[:, :, 8:24, 8:24] += 2
    masks[:, 8:24, 8:24] = 1
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=1e-2), []
    for _ in range(30):
        loss = weak_loss(network.auxiliaries(z := network.encode(images), network.decode(z, (32, 32))), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
