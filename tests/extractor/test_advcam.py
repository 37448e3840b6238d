"""AdvCAM on a model: what it takes, what it gives, and that the model comes back as lent."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import advcam
from advcam.errors import InputError, NetworkError, SettingsError
from advcam.models import find
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

    def fail(_module, inputs, _output):
        if len(inputs[0]) == 3:  # not on the one image with which the network is looked at
            raise RuntimeError("in the middle")

    adv = advcam.AdvCAM(net, steps=3)
    adv(images, [[0]] * 3)
    handle = net.body.register_forward_hook(fail)
    before = state_of(net)
    with pytest.raises(NetworkError, match="SmallNet fails with RuntimeError: in the middle") as caught:
        adv(images, [[0]] * 3)
    assert isinstance(caught.value.__cause__, RuntimeError)
    same(before, state_of(net))
    handle.remove()


def test_restored_where_the_network_itself_fails_at_first_sight(images):
    class Fails(SmallNet):
        def forward(self, x):
            torch.rand(3)
            raise RuntimeError("in the middle")

    net = Fails()
    before, random = state_of(net), torch.get_rng_state()
    with pytest.raises(NetworkError, match=r"Fails fails on an image \(1, 3, 40, 56\): in the middle"):
        advcam.AdvCAM(net)(images, [[0]] * 3)
    same(before, state_of(net))
    assert torch.equal(random, torch.get_rng_state())


def test_random_numbers_that_a_network_draws_are_given_back(images):
    class Draws(SmallNet):
        def forward(self, x):
            return super().forward(x) + 0 * torch.rand(1)

    net = Draws()
    random = torch.get_rng_state()
    advcam.AdvCAM(net, steps=2)(images, [[0]] * 3)
    assert torch.equal(random, torch.get_rng_state())


def test_random_numbers_of_others_do_not_come_twice(net, images):
    drawn = []

    def another_thread_draws(_module, inputs):
        if len(inputs[0]) == 3:  # not while the network is looked at
            drawn.append(ThreadPoolExecutor(1).submit(lambda: float(torch.rand(1))).result())

    net.register_forward_pre_hook(another_thread_draws)
    advcam.AdvCAM(net, steps=4)(images, [[0]] * 3)
    assert not find(net, images).draws
    assert len(set(drawn)) == len(drawn) == 4


def test_frozen_models_stay_frozen(images):
    net = SmallNet().requires_grad_(False)
    assert advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps.any()
    assert not any(p.requires_grad for p in net.parameters())


def test_from_threads(images):
    net = SmallNet()
    expected = [advcam.AdvCAM(net, steps=3)(images, [[c]] * 3).maps for c in range(4)]
    before = state_of(net)
    adv = advcam.AdvCAM(net, steps=3)
    with ThreadPoolExecutor(4) as pool:
        maps = list(pool.map(lambda c: adv(images, [[c % 4]] * 3).maps, range(12)))
    assert all(torch.allclose(m, expected[c % 4], atol=1e-5) for c, m in enumerate(maps))
    same(before, state_of(net))


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


@pytest.mark.filterwarnings("ignore:bfloat16 is emulated")
def test_bfloat16_is_close(images):
    net = SmallNet()
    exact = advcam.AdvCAM(net, steps=3)(images, [[0]] * 3).maps
    rough = advcam.AdvCAM(net, steps=3, precision="bfloat16")(images, [[0]] * 3).maps
    assert rough.dtype == torch.float32
    assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > 0.99


def test_64_bits(net, images):
    single = advcam.AdvCAM(net, steps=3)(images, [[0]] * 3).maps
    double = advcam.AdvCAM(net.double(), steps=3)(images.double(), [[0]] * 3).maps
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), single, rtol=1e-3, atol=1e-4 * float(single.max()))


def test_a_model_in_16_bits(net, images):
    single = advcam.AdvCAM(net, steps=2)(images, [[0]] * 3).maps
    half = advcam.AdvCAM(net.bfloat16(), steps=2)(images.bfloat16(), [[0]] * 3).maps
    assert half.dtype == torch.float32
    assert torch.corrcoef(torch.stack([single.flatten(), half.flatten()]))[0, 1] > 0.98


def test_images_of_several_sizes(net, images):
    adv = advcam.AdvCAM(net, steps=3)
    several = [images[0], images[1, :, :32, :32], images[2], images[0, :, :, :40]]
    out = adv(several, [[0, 3], [2], [1], []])
    assert [m.size for m in out] == [(40, 56), (32, 32), (40, 56), (40, 40)]
    assert [m.target.tolist() for m in out] == [[0, 3], [2], [1], []]
    for image, maps in zip(several[:3], out, strict=False):
        alone = adv(image[None], [maps.target.tolist()])
        assert torch.allclose(maps.maps, alone.maps, atol=1e-4 * float(alone.maps.max()))
        assert torch.allclose(maps.plain.maps, alone.plain.maps, atol=1e-5)
        assert maps.image.tolist() == [0] * len(maps.target)
    assert out[3].normalised((40, 40)).shape == (0, 40, 40)
    table = torch.zeros(4, 4)
    table[0, 0] = table[0, 3] = table[1, 2] = table[2, 1] = 1
    assert [m.target.tolist() for m in adv(several, table)] == [[0, 3], [2], [1], []]
    assert all(len(m.target) for m in adv(several))
    with pytest.raises(InputError, match="each of the 4 images; got 1"):
        adv(several, [[0]])
    with pytest.raises(InputError, match=r"one an image; entry 1 is torch.float32 \(1, 3, 8, 8\)"):
        adv([images[0], torch.rand(1, 3, 8, 8)], [[0], [0]])


def test_steps_as_they_come(net, images):
    adv = advcam.AdvCAM(net, steps=4, max_pixels=40 * 56)  # several chunks
    whole = adv(images, [[0, 1], [1], [2]], record=True)
    for t, out in enumerate(adv.iterate(images, [[0, 1], [1], [2]])):
        assert torch.allclose(out.maps, whole.steps[:, : t + 1].sum(1), atol=1e-5)
        assert torch.allclose(out.steps[:, 0], whole.steps[:, t], atol=1e-5)
        assert torch.allclose(out.scores[:, 0], whole.scores[:, t], atol=1e-5)
        assert out.images.shape == (4, 3, 40, 56)
        assert net.training  # nothing is held between steps
    assert t == 3
    assert torch.allclose(out.plain.maps, whole.plain.maps, atol=1e-6)
    with pytest.raises(SettingsError, match=r"iterate\(\) yields steps on one grid: give one scale"):
        next(advcam.AdvCAM(net, scales=(1.0, 2.0)).iterate(images, [[0]] * 3))


def test_maps_can_be_added(net, images):
    adv = advcam.AdvCAM(net, steps=1)
    once = adv(images, [[0, 1]] * 3).maps
    assert torch.allclose(once + once, 2 * adv(images, [[0, 1]] * 3).maps)


class Hungry(SmallNet):
    """Runs out of memory with more than so many images at once."""

    room = 2

    def forward(self, x):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more")
        return super().forward(x)


def test_max_pixels_is_halved_where_memory_runs_out(images):
    net = Hungry()
    adv = advcam.AdvCAM(net, steps=3, max_pixels=6 * 40 * 56)
    out = adv(images.repeat(2, 1, 1, 1), [[0, 1], [2], [3]] * 2)
    assert adv.max_pixels == 6 * 40 * 56 // 4  # 5 pairs at once, then 3, then 1
    net.room = 100
    whole = advcam.AdvCAM(net, steps=3)(images.repeat(2, 1, 1, 1), [[0, 1], [2], [3]] * 2)
    assert torch.allclose(out.maps, whole.maps, atol=1e-4 * float(whole.maps.max()))


def test_steps_and_scores_halve_it_too(images):
    net = Hungry()
    adv = advcam.AdvCAM(net, steps=3, max_pixels=6 * 40 * 56)
    net.room = 100
    expected, scores = adv(images, [[0, 1], [2], [3]]).maps, adv.scores(images)
    net.room = 2
    *_, last = adv.iterate(images, [[0, 1], [2], [3]])
    assert adv.max_pixels < 6 * 40 * 56
    assert torch.allclose(last.maps, expected, atol=1e-4 * float(expected.max()))
    fresh = advcam.AdvCAM(net, max_pixels=6 * 40 * 56)
    assert torch.allclose(fresh.scores(images), scores, atol=1e-6)
    assert fresh.max_pixels < 6 * 40 * 56


def test_not_enough_memory_for_one(images):
    net = Hungry()
    adv = advcam.AdvCAM(net, steps=3, mirror=True)
    adv(images[:1], [[0]])
    net.room = 1
    with pytest.raises(InputError, match="not enough memory for one image of 40x56 at scale 1: give smaller"):
        adv(images, [[0]] * 3)


def test_not_enough_memory_for_the_plain_maps_of_one(images):
    net = Hungry()
    adv = advcam.AdvCAM(net, steps=1)
    adv(images[:1], [[0]])
    net.room = 0
    with pytest.raises(InputError, match="not enough memory for one image"):
        adv(images, [[0, 1, 2, 3]] * 3)


def test_a_model_that_changes_between_calls(net, images):
    adv = advcam.AdvCAM(net, steps=2)
    first = adv(images, [[0]] * 3)
    net.fc = nn.Linear(16, 9)
    assert adv(images, [[8]] * 3).maps.shape == first.maps.shape
    with pytest.raises(InputError, match="images are torch.float64, the model computes in torch.float32"):
        adv(images.double(), [[0]] * 3)


def test_nothing_keeps_a_model_alive(images):
    net = SmallNet()
    adv = advcam.AdvCAM(net, steps=2)
    adv(images, [[0]] * 3)
    gone = weakref.ref(net)
    del net, adv
    gc.collect()
    assert gone() is None


def test_other_errors_are_not_taken_for_memory(net, images):
    adv = advcam.AdvCAM(net, steps=3)
    adv(images, [[0]] * 3)

    def fail(_module, inputs, _output):
        if len(inputs[0]) == 3:
            raise RuntimeError("something else")

    handle = net.body.register_forward_hook(fail)
    with pytest.raises(NetworkError, match="SmallNet fails with RuntimeError: something else"):
        adv(images, [[0]] * 3)
    handle.remove()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("hidden", [False, True])
def test_logits_that_are_not_finite_give_maps_of_zeros(images, value, hidden):
    net = SmallNet()
    adv = advcam.AdvCAM(net, steps=3, layer="stem" if hidden else None)
    adv(images, [[0]] * 3)
    with torch.no_grad():
        net.fc.weight[2] = value
    with pytest.warns(RuntimeWarning, match=r"logits of 3 of 3 \(image, class\) pairs are NaN or infinite; their maps are 0"):
        out = adv(images, [[2], [0], [1]], record=True)
    assert torch.isfinite(out.maps).all()
    assert not out.maps[0].any() or value == float("inf")
    assert torch.isfinite(out.images).all()


def test_an_all_negative_map_and_a_constant_image(images):
    net = SmallNet()
    with torch.no_grad():
        net.fc.weight[1] = -1.0
    negative = advcam.AdvCAM(net, steps=3)(images, [[1]] * 3)
    assert not negative.maps.any()
    assert not negative.normalised((40, 56)).any()
    grey = torch.full((1, 3, 40, 56), 0.3)
    assert advcam.AdvCAM(net, steps=3)(grey, [[0]]).maps.isfinite().all()
    out = advcam.AdvCAM(net, steps=3, ceiling=None, emphasis="none")(grey, [[0]], record=True)
    assert torch.equal(out.images, grey)  # no range, no step
    assert torch.allclose(out.maps, 3 * out.plain.maps, atol=1e-6)


def test_bounds(net, images):
    images = images.clamp(-1, 1)
    out = advcam.AdvCAM(net, steps=4, step_size=0.2, bounds=(-1, 1.5))(images, [[0]] * 3, record=True)
    assert out.images.max() > images.max()
    assert out.images.min() >= -1
    assert out.images.max() <= 1.5
    with pytest.raises(
        InputError, match=r"values from -1 to 1, outside the bounds \(0.0, 1.0\).*give the bounds of normalised pixels"
    ):
        advcam.AdvCAM(net, bounds=(0, 1))(images, [[0]] * 3)
    for wrong in ((1, 0), (0,), 1.0, "ab", (0, float("inf"))):
        with pytest.raises(SettingsError, match="bounds are the least and the greatest pixel"):
            advcam.AdvCAM(net, bounds=wrong)


def test_one_forward_pass_for_all_classes_of_an_image(net, images):
    seen = []
    handle = net.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    adv = advcam.AdvCAM(net, steps=1)
    adv(images, [[0, 1, 2, 3]] * 3)
    seen.clear()
    adv(images, [[0, 1, 2, 3]] * 3)
    assert seen == [3]
    climber = advcam.AdvCAM(net, steps=3)
    climber(images, [[0, 1]] * 3)
    seen.clear()
    climber(images, [[0, 1]] * 3)
    assert seen == [3, 6, 6]
    handle.remove()


def test_scores(net, images):
    net.eval()
    assert torch.allclose(advcam.AdvCAM(net).scores(images), net(images), atol=1e-6)


def test_the_published_settings_need_a_linear_head(net, images):
    with pytest.raises(NetworkError, match=r"one linear head; this network has layer='stem' \(output\), head by gradient"):
        advcam.AdvCAM(net, "official", layer="stem")(images, [[0]] * 3)


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (torch.rand(3, 8, 8), [[0]], r"float tensor \[N, C, H, W\].*got torch.float32 \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [[0]], "got torch.uint8"),
        ([1, 2], [[0]], r"as a list must be float tensors \[C, H, W\], one an image; entry 0 is int"),
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
