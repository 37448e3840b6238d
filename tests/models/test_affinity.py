"""The networks of IRN and PSA: grids, a backbone left alone, and that they can learn what they are for."""

import pytest
import torch
import torch.nn.functional as F

from advcam.errors import NetworkError, SettingsError
from advcam.models.affinity import AffinityNet, BoundaryNet
from advcam.models.classifiers import Backbone
from advcam.models.encoders import on_grid, start, start_encoder

SMALL = Backbone("test_resnet")


@pytest.mark.parametrize(
    "name", ["test_resnet", "mobilenetv3_small_050", "convnext_atto", "densenet121", "vgg11", "efficientnet_b0"]
)
def test_grids_of_any_size_on_any_backbone(name):
    images = torch.randn(1, 3, 70, 53)
    backbone = Backbone(name)
    with torch.no_grad():
        assert BoundaryNet(backbone).eval()(images).shape == (1, 3, 18, 14)
        assert AffinityNet(backbone).eval()(images).shape == (1, 448, 9, 7)


def test_a_backbone_that_has_one_depth_is_refused():
    with pytest.raises(SettingsError, match=r"'vit_tiny_patch16_224' has no features at several strides .* --backbone"):
        BoundaryNet(Backbone("vit_tiny_patch16_224", {"dynamic_img_size": True}))


@pytest.mark.parametrize("kind", [BoundaryNet, AffinityNet])
def test_training_leaves_the_backbone_as_it_is(kind):
    network = kind(SMALL).train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    assert not network.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())


def test_a_backbone_that_may_learn_too():
    network = BoundaryNet(SMALL, frozen=False).train()
    before = network.encoder.model.state_dict()["conv1.0.weight"].clone()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    assert network.encoder.training
    assert not torch.equal(network.encoder.model.state_dict()["conv1.0.weight"], before)
    assert not network.eval().encoder.training


def test_displacements_are_zero_on_average_outside_training():
    network = BoundaryNet(SMALL).train()
    images = torch.randn(4, 3, 64, 64)
    for _ in range(3):
        seen = network(images)[:, 1:].detach().mean((0, 2, 3))
    assert torch.allclose(network.mean, seen * (1 - 0.9**3), atol=1e-5)  # on its way to the mean
    network.mean.copy_(seen)
    with torch.no_grad():
        assert torch.allclose(network.eval()(images)[:, 1:].mean((0, 2, 3)), torch.zeros(2), atol=1e-5)


def test_a_padded_image_has_its_own_grid():
    """What is beyond the image is cut off: a feature lies where its pixels are."""
    image = torch.zeros(1, 1, 40, 50)
    image[..., 24:32, 16:24] = 1
    padded = F.pad(image, (0, 14, 0, 24))
    cells = on_grid(F.avg_pool2d(padded, 8), (40, 50), 4)
    assert cells.shape[2:] == (10, 13)
    assert cells[0, 0, 6:8, 4:6].min() > 0.5
    assert cells[0, 0, :5].max() == 0


def test_the_encoder_starts_from_the_classifier():
    classifier = SMALL.create(num_classes=3)
    network = BoundaryNet(SMALL)
    start(network, SMALL, classifier.state_dict(), None, from_scratch=False)
    assert torch.equal(network.encoder.model.state_dict()["conv1.0.weight"], classifier.state_dict()["conv1.0.weight"])
    with pytest.raises(NetworkError, match="the classifier: lacks"):
        start_encoder(network, {"other": torch.zeros(1)}, "the classifier")
