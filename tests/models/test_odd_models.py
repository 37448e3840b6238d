"""Models as people have them: hooked, wrapped, patched, shared, old-fashioned. The climb gives the right map of each."""

from collections import namedtuple

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

import advcam
from advcam.errors import InputError, NetworkError
from advcam.models import find, fused, unwrap
from advcam.models.classifiers import Backbone
from advcam.models.layout import Layout, layout
from conftest import SmallNet


def trained(net):
    """BatchNorm that is no identity."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net


def assert_copy_agrees(monkeypatch, model, images, **settings):
    """Three steps with the faster copy, and without it, on a model that is trained."""
    import sys

    settings = {"steps": 3, "step_size": 0.02} | settings
    ours = advcam.AdvCAM(model, **settings)(images, [[0, 1], [1], [2]])
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["advcam.extractor.advcam"], "fused", lambda network, _image: network)
        plain = advcam.AdvCAM(model, **settings)(images, [[0, 1], [1], [2]])
    assert plain.maps.any()
    assert torch.allclose(ours.maps, plain.maps, rtol=1e-3, atol=1e-3 * float(plain.maps.max()))
    return ours


@pytest.mark.parametrize("layer", ["stem.0", "stem.1", "body.0"])
@pytest.mark.parametrize("before", [False, True])
def test_hooks_of_one_s_own(monkeypatch, images, layer, before):
    net = trained(SmallNet())
    module = net.get_submodule(layer)
    if before:
        module.register_forward_pre_hook(lambda _m, inputs: (inputs[0] * 3 + 1,))
    else:
        module.register_forward_hook(lambda _m, _i, output: output * 2 + 1)
    assert_copy_agrees(monkeypatch, net, images)


class Lambda(nn.Module):
    """Its parts are called through a function made when it was built, which leads back to the original."""

    def __init__(self, norm_too):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.through = (lambda x: self.bn(self.conv(x))) if norm_too else (lambda x: self.conv(x))
        self.norm_too = norm_too

    def forward(self, x):
        x = self.through(x)
        return self.fc((x if self.norm_too else self.bn(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("norm_too", [False, True])
def test_functions_that_lead_back_into_the_original(monkeypatch, images, norm_too):
    net = trained(Lambda(norm_too)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert_copy_agrees(monkeypatch, net, images, layer="bn")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_patched_forward(monkeypatch, images):
    net = trained(SmallNet())
    original = net.forward
    net.forward = lambda x: original(x * 2)
    assert_copy_agrees(monkeypatch, net, images)


def test_a_part_that_is_shared_and_not_copied(monkeypatch, images):
    class Shared(SmallNet):
        def __deepcopy__(self, memo):
            return self

    net = nn.Sequential(trained(Shared()))
    kinds = [type(module) for module in net.modules()]
    assert_copy_agrees(monkeypatch, net, images)
    assert [type(module) for module in net.modules()] == kinds


@pytest.mark.parametrize("how", ["weight_norm", "spectral_norm", "prune"])
def test_weights_that_are_computed_anew(monkeypatch, images, how):
    net = trained(SmallNet())
    if how == "prune":
        prune.random_unstructured(net.stem[0], "weight", 0.3)
    else:
        with pytest.warns(FutureWarning) if how == "weight_norm" else torch.no_grad():
            getattr(nn.utils, how)(net.stem[0])
    assert_copy_agrees(monkeypatch, net, images)


class ByView(nn.Module):
    """As LeNet and VGG are written at home."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        )
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(32, 4)

    def forward(self, x):
        x = self.features(x)
        x = self.pool(x)
        return self.fc(x.view(x.size(0), -1))


def test_heads_that_view(monkeypatch, images):
    net = trained(ByView())
    network = find(net, images)
    assert (network.layer, network.head) == ("features", None)
    assert_copy_agrees(monkeypatch, net, images)

    class Cells(ByView):
        def forward(self, x):
            f = self.features(x)
            b, c, h, w = f.shape
            return self.fc(f.view(b * c, h * w).mean(1).view(b, c).repeat(1, 4))

    assert_copy_agrees(monkeypatch, trained(Cells()), images)
    assert not find(Cells(), images).channels_last


def test_a_convolution_used_through_its_weight_alone(monkeypatch, images):
    class Functional(SmallNet):
        def forward(self, x):
            return self.fc(self.body(F.conv2d(x, self.stem[0].weight, stride=2).relu()).mean((2, 3)))

    assert_copy_agrees(monkeypatch, Functional(), images)


def test_global_maximum_pooling(monkeypatch, images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert find(net, images).layer == "1"
    assert_copy_agrees(monkeypatch, net, images)


def test_the_map_in_front_of_the_pooling_is_taken(images):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
    assert find(net, images).layer == "1"
    rows = nn.Sequential(
        nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 4)
    )
    assert find(rows, images).layer == "1"


def test_a_head_that_stops_being_the_identity(images):
    neck = nn.BatchNorm1d(8)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), neck, nn.Linear(8, 4))
    adv = advcam.AdvCAM(net, steps=1)
    adv(images, [[0]] * 3)
    trained(net)
    assert "head by gradient" in adv(images, [[0]] * 3).layer


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks_in_training_mode(images, reentrant):
    class Saves(SmallNet):
        def forward(self, x):
            for part in (self.stem, self.body):
                x = checkpoint(part, x, use_reentrant=reentrant)
            return self.fc(x.mean((2, 3)))

    net = trained(Saves()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    if reentrant:
        with pytest.raises(advcam.errors.NetworkError):
            advcam.AdvCAM(net, steps=3)(images, [[0]] * 3)
    else:
        plain = SmallNet()
        plain.load_state_dict(net.state_dict())
        expected = advcam.AdvCAM(plain, steps=3)(images, [[0]] * 3).maps
        assert torch.allclose(advcam.AdvCAM(net, steps=3)(images, [[0]] * 3).maps, expected, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_named_tuples_on_the_way(images):
    Pair = namedtuple("Pair", "map extra")

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, 2, 1)

        def forward(self, x):
            return Pair(self.conv(x).relu(), 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = Body(), nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.body(x).map.mean((2, 3)))

    out = advcam.cam(Net(), images, [[0]] * 3)
    assert "layer='body' (output), head='fc'" in repr(out)


def test_a_compiled_wrapper_is_not_lost(net, images):
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = net

        def forward(self, x):
            return self.module(x * 3 + 1)

    wrapper = Normalised()
    assert unwrap(torch.compile(wrapper)) is wrapper


def test_images_that_a_batch_would_mix(images):
    net = trained(SmallNet())
    net.stem[1] = nn.BatchNorm2d(8, track_running_stats=False)
    adv = advcam.AdvCAM(net, steps=2)
    together = adv(images, [[0], [1], [2]])
    assert torch.allclose(together.maps[1:2], adv(images[1:2], [[1]]).maps, atol=1e-5)


def test_another_s_autocast(net, images):
    expected = advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps
    with torch.autocast("cpu", torch.bfloat16):
        inside = advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps
    assert inside.dtype == torch.float32
    assert torch.allclose(inside, expected, atol=1e-6)


def test_register_tokens_are_counted_by_the_patches_there_were():
    assert layout(torch.Size((1, 131, 16)), (140, 224), {8 * 14, 126}) == Layout("tokens", 5)


def test_a_size_that_the_network_does_not_take():
    net = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=4)
    adv = advcam.AdvCAM(net, steps=1)
    adv(torch.randn(1, 3, 224, 224), [[0]])
    with pytest.raises(InputError, match=r"does not take images of 192x192 pixels.*Give images \(and scales\) of the size"):
        adv(torch.randn(1, 3, 192, 192), [[0]])


def test_targets_as_people_write_them(net, images):
    adv = advcam.AdvCAM(net, steps=1)
    several = [images[0], images[1, :, :32]]
    assert [m.target.tolist() for m in adv(several, [torch.tensor([0]), torch.tensor([1])])] == [[0], [1]]
    table = np.array([[1, 0, 1, 0], [0, 1, 0, 0]])
    assert adv(images[:2], table).target.tolist() == [0, 2, 1]
    assert [m.target.tolist() for m in adv(several, table)] == [[0, 2], [1]]
    for wrong in (5, [5, 6], [[True, False], [True]]):
        with pytest.raises(InputError, match="a list of class ids for each image"):
            adv(several, wrong)
    with pytest.raises(InputError, match="no class at all"):
        adv(several, [[], []])
    with pytest.raises(InputError, match="image 1: class id 99 is out of range"):
        adv(several, [[0], [99]])


def test_nan_on_the_way_up_is_told(images):
    class Fragile(SmallNet):
        limit = None

        def forward(self, x):
            y = super().forward(x)
            return y if self.limit is None else torch.where(y[:, :1] > self.limit, torch.nan, y)

    net = Fragile()
    adv = advcam.AdvCAM(net, steps=6, step_size=0.1)
    start = adv.scores(images)[:, :1]
    net.limit = float(start.max()) + 0.01
    with pytest.warns(RuntimeWarning, match="NaN or infinite"):
        adv(images, [[0]] * 3)


def test_many_classes_of_one_image_do_not_all_go_at_once(images):
    net = SmallNet(classes=50)
    out = advcam.AdvCAM(net, steps=1, max_pixels=1)(images, [list(range(50))] * 3)
    assert out.maps.shape == (150, 10, 14)
    assert torch.allclose(out.maps, advcam.AdvCAM(net, steps=1)(images, [list(range(50))] * 3).maps, atol=1e-6)


def test_arguments_of_another_kind(net):
    with pytest.raises(advcam.errors.SettingsError, match="layer is the name of a module.*got Linear"):
        advcam.AdvCAM(net, layer=net.fc)
    with pytest.raises(advcam.errors.SettingsError, match="max_pixels must be a whole number"):
        advcam.AdvCAM(net, max_pixels=1e6)
    assert advcam.AdvCAM(net, steps=np.int64(3)).settings.steps == 3


def test_the_copy_is_refused_where_it_differs(images):
    net = trained(Lambda(False))
    network = find(net, images, "bn")
    assert fused(network, images[:1]).model is net


@pytest.mark.parametrize(("name", "grid"), [("vit_tiny_patch16_224", (6, 8)), ("swin_tiny_patch4_window7_224", (3, 4))])
def test_a_transformer_of_a_run_takes_images_of_any_size(name, grid):
    """Without an option for it, as networks of a run must: its images have any size."""
    model = Backbone(name, {"depth": 2} if "vit" in name else {"depths": (1, 1, 1, 1)}).create(num_classes=3).eval()
    assert find(model, torch.rand(1, 3, 96, 128))(torch.rand(1, 3, 96, 128))[0].shape[-2:] == grid


def test_what_the_user_says_of_the_size_of_images_counts():
    fixed = Backbone("vit_tiny_patch16_224", {"dynamic_img_size": False, "depth": 2}).create(num_classes=3).eval()
    with pytest.raises(NetworkError, match="224"):
        find(fixed, torch.rand(1, 3, 96, 128))


def test_a_network_without_a_head():
    headless = timm.create_model("test_resnet", num_classes=0)
    with pytest.raises(NetworkError, match=r"ResNet has no head \(num_classes=0\)"):
        find(headless, torch.rand(1, 3, 64, 64))
    headless.fc = nn.Linear(headless.num_features, 3)
    assert find(headless, torch.rand(1, 3, 64, 64)).classes == 3
