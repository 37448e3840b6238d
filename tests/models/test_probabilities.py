"""Outputs squashed into [0, 1] are recognised by what they do, and logits that lie there by chance are not taken for them."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from advcam.errors import NetworkError
from advcam.models import find


class Net(nn.Module):
    """A small network whose end is a function of it and its features."""

    def __init__(self, end, classes=4, bias=0.0):
        super().__init__()
        convolutions = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
        self.body, self.fc, self.tanh = nn.Sequential(*convolutions), nn.Linear(32, classes), nn.Tanh()
        self.squashed = nn.Sequential(self.fc, nn.Sigmoid())
        nn.init.constant_(self.fc.bias, bias)
        self.end = end

    def cells(self, x):
        return F.conv2d(self.body(x), self.fc.weight[:, :, None, None], self.fc.bias)

    def features(self, x):
        return self.body(x).mean((2, 3))

    def logits(self, x):
        return self.fc(self.features(x))

    def forward(self, x):
        return self.end(self, x)


SQUASHED = {
    "sigmoid": lambda n, x: n.logits(x).sigmoid(),
    "softmax": lambda n, x: n.logits(x).softmax(1),
    "by hand": lambda n, x: 1 / (1 + torch.exp(-n.logits(x))),
    "tanh": lambda n, x: n.logits(x).tanh() * 0.5 + 0.5,
    "a module of tanh": lambda n, x: n.tanh(n.logits(x)) * 0.5 + 0.5,
    "hard": lambda n, x: F.hardsigmoid(n.logits(x)),
    "cut off": lambda n, x: n.logits(x).clamp(0, 1),
    "arctangent": lambda n, x: n.logits(x).atan() / torch.pi + 0.5,
    "by its logarithm": lambda n, x: F.logsigmoid(n.logits(x)).exp(),
    "softmax by its logarithm": lambda n, x: n.logits(x).log_softmax(1).exp(),
    "one softmax a group": lambda n, x: torch.cat([part.softmax(1) for part in n.logits(x).split(2, 1)], 1),
    "without a module": lambda n, x: F.linear(n.features(x), n.fc.weight, n.fc.bias).sigmoid(),
    "in place": lambda n, x: n.logits(x).sigmoid_(),
    "one minus": lambda n, x: 1 - n.squashed(n.features(x)),
    "a part": lambda n, x: n.squashed(n.features(x))[:, :1],
    "mean of cells": lambda n, x: n.cells(x).sigmoid().mean((2, 3)),
    "greatest of cells": lambda n, x: n.cells(x).sigmoid().amax((2, 3)),
    "any of cells": lambda n, x: 1 - (1 - n.cells(x).sigmoid()).flatten(2).prod(2),
    "two views": lambda n, x: (n.logits(x).sigmoid() + n.logits(x.flip(-1)).sigmoid()) / 2,
}
LOGITS = {
    "plain": lambda n, x: n.logits(x),
    "scaled": lambda n, x: n.logits(x) * 0.01,
    "without a module": lambda n, x: F.linear(n.features(x), n.fc.weight, n.fc.bias),
    "normalised": lambda n, x: F.linear(F.layer_norm(n.features(x), (32,)), n.fc.weight, n.fc.bias),
    "cosine": lambda n, x: F.linear(F.normalize(n.features(x)), F.normalize(n.fc.weight)),
    "mean of cells": lambda n, x: n.cells(x).mean((2, 3)),
    "softplus": lambda n, x: F.softplus(n.logits(x)),
    "squared": lambda n, x: n.logits(x) ** 2,
    "two views": lambda n, x: (n.logits(x) + n.logits(x.flip(-1))) / 2,
}


@pytest.mark.parametrize("end", SQUASHED)
@pytest.mark.parametrize("bias", [-20.0, 0.0, 20.0])
@pytest.mark.parametrize("classes", [1, 4])
def test_squashed_outputs(images, end, bias, classes):
    with pytest.raises(
        NetworkError, match=r"returns probabilities .*Remove the s\w+ at its end.*saturates there is no gradient"
    ):
        find(Net(SQUASHED[end], classes, bias), images)


@pytest.mark.parametrize("end", LOGITS)
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_logits_that_lie_there_by_chance(end, classes):
    inside = 0
    for seed in range(200):
        torch.manual_seed(seed)
        net, image = Net(LOGITS[end], classes, 0.3).eval(), torch.randn(1, 3, 128, 128)
        with torch.no_grad():
            logits = net(image)
        if ((logits >= 0) & (logits <= 1)).all():
            inside += 1
            assert find(net, image, "body").classes == classes
        if inside == 4:
            return
    assert inside, "no network here has all logits in [0, 1]"


def test_a_hook_that_squashes(net, images):
    net.fc.register_forward_hook(lambda _module, _inputs, output: output.sigmoid())
    with pytest.raises(NetworkError, match="returns probabilities"):
        find(net, images)


def test_a_hook_that_does_not_is_part_of_the_head(net, images):
    assert find(net, images).head == "fc"
    net.fc.register_forward_hook(lambda _module, _inputs, output: output * 2 + 1)
    assert find(net, images).head is None


SMALL = "test_resnet", "test_vit", "convnext_atto", "mobilenetv3_small_050"


class Wrapped(nn.Module):
    def __init__(self, net, end):
        super().__init__()
        self.net, self.end = net, end

    def forward(self, x):
        output = self.net(x)
        if isinstance(output, torch.Tensor):
            return self.end(output)
        output.logits = self.end(output.logits)
        return output


@pytest.mark.parametrize("name", [*SMALL, pytest.param("resnet50_clip", marks=pytest.mark.slow)])
@pytest.mark.parametrize("classes", [1, 30])
def test_timm_s_networks(name, classes):
    net = timm.create_model(name, num_classes=classes).eval()
    x = torch.randn(1, 3, *timm.get_pretrained_cfg(name).input_size[1:])
    for end in (torch.sigmoid, lambda y: y.softmax(1), lambda y: torch.sigmoid(y + 20)):
        with pytest.raises(NetworkError, match="returns probabilities"):
            find(Wrapped(net, end), x)
    for end in (lambda y: y, lambda y: y + 0.4):
        assert find(Wrapped(net, end), x).classes == classes


def test_outputs_of_hugging_face(images):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=2)
    net = transformers.ResNetForImageClassification(config).eval()
    with pytest.raises(NetworkError, match="returns probabilities"):
        find(Wrapped(net, torch.sigmoid), images)
    assert find(Wrapped(net, lambda y: y), images).classes == 2


def test_an_ordinary_network_is_looked_at_once(net, images):
    nn.init.constant_(net.fc.bias, -5.0)
    seen = []
    net.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    find(net, images)
    assert seen == [1, 2]  # watched; and whether it takes channels last
    find(net, images)
    assert len(seen) == 2
