"""Networks and weights as people have them, on which version 0643823 failed: what is right now, and more of each kind."""

import argparse
import pickle
import re

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import advcam
from advcam.cli import main
from advcam.compat.grad_cam import AdvCAM as GradCAM
from advcam.errors import InputError, NetworkError
from advcam.models.classifiers import Backbone, new_classifier, pretrained_classifier, saved_classifier
from advcam.models.encoders import Encoder, start
from advcam.models.weights import load_state, load_weights, without_prefix

RESNET = Backbone("test_resnet")


@pytest.fixture(scope="module")
def state():
    """The weights of a classifier of five classes, every tensor with values of its own."""
    torch.manual_seed(5)
    return {n: v.clone() for n, v in timm.create_model("test_resnet", num_classes=5).state_dict().items()}


def under(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def others(state):
    """Other numbers for every tensor, as a moving average has."""
    return {name: value + 1 for name, value in state.items()}


WRITTEN = {
    "plain": lambda s: s,
    "lightning": lambda s: {"state_dict": under("model.", s), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {0: {"step": torch.ones(1)}}}},
    "net": lambda s: {"net": s, "acc": 91.2, "epoch": 7},
    "a name of one's own": lambda s: {"my_weights": s, "history": [1, 2]},
    "nested": lambda s: {"checkpoint": {"weights_only": s}, "epoch": 3},
    "with a loss beside it": lambda s: {"my_weights": s, "best": torch.tensor(0.3)},
    "with tensors of one layer inside": lambda s: s | {"fc._extra_state": {"scale": torch.ones(1)}},
    "model and ema": lambda s: {"ema": others(s), "model": s},
    "state_dict and ema": lambda s: {"state_dict_ema": others(s), "state_dict": s},
    "model in state_dict": lambda s: {"state_dict": {"optimizer": {"m": torch.ones(3)}, "model": s}},
    "DataParallel": lambda s: under("module.", s),
    "compiled": lambda s: under("_orig_mod.", s),
    "compiled in Lightning": lambda s: {"state_dict": under("model._orig_mod.", s)},
    "backbone": lambda s: under("net.backbone.", s) | {"net.loss.weight": torch.ones(5)},
    "averaged": lambda s: under("module.", s) | {"n_averaged": torch.tensor(3)},
    "with another network's": lambda s: under("student.", s) | {"teacher.a.weight": torch.ones(3)},
    "twice the same": lambda s: under("net.", s) | under("loss.net.", s),
    "model beside ema": lambda s: under("ema.", others(s)) | under("model.", s),
    "parameters": lambda s: {n: nn.Parameter(v, requires_grad=False) for n, v in s.items()},
}


@pytest.mark.parametrize("written", WRITTEN)
def test_checkpoints_as_trainers_write_them(tmp_path, state, written):
    path = tmp_path / "x.ckpt"
    torch.save(WRITTEN[written](state), path)
    ready = pretrained_classifier(RESNET, path).model
    assert ready.num_classes == 5
    for model in (ready, saved_classifier(RESNET, 5, path)):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    begun, _ = new_classifier(RESNET, 7, path, pretrained=True)
    assert torch.equal(begun.conv1[0].weight, state["conv1.0.weight"])
    assert begun.fc.weight.shape[0] == 7
    encoder = Encoder(RESNET)
    start(encoder, RESNET, None, str(path), from_scratch=False)
    assert torch.equal(encoder.encoder.model.conv1[0].weight, state["conv1.0.weight"])


def test_a_prefix_in_safetensors_and_older_files_of_torch(tmp_path, state):
    save_file(under("model.", state), tmp_path / "named.bin")  # by content, whatever it is called
    torch.save(under("model.", state), tmp_path / "torch.safetensors")
    torch.save(under("model.", state), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        assert torch.equal(pretrained_classifier(RESNET, path).model.fc.weight, state["fc.weight"])


def test_a_prefix_where_timm_names_the_encoder_otherwise(tmp_path):
    backbone = Backbone("test_byobnet")
    whole = timm.create_model("test_byobnet", num_classes=3).state_dict()
    torch.save(under("net.", whole), tmp_path / "x.pth")
    encoder = Encoder(backbone)
    start(encoder, backbone, None, str(tmp_path / "x.pth"), from_scratch=False)
    outer = {name.replace(".", "_"): value for name, value in whole.items()}
    own = encoder.encoder.model.state_dict()
    assert all(torch.equal(value, outer[name.replace(".", "_")]) for name, value in own.items())


def test_a_head_of_one_s_own_beside_the_body(tmp_path, state):
    body = {n: v for n, v in state.items() if not n.startswith("fc.")}
    torch.save({"state_dict": under("body.", body) | {"head.weight": torch.ones(9, 9)}}, tmp_path / "x.ckpt")
    model, _ = new_classifier(RESNET, 4, tmp_path / "x.ckpt", pretrained=True)
    assert torch.equal(model.conv1[0].weight, state["conv1.0.weight"])
    with pytest.raises(NetworkError, match=r"has no fc.weight, so it is no classifier 'test_resnet'; it has .*'head.weight'"):
        pretrained_classifier(RESNET, tmp_path / "x.ckpt")


def test_names_of_another_network_are_told(tmp_path, state):
    torch.save(timm.create_model("resnet18", num_classes=2).state_dict(), tmp_path / "x.pth")
    with pytest.raises(NetworkError, match=r"lacks \d+ of the model's \d+ tensors, the first 'conv1.0.weight'; it has '.*conv"):
        new_classifier(RESNET, 2, tmp_path / "x.pth", pretrained=True)
    few = dict(list(under("model.", state).items())[:-4])
    with pytest.raises(NetworkError, match=r"lacks \d of the model's"):
        load_weights(timm.create_model("test_resnet", num_classes=5), few, "few")


def test_several_sets_of_tensors_are_told_and_the_advice_works(tmp_path, state, monkeypatch, run_code):
    monkeypatch.chdir(tmp_path)
    torch.save({"teacher": others(state), "student": state}, "x.pth")
    with pytest.raises(NetworkError, match=r"several dicts of tensors \('teacher', 'student'\)") as caught:
        load_state(tmp_path / "x.pth")
    advice = re.search(r"e.g. (torch.save\(.*\))", str(caught.value))[1]
    run_code(advice.replace("FILE", "'mine.pth'"), torch=torch)
    assert torch.equal(load_state(tmp_path / "mine.pth")["fc.bias"], others(state)["fc.bias"])


def test_several_prefixes_are_told_and_the_advice_works(state, run_code):
    both = under("teacher.", others(state)) | under("student.", state)
    with pytest.raises(NetworkError, match="several times, under 'teacher.', 'student.': save one set") as caught:
        without_prefix(both, state, "x.pth")
    kept = run_code("kept = " + re.search(r"e.g. (\{.*\})", str(caught.value))[1], state=both)["kept"]
    assert torch.equal(without_prefix(kept, state, "x.pth")["fc.bias"], others(state)["fc.bias"])


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)


class Harm:
    def __reduce__(self):
        return (print, ("this must not be printed",))


OBJECTS = r"holds Python objects too \({}\), which could run code and are not loaded"
REFUSED = {
    "a whole module": (lambda s, p: torch.save(Whole(), p), OBJECTS.format(".*Whole")),
    "in torch's old form": (
        lambda s, p: torch.save(Whole(), p, _use_new_zipfile_serialization=False),
        OBJECTS.format(".*Whole"),
    ),
    "a numpy float": (lambda s, p: torch.save({"net": s, "acc": np.float64(91.2)}, p), OBJECTS.format("numpy.*scalar")),
    "numpy arrays": (lambda s, p: torch.save({n: v.numpy() for n, v in s.items()}, p), OBJECTS.format("numpy.*")),
    "arguments": (
        lambda s, p: torch.save({"model": s, "args": argparse.Namespace(a=1)}, p),
        OBJECTS.format("argparse.Namespace"),
    ),
    "harm": (lambda s, p: torch.save({"model": Harm()}, p), OBJECTS.format("print")),
    "a plain pickle": (lambda s, p: p.write_bytes(pickle.dumps({"a": 1})), "it is another pickle, which could run code"),
    "TorchScript": (lambda s, p: torch.jit.save(torch.jit.script(nn.ReLU()), str(p)), "it is a TorchScript archive"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pickles_are_refused_in_one_sentence_of_ours(tmp_path, state, kind, capsys):
    write, said = REFUSED[kind]
    write(state, tmp_path / "x.pth")
    with pytest.raises(NetworkError, match=said) as caught:
        load_state(tmp_path / "x.pth")
    message = str(caught.value)
    assert message.isprintable()  # neither escape codes nor line breaks
    assert "torch.save(model.state_dict(), FILE)" in message
    assert "weights_only" not in message
    assert capsys.readouterr().out == ""
    torch.save(timm.create_model("test_resnet", num_classes=5).state_dict(), tmp_path / "y.pth")  # what it advises
    assert len(load_state(tmp_path / "y.pth")) == len(state)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty. Copy or download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"it begins with b'version https://git-lfs"),
        (b"<!DOCTYPE html><html>", "it begins with b'<!DOCTYPE"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{broken", "it is damaged or incomplete. Copy or download it again"),
    ],
)
def test_files_that_are_none(tmp_path, content, said):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(NetworkError, match=f"not a file of weights .*{said}") as caught:
        load_state(tmp_path / "x.pth")
    assert str(caught.value).isprintable()


def test_half_a_file(tmp_path, state):
    torch.save(state, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:5000])
    with pytest.raises(NetworkError, match="damaged or incomplete"):
        load_state(tmp_path / "x.pth")


@pytest.mark.parametrize(("held", "came"), [([torch.ones(2)], "a list"), ({"epoch": 3, "lr": 0.1}, "a dict of 'epoch', 'lr'")])
def test_no_tensors_by_name(tmp_path, held, came):
    torch.save(held, tmp_path / "x.pth")
    with pytest.raises(NetworkError, match=f"holds no tensors by name but {came}; save the model's"):
        load_state(tmp_path / "x.pth")


def test_climb_image_takes_a_lightning_checkpoint(tmp_path, state, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    torch.save({"state_dict": under("model.", state), "epoch": 3}, tmp_path / "x.ckpt")
    given = ["--model", "timm:test_resnet", "--backbone-option", "num_classes=5", "--class", "1", "--steps", "1"]
    arguments = ["climb-image", str(tmp_path / "x.png"), *given, "--weights", str(tmp_path / "x.ckpt"), "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "o")]) == 0, capsys.readouterr().err
    torch.save(Whole(), tmp_path / "x.ckpt")
    assert main([*arguments, "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err.strip()
    assert "holds Python objects too" in error
    assert error.isprintable()


class Sigmoid(nn.Module):
    """As people write multi-label classifiers; with a large bias the sigmoid is saturated."""

    def __init__(self, bias):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(32, 4)
        nn.init.constant_(self.fc.bias, bias)
        self.last = torch.sigmoid

    def forward(self, x):
        return self.last(self.fc(self.f(x).mean((2, 3))))


@pytest.mark.parametrize("bias", [-4.0, 0.0, 3.0, 20.0])
def test_a_sigmoid_at_the_end(images, bias):
    net = Sigmoid(bias)
    with pytest.raises(NetworkError, match="returns probabilities .*: expected logits. Remove the sigmoid .* saturates"):
        advcam.AdvCAM(net, steps=2)(images)
    net.last = nn.Identity()  # what the message advises
    assert advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps.shape[0] == 3


@pytest.fixture
def hugging():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=64, patch_size=8,
        num_labels=4,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).eval()


def to_another_grid(tokens):
    return tokens[:, 1:].reshape(tokens.size(0), 14, 14, tokens.size(2)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("reshape", "said"),
    [
        (
            to_another_grid,
            r"fails on the output \(1, 65, 32\) of layer '.*layernorm_before': shape '\[1, 14, 14, 32\]' is invalid",
        ),
        (lambda tokens: tokens["x"], "fails on the output"),
        (lambda tokens: None, "makes None of layer '.*': expected a tensor"),
        (lambda tokens: tokens, r"makes \(1, 65, 32\) of layer"),
    ],
)
def test_a_reshape_of_another_grid(hugging, reshape, said):
    layer = [m for n, m in hugging.named_modules() if n.endswith("1.layernorm_before")]
    x = torch.randn(2, 3, 64, 64)
    with pytest.raises(InputError, match=f"reshape_transform {said}.* It is not needed: leave reshape_transform out"):
        GradCAM(hugging, layer, reshape_transform=reshape, steps=2)(x)
    assert GradCAM(hugging, layer, steps=2)(x).shape == (2, 64, 64)


@pytest.mark.parametrize("targets", [None, [[0]]])
def test_another_size_after_the_first_call(hugging, targets):
    adv = advcam.AdvCAM(hugging, steps=2)
    adv(torch.randn(2, 3, 64, 64), [[0], [1]])
    with pytest.raises(InputError, match=r"does not take images of 96x64 pixels: .*Give images \(and scales\) of the size"):
        adv(torch.randn(1, 3, 96, 64), targets)
    assert adv(torch.randn(1, 3, 64, 64), targets).maps.any()


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (timm.create_model("test_resnet", num_classes=4) for _ in range(2))

    def forward(self, x):
        return self.a(x) + self.b(x)


def test_two_networks_averaged(images):
    net = Both().eval()
    with pytest.raises(NetworkError, match="several branches.*: name one with layer=, e.g. 'b.layer4'"):
        advcam.AdvCAM(net, steps=2)(images, [[0]] * 3)
    assert advcam.AdvCAM(net, steps=2, layer="b.layer4")(images, [[0]] * 3).maps.shape[0] == 3
    with pytest.raises(NetworkError, match=r"'b.global_pool.pool' is \(1, 96, 1, 1\), a single cell.*e.g. 'b.layer4'"):
        advcam.AdvCAM(net, steps=2, layer="b.global_pool.pool")(images, [[0]] * 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("where", ["head", "everywhere", "inside"])
def test_quantised_modules(images, where):
    ao = torch.ao.quantization
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), *head).eval()
    if where == "everywhere":
        quantised = nn.Sequential(ao.QuantStub(), *net, ao.DeQuantStub()).eval()
        quantised.qconfig = ao.get_default_qconfig("x86")
        ao.prepare(quantised, inplace=True)(images)
        ao.convert(quantised, inplace=True)
    else:
        which = {nn.Linear} if where == "head" else {"4": ao.default_dynamic_qconfig}
        quantised = ao.quantize_dynamic(net, which, dtype=torch.qint8)
    with pytest.raises(NetworkError, match="has quantised modules.* which have no gradient.*give the float model"):
        advcam.AdvCAM(quantised, steps=2)(images)
    assert advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps.shape[0] == 3
