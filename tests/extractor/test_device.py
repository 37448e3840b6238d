"""What a climb asks of a device's settings: float32 is float32."""

import pytest
import torch

import advcam
from advcam.extractor.job import undisturbed

CUDNN = torch.backends.cudnn


@pytest.fixture(params=[True, False], ids=["torch allows it", "it is off"], autouse=True)
def given(request):
    """How torch may convolve float32 on a GPU, as the caller has set it."""
    before = CUDNN.allow_tf32
    CUDNN.allow_tf32 = request.param
    yield request.param
    CUDNN.allow_tf32 = before


def watched(net):
    """The settings during every forward and backward pass of a network."""
    seen = []

    def look(*_):
        seen.append(CUDNN.allow_tf32)

    def look_back(_module, _inputs, out):
        look()
        if out.requires_grad:
            out.register_hook(look)

    net.stem.register_forward_hook(look_back)
    return seen


def test_no_convolution_of_a_climb_is_in_tf32(net, images, given):
    seen = watched(net)
    advcam.AdvCAM(net, steps=3, scales=(1.0, 2.0))(images, [[0], [1], [2, 3]])
    advcam.cam(net, images)
    assert len(seen) > 10
    assert set(seen) == {False}
    assert CUDNN.allow_tf32 == given


def test_the_setting_comes_back_between_steps_and_after_an_error(net, images, given):
    steps = advcam.AdvCAM(net, steps=3).iterate(images, [[0], [1], [2]])
    next(steps)
    assert CUDNN.allow_tf32 == given
    steps.close()
    net.body.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(advcam.errors.NetworkError):
        advcam.AdvCAM(net, steps=3)(images, [[0], [1], [2]])
    assert CUDNN.allow_tf32 == given


def test_climbs_that_end_in_any_order_leave_each_other_alone(given):
    first, second = undisturbed(), undisturbed()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert CUDNN.allow_tf32 is False
    second.__exit__(None, None, None)
    assert CUDNN.allow_tf32 == given


def test_a_network_may_set_the_switches_itself(net, images, given):
    class Own(type(net)):
        def forward(self, x):
            with CUDNN.flags(enabled=True):
                return super().forward(x)

    net.__class__ = Own
    advcam.AdvCAM(net, steps=2)(images, [[0], [1], [2]])
    assert CUDNN.allow_tf32 == given


@pytest.mark.skipif(not hasattr(CUDNN, "conv"), reason="this torch has no newer switches")
def test_who_uses_torch_s_newer_switches_keeps_them(net, images, given):
    before = CUDNN.conv.fp32_precision
    CUDNN.conv.fp32_precision = "ieee"
    try:
        advcam.AdvCAM(net, steps=2)(images, [[0], [1], [2]])
        assert CUDNN.conv.fp32_precision == "ieee"
    finally:
        CUDNN.conv.fp32_precision = before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("preset", ["default", "official"])
def test_maps_of_cuda_are_those_of_the_cpu(net, images, preset, given):
    changes = {"steps": 4, "precision": "float32"}
    theirs = advcam.AdvCAM(net, preset, **changes)(images, [[0, 3], [1], [2]]).maps
    ours = advcam.AdvCAM(net.cuda(), preset, **changes)(images.cuda(), [[0, 3], [1], [2]]).maps
    assert torch.allclose(ours.cpu(), theirs, atol=1e-3 * float(theirs.max()))
