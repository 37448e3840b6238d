"""Large images climbed in windows."""

import pytest
import torch
from torch import nn

from advcam import AdvCAM
from advcam.errors import InputError, SettingsError


def network(look: int = 1, classes: int = 3) -> nn.Module:
    """Features at stride 4 that see ``look`` x ``look`` pixels around their own four."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, look, padding=look // 2), nn.ReLU(), nn.Conv2d(8, 16, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, classes),
    )  # fmt: skip
    return net.eval()


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(64, 96), (96, 32), (52, 100)])
@pytest.mark.parametrize("mirror", [False, True])
def test_plain_maps_of_windows_are_those_of_the_whole_image(size, mirror):
    """Where a cell's pixels lie within its window, which an eighth of the window ensures, nothing can differ."""
    settings = {"steps": 1, "mirror": mirror, "precision": "float32"}
    whole = AdvCAM(network(3), **settings)(images(*size), [[0, 2], [1]])
    windows = AdvCAM(network(3), window=32, **settings)(images(*size), [[0, 2], [1]])
    assert torch.equal(windows.image, whole.image)
    assert torch.equal(windows.target, whole.target)
    assert windows.size == whole.size == size
    assert torch.allclose(windows.maps, whole.maps, atol=1e-6)


@pytest.mark.parametrize("preset", ["default", "multiscale"])
def test_climbs_in_windows_are_near_that_of_the_whole_image(preset):
    """The only difference that is left here: each window divides its gradient by its own maximum."""
    settings = {"precision": "float32"}
    whole = AdvCAM(network(3), preset, **settings)(images(64, 96), [[0], [1]])
    windows = AdvCAM(network(3), preset, window=32, **settings)(images(64, 96), [[0], [1]])
    assert torch.allclose(windows.plain.maps, whole.plain.maps, atol=1e-6)
    assert (windows.normalised() - whole.normalised()).abs().mean() < 0.02
    assert not torch.equal(whole.maps, whole.plain.maps)


def test_what_counts_is_the_evidence_in_the_whole_image():
    """A window without the class is not raised to the level of the one that shows it."""
    net = nn.Sequential(nn.Conv2d(3, 2, 4, 4, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.fill_(1 / 48)
        net[4].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    image = torch.full((1, 3, 32, 128), 0.02)
    image[..., 8:24, :16] = 1.0
    found = AdvCAM(net.eval(), window=32)(image, [[0]]).normalised()[0]
    assert found[:, :4].max() == 1
    assert found[:, 16:].max() < 0.2  # as in the climb of the whole image


@pytest.mark.parametrize("size", [(90, 160), (30, 160), (33, 97)])
def test_networks_that_drop_what_is_no_whole_cell(size):
    """Pooling without padding drops the last pixels; the image is continued to whole cells."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    found = AdvCAM(net.eval(), window=64)(images(*size), [[0], [1]])
    assert tuple(found.maps.shape[1:]) == (-(-size[0] // 16), -(-size[1] // 16))


@pytest.mark.parametrize("size", [(55, 45), (60, 50), (70, 66)])
def test_scales_at_which_the_image_fits_its_window(size):
    settings = {"steps": 1, "precision": "float32", "scales": (0.5, 1.0)}
    whole = AdvCAM(network(3), **settings)(images(*size), [[0], [1]])
    windows = AdvCAM(network(3), window=48, **settings)(images(*size), [[0], [1]])
    assert torch.allclose(whole.grids[0], windows.grids[0], atol=1e-6)  # at half its size it is climbed at once
    assert windows.maps.shape == whole.maps.shape


def test_a_network_of_one_size_takes_windows_of_that_size():
    timm = pytest.importorskip("timm")
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=3).eval()
    found = AdvCAM(net, window=64)(images(150, 100), [[0], [1]])
    assert tuple(found.maps.shape) == (2, 10, 7)


def test_classes_that_the_model_finds_are_those_of_the_whole_image():
    net = network(3)
    shown = images(96, 64)
    whole, windows = AdvCAM(net, steps=1)(shown), AdvCAM(net, steps=1, window=32)(shown)
    assert torch.equal(whole.target, windows.target)


def test_an_image_that_fits_its_window_is_climbed_whole():
    whole, windows = (AdvCAM(network(), window=side)(images(32, 48), [[0], [1]]) for side in (None, 48))
    assert torch.equal(whole.maps, windows.maps)


def test_images_of_several_sizes_and_images_without_a_class():
    found = AdvCAM(network(), window=32)([images(32, 48)[0], images(64, 40)[0]], [[], [1]])
    assert [len(maps.maps) for maps in found] == [0, 1]
    assert found[1].size == (64, 40)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: AdvCAM(network(), window=0), SettingsError, "window must be a whole number of at least 1"),
        (lambda: AdvCAM(network(), window=34)(images(64, 64), [[0], [1]]), InputError, "34"),
        (lambda: AdvCAM(network(), window=32)(images(64, 64), [[0], [1]], record=True), SettingsError, "leave out window=32"),
        (lambda: next(AdvCAM(network(), window=32).iterate(images(64, 64), [[0], [1]])), SettingsError, "leave out window=32"),
        (lambda: AdvCAM(network()).in_windows(None, [0]), SettingsError, "AdvCAM\\(model, window=768\\)"),
    ],
)
def test_what_cannot_be(make, error, words):
    with pytest.raises(error, match=words):
        make()
