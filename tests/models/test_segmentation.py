"""Segmentation networks: what every one of them promises, and DeepLab-v2 against its equations."""

import pytest
import torch
import torch.nn.functional as F

from advcam.errors import SettingsError
from advcam.models.classifiers import Backbone
from advcam.models.deeplab import DeepLabV2
from advcam.models.encoders import start
from advcam.models.segmentation import NETWORKS, STRIDES, segmentation_network

SMALL = Backbone("test_resnet")
VIT = Backbone("test_vit", {"dynamic_img_size": True})
PAIRS = [
    *((name, "test_resnet") for name in NETWORKS if name != "dpt"),
    ("dpt", "test_vit"),
    ("deeplabv2", "test_vit"),
    ("segformer", "test_convnext"),
    ("unet", "test_efficientnet"),
    ("pan", "test_mambaout"),  # keeps its own stride
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_what_every_network_promises(name, backbone):
    backbone = Backbone(backbone)
    classifier = backbone.create(num_classes=4).state_dict()
    network = segmentation_network(name, backbone, 3)
    assert network.training
    start(network, backbone, classifier, None, from_scratch=False)
    known_as = {key.replace(".", "_"): value for key, value in classifier.items()}
    inner = network.encoder.model.state_dict()
    assert all(torch.equal(value, known_as[key.replace(".", "_")]) for key, value in inner.items())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        both = network.eval()(images)
        alone = torch.cat([network(image[None]) for image in images])
        assert network(images[:, :, :32, :32]).shape == (2, 3, 32, 32)
    assert both.shape == (2, 3, 64, 96)
    assert both.isfinite().all()
    assert (both - alone).abs().max() <= 1e-5 * both.abs().max()


@pytest.mark.parametrize("name", STRIDES)
def test_a_stride_is_taken_where_there_is_one_to_choose(name):
    for stride in STRIDES[name]:
        network = segmentation_network(name, SMALL, 2, output_stride=stride)
        seen = []
        network.encoder.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
        network.eval()(torch.zeros(1, 3, 256, 256))
        deepest = seen[0] if isinstance(seen[0], torch.Tensor) else seen[0][-1]
        assert deepest.shape[-1] == 256 // stride
    assert segmentation_network("unet", SMALL, 2, output_stride=8).encoder.output_stride == 32


def test_branches_are_summed():
    """Each branch moves one channel by its rate; what comes out is their sum, with all biases."""
    network = DeepLabV2(SMALL, 2)
    network.encoder = torch.nn.Identity()
    cells = torch.randn(1, 96, 30, 60)
    expected = torch.full((1, 2, 30, 60), 0.5 * 4)
    for factor, (rate, branch) in enumerate(zip((6, 12, 18, 24), network.branches, strict=True), 1):
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not branch.bias.any()
        branch.weight.data.zero_()
        branch.weight.data[1, 7, 1, 2] = factor
        branch.bias.data.fill_(0.5)
        expected[0, 1, :, : 60 - rate] += factor * cells[0, 7, :, rate:]
    assert torch.allclose(network.single(cells), expected, atol=1e-5)


def test_the_strongest_of_three_scales():
    network = DeepLabV2(SMALL, 3).eval()
    images = torch.randn(2, 3, 64, 128)
    with torch.no_grad():
        scaled = [
            network.single(F.interpolate(images, size=size, mode="bilinear", align_corners=False))
            for size in ((64, 128), (48, 96), (32, 64))
        ]
        assert [s.shape[2:] for s in scaled] == [(8, 16), (6, 12), (4, 8)]
        resized = [F.interpolate(s, size=(8, 16), mode="bilinear", align_corners=False) for s in scaled]
        strongest = torch.maximum(torch.maximum(resized[0], resized[1]), resized[2])
        expected = F.interpolate(strongest, size=(64, 128), mode="bilinear", align_corners=False)
        assert torch.allclose(network(images), expected, atol=1e-6)
        assert all((r == strongest).any() for r in resized)  # every scale is the strongest somewhere


def test_training_gives_every_scale_and_their_maximum():
    network = DeepLabV2(SMALL, 3).train()
    first, second, third, strongest = network(torch.randn(2, 3, 97, 65))
    shapes = [tuple(logits.shape) for logits in (first, second, third, strongest)]
    assert shapes == [(2, 3, 13, 9), (2, 3, 9, 6), (2, 3, 6, 4), (2, 3, 13, 9)]
    assert (strongest >= first).all()


@pytest.mark.parametrize("backbone", [SMALL, Backbone("test_convnext"), Backbone("mobilenetv2_050"), VIT])
def test_the_gradient_reaches_every_parameter(backbone):
    network = DeepLabV2(backbone, 3).train()
    sum(logits.square().mean() for logits in network(torch.randn(2, 3, 64, 64))).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("backbone", [SMALL, VIT, Backbone("densenet121")])
def test_any_size_and_any_backbone_with_a_map(backbone):
    network = DeepLabV2(backbone, 3).eval()
    assert network.encoder.stride == {"test_resnet": 8, "test_vit": 16, "densenet121": 32}[backbone.name]
    with torch.no_grad():
        for size in ((32, 32), (33, 47), (101, 64)):
            assert network(torch.randn(1, 3, *size)).shape == (1, 3, *size)


def test_a_mirror_image_gives_the_mirrored_logits():
    """With filters that are their own mirror image, on cells that do not overlap: nothing is moved sideways on the way."""
    network = DeepLabV2(Backbone("test_convnext"), 3, output_stride=32, rates=(1, 2)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(-1)) / 2
    images = torch.randn(1, 3, 128, 256)
    with torch.no_grad():
        straight, mirrored = network(images), network(images.flip(-1))
    assert straight.std() > 0
    assert torch.allclose(straight.flip(-1), mirrored, atol=1e-5)


def test_what_cannot_be():
    with pytest.raises(SettingsError, match=r"no segmentation network is called 'deeplabv4'; did you mean deeplabv"):
        segmentation_network("deeplabv4", SMALL, 3)
    with pytest.raises(
        SettingsError, match=r"unet cannot be built on the backbone 'test_vit' \(.*\); choose another --backbone"
    ):
        segmentation_network("unet", VIT, 3)
    with pytest.raises(SettingsError, match=r"deeplabv3 cannot be built on the backbone 'densenet121' \(.*output_stride"):
        segmentation_network("deeplabv3", Backbone("densenet121"), 3)
    with pytest.raises(SettingsError, match=r"deeplabv2 cannot be built on .* \(.*doesn't match model.*--network"):
        segmentation_network("deeplabv2", Backbone("test_vit_relpos"), 3)
    with pytest.raises(SettingsError, match="timm has no network 'resnet1234'; did you mean"):
        segmentation_network("deeplabv2", Backbone("resnet1234"), 3)
    with pytest.raises(SettingsError, match="pan has an output stride of 16 or 32, got 8"):
        segmentation_network("pan", SMALL, 3, output_stride=8)
    with pytest.raises(SettingsError, match=r"rates of at least 1, such as .*; got \(\)"):
        DeepLabV2(SMALL, 3, rates=())
    with pytest.raises(SettingsError, match=r"start with 1, .*; got \(0.5, 1.0\)"):
        DeepLabV2(SMALL, 3, scales=(0.5, 1.0))
