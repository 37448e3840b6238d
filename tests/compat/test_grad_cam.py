"""Code written for pytorch-grad-cam runs with one import replaced, and its plain maps are the same numbers."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import advcam
from advcam.compat import grad_cam
from advcam.compat.grad_cam import AdvCAM
from advcam.errors import InputError, NetworkError, SettingsError

PLAIN = {
    "GradCAM": "gradcam",
    "GradCAMPlusPlus": "gradcam++",
    "LayerCAM": "layercam",
    "HiResCAM": "hirescam",
    "GradCAMElementWise": "elementwise",
}
ODD = ("GradCAMPlusPlus", "conv1")  # features of either sign: their 1e-6 decides wherever the denominator comes near 0
OURS = "from advcam.compat.grad_cam import AdvCAM as GradCAM"

# From their README, with random weights in place of the pretrained ones.
README = """
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.image import show_cam_on_image

target_layers = [model.layer4[-1]]

# We have to specify the target we want to generate the CAM for.
targets = [ClassifierOutputTarget(281)]

# Construct the CAM object once, and then re-use it on many images.
with GradCAM(model=model, target_layers=target_layers) as cam:
  grayscale_cam = cam(input_tensor=input_tensor, targets=targets)
  # In this example grayscale_cam has only one image in the batch:
  grayscale_cam = grayscale_cam[0, :]
  visualization = show_cam_on_image(rgb_img, grayscale_cam, use_rgb=True)
  # You can also get the model outputs without having to redo inference
  model_outputs = cam.outputs
"""

# From their tutorial on vision transformers, on another grid.
TRANSFORMER = """
from pytorch_grad_cam import GradCAM

def reshape_transform(tensor, height=4, width=6):
    result = tensor[:, 1:, :].reshape(tensor.size(0), height, width, tensor.size(2))
    # Bring the channels to the first dimension, like in CNNs.
    result = result.transpose(2, 3).transpose(1, 2)
    return result

target_layers = [model.blocks[-1].norm1]
cam = GradCAM(model=model, target_layers=target_layers, reshape_transform=reshape_transform)
grayscale_cam = cam(input_tensor=input_tensor, targets=None)
"""


class ClassifierOutputTarget:
    """As theirs is written."""

    def __init__(self, category):
        self.category = category

    def __call__(self, model_output):
        if len(model_output.shape) == 1:
            return model_output[self.category]
        return model_output[:, self.category]


@pytest.fixture
def theirs():
    return pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam (grad-cam on PyPI) is not installed")


@pytest.fixture
def resnet():
    timm = pytest.importorskip("timm")
    return timm.create_model("resnet18", channels=(8, 16, 24, 32), num_classes=300, zero_init_last=False).eval()


@pytest.fixture
def vit():
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=2, num_classes=10).eval()


@pytest.fixture
def run(run_code):
    """What an example has defined in the end, with its import replaced."""
    old = "from pytorch_grad_cam import GradCAM"
    assert README.count(old) == TRANSFORMER.count(old) == 1
    return lambda example, new_import, **given: run_code(example.replace(old, new_import or old), **given)


def stretched(maps):
    """Their scaling: the least value to 0, the greatest to 1."""
    maps = maps - maps.min((1, 2), keepdims=True)
    return maps / (1e-7 + maps.max((1, 2), keepdims=True))


def state_of(model):
    modules = {n: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()}
    return modules, {n: (p.requires_grad, p.grad) for n, p in model.named_parameters()}


def test_their_readme(theirs, resnet, run):
    given = {"model": resnet, "input_tensor": torch.randn(1, 3, 64, 96), "rgb_img": np.zeros((64, 96, 3), np.float32)}
    with torch.no_grad():
        resnet.fc.weight[281].abs_()  # so that something speaks for it
    before = state_of(resnet)
    out = run(README, OURS, **given)
    assert state_of(resnet) == before
    cam = out["grayscale_cam"]
    assert (cam.shape, cam.dtype, cam.max()) == ((64, 96), np.float32, 1)
    assert cam.min() >= 0
    assert out["visualization"].shape == (64, 96, 3)
    assert torch.allclose(out["model_outputs"], resnet(given["input_tensor"]).detach(), atol=1e-4)
    expected = advcam.AdvCAM(resnet, layer="layer4.1")(given["input_tensor"], [[281]]).normalised((64, 96))[0]
    assert np.allclose(cam, expected, atol=1e-6)
    plain = run(README, "from advcam.compat.grad_cam import GradCAM", **given)["grayscale_cam"]
    assert np.allclose(stretched(plain[None])[0], run(README, None, **given)["grayscale_cam"], atol=1e-5)
    assert not np.allclose(plain, cam, atol=1e-3)


def test_their_transformer(theirs, vit, run):
    given = {"model": vit, "input_tensor": torch.randn(2, 3, 64, 96)}
    cam = run(TRANSFORMER, OURS, **given)["grayscale_cam"]
    assert cam.shape == (2, 64, 96)
    assert cam.max((1, 2)).tolist() == [1, 1]
    assert cam.min() >= 0
    plain = run(TRANSFORMER, "from advcam.compat.grad_cam import GradCAM", **given)["grayscale_cam"]
    assert np.allclose(stretched(plain), run(TRANSFORMER, None, **given)["grayscale_cam"], atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [case for case in product(PLAIN, ("layer4.1", "layer3.1", "conv1")) if case != ODD])
def test_plain_maps_are_theirs(theirs, resnet, name, layer):
    if name == "GradCAMPlusPlus":
        with torch.no_grad():
            resnet.fc.weight.mul_(1e5)  # gradients beside which their 1e-6 is nothing
    images = torch.randn(2, 3, 64, 96)
    targets = [ClassifierOutputTarget(c) for c in resnet(images).argmax(1)]  # classes that something speaks for
    layers = [resnet.get_submodule(layer)]
    with getattr(theirs, name)(model=resnet, target_layers=layers) as cam:
        expected = cam(input_tensor=images, targets=targets)
    maps = getattr(grad_cam, name)(model=resnet, target_layers=layers)(input_tensor=images, targets=targets)
    assert np.abs(stretched(maps) - expected).max() < 1e-5
    same = AdvCAM(resnet, layers, steps=1, method=PLAIN[name])(images, targets)
    assert np.array_equal(same, maps)


def test_their_targets(theirs, net, images):
    from pytorch_grad_cam.utils import model_targets as t

    cam = AdvCAM(net, [net.body], steps=2)
    by_id = cam(images, [3, np.int64(1), torch.tensor(0)])
    assert np.array_equal(by_id, cam(images, [t.ClassifierOutputTarget(c) for c in (3, np.int64(1), 0)]))
    for other in (
        t.RawScoresOutputTarget(),
        t.SoftmaxOutputTarget(),
        t.ClassifierOutputSoftmaxTarget(1),
        t.ClassifierOutputReST(1),
        t.BinaryClassifierOutputTarget(1),
        t.SemanticSegmentationTarget(1, np.ones((40, 56))),
    ):
        with pytest.raises(InputError, match=f"got {type(other).__name__}"):
            cam(images, [other] * 3)


def test_no_target_is_the_highest_class(net, images):
    cam = AdvCAM(net, [net.body], steps=2)
    maps = cam(input_tensor=images)
    assert np.array_equal(maps, cam(images, cam.outputs.argmax(1)))
    net.eval()
    assert torch.allclose(cam.outputs, net(images), atol=1e-6)


def test_several_layers_are_averaged(net, images):
    maps = AdvCAM(net, [net.stem, net.body], steps=2)(images, [0, 1, 2])
    mean = (AdvCAM(net, [net.stem], steps=2)(images, [0, 1, 2]) + AdvCAM(net, [net.body], steps=2)(images, [0, 1, 2])) / 2
    assert np.allclose(maps, mean / mean.max((1, 2), keepdims=True), atol=1e-6)
    assert np.array_equal(AdvCAM(net, net.body, steps=2)(images, [0] * 3), AdvCAM(net, [*net.body], steps=2)(images, [0] * 3))


def test_options_go_to_the_climb(net, images):
    cam = AdvCAM(net, [net.body], preset="official", max_pixels=10**5, steps=3, scales=(1.0, 0.5))
    maps = cam(images, [0, 1, 2])
    expected = advcam.AdvCAM(net, "official", layer="body", steps=3, scales=(1.0, 0.5))(images, [[0], [1], [2]])
    assert np.allclose(maps, expected.normalised((40, 56)), atol=1e-6)
    with pytest.raises(SettingsError, match="no setting 'stepz'; did you mean steps"):
        AdvCAM(net, [net.body], stepz=3)


def test_an_empty_map_is_zeros(net, images):
    with torch.no_grad():
        net.fc.weight[2] = -1  # nothing behind a ReLU speaks for class 2
    assert not AdvCAM(net, [net.body])(images, [2] * 3).any()


def test_wrappers_are_taken_off(net, images):
    expected = AdvCAM(net, [net.body], steps=2)(images)
    assert np.array_equal(AdvCAM(nn.DataParallel(net), [net.body], steps=2)(images), expected)
    compiled = torch.compile(net)
    assert np.array_equal(AdvCAM(compiled, [compiled.body], steps=2)(images), expected)


def test_the_model_comes_back_as_lent(net, images):
    net.train()
    net.stem.eval()
    before = state_of(net)
    with pytest.raises(ZeroDivisionError), AdvCAM(net, [net.body], reshape_transform=lambda t: t) as cam:
        cam(images)
        assert cam.outputs.shape == (3, 4)
        _ = 1 / 0
    assert state_of(net) == before


def test_another_quantity_as_a_model_of_one_logit(net, images):
    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            y = self.net(x)
            return y[:, 1:2] - y[:, 2:3]

    maps = AdvCAM(Difference(), [net.body], steps=1)(images, [0] * 3)
    w = (net.fc.weight[1] - net.fc.weight[2]).detach()
    cells = torch.einsum("ndhw,d->nhw", net.eval().body(net.stem(images)).detach(), w).relu()
    full = nn.functional.interpolate(cells[:, None], (40, 56), mode="bilinear")[:, 0]
    assert np.allclose(maps, full / full.amax((1, 2), keepdim=True), atol=1e-5)


class Other:
    """A target of something else than one logit."""

    category = 1

    def __call__(self, model_output):
        return model_output.softmax(-1)[self.category]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            {"targets": [Other()] * 3},
            InputError,
            r"ClassifierOutputTarget\(k\) or a class id; got Other. .* as a logit \[N, 1\]",
        ),
        ({"targets": [lambda y: y[1]] * 3}, InputError, "got function"),
        ({"targets": ["cat"] * 3}, InputError, "got str"),
        ({"targets": [1.5] * 3}, InputError, "got float"),
        ({"targets": 1}, InputError, "a list with one target for each image, or None; got int"),
        ({"targets": [1]}, InputError, "each of the 3 images; got 1"),
        ({"targets": [1, 2, 4]}, InputError, "class id 4 is out of range; the model has classes 0 to 3"),
        ({"targets": [ClassifierOutputTarget(-1)] * 3}, InputError, "class id -1 is out of range"),
        ({"input_tensor": [1]}, InputError, r"input_tensor must be a float tensor \[N, C, H, W\]; got list"),
        ({"input_tensor": torch.rand(3, 8, 8)}, InputError, r"\[N, C, H, W\].*got torch.float32 \(3, 8, 8\)"),
        ({"aug_smooth": True}, SettingsError, r"aug_smooth=True .* leave it out and make the object with mirror=True"),
        ({"eigen_smooth": True}, SettingsError, r"eigen_smooth=True .* leave it out; mirror=True or several scales"),
    ],
)
def test_bad_calls(net, images, call, error, message):
    with pytest.raises(error, match=message):
        AdvCAM(net, [net.body])(**({"input_tensor": images} | call))


def test_bad_layers(net, images, vit):
    with pytest.raises(InputError, match=r"ReLU, is not a module of this SmallNet .* Its parts: stem, body, pool, drop, fc"):
        AdvCAM(net, [nn.ReLU()])
    with pytest.raises(InputError, match="the layer is the whole model: give the module inside it"):
        AdvCAM(net, [net])
    with pytest.raises(InputError, match="a layer must be a module of the model, .*; got 'body'"):
        AdvCAM(net, ["body"])
    with pytest.raises(InputError, match="target_layers is empty: expected at least one module"):
        AdvCAM(net, [])
    with pytest.raises(InputError, match=r"must be a list of modules, e.g. \[model.layer4\[-1\]\]; got ReLU"):
        AdvCAM(net, net.body[1])
    with pytest.raises(NetworkError, match="must be a torch.nn.Module"):
        AdvCAM(net.forward, [net.body])
    with pytest.raises(NetworkError, match="logits do not depend on the output of layer 'blocks.1'"):
        AdvCAM(vit, [vit.blocks[-1]])(torch.randn(1, 3, 64, 96))


def test_outputs_need_a_call(net):
    with pytest.raises(InputError, match="there was none: call the object first"):
        _ = AdvCAM(net, [net.body]).outputs


def test_a_reshape_that_is_not_ours(net, images):
    assert AdvCAM(net, [net.body], lambda t: t, steps=1)(images).shape == (3, 40, 56)
    turned = AdvCAM(net, [net.body], reshape_transform=lambda t: t.flip(-1))
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"\(1, 16, 10, 14\) of layer 'body', where .* in another order. .* leave reshape_tr"
        ):
            turned(images)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(net, around):
    with around():
        images = torch.randn(2, 3, 40, 56)
        maps = AdvCAM(net, [net.body], lambda t: t, steps=2)(images, [1, 2])
    assert np.array_equal(maps, AdvCAM(net, [net.body], steps=2)(images.clone(), [1, 2]))


def test_neither_library_is_imported():
    code = "import advcam.compat, sys; sys.exit(len({'pytorch_grad_cam', 'captum'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
