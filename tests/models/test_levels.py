"""Features of any network at several strides, found without names."""

import pytest
import timm
import torch
from torch import nn

from advcam.errors import NetworkError
from advcam.models.levels import find_levels


def strides(name, size=(96, 160), **options):
    model = timm.create_model(name, **options)
    image = torch.rand(1, 3, *size)
    return [round(size[0] / level.shape[2]) for level in find_levels(model, image)(image)]


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv2_050", "convnext_atto", "regnety_002", "mobilevit_xxs", "tf_efficientnet_lite0"]
)
def test_convolutional_networks_give_the_strides_before_the_coarsest(name):
    assert strides(name, (128, 160)) == [16, 8]


@pytest.mark.parametrize("options", [{}, {"num_classes": 0}])
def test_a_transformer_gives_its_tokens_on_their_grid(options):
    sizes = {"img_size": (64, 96), "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}
    assert strides("vit_tiny_patch16_224", (64, 96), **sizes, **options) == [16]


def test_channels_last_features_are_turned():
    model = timm.create_model("swin_tiny_patch4_window7_224", embed_dim=24, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8))
    image = torch.rand(1, 3, 224, 224)
    assert [tuple(level.shape) for level in find_levels(model, image)(image)] == [(1, 96, 14, 14), (1, 48, 28, 28)]


def test_the_features_are_those_of_the_layer_and_the_model_is_as_it_was():
    model = timm.create_model("resnet18").train()
    image = torch.rand(1, 3, 96, 128)
    found = find_levels(model, image)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = found(image)
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    direct = timm.create_model("resnet18", features_only=True, out_indices=(2, 3)).eval()
    direct.load_state_dict(before, strict=False)
    with torch.no_grad():
        finer, coarser = direct(image)
    assert torch.allclose(given[0], coarser, atol=1e-5)
    assert torch.allclose(given[1], finer, atol=1e-5)


def test_a_layer_changed_in_place_afterwards_is_not_taken():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Linear(4, 2)

        def forward(self, x):
            kept = self.first(x)
            return self.head(self.second(kept.relu_()).mean((2, 3)))

    model, image = InPlace(), torch.rand(1, 3, 64, 64)
    (level,) = find_levels(model, image)(image)
    assert level.shape == (1, 4, 16, 16)


def test_a_network_without_a_grid_says_what_to_do():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
    with pytest.raises(
        NetworkError, match=r"no features to compare: give another network .--method affinity .*--threshold 0.3"
    ):
        find_levels(model, torch.rand(1, 3, 64, 64))
