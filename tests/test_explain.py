"""AdvCAM on a model: what it takes, what it gives, and that the model comes back as lent."""

import pytest
import torch
from torch import nn

import advcam
from advcam.errors import InputError, NetworkError, SettingsError
from conftest import SmallNet


def state_of(model):
    return (
        {n: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()},
        {n: (p.requires_grad, None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()},
        {n: b.clone() for n, b in model.state_dict().items()},
    )


def same(a, b):
    assert a[0] == b[0]
    for name, (asks, grad) in a[1].items():
        assert asks == b[1][name][0]
        assert (grad is None) == (b[1][name][1] is None)
        assert grad is None or torch.equal(grad, b[1][name][1])
    for name, value in a[2].items():
        assert torch.equal(value, b[2][name])


def prepared():
    net = SmallNet()
    net.train()
    net.stem.eval()
    net.stem[0].weight.requires_grad_(False)
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    return net


def test_the_model_comes_back_as_lent(images):
    net = prepared()
    before, random = state_of(net), torch.get_rng_state()
    advcam.AdvCAM(net, steps=3)(images, [[0], [1], [2]])
    same(before, state_of(net))
    assert torch.equal(random, torch.get_rng_state())


def test_the_model_comes_back_after_an_error(images):
    net = prepared()

    def fail(*_):
        raise RuntimeError("in the middle")

    adv = advcam.AdvCAM(net, steps=3)
    adv(images, [[0]] * 3)
    handle = net.body.register_forward_hook(fail)
    before = state_of(net)
    with pytest.raises(RuntimeError, match="in the middle"):
        adv(images, [[0]] * 3)
    same(before, state_of(net))
    handle.remove()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(net, images, around):
    expected = advcam.AdvCAM(net, steps=3)(images, [[0]] * 3).maps
    with around():
        assert torch.equal(advcam.AdvCAM(net, steps=3)(images * 1, [[0]] * 3).maps, expected)


def test_pairs_are_in_order_and_targets_come_in_three_forms(net, images):
    adv = advcam.AdvCAM(net, steps=2)
    lists = adv(images, [[2, 0], [], [1]])
    assert (lists.image.tolist(), lists.target.tolist()) == ([0, 0, 2], [2, 0, 1])
    table = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert adv(images, table).target.tolist() == [0, 2, 1]
    found = adv(images, None)
    net.eval()
    best = net(images).argmax(1).tolist()
    assert all(c in found.target[found.image == i].tolist() for i, c in enumerate(best))


def test_shapes_and_ranges(net, images):
    one = advcam.AdvCAM(net, steps=2)(images, [[0], [1], [2]])
    assert one.maps.shape == (3, 10, 14)
    assert one.maps.dtype == torch.float32
    many = advcam.AdvCAM(net, steps=2, scales=(0.5, 1.0, 2.0))(images, [[0], [1], [2]])
    assert many.maps.shape == (3, 10, 14)  # stride 4
    assert len(many.grids) == 3
    full = many.normalised((40, 56))
    assert full.shape == (3, 40, 56)
    assert torch.allclose(full.amax((1, 2)), torch.ones(3))
    assert full.min() >= 0


def test_record_keeps_every_step(net, images):
    out = advcam.AdvCAM(net, steps=4, mirror=False)(images, [[0], [1], [2]], record=True)
    assert out.steps.shape == (3, 4, 10, 14)
    assert out.scores.shape == (3, 4, 4)
    assert out.images.shape == (3, 3, 40, 56)
    assert torch.allclose(out.steps.sum(1), out.maps, atol=1e-6)
    assert advcam.AdvCAM(net, steps=4, mirror=True)(images, [[0]] * 3, record=True).images.shape == (3, 2, 3, 40, 56)


def test_named_layer_and_repr(net, images):
    adv = advcam.AdvCAM(net, layer="body", steps=2)
    assert torch.equal(adv(images, [[0]] * 3).maps, advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps)
    assert "layer='body' (output), head='fc'" in repr(adv)


def test_bfloat16_is_close(images):
    net = SmallNet()
    exact = advcam.AdvCAM(net, steps=3)(images, [[0]] * 3).maps
    rough = advcam.AdvCAM(net, steps=3, precision="bfloat16")(images, [[0]] * 3).maps
    assert rough.dtype == torch.float32
    assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (torch.rand(3, 8, 8), [[0]], r"float tensor \[N, 3, H, W\].*got torch.float32 \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [[0]], "got torch.uint8"),
        (torch.rand(1, 1, 8, 8), [[0]], r"got torch.float32 \(1, 1, 8, 8\)"),
        ([1, 2], [[0]], r"as a list must be float tensors \[3, H, W\], one an image; entry 0 is int"),
        (torch.rand(0, 3, 8, 8), [], "at least one image"),
        (torch.full((1, 3, 32, 32), float("nan")), [[0]], "NaN or infinite"),
        (torch.rand(1, 3, 32, 32), [[4]], "class id 4 is out of range; the model has classes 0 to 3"),
        (torch.rand(1, 3, 32, 32), [[-1]], "class id -1 is out of range"),
        (torch.rand(2, 3, 32, 32), [[0]], "each of the 2 images; got 1"),
        (torch.rand(1, 3, 32, 32), [[]], "no class at all"),
        (torch.rand(1, 3, 32, 32), [0], "a list of class ids for each image"),
        (torch.rand(1, 3, 32, 32), torch.tensor([0]), r"0/1 \[N, 4\]; got \(1,\). Class ids go in lists"),
        (torch.rand(2, 3, 32, 32), torch.tensor([[3], [1]]), r"0/1 \[N, 4\]; got \(2, 1\)"),
        (torch.rand(1, 3, 32, 32), torch.tensor([[0, 0, 2, 1]]), r"0/1 \[N, 4\]"),
        (torch.rand(1, 3, 32, 32), [["cat"]], "a list of class ids for each image"),
        (torch.rand(1, 3, 32, 32), [[1.5]], "a list of class ids for each image"),
    ],
)
def test_bad_input(net, images, targets, message):
    with pytest.raises(InputError, match=message):
        advcam.AdvCAM(net)(images, targets)


def test_record_needs_one_scale(net, images):
    with pytest.raises(SettingsError, match=r"give one scale, e.g. scales=\(1.0,\)"):
        advcam.AdvCAM(net, preset="official")(images, [[0]] * 3, record=True)


def test_a_model_without_logits(images):
    class Odd(nn.Module):
        def forward(self, x):
            return {"logits": x.mean((2, 3))}

    with pytest.raises(NetworkError, match="it returned dict"):
        advcam.AdvCAM(Odd())(images, [[0]] * 3)
