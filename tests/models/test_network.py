"""The last feature map and the head of other people's networks."""

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

import advcam
from advcam.errors import NetworkError
from advcam.models import find

FOUND = {
    "resnet18": "layer4",
    "resnetv2_50": "norm",
    "mobilenetv2_100": "bn2",
    "efficientnet_b0": "bn2",
    "regnetx_002": "final_conv",
    "test_resnet": "layer4",
    "mnasnet_050": "bn2",
    "densenet121": "features",
    "ghostnet_050": None,
    "convnext_atto": None,
    "mobilenetv3_small_050": None,
    "vit_tiny_patch16_224": None,
    "vgg11": None,
}


@pytest.mark.parametrize("name", FOUND)
def test_timm(name):
    model = timm.create_model(name, num_classes=7)
    images = torch.randn(2, 3, 224 if name.startswith("vit") else 96, 224 if name.startswith("vit") else 128)
    if FOUND[name] is None:
        with pytest.raises(NetworkError, match="not supported yet|one linear head"):
            find(model, images)
        return
    network = find(model, images)
    assert network.layer == FOUND[name]
    model.eval()
    head = network.linear()
    pooled = network.features(images).mean((2, 3)) @ head.weight.T + head.bias
    assert torch.allclose(pooled, model(images), rtol=1e-3, atol=1e-3)


def test_one_by_one_head_in_front_of_the_pooling(images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = find(net, images)
    assert (network.layer, network.head) == ("2", "2") or (network.layer, network.head) == ("1", "2")
    out = advcam.AdvCAM(net, steps=2)(images, [[4]] * 3)
    assert out.maps.shape == (3, 20, 28)


def test_features_made_outside_a_module(images):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool, self.fc = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(self.pool(torch.relu(self.conv(x))).flatten(1))

    network = find(Functional(), images)
    assert (network.layer, network.side) == ("pool", "input")


def test_an_unknown_layer_names_the_nearest(net, images):
    with pytest.raises(NetworkError, match=r"no layer 'bodi'; did you mean body"):
        find(net, images, "bodi")


def test_a_layer_that_is_not_pooled(net, images):
    with pytest.raises(NetworkError, match=r"the output of layer 'stem' is not what the head 'fc'"):
        find(net, images, "stem")


def test_a_softmax_behind_the_head(images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3), nn.Softmax(1))
    with pytest.raises(NetworkError, match="return the logits instead"):
        find(net, images)


def test_the_mend_is_there_only_where_needed():
    """Beside a CPU-only torch the plain import fails; with ours it works; nothing is declared twice."""
    plain = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    code = "import advcam.models as m, torchvision, timm; print(len(m.mend()))"
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.strip() == "0"  # a second call declares nothing
    assert plain.returncode == 0 or "torchvision::nms does not exist" in plain.stderr
