"""The last feature map and the head of other people's networks."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import advcam
from advcam.errors import InputError, NetworkError
from advcam.models import find, fused
from advcam.models.layout import Layout, layout


def test_one_by_one_head_in_front_of_the_pooling(images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = find(net, images)
    assert (network.layer, network.side, network.head) == ("1", "output", "2")
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
    assert (network.layer, network.side, network.head) == ("pool", "input", "fc")


class Tokens(nn.Module):
    """A small transformer: class token or mean, as in ViT."""

    def __init__(self, class_token=True, side=8):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, side, side)
        self.token = nn.Parameter(torch.randn(1, 1, 16)) if class_token else None
        layers = [nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True) for _ in range(3)]
        self.blocks = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0] if self.token is not None else x.mean(1))


def test_behind_the_last_block_only_the_class_token_counts(images):
    net = Tokens()
    network = find(net, images)
    assert (network.layer, network.layout, network.head) == ("blocks.1", Layout("tokens", 1), None)
    assert network(images)[0].shape == (3, 16, 5, 7)
    with pytest.raises(NetworkError, match=r"do not depend on the output of layer 'blocks.2': name an earlier layer"):
        find(net, images, "blocks.2")
    assert find(net, images, "blocks.2.norm1").layout == Layout("tokens", 1)


def test_tokens_that_are_averaged_have_a_linear_head(images):
    network = find(Tokens(class_token=False), images)
    assert (network.layer, network.layout, network.head) == ("norm", Layout("tokens", 0), "head")


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((1, 512, 7, 7), (224, 224), Layout("channels first")),
        ((1, 7, 7, 512), (224, 224), Layout("channels last")),
        ((1, 12, 16, 2048), (375, 500), Layout("channels last")),
        ((1, 196, 64), (224, 224), Layout("tokens", 0)),
        ((1, 197, 64), (224, 224), Layout("tokens", 1)),
        ((1, 201, 64), (224, 224), Layout("tokens", 5)),
        ((1, 295, 64), (224, 336), Layout("tokens", 1)),
        ((1, 49, 64), (224, 224), Layout("tokens", 0)),
        ((1, 512, 1, 1), (224, 224), None),
        ((1, 512), (224, 224), None),
        ((1, 3, 152), (224, 224), None),
        ((1, 512, 7, 7), (224, 320), None),
    ],
)
def test_layouts(shape, size, expected):
    found = layout(torch.Size(shape), size)
    assert found == expected
    if found:
        value = torch.randn(shape)
        grid = found.to_grid(value, size)
        assert grid.ndim == 4
        assert torch.equal(found.back(grid, value), value)
        assert found.back(grid, value).data_ptr() != value.data_ptr()


def test_a_layer_in_the_middle_is_weighted_by_the_gradient_of_what_follows(net, images):
    network = find(net, images, "stem")
    assert (network.layer, network.head) == ("stem", None)
    net.eval()
    f = net.stem(images).detach().requires_grad_()
    (g,) = torch.autograd.grad(net.fc(net.body(f).mean((2, 3)))[:, 2].sum(), f)
    expected = (g.sum((2, 3), keepdim=True) * f).sum(1).relu()
    assert torch.allclose(advcam.cam(net, images, [[2]] * 3, layer="stem").maps, expected.detach(), atol=1e-5)


def test_a_module_used_twice(images):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.again(self.again(self.first(x)).relu()).mean((2, 3)))

    net = Twice()
    network = find(net, images)
    assert (network.layer, network.nth, network.head) == ("again", 1, "fc")
    expected = net.again(net.again(net.first(images)).relu())
    assert torch.allclose(network(images)[0], expected, atol=1e-6)


def test_written_over_in_place_afterwards(images):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.relu = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.relu(self.bn(self.conv(x))).mean((2, 3)))

    net = InPlace()
    assert find(net, images).layer == "relu"
    net.eval()
    before = net.bn(net.conv(images)).detach()
    named = find(net, images, "conv")  # its output is not what the in-place ReLU leaves in BatchNorm's
    assert torch.allclose(named(images)[0], net.conv(images), atol=1e-6)
    assert torch.allclose(find(net, images, "bn")(images)[0], before, atol=1e-6)
    assert find(net, images, "bn").head is None  # the ReLU is part of the head


def test_wrappers_are_taken_off(net, images):
    expected = advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps
    assert torch.equal(advcam.AdvCAM(nn.DataParallel(net), steps=2)(images, [[0]] * 3).maps, expected)
    assert torch.equal(advcam.AdvCAM(torch.compile(net), steps=2)(images, [[0]] * 3).maps, expected)


def test_torchscript_is_refused(net, images):
    with pytest.raises(NetworkError, match="TorchScript.*give the torch.nn.Module that it was made of"):
        find(torch.jit.trace(net.eval(), images), images)


def test_an_unknown_layer_names_the_nearest(net, images):
    with pytest.raises(NetworkError, match=r"no layer 'bodi'; did you mean body"):
        find(net, images, "bodi")


def test_a_layer_that_is_no_map(net, images):
    with pytest.raises(NetworkError, match=r"output of layer 'fc' is \(1, 4\): expected a feature map"):
        find(net, images, "fc")


def test_a_softmax_behind_the_head(images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3), nn.Softmax(1))
    with pytest.raises(NetworkError, match="probabilities.*Remove the softmax"):
        find(net, images)


def test_no_spatial_features():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 128 * 128, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(NetworkError, match=r"has no spatial features.*Expected a convolutional network or a transformer"):
        find(net, torch.rand(1, 3, 128, 128))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(3, 8, 5, 4, 2), nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(torch.cat([self.a(x).relu().mean((2, 3)), self.b(x).relu().mean((2, 3))], 1))


def test_branches_need_a_named_layer(images):
    with pytest.raises(NetworkError, match=r"no single layer.*every path.*name one with layer=, e.g. 'b'"):
        find(Branches(), images)
    assert find(Branches(), images, "b").layer == "b"


def test_an_untrained_head(images, net):
    nn.init.zeros_(net.fc.weight)
    with pytest.raises(NetworkError, match="gradient is zero everywhere.*untrained"):
        find(net, images)


def test_no_way_back_to_the_pixels(images):
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.conv(x).detach().mean((2, 3)))

    with pytest.raises(NetworkError, match="do not depend on the pixels in a differentiable way"):
        find(Cut(), images)


@pytest.mark.parametrize(
    ("returned", "came"),
    [
        (lambda y: (y,), "tuple"),
        (lambda y: {"logits": y}, "dict"),
        (lambda y: y[0], r"a tensor \(4,\)"),
        (lambda y: None, "NoneType"),
    ],
)
def test_a_model_that_returns_no_logits(net, images, returned, came):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return returned(self.net(x))

    with pytest.raises(NetworkError, match=rf"logits as one tensor \[N, K\].*it returned {came}. Wrap it"):
        find(Odd(), images)


def test_a_model_for_other_images():
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(NetworkError, match=r"Sequential fails on an image \(1, 3, 40, 56\).*to have 4 channels, but got 3"):
        find(net, torch.rand(1, 3, 40, 56))


def test_other_types_and_devices(net, images):
    with pytest.raises(InputError, match=r"images are torch.float64, the model computes in torch.float32: convert one"):
        find(net, images.double())
    with pytest.raises(InputError, match=r"images are on meta, the model is on cpu: move one of them, e.g. images.to\('cpu'\)"):
        find(net, images.to("meta"))
    with pytest.raises(InputError, match="the model computes in torch.float32"):
        advcam.AdvCAM(net).scores(images.double())


def test_images_smaller_than_the_stride(net):
    with pytest.raises(InputError, match=r"images of 3x4 pixels are smaller than the network's stride.*Enlarge the images"):
        advcam.cam(net, torch.rand(1, 3, 3, 4), [[0]])


def test_the_prepared_network_gives_the_same_and_leaves_the_model(net, images):
    for _ in range(3):
        net(torch.randn(4, 3, 40, 56) * 2 + 1)  # running statistics worth folding
    nn.init.normal_(net.stem[1].weight)
    network = find(net, images)
    assert network.foldable == (("stem.0", "stem.1"),)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fast = fused(network, images[:1])
    assert isinstance(fast.model.stem[1], nn.Sequential)
    for a, b in zip(network(images), fast(images), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    assert fast.model.fc.bias.data_ptr() == net.fc.bias.data_ptr()  # what is not changed is shared
    assert isinstance(net.stem[1], nn.BatchNorm2d)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_model_that_cannot_be_copied_is_used_as_it_is(net, images):
    expected = advcam.AdvCAM(net, steps=3)(images, [[0]] * 3).maps
    net.source = (n for n in range(3))
    assert fused(find(net, images), images[:1]).model is net
    assert torch.allclose(advcam.AdvCAM(net, steps=3)(images, [[0]] * 3).maps, expected, atol=1e-5)


def test_the_operators_are_there_only_where_needed():
    """Beside a CPU-only torch the plain import fails; with ours it works; nothing is declared twice."""
    plain = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    code = "import advcam.models as m, torchvision, timm; print(len(m.register_operators()))"
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.strip() == "0"  # a second call declares nothing
    assert plain.returncode == 0 or "torchvision::nms does not exist" in plain.stderr
