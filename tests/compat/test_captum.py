"""Code written for captum's LayerGradCam runs with one import replaced, and the plain map is the same numbers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import advcam
from advcam.compat.captum import AdvCAM
from advcam.errors import InputError, NetworkError, SettingsError

OURS = "from advcam.compat.captum import AdvCAM as LayerGradCam"
PLAIN = "from advcam.compat.captum import AdvCAM; LayerGradCam = lambda *a: AdvCAM(*a, steps=1, method='gradcam')"

# From the docstring of captum.attr.LayerGradCam.
EXAMPLE = """
from captum.attr import LayerAttribution
from captum.attr import LayerGradCam
# ImageClassifier takes a single input tensor of images Nx3x32x32,
# and returns an Nx10 tensor of class probabilities.
# It contains a layer conv4, which is an instance of nn.conv2d,
# and the output of this layer has dimensions Nx50x8x8.
net = ImageClassifier()
layer_gc = LayerGradCam(net, net.conv4)
input = torch.randn(2, 3, 32, 32, requires_grad=True)
# Computes layer GradCAM for class 3.
attr = layer_gc.attribute(input, 3)
upsampled_attr = LayerAttribution.interpolate(attr, (32, 32))
"""


class ImageClassifier(nn.Module):
    """As the example describes it, with logits."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 24, 3, 1, 1)
        self.conv3, self.conv4 = nn.Conv2d(24, 32, 3, 2, 1), nn.Conv2d(32, 50, 3, 1, 1)
        self.fc = nn.Linear(50 * 16, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(conv(x))
        return self.fc(F.adaptive_avg_pool2d(x, 4).flatten(1))


@pytest.fixture
def theirs():
    return pytest.importorskip("captum.attr", reason="captum is not installed")


@pytest.fixture
def run(run_code):
    """What the example has defined in the end, with its import replaced."""
    old = "from captum.attr import LayerGradCam"
    assert old in EXAMPLE
    return lambda new_import, **given: run_code(EXAMPLE.replace(old, new_import or old), **given)


def close(a, b):
    """To 1e-5 of the greatest value."""
    return bool((a - b).abs().max() <= 1e-5 * b.max()) and bool(b.max() > 0)


def state_of(model):
    modules = {n: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()}
    return modules, {n: (p.requires_grad, p.grad) for n, p in model.named_parameters()}


def test_their_example(theirs, run):
    out = run(OURS, torch=torch, ImageClassifier=ImageClassifier)
    attr, input, net = out["attr"], out["input"], out["net"]
    assert (attr.shape, attr.dtype, attr.requires_grad) == ((2, 1, 8, 8), torch.float32, False)
    assert attr.min() >= 0
    assert (attr.amax((1, 2, 3)) > 0).all()
    assert torch.equal(attr[:, 0], advcam.AdvCAM(net, layer="conv4")(input, [[3], [3]]).maps)
    assert out["upsampled_attr"].shape == (2, 1, 32, 32)
    assert torch.equal(AdvCAM.interpolate(attr, (32, 32)), out["upsampled_attr"])
    assert input.grad is None
    same = {"ImageClassifier": lambda: net, "torch": type("T", (), {"randn": staticmethod(lambda *_, **__: input)})}
    plain, expected = run(PLAIN, **same)["attr"], run(None, **same)["attr"].detach()
    assert close(plain, expected.relu())
    assert expected.min() < 0  # theirs has signs, ours not


@pytest.mark.parametrize(
    "layer", ["layer4", "layer4.1", "layer4.1.bn2", "layer4.1.conv2", "layer3.0.act2", "layer1.0.bn1", "maxpool", "conv1"]
)
def test_the_plain_map_is_theirs(theirs, layer):
    timm = pytest.importorskip("timm")
    resnet = timm.create_model("resnet18", channels=(8, 16, 24, 32), num_classes=10, zero_init_last=False).eval()
    images = torch.randn(2, 3, 64, 96)
    target = resnet(images).argmax(1)  # classes that something speaks for
    of = resnet.get_submodule(layer)
    expected = theirs.LayerGradCam(resnet, of).attribute(images, target, relu_attributions=True).detach()
    maps = AdvCAM(resnet, of, steps=1, method="gradcam").attribute(images, target, relu_attributions=True)
    assert maps.shape == expected.shape
    assert close(maps, expected)


def test_a_module_called_twice_is_seen_at_its_last_call_as_there(theirs, images):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.relu(self.b(self.relu(self.a(x)))).mean((2, 3)))

    net = Twice()
    expected = theirs.LayerGradCam(net, net.relu).attribute(images, 2, relu_attributions=True).detach()
    assert expected.shape == (3, 1, 9, 13)
    assert close(AdvCAM(net, net.relu, steps=1, method="gradcam").attribute(images, 2), expected)


@pytest.mark.parametrize("target", [[1, 1, 1], torch.tensor([1, 1, 1]), torch.tensor(1), torch.tensor([1])])
def test_targets_in_their_forms(net, images, target):
    cam = AdvCAM(net, net.body, steps=2)
    expected = cam.attribute(images, 1)
    assert torch.equal(cam.attribute(images, target=target), expected)
    assert torch.equal(cam.attribute((images,), target=target), expected)
    assert not torch.equal(cam.attribute(images, [1, 1, 0]), expected)


def test_no_target_for_a_single_output(images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
    cam = AdvCAM(net, net[1])
    assert torch.equal(cam.attribute(images), cam.attribute(images, 0))


def test_options_go_to_the_climb(net, images):
    attr = AdvCAM(net, net.body, None, preset="official", steps=3, max_pixels=10**4, scales=(0.5, 1.0)).attribute(
        images, [0, 1, 2]
    )
    expected = advcam.AdvCAM(net, "official", layer="body", steps=3, scales=(0.5, 1.0))(images, [[0], [1], [2]])
    assert torch.allclose(attr[:, 0], expected.maps, rtol=1e-4)
    with pytest.raises(SettingsError, match="steps must be a whole number"):
        AdvCAM(net, net.body, steps=0)


def test_tokens_come_on_their_grid():
    vit = pytest.importorskip("timm").create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=2, num_classes=10)
    attr = AdvCAM(vit, vit.blocks[-1].norm1).attribute(torch.randn(2, 3, 64, 96), [3, 4])
    assert attr.shape == (2, 1, 4, 6)
    assert (attr.amax((1, 2, 3)) > 0).all()


def test_wrappers_are_taken_off_and_the_model_comes_back(net, images):
    net.train()
    before = state_of(net)
    expected = AdvCAM(net, net.body, steps=2).attribute(images, 1)
    assert torch.equal(AdvCAM(nn.DataParallel(net), net.body, device_ids=[0], steps=2).attribute(images, 1), expected)
    assert torch.equal(AdvCAM(torch.compile(net), net.body, steps=2).attribute(images, 1), expected)
    assert state_of(net) == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"target": None}, InputError, "target=None is for a model with a single output; this one has 4: give a class id"),
        ({"target": (1,)}, InputError, r"got \(1,\). Logits are \[N, K\], so a tuple has no meaning here"),
        ({"target": [(1,), (2,), (3,)]}, InputError, r"got \[\(1,\), \(2,\), \(3,\)\]"),
        ({"target": 1.5}, InputError, "a class id, or a list or 1-D tensor of them, one for each image; got 1.5"),
        ({"target": torch.ones(3)}, InputError, r"got a torch.float32 tensor \(3,\)"),
        ({"target": torch.ones(3, 2).long()}, InputError, r"got a torch.int64 tensor \(3, 2\)"),
        ({"target": [1, 2]}, InputError, "each of the 3 images; got 2"),
        ({"target": 4}, InputError, "class id 4 is out of range; the model has classes 0 to 3"),
        ({"inputs": (torch.rand(1, 3, 8, 8),) * 2}, InputError, "one tensor of images .* got 2 of them. .* wrap the model"),
        ({"inputs": "x"}, InputError, "got str"),
        ({"inputs": torch.rand(3, 8, 8)}, InputError, r"got torch.float32 \(3, 8, 8\)"),
        ({"inputs": torch.tensor(1.0)}, InputError, r"got torch.float32 \(\)"),
        ({"additional_forward_args": 3}, InputError, "additional_forward_args .* wrap the model in a module"),
        ({"attribute_to_layer_input": True}, SettingsError, "give as layer the module whose output is this one's input"),
        ({"attr_dim_summation": False}, SettingsError, "an AdvCAM is a sum over channels; leave it out"),
        ({"grad_kwargs": {}}, SettingsError, "takes its own gradients; leave them out"),
    ],
)
def test_bad_calls(net, images, call, error, message):
    with pytest.raises(error, match=message):
        AdvCAM(net, net.body).attribute(**({"inputs": images, "target": 1} | call))


def test_bad_models_and_layers(net, images):
    with pytest.raises(InputError, match="must be the model itself, .* got SmallNet.forward. Give the module"):
        AdvCAM(net.forward, net.body)
    with pytest.raises(InputError, match=r"got .*<lambda>. Give the module"):
        AdvCAM(lambda x: net(x), net.body)
    with pytest.raises(InputError, match="is not a module of this SmallNet"):
        AdvCAM(net, nn.ReLU())
    with pytest.raises(NetworkError, match="layer 'fc' is"):
        AdvCAM(net, net.fc).attribute(images, 1)
