"""Weights from files, and what is said where they do not fit."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from advcam.errors import NetworkError, SettingsError
from advcam.models.classifiers import Backbone, new_classifier, saved_classifier
from advcam.models.encoders import start_encoder
from advcam.models.own import allow, own_classifier
from advcam.models.segmentation import segmentation_network
from advcam.models.weights import load_state

SMALL = Backbone("test_resnet", output_stride=8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An "ImageNet" network of 11 classes in half precision."""
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=11)
    save_file({n: v.half() if v.is_floating_point() else v for n, v in model.state_dict().items()}, path)
    return path


def test_the_body_is_taken_and_the_head_is_new(weights):
    model, head = new_classifier(SMALL, 5, weights, pretrained=True)
    assert head == ("fc.",)
    assert model.fc.weight.shape == (5, model.num_features)
    assert model.fc.bias is None
    assert torch.allclose(model.conv1[0].weight, load_state(weights)["conv1.0.weight"].float())
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_a_head_of_the_same_size_is_taken_too(weights):
    model, _ = new_classifier(SMALL, 11, weights, pretrained=True)
    assert torch.allclose(model.fc.weight, load_state(weights)["fc.weight"].float())


def test_a_trained_classifier(tmp_path, weights):
    model, _ = new_classifier(SMALL, 5, weights, pretrained=True)
    torch.save({"state_dict": {f"module.{n}": v for n, v in model.state_dict().items()}}, tmp_path / "mine.pth")
    again = saved_classifier(SMALL, 5, tmp_path / "mine.pth").eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(x), model.eval()(x))
    with pytest.raises(
        NetworkError, match=r"'fc.weight' has shape \(5, \d+\), the model expects \(4, \d+\).*or number of classes"
    ):
        saved_classifier(SMALL, 4, tmp_path / "mine.pth")


def test_weights_of_another_network(weights):
    with pytest.raises(NetworkError, match=r"net.safetensors: lacks \d+ of the model's \d+ tensors, the first"):
        new_classifier(Backbone("mobilenetv2_100"), 5, weights, pretrained=True)


def test_weights_of_another_shape(tmp_path, weights):
    state = load_state(weights)
    state["conv1.0.weight"] = torch.zeros(7, 3, 3, 3)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(NetworkError, match=r"'conv1.0.weight' has shape \(7, 3, 3, 3\), the model expects"):
        new_classifier(SMALL, 5, tmp_path / "odd.safetensors", pretrained=True)


@pytest.mark.parametrize("name", ["rubbish.safetensors", "rubbish.pth"])
def test_files_that_hold_no_weights(tmp_path, name):
    with pytest.raises(NetworkError, match="there is no such file of weights"):
        load_state(tmp_path / name)
    (tmp_path / name).write_bytes(b"these are not weights at all, only text")
    with pytest.raises(NetworkError, match="not a file of weights"):
        load_state(tmp_path / name)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (print, ("this must not be printed",))

    torch.save({"model": Harm()}, tmp_path / "harm.pth")
    with pytest.raises(NetworkError, match="not a file of weights"):
        load_state(tmp_path / "harm.pth")


def test_an_unknown_network_or_option():
    with pytest.raises(SettingsError, match=r"timm has no network 'resnet51'; did you mean .*resnet"):
        Backbone("resnet51").create()
    with pytest.raises(SettingsError, match="timm cannot build 'test_resnet'"):
        Backbone("test_resnet", {"no_such_option": 1}).create()


def test_a_network_that_cannot_change_its_stride():
    """It keeps its own of 32, where another takes the 8 that are asked for."""
    for name, cells in (("mobilenetv4_conv_small", 2), ("test_resnet", 8)):
        network = Backbone(name, output_stride=8).create(num_classes=3).eval()
        assert network.forward_features(torch.zeros(1, 3, 64, 64)).shape[2:] == (cells, cells)


def test_own_network(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\ndef build():\n    return nn.Flatten()\ndef wrong():\n    return 3\ndef bad():\n    1 / 0\n"
    )
    for function in ("build", "biuld", "wrong", "bad"):
        allow(f"{file}:{function}")
    assert isinstance(own_classifier(f"{file}:build"), torch.nn.Flatten)
    for function, message in (
        ("biuld", "did you mean build"),
        ("wrong", "expected a torch.nn.Module, got int"),
        ("bad", "failed with ZeroDivisionError"),
    ):
        with pytest.raises(NetworkError, match=message):
            own_classifier(f"{file}:{function}")
    with pytest.raises(NetworkError, match="there is no file"):
        own_classifier(f"{tmp_path}/none.py:build")


def test_segmentation_starts_from_the_classifier(weights):
    model, _ = new_classifier(SMALL, 5, weights, pretrained=True)
    network = segmentation_network("deeplabv3plus", SMALL, 6)
    start_encoder(network, model.state_dict(), "the classifier")
    assert torch.equal(network.encoder.model.conv1[0].weight, model.conv1[0].weight)
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 6, 64, 64)


@pytest.mark.parametrize("name", ["test_byobnet", "resnetv2_50", "mobilenetv2_100"])
def test_encoders_that_timm_names_otherwise(name):
    """timm flattens ``stages.0`` to ``stages_0`` in some networks when it takes features only."""
    backbone = Backbone(name)
    model = backbone.create(num_classes=3)
    network = segmentation_network("deeplabv3plus", backbone, 4)
    start_encoder(network, model.state_dict(), "the classifier")
    inner, outer = network.encoder.model.state_dict(), {n.replace(".", "_"): v for n, v in model.state_dict().items()}
    assert all(torch.equal(value, outer[name.replace(".", "_")]) for name, value in inner.items())


def test_segmentation_networks_that_cannot_be():
    with pytest.raises(SettingsError, match=r"no segmentation network is called 'deeplab'; did you mean deeplabv3"):
        segmentation_network("deeplab", SMALL, 3)
    with pytest.raises(SettingsError, match="choose another --backbone"):
        segmentation_network("deeplabv3plus", Backbone("densenet121"), 3)
