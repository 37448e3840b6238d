"""Climbs whose steps move features of an inner layer in the place of pixels."""

import pytest
import timm
import torch
from torch import nn

import advcam
from advcam import AdvCAM
from advcam.attribution import climb, counted
from advcam.errors import NetworkError, SettingsError
from advcam.models import find


def network(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
    ).eval()  # fmt: skip


def images(count=2, height=64, width=96):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def climber(model=None, **changes):
    return AdvCAM(model or network(), "features", precision="float32", **changes)


def test_it_is_the_climb_of_the_second_half_from_the_features_of_the_first():
    model, given = network(), images(1)
    with torch.no_grad():
        features = model[:4](given)
    out = climber(model)(given, [[2, 1]])

    def rest(x):
        last = model[4:6](x)
        return last, model[6:](last)

    s, rows = climber(model).settings, torch.zeros(2, dtype=torch.long)
    steps = counted(climb(rest, features[:, None], rows, torch.tensor([2, 1]), s, head=find(model, given).linear()), s)
    wanted = torch.stack([step.maps for step in steps]).sum(0)
    assert torch.allclose(out.maps, wanted, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(out.maps, AdvCAM(model, precision="float32")(given, [[2, 1]]).maps, rtol=0.05)


@pytest.mark.parametrize("changes", [{}, {"mirror": True}, {"scales": (1.0, 0.5)}, {"method": "layercam"}])
def test_batches_give_what_one_at_a_time_gives_and_the_first_map_is_the_plain_one(changes):
    together = climber(**changes)(images(), [[0, 3], [3]])
    alone = [climber(**changes)(images()[row : row + 1], [[c]]).maps[0] for row, c in ((0, 0), (0, 3), (1, 3))]
    assert torch.allclose(together.maps, torch.stack(alone), rtol=1e-3, atol=1e-6)
    plain = advcam.cam(network(), images(), [[0, 3], [3]], **changes)
    assert torch.allclose(together.plain.maps, plain.maps, rtol=1e-3, atol=1e-6)


def test_little_memory_gives_the_same():
    whole = climber()(images(), [[0, 1, 2], [3]])
    assert torch.allclose(climber(max_pixels=1)(images(), [[0, 1, 2], [3]]).maps, whole.maps, rtol=1e-3, atol=1e-6)


def test_the_score_rises_step_by_step_and_features_are_recorded_as_no_images():
    out = climber(steps=6)(images(), [[0], [3]], record=True)
    scores = out.scores[torch.arange(2), :, out.target]
    assert (scores.diff(dim=1) > 0).all()
    assert out.images is None
    assert out.steps.shape[:2] == (2, 6)
    for t, now in enumerate(climber(steps=6).iterate(images(), [[0], [3]])):
        assert now.images is None
        assert torch.allclose(now.steps[:, 0], out.steps[:, t], rtol=1e-3, atol=1e-6)


def test_one_step_is_the_plain_map_of_any_network():
    vit = timm.create_model("test_vit", num_classes=4)
    assert torch.equal(climber(vit, steps=1)(images(1, 160, 160), [[1]]).maps, advcam.cam(vit, images(1, 160, 160), [[1]]).maps)


def test_windows_are_near_the_whole_image():
    whole = climber()(images(1, 96, 128), [[0, 3]])
    windows = climber(window=64)(images(1, 96, 128), [[0, 3]])
    assert (windows.normalised() - whole.normalised()).abs().mean() < 0.03
    assert windows.maps.shape == whole.maps.shape


def test_windows_of_fast_where_pixels_move():
    vit = timm.create_model("test_vit", num_classes=4)
    windows = {space: AdvCAM(vit, "fast", window=160, space=space)(images(1, 160, 320), [[1]]) for space in ("auto", "pixels")}
    assert torch.equal(windows["auto"].maps, windows["pixels"].maps)
    for preset in ("fast", "features"):
        plain = AdvCAM(network(), preset, window=64, steps=1)(images(1, 96, 128), [[1]])
        assert torch.equal(plain.maps, AdvCAM(network(), window=64, steps=1)(images(1, 96, 128), [[1]]).maps)


def test_where_it_starts_can_be_said():
    model = timm.create_model("resnet18", num_classes=4)
    found, named = climber(model)(images(1), [[1]]), climber(model, start_layer="layer3")(images(1), [[1]])
    assert torch.equal(found.maps, named.maps)
    earlier = climber(model, start_layer="layer1")(images(1), [[1]])
    assert not torch.equal(earlier.maps, named.maps)
    assert torch.allclose(earlier.plain.maps, named.plain.maps, rtol=1e-3, atol=1e-6)
    with pytest.raises(NetworkError, match="the model has no layer 'layer5'"):
        climber(model, start_layer="layer5")(images(1), [[1]])
    with pytest.raises(NetworkError, match="no climb can start at layer 'layer3'.*come before the layer of the"):
        climber(model, layer="layer2", start_layer="layer3")(images(1), [[1]])


def test_fast_moves_features_where_there_are_some_and_pixels_elsewhere():
    model = timm.create_model("resnet18", num_classes=4)
    vit = timm.create_model("test_vit", num_classes=4)
    for net, given, space in ((model, images(1), "features"), (vit, images(1, 160, 160), "pixels")):
        fast = AdvCAM(net, "fast", precision="float32")
        for _ in range(2):  # what was found is remembered
            out = fast(given, [[1]], record=True)
            assert (out.images is None) == (space == "features")
            same = AdvCAM(net, "fast", space=space, precision="float32")(given, [[1]])
            assert torch.equal(out.maps, same.maps)
    with pytest.raises(NetworkError, match="no climb can start at layer 'blocks.0'"):
        AdvCAM(vit, "fast", start_layer="blocks.0")(images(1, 160, 160), [[1]])


def test_later_maps_count_so_many_times():
    once, thrice = (climber(later=weight)(images(), [[0, 1], [3]]) for weight in (1.0, 3.0))
    plain = once.plain.maps
    assert torch.allclose(thrice.maps - plain, 3 * (once.maps - plain), rtol=1e-3, atol=1e-5)
    assert torch.allclose(climber(later=0)(images(), [[0, 1], [3]]).maps, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("preset", "changes", "said"),
    [
        ("features", {"bounds": (0.0, 1.0)}, "bounds are of pixels: give space='pixels' too; got space='features'"),
        ("fast", {"bounds": (0.0, 1.0)}, "bounds are of pixels: give space='pixels' too; got space='auto'"),
        ("default", {"later": -1}, "later must be a finite number of at least 0 .*, got -1"),
        ("default", {"later": "3"}, "later must be a number, got '3'"),
        ("default", {"start_layer": "2"}, "start_layer='2' is where a climb of features starts; this one moves pixels"),
        ("features", {"start_layer": 2}, "start_layer is the name of a module, one of model.named_modules"),
        ("features", {"space": "tokens"}, "space is one of auto, pixels, features, got 'tokens'"),
    ],
)
def test_bad_settings_are_refused(preset, changes, said):
    with pytest.raises(SettingsError, match=said):
        AdvCAM(network(), preset, **changes)


def test_the_model_is_given_back_as_it_was():
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    climber(model)(images(), [[0], [1]])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or "forward" in vars(module) for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_dropout_that_is_on_in_eval_mode_is_no_reason_to_refuse():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            x = nn.functional.dropout(self.net[:2](x), 0.1, training=True)
            return self.net[2:](x)

    assert climber(Noisy().eval())(images(), [[0], [1]]).maps.shape[0] == 2


def test_a_layer_that_the_fused_copy_lacks_is_climbed_on_the_model_itself():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    ).eval()  # fmt: skip
    nn.init.uniform_(model[3].weight, 2, 9)
    out = climber(model, start_layer="2")(images(1), [[1]])
    with torch.no_grad():
        features = model[:3](images(1))
    s, rows = climber(model).settings, torch.zeros(1, dtype=torch.long)

    def rest(x):
        last = model[3:7](x)
        return last, model[7:](last)

    steps = counted(climb(rest, features[:, None], rows, rows + 1, s, head=find(model, images(1)).linear()), s)
    assert torch.allclose(out.maps, torch.stack([step.maps for step in steps]).sum(0), rtol=1e-3, atol=1e-6)


def test_a_start_layer_that_is_not_there_is_refused_for_one_step_too():
    with pytest.raises(NetworkError, match="the model has no layer 'nope'"):
        climber(start_layer="nope", steps=1)(images(1), [[1]])
