"""The table: other people's architectures, random weights, small images, each held to the same seven promises.

It finds its layer; a batch gives what one at a time gives; the mirrored pair is mirror-equivariant; the model comes back as
lent; maps are finite; one step of AdvCAM is the plain map; and a climb of features starts from it, or says why it cannot.
"""

import pytest
import timm
import torch
from torch import nn

import advcam
from advcam.errors import NetworkError
from advcam.models import find

# name: layer, whether the head is the mean over cells and one linear or 1x1 module, side of the image (None: 96 x 128)
TIMM = {
    "resnet18": ("layer4", True, None),
    "resnetv2_50": ("norm", True, None),
    "resnext26ts": ("stages", True, None),
    "seresnet50": ("layer4", True, None),
    "resnest14d": ("layer4", True, None),
    "res2net50_14w_8s": ("layer4", True, None),
    "skresnet18": ("layer4", True, None),
    "ecaresnet26t": ("layer4", True, None),
    "resnet50_clip": ("stages", False, 224),
    "mobilenetv2_100": ("bn2", True, None),
    "mobilenetv3_small_050": ("blocks", False, None),
    "mobilenetv4_conv_small": ("blocks", False, None),
    "efficientnet_b0": ("bn2", True, None),
    "tf_efficientnetv2_b0": ("bn2", True, None),
    "mnasnet_050": ("bn2", True, None),
    "ghostnet_050": ("blocks", False, None),
    "fbnetc_100": ("bn2", True, None),
    "lcnet_050": ("blocks", False, None),
    "mixnet_s": ("bn2", True, None),
    "hardcorenas_a": ("blocks", False, None),
    "regnetx_002": ("s4", True, None),
    "regnety_002": ("s4", True, None),
    "densenet121": ("features", True, None),
    "vgg11": ("features", False, None),
    "inception_v3": ("Mixed_7c", True, None),
    "inception_v4": ("features", True, None),
    "xception41": ("blocks", True, None),
    "dpn48b": ("features", True, None),
    "dla34": ("level5", True, None),
    "hrnet_w18_small": ("final_layer", True, None),
    "selecsls42": ("head", True, None),
    "cspresnet50": ("stages", True, None),
    "cspdarknet53": ("stages", True, None),
    "repvgg_a0": ("stages", True, None),
    "eca_nfnet_l0": ("final_act", True, None),
    "ese_vovnet19b_dw": ("stages", True, None),
    "hgnetv2_b0": ("stages", False, None),
    "rexnet_100": ("features", True, None),
    "convnext_atto": ("stages", False, None),
    "convnextv2_atto": ("stages", False, None),
    "edgenext_xx_small": ("stages", False, None),
    "inception_next_atto": ("stages", False, None),
    "focalnet_tiny_srf": ("norm", True, None),
    "poolformer_s12": ("stages", False, None),
    "convformer_s18": ("stages", False, None),
    "fastvit_t8": ("final_conv", True, None),
    "mobileone_s0": ("stages", True, None),
    "efficientformer_l1": ("norm", False, 224),
    "efficientvit_b0": ("head.in_conv", False, None),
    "efficientvit_m0": ("stages", True, 224),
    "levit_128s": ("stages", False, 224),
    "repvit_m0_9": ("stages", False, None),
    "starnet_s1": ("norm", True, None),
    "tiny_vit_5m_224": ("stages", False, None),
    "mobilevit_xxs": ("final_conv", True, None),
    "mobilevitv2_050": ("stages", True, None),
    "vit_tiny_patch16_224": ("blocks.10", False, 224),
    "deit_tiny_distilled_patch16_224": ("blocks.10", False, 224),
    "vit_tiny_r_s16_p8_224": ("blocks.10", False, 224),
    "vit_relpos_small_patch16_224": ("blocks.11", False, 224),
    "eva02_tiny_patch14_224": ("blocks.11", False, 224),
    "cait_xxs24_224": ("blocks", False, 224),
    "xcit_nano_12_p16_224": ("cls_attn_blocks.0", False, 224),
    "convit_tiny": ("blocks.10", False, 224),
    "coatnet_nano_rw_224": ("norm", True, 224),
    "pit_ti_224": ("transformers.2.blocks.2", False, 224),
    "pvt_v2_b0": ("stages", True, None),
    "swin_tiny_patch4_window7_224": ("norm", True, 224),
    "swinv2_cr_tiny_ns_224": ("stages", True, 224),
    "twins_svt_small": ("norm", True, 224),
    "visformer_tiny": ("norm", True, 224),
    "davit_tiny": ("stages", False, None),
    "gcvit_xxtiny": ("stages", True, 224),
    "mvitv2_tiny": ("norm", True, 224),
    "mixer_s32_224": ("norm", True, 224),
    "resmlp_12_224": ("norm", True, 224),
    "convmixer_768_32": ("blocks", True, None),
    "lambda_resnet26t": ("stages", True, None),
    "test_vit": ("blocks.4", False, 160),
    "mambaout_femto": ("stages", False, None),
}

_VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 64,
    "patch_size": 8, "num_labels": 5,
}  # fmt: skip
_STAGES = {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2], "num_heads": [2, 2, 2], "window_size": 4, "num_labels": 5}
_SIZES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_labels": 5}
TRANSFORMERS = {  # class: settings, layer, linear head
    "ViT": (_VIT, "vit.layers.1", False),
    "DeiT": (_VIT, "deit.layers.1", False),
    "Dinov2": (_VIT, "dinov2.layernorm", False),
    "Dinov2WithRegisters": (_VIT, "dinov2_with_registers.layernorm", False),
    "Swin": (_STAGES, "swin.layernorm", True),
    "Swinv2": (_STAGES, "swinv2.layernorm", True),
    "ConvNext": (_SIZES, "convnext.encoder.stages.3", False),
    "ResNet": (_SIZES | {"embedding_size": 8}, "resnet.encoder.stages.3", True),
    "FocalNet": ({"image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_labels": 5}, "focalnet.layernorm", True),
}


ONE_GRID = {  # tokens alone, or all features on the grid of the map
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_relpos_small_patch16_224", "eva02_tiny_patch14_224",
    "cait_xxs24_224", "convit_tiny", "mixer_s32_224", "resmlp_12_224", "test_vit", "ViT", "DeiT", "Dinov2",
    "Dinov2WithRegisters",
}  # fmt: skip


def assert_promises_are_kept(model: nn.Module, layer: str, linear: bool, size: tuple[int, int], features: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():  # some start with heads of zero, or with branches that count for nothing
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02, generator=generator)
    model.train()
    images, targets = torch.randn(2, 3, *size, generator=generator), [[1, 3], [0]]
    state = [m.training for m in model.modules()], {n: t.clone() for n, t in model.state_dict().items()}

    network = find(model, images)
    assert (network.layer, network.head is not None) == (layer, linear)

    climber = advcam.AdvCAM(model, steps=2, step_size=0.005)
    out = climber(images, targets)
    assert f"layer={layer!r}" in repr(out)
    assert out.maps.shape[0] == 3
    assert torch.isfinite(out.maps).all()

    def close(a, b):
        return torch.allclose(a, b, rtol=1e-2, atol=2e-3 * float(b.max()) + 1e-12)

    alone = [climber(images[i : i + 1], [[c]]).plain.maps[0] for i, c in ((0, 1), (0, 3), (1, 0))]
    assert close(torch.stack(alone), out.plain.maps)
    assert close(advcam.cam(model, images, targets).maps, out.plain.maps)

    mirrored = advcam.AdvCAM(model, steps=1, mirror=True)
    there, back = mirrored(images, targets), mirrored(images.flip(-1), targets)
    assert close(back.maps.flip(-1), there.maps)

    moved = advcam.AdvCAM(model, "features", steps=2)
    if features:
        there = moved(images, targets)
        assert close(there.plain.maps, out.plain.maps)
        assert close(moved(images[1:], targets[1:]).maps, there.maps[2:])
    else:
        with pytest.raises(NetworkError, match=r"so no features to climb: climb its pixels \(space=pixels"):
            moved(images, targets)

    assert [m.training for m in model.modules()] == state[0]
    assert all(torch.equal(t, state[1][n]) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters() if p.is_floating_point())


SLOW = {
    "cait_xxs24_224", "coatnet_nano_rw_224", "convformer_s18", "convit_tiny", "convmixer_768_32", "cspdarknet53", "davit_tiny",
    "eca_nfnet_l0", "efficientformer_l1", "eva02_tiny_patch14_224", "focalnet_tiny_srf", "gcvit_xxtiny", "inception_v4",
    "mobileone_s0", "mvitv2_tiny", "repvit_m0_9", "res2net50_14w_8s", "resmlp_12_224", "resnet50_clip", "selecsls42",
    "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224", "twins_svt_small", "vgg11", "vit_relpos_small_patch16_224",
    "xception41",
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TIMM])
def test_timm(name):
    layer, linear, side = TIMM[name]
    size = (side, side) if side else (96, 128)
    assert_promises_are_kept(timm.create_model(name, num_classes=5), layer, linear, size, name not in ONE_GRID)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    transformers = pytest.importorskip("transformers", reason="Hugging Face's classifiers need `pip install transformers`")
    options, layer, linear = TRANSFORMERS[name]
    config = getattr(transformers, f"{name}Config")(**options)
    model = getattr(transformers, f"{name}ForImageClassification")(config)
    assert_promises_are_kept(model, layer, linear, (64, 64), name not in ONE_GRID)
