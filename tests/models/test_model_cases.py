"""The inputs of ../shared/cases about networks and their weights, made anew, with others of their kinds."""

import contextlib

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import advcam
from advcam.cli import main
from advcam.compat.captum import AdvCAM as CaptumCAM
from advcam.compat.grad_cam import AdvCAM as GradCAM
from advcam.errors import AdvcamError, InputError, NetworkError
from advcam.models.classifiers import Backbone, new_classifier, saved_classifier
from advcam.models.weights import load_state, without_prefix
from conftest import SmallNet

# checkpoint_prefix


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=5)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


CHECKPOINTS = {
    "lightning.ckpt": lambda state: {"state_dict": prefixed(state, "model."), "epoch": 3, "lr": 0.1},
    "criterion.ckpt": lambda state: {"state_dict": prefixed(state, "model.") | {"loss.weight": torch.ones(5)}},
    "model_state_dict.pth": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {0: torch.ones(2)}}},
    "net.pth": lambda state: {"net": state, "acc": 91.2, "epoch": 3},
    "parallel.pth": lambda state: prefixed(state, "module."),
    "both.pth": lambda state: {"model": prefixed(state, "module.net.backbone."), "step": torch.tensor(5)},
    "compiled.pth": lambda state: prefixed(state, "_orig_mod."),
    "under its own name.pth": lambda state: {"my weights": state, "epoch": 1},
    "nested.pth": lambda state: {"checkpoint": {"weights": state}},
    "tensor beside.pth": lambda state: {"state_dict": state, "epoch": torch.tensor(3)},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_prefix(network, tmp_path, name):
    state = network.state_dict()
    torch.save(CHECKPOINTS[name](state), tmp_path / name)
    backbone = Backbone("test_resnet")
    ready = saved_classifier(backbone, 5, tmp_path / name)
    started, _ = new_classifier(backbone, 3, tmp_path / name, pretrained=True)
    for key, value in ready.state_dict().items():
        assert torch.equal(value, state[key])
        assert key.startswith("fc.") or torch.equal(started.state_dict()[key], value)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "image.png")
    words = ["climb-image", tmp_path / "image.png", "--model", "timm:test_resnet", "--class", "1", "--out", tmp_path / "o"]
    assert main([*map(str, words), "--weights", str(tmp_path / name), "--steps", "2", "--quiet"]) == 0


def test_safetensors_with_a_prefix_too(network, tmp_path):
    save_file({f"model.{n}": v.contiguous() for n, v in network.state_dict().items()}, tmp_path / "a.safetensors")
    assert torch.equal(saved_classifier(Backbone("test_resnet"), 5, tmp_path / "a.safetensors").fc.weight, network.fc.weight)


def test_only_a_beginning_in_common_is_taken_off():
    state = {"a.fc.weight": 1, "b.fc.bias": 2, "fc.weight": 3, "fc.bias": 4}
    assert without_prefix(state, ["fc.weight", "fc.bias"]) == state
    assert without_prefix({"a.x": 1, "a.y": 2, "other": 3}, ["x", "y"]) == {"x": 1, "y": 2}


class Whole(nn.Linear):
    """A module pickled whole."""


@pytest.mark.parametrize("value", ["whole", "numpy", "path"])
def test_pickles_in_one_sentence(network, tmp_path, value, capsys):
    held = {"whole": Whole(2, 2), "numpy": {"net": network.state_dict(), "acc": np.float64(91.2)}, "path": {"at": tmp_path}}
    torch.save(held[value], tmp_path / "it.pth")
    with pytest.raises(NetworkError) as caught:
        load_state(tmp_path / "it.pth")
    said = str(caught.value)
    assert "it holds Python objects too (" in said
    assert "could run code and are not loaded; save the weights by themselves: torch.save(model.state_dict(), FILE)" in said
    assert "\x1b" not in said
    torch.save(network.state_dict(), tmp_path / "it.pth")  # the remedy
    assert load_state(tmp_path / "it.pth").keys() == network.state_dict().keys()


def test_several_dicts_of_tensors(network, tmp_path):
    state = network.state_dict()
    torch.save({"teacher": state, "student": state}, tmp_path / "two.pth")
    with pytest.raises(NetworkError, match="holds several dicts of tensors \\('teacher', 'student'\\); save that of the model"):
        load_state(tmp_path / "two.pth")
    torch.save(torch.load(tmp_path / "two.pth")["student"], tmp_path / "one.pth")  # the remedy
    assert load_state(tmp_path / "one.pth").keys() == state.keys()


def test_other_weights_are_named(network, tmp_path, capsys):
    torch.save({"state_dict": {"model.head.weight": torch.ones(5, 3)}}, tmp_path / "other.ckpt")
    Image.new("RGB", (64, 64)).save(tmp_path / "image.png")
    words = ["climb-image", tmp_path / "image.png", "--model", "timm:test_resnet", "--out", tmp_path / "o"]
    assert main([*map(str, words), "--weights", str(tmp_path / "other.ckpt")]) == 2
    assert "has no fc.weight, so it is no classifier 'test_resnet'; it has 'model.head.weight'" in capsys.readouterr().err


# sigmoid_last


class Squashed(nn.Module):
    """A network whose end is squashed into [0, 1]."""

    def __init__(self, end, bias=0.0, classes=4):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(32, classes)
        self.fc.bias.data.fill_(bias)
        self.end = end

    def forward(self, x):
        return self.end(self.fc(self.f(x).mean((2, 3))))


ENDS = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda y: y.softmax(1),
    "by hand": lambda y: 1 / (1 + torch.exp(-y)),
    "tanh": lambda y: torch.tanh(y) * 0.5 + 0.5,
    "hard": nn.functional.hardsigmoid,
    "groups": lambda y: torch.cat([y[:, :2].softmax(1), y[:, 2:].softmax(1)], 1),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("bias", [-2.0, 0.0, 2.0])
def test_sigmoid_last(end, bias):
    x = torch.randn(2, 3, 64, 64)
    with pytest.raises(NetworkError, match="returns probabilities"):
        advcam.AdvCAM(Squashed(ENDS[end], bias).eval(), steps=2)(x)
    assert len(advcam.AdvCAM(Squashed(lambda y: y, bias).eval(), steps=2)(x).maps)  # the remedy: without it


@pytest.mark.parametrize("classes", [1, 2, 20])
def test_any_number_of_classes(classes):
    with pytest.raises(NetworkError, match="returns probabilities"):
        advcam.AdvCAM(Squashed(torch.sigmoid, classes=classes).eval(), steps=2)(torch.randn(1, 3, 64, 64), [[0]])


def test_saturated_is_not_untrained():
    with pytest.raises(NetworkError, match="returns probabilities .* saturates"):
        advcam.AdvCAM(Squashed(torch.sigmoid, 40.0).eval(), steps=2)(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_timm_with_a_sigmoid(name):
    size = timm.get_pretrained_cfg(name).input_size[1:]
    model = nn.Sequential(timm.create_model(name, num_classes=3), nn.Sigmoid()).eval()
    with pytest.raises(NetworkError, match="returns probabilities"):
        advcam.AdvCAM(model, steps=2)(torch.randn(1, 3, *size))


def test_untrained_networks_of_few_classes_are_none():
    """Their logits lie in [0, 1] now and then, by chance."""
    by_chance = 0
    for seed in range(60):
        torch.manual_seed(seed)
        net = SmallNet(classes=1 + seed % 3).eval()
        images = torch.randn(1, 3, 40, 56)
        logits = net(images)
        by_chance += bool(((logits >= 0) & (logits <= 1)).all())
        advcam.AdvCAM(net, steps=1)(images, [[0]])
    assert by_chance > 5


# models_small_faults


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=64, patch_size=8,
        num_labels=4,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).eval()


X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def last_layer(vit):
    return [module for name, module in vit.named_modules() if name.endswith("1.layernorm_before")]


@pytest.mark.parametrize(
    "reshape",
    [
        lambda tokens: tokens[:, 1:].reshape(tokens.size(0), 14, 14, tokens.size(2)).permute(0, 3, 1, 2),
        lambda tokens: tokens.nothing,
        lambda tokens: None,
        lambda tokens: tokens[:, 1:].reshape(1, 8, 8, 32).permute(0, 3, 2, 1),
    ],
)
def test_reshape_of_another_grid(vit, reshape):
    with pytest.raises(InputError, match="It is not needed: leave reshape_transform out"):
        GradCAM(vit, last_layer(vit), reshape_transform=reshape, steps=2)(X)
    assert GradCAM(vit, last_layer(vit), steps=2)(X).shape == (2, 64, 64)  # the remedy


def test_images_of_another_size_after_the_first_call(vit):
    adv = advcam.AdvCAM(vit, steps=2)
    adv(X, [[0], [1]])
    other = torch.randn(1, 3, 96, 64)
    for call in (lambda: adv(other), lambda: adv.scores(other), lambda: adv(other, [[0]])):
        with pytest.raises(InputError, match=r"does not take images of 96x64 pixels: Input image size \(96\*64\)"):
            call()


class Both(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.a, self.b = (timm.create_model(name, num_classes=4) for _ in range(2))

    def forward(self, x):
        return self.a(x) + self.b(x)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_the_layer_that_is_advised_is_accepted(name):
    model = Both(name).eval()
    with pytest.raises(NetworkError, match="several branches") as caught:
        advcam.AdvCAM(model, steps=2)(torch.randn(1, 3, 160, 160))
    layer = str(caught.value).rsplit("e.g. ", 1)[1].strip("'")
    assert layer.startswith("b.")
    assert advcam.AdvCAM(model, steps=2, layer=layer)(torch.randn(1, 3, 160, 160), [[0]]).maps.shape[1] > 1


@pytest.mark.filterwarnings("ignore")
def test_quantised_modules_take_no_gradient():
    small = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(small, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(NetworkError, match="has quantised modules, such as '4', which have no gradient"):
        advcam.AdvCAM(quantised, steps=2)(X)
    assert len(advcam.AdvCAM(small, steps=2)(X, [[0], [1]]).maps) == 2  # the remedy


# Whatever leaves the public functions is ours


class Raises(SmallNet):
    """Fails from a certain call on."""

    def __init__(self, error, after=0):
        super().__init__()
        self.error, self.after, self.calls = error, after, 0

    def forward(self, x):
        self.calls += 1
        if self.calls > self.after:
            raise self.error
        return super().forward(x)


class Odd(Exception):
    """Of somebody else."""


ERRORS = [
    TypeError("t"),
    RuntimeError("shape"),
    KeyError("k"),
    Odd("o"),
    IndexError(),
    AttributeError("a"),
    ZeroDivisionError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("after", [0, 1, 4])
def test_what_a_model_raises(error, after):
    for call in (
        lambda net: advcam.AdvCAM(net, steps=8)(X, [[0], [1]]),
        lambda net: advcam.cam(net, X),
        lambda net: [advcam.AdvCAM(net).scores(X) for _ in range(after + 1)],
        lambda net: list(advcam.AdvCAM(net, steps=8).iterate(X, [[0], [1]])),
        lambda net: GradCAM(net, [net.body])(X),
        lambda net: CaptumCAM(net, net.body).attribute(X),
    ):
        model = Raises(error, after).eval()
        expected = pytest.raises((NetworkError, InputError)) if after < 2 else contextlib.suppress(NetworkError, InputError)
        with expected:
            call(model)


TARGETS = [
    5, "ab", [0.5], [[0.5], [1]], [["a"], ["b"]], [[0]], [[-1], [0]], [[99], [0]], {0: 1}, [[2**70], [0]], [None, None],
    torch.zeros(3, 4), torch.full((2, 4), 0.5), np.array([0, 1]), np.zeros((2, 9)), [[], []], [[True], [0]], object(),
]  # fmt: skip
IMAGES = [
    None, "x", 3, torch.zeros(3, 64, 64), torch.zeros(2, 1, 64, 64), torch.zeros(0, 3, 64, 64), np.zeros((1, 3, 64, 64)),
    torch.zeros(1, 3, 64, 64, dtype=torch.int64), X.double(), X.half(), X * float("nan"), X.to(torch.complex64),
    X.to_sparse(), torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 64, 0), [X[0], None], [X[0], X[0, :1]], [],
]  # fmt: skip


@pytest.mark.parametrize("targets", TARGETS, ids=lambda value: str(value)[:20].replace("\n", " "))
def test_odd_targets(net, targets):
    for call in (
        lambda: advcam.AdvCAM(net, steps=2)(X, targets),
        lambda: advcam.AdvCAM(net, steps=2)([X[0], X[1]], targets),
        lambda: list(advcam.AdvCAM(net, steps=2).iterate(X, targets)),
        lambda: advcam.cam(net, X, targets),
        lambda: GradCAM(net, [net.body])(X, targets),
        lambda: CaptumCAM(net, net.body).attribute(X, targets),
    ):
        with contextlib.suppress(AdvcamError):  # anything else fails the test
            call()


@pytest.mark.parametrize("images", IMAGES, ids=lambda value: f"{type(value).__name__} {tuple(getattr(value, 'shape', ()))}")
def test_odd_images(net, images):
    for call in (
        lambda: advcam.AdvCAM(net, steps=2)(images, None),
        lambda: advcam.AdvCAM(net, steps=2)(images, [[0], [1]]),
        lambda: advcam.AdvCAM(net).scores(images),
        lambda: list(advcam.AdvCAM(net, steps=2).iterate(images, [[0], [1]])),
        lambda: GradCAM(net, [net.body])(images),
        lambda: CaptumCAM(net, net.body).attribute(images, 0),
    ):
        with contextlib.suppress(AdvcamError):  # anything else fails the test
            call()


SETTINGS = [
    {"preset": 3}, {"preset": []}, {"preset": "defualt"}, {"steps": "3"}, {"steps": None}, {"scales": "ab"}, {"scales": 1},
    {"method": []}, {"bounds": "ab"}, {"bounds": [1]}, {"max_pixels": "x"}, {"nothing": 1}, {"precision": "fp16"},
    {"ceiling": "x"}, {"mirror": 1}, {"tau": float("nan")},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_odd_settings(net, settings):
    for call in (
        lambda: advcam.AdvCAM(net, **settings)(X, [[0], [1]]),
        lambda: GradCAM(net, [net.body], **settings)(X),
        lambda: CaptumCAM(net, net.body, **settings).attribute(X, 0),
    ):
        with pytest.raises(AdvcamError):
            call()


@pytest.mark.parametrize(
    "model", [None, 3, "resnet50", lambda x: x, nn.Identity(), nn.Linear(3, 4)], ids=lambda model: type(model).__name__
)
def test_odd_models(model):
    for call in (
        lambda: advcam.AdvCAM(model, steps=2)(X, [[0], [1]]),
        lambda: advcam.AdvCAM(model).scores(X),
        lambda: advcam.cam(model, X),
        lambda: GradCAM(model, [nn.ReLU()])(X),
        lambda: CaptumCAM(model, nn.ReLU()).attribute(X, 0),
    ):
        with pytest.raises(AdvcamError):
            call()


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError(), Odd("not enough memory")], ids=str)
@pytest.mark.parametrize("after", [0, 2])
def test_memory_that_runs_out_is_said_in_our_words_too(error, after):
    with pytest.raises(InputError, match="not enough memory"):
        advcam.AdvCAM(Raises(error, after).eval(), steps=8)(X, [[0], [1]])
