"""The climb itself: known answers, the equations written out, and properties."""

import gc
import weakref
from dataclasses import asdict
from itertools import islice

import pytest
import torch

import advcam
from advcam.attribution import Head, add_views, ascend, climb, gradient_scale, make_views, normalise, rules, settings
from advcam.attribution.emphasis import counted, emphasised, nearness, pressure, relative
from advcam.attribution.maps import cam
from advcam.attribution.objective import discriminative, penalty, suppressed, unit_of
from advcam.errors import SettingsError

HEAD = Head(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]]), torch.zeros(2))


def identity(x):
    """A network whose feature map is the image, with HEAD behind it."""
    f = x if x.requires_grad else x.detach().requires_grad_()
    return f, f.mean((2, 3)) @ HEAD.weight.T


def started(views):
    return torch.arange(len(views))


def test_one_step_by_hand():
    views = torch.zeros(1, 1, 3, 2, 2)
    views[0, 0, 0] = torch.tensor([[0.0, 0.2], [0.4, 1.0]])
    chosen = settings(mirror=False, suppress=0.0, step_size=0.1, steps=2, ceiling=None, emphasis="none")
    first, second = climb(identity, views, started(views), torch.tensor([0]), chosen, head=HEAD)
    assert torch.equal(first.maps[0], views[0, 0, 0])  # w_0 . f
    assert torch.allclose(first.scores, torch.tensor([[0.4, 0.0]]))
    # dL/dx is 1/4 in channel 0 and 0 elsewhere; divided by its maximum, times 0.1 of the range 1, clipped at 1
    assert torch.allclose(second.maps[0], torch.tensor([[0.1, 0.3], [0.5, 1.0]]))


@pytest.mark.parametrize(("preset", "mirror"), [("paper", False), ("default", False), ("default", True), ("official", True)])
def test_equals_the_equations_written_out(net, images, preset, mirror):
    """An independent loop, one image and class at a time, with full autograd and no shortcuts."""
    step = 5.0 if preset == "paper" else 0.05
    changes = {"scales": (1.0,), "steps": 4, "restrain": 2.0, "suppress": 0.7, "step_size": step, "mirror": mirror}
    s = settings(preset, **changes)
    target = 2
    net.eval()
    x = torch.stack([images[0], images[0].flip(-1)]) if s.mirror else images[:1].clone()
    expected, first, pushed = [], None, 0
    for _ in range(4):
        x = x.detach().requires_grad_()
        f = net.body(net.stem(x))
        z = torch.einsum("kd,vdhw->vkhw", net.fc.weight, f)
        weight = net.fc.weight[target].expand(len(x), -1)
        if s.weights == "gradient":
            probe = f.detach().requires_grad_()
            total = torch.einsum("d,vdhw->vhw", net.fc.weight[target], probe).relu().sum()
            (grad,) = torch.autograd.grad(total, probe)
            weight = grad.sum((2, 3)) / (grad > 0).sum()
        cam = torch.einsum("vd,vdhw->vhw", weight, f).relu()
        cam = cam[0] + cam[1].flip(-1) if s.mirror else cam[0]
        first = cam.detach() if first is None else first
        y = z.relu().mean((2, 3)).sum(0) if s.score == "relu" else net(x).mean(0)
        mask = (cam.detach() / cam.detach().max() > s.tau).float()
        change = (mask * (cam - first).abs()).flatten()
        penalised = change.sum() if s.penalty == "sum" else change.mean() / len(x)
        loss = y[target] - 0.7 * (y.sum() - y[target]) - 2.0 * penalised
        (g,) = torch.autograd.grad(loss, x)
        shown = cam.detach() if not expected or s.ceiling is None else cam.detach().clamp(max=s.ceiling * float(first.max()))
        shown = shown * pushed / pushed.mean() if expected and s.emphasis == "gradient" else shown
        expected.append(shown * near(first, s.reach) if expected and s.reach else shown)
        here = torch.nn.functional.adaptive_avg_pool2d(g.abs().sum(1), cam.shape)
        here = here[0] + here[1].flip(-1) if s.mirror else here[0]
        pushed = pushed + here / here.mean()
        g = g / g.abs().max() if s.gradient == "maximum" else g
        g = g * (x.max() - x.min()) if s.step_unit == "range" else g
        moved = x + s.step_size * g
        x = moved.clamp(x.min().item(), x.max().item()) if s.clip else moved
    out = advcam.AdvCAM(net, preset, **changes)(images[:1], [[target]], record=True)
    assert torch.allclose(out.steps[0], torch.stack(expected), rtol=1e-3, atol=1e-4 * float(expected[0].max()))
    assert not torch.allclose(out.steps[0][0], out.steps[0][3], rtol=1e-3)  # it did climb


def test_climbing_raises_the_score_and_the_published_penalty_restrains_the_map(net, images):
    free = advcam.AdvCAM(net, steps=10, step_size=0.02, suppress=0.0)(images, [[0], [1], [2]], record=True)
    rows = torch.arange(3)
    own = free.scores[rows, :, free.target]
    assert (own[:, -1] > own[:, 0]).all()
    held = advcam.AdvCAM(net, steps=10, step_size=0.02, suppress=0.0, restrain=50.0)(images, [[0], [1], [2]], record=True)
    strong = discriminative(free.steps[:, 0], 0.5)

    def growth(out):
        return float(((out.steps[:, -1] - out.steps[:, 0]).abs() * strong).sum())

    assert growth(held) < growth(free)


def test_suppressing_others_lowers_them(net, images):
    kept = advcam.AdvCAM(net, steps=8, step_size=0.02, suppress=0.0)(images, [[0], [0], [0]], record=True)
    pressed = advcam.AdvCAM(net, steps=8, step_size=0.02, suppress=1.0)(images, [[0], [0], [0]], record=True)
    assert pressed.scores[:, -1, 1:].sum() < kept.scores[:, -1, 1:].sum()


@pytest.mark.parametrize("preset", list(advcam.PRESETS))
def test_a_batch_gives_what_one_at_a_time_gives(net, images, preset):
    adv = advcam.AdvCAM(net, preset, steps=3)
    together = adv(images, [[0, 3], [1], [2, 0]])
    alone = [adv(images[i : i + 1], [[c]]).maps[0] for i, c in ((0, 0), (0, 3), (1, 1), (2, 2), (2, 0))]
    near = 1e-2 if preset == "paper" else 1e-4  # its penalty |CAM - CAM_0| has a kink where both are equal: rounding decides
    assert torch.allclose(together.maps, torch.stack(alone), rtol=near, atol=near * float(together.maps.max()))


def test_memory_is_bounded_without_changing_the_result(net, images):
    whole = advcam.AdvCAM(net, steps=3)(images, [[0, 1], [2], [3]], record=True)
    pieces = advcam.AdvCAM(net, steps=3, max_pixels=1)(images, [[0, 1], [2], [3]], record=True)
    for name in ("maps", "steps", "scores", "images"):
        assert torch.allclose(getattr(whole, name), getattr(pieces, name), atol=1e-5)


def test_mirror_equivariance(net, images):
    adv = advcam.AdvCAM(net, steps=4, mirror=True)
    there, back = adv(images, [[0], [1], [2]]), adv(images.flip(-1), [[0], [1], [2]])
    assert torch.allclose(there.maps, back.maps.flip(-1), rtol=1e-4, atol=1e-4 * float(there.maps.max()))


def test_one_step_is_the_plain_map(net, images):
    net.eval()
    weight = net.fc.weight[1]
    expected = torch.einsum("d,ndhw->nhw", weight, net.body(net.stem(images))).relu().detach()
    assert torch.allclose(advcam.cam(net, images, [[1]] * 3).maps, expected, atol=1e-5)
    assert torch.allclose(advcam.AdvCAM(net, steps=1, mirror=False)(images, [[1]] * 3).maps, expected, atol=1e-5)
    climbed = advcam.AdvCAM(net, steps=5, mirror=False)(images, [[1]] * 3)
    assert torch.allclose(climbed.plain.maps, expected, atol=1e-5)


def test_memory_does_not_grow_with_steps(net, images):
    """Tensors alive after many steps are those alive after few, and none that a graph saved for its backward is among them."""

    class Saved:
        def __init__(self, value):
            self.value = value

    saved, packed = weakref.WeakSet(), 0

    def pack(value):
        nonlocal packed
        packed += 1
        box = Saved(value.detach())  # an output that holds its own node would never be freed
        saved.add(box)
        return box

    def classifier(x):
        f = net.body(net.stem(x))
        return f, net.fc(f.mean((2, 3)))

    def alive(steps):
        views = make_views(images, 1.0, True)
        running = climb(classifier, views, started(views), torch.tensor([0, 1, 2]), settings(restrain=1.0, steps=steps))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.value):
            for _ in islice(running, steps - 1):
                pass
        gc.collect()
        named = sum(t.numel() for t in gc.get_objects() if issubclass(type(t), torch.Tensor))
        return named, sum(box.value.numel() for box in saved)

    net.eval()
    few, many = alive(4), alive(30)
    assert packed > 0
    assert few[1] == 0
    assert few == many


def test_nothing_to_climb_leaves_the_pixels(net, images):
    s = settings("default")
    x = make_views(images, 1.0, False)
    assert torch.equal(ascend(x, torch.zeros_like(x), s), x)
    flat = torch.ones(1, 1, 3, 4, 4)
    assert torch.equal(ascend(flat, torch.rand_like(flat), s), flat)  # a constant image has no range


def test_pixels_stay_in_their_range(net, images):
    out = advcam.AdvCAM(net, steps=5, step_size=0.5)(images, [[0], [1], [2]], record=True)
    for row in range(3):
        assert out.images[row].min() >= images[row].min()
        assert out.images[row].max() <= images[row].max()


def test_an_empty_map_stays_empty():
    head = Head(-torch.ones(1, 3), torch.zeros(1))
    views = torch.rand(1, 2, 3, 4, 4)
    assert gradient_scale(views, head, torch.tensor([0])).abs().sum() == 0
    (step,) = climb(identity, views, started(views), torch.tensor([0]), settings("official", steps=1), head=head)
    assert step.maps.abs().sum() == 0
    assert torch.isfinite(normalise(step.maps)).all()


def test_objective_by_hand():
    scores = torch.tensor([[3.0, 1.0, 2.0]])
    assert suppressed(scores, torch.tensor([0]), 1.0).item() == 0.0
    assert suppressed(scores, torch.tensor([2]), 0.5).item() == 0.0
    maps, first = torch.tensor([[[1.0, 0.4], [0.6, 0.0]]]), torch.zeros(1, 2, 2)
    assert penalty(maps, first, 0.5).item() == pytest.approx(1.6)  # cells above half the maximum
    held = torch.full((1, 2, 2), 0.1)
    assert penalty(maps, held, 0.5, torch.tensor([3.0])).item() == pytest.approx(3 * 1.4 / 0.4)


def test_penalty_of_weight_1_takes_what_the_discriminative_cells_gain(net, images):
    """Its unit is the score's: raised everywhere, the whole map's penalty is the score's own gain."""
    f = torch.rand(1, 1, 2, 3, 4)
    head = Head(torch.tensor([[2.0, 1.0]]), torch.zeros(1))
    g = head.gradient(f, torch.tensor([0]))
    first, grown = add_views(cam(f, g)), add_views(cam(1.5 * f, g))
    gain = (head.weight @ (0.5 * f).mean((3, 4))[0, 0]).item()
    assert penalty(grown, first, 0.0, unit_of(f, g)).item() == pytest.approx(gain, rel=1e-5)


def test_emphasis_by_hand():
    gradient = torch.zeros(1, 2, 3, 4, 4)
    gradient[0, 0, :, :2, :2] = 1.0  # the image's upper left
    gradient[0, 1, 1, :2, 2:] = -3.0  # the mirror image's upper right: the same cell
    pushed = pressure(gradient, (2, 2))
    assert torch.equal(pushed, torch.tensor([[[6.0, 0.0], [0.0, 0.0]]]))  # 3 of the image, 3 of its mirror image
    pushed = relative(pushed)
    assert torch.equal(pushed, torch.tensor([[[4.0, 0.0], [0.0, 0.0]]]))  # mean 1
    assert torch.equal(relative(torch.zeros(1, 2, 2)), torch.ones(1, 2, 2))  # pushed nowhere: all alike
    peak = torch.tensor([4.0])
    maps = torch.tensor([[[8.0, 1.0], [0.5, 0.0]]])
    assert torch.equal(emphasised(maps, peak, None, 0.25), torch.tensor([[[1.0, 1.0], [0.5, 0.0]]]))
    assert torch.equal(emphasised(maps, peak, pushed + 1, None), torch.tensor([[[20.0, 0.5], [0.25, 0.0]]]))


def near(map_, reach):
    """The square root of a blurred map, relative to its maximum, cell by cell."""
    h, w = map_.shape
    blurred = torch.zeros(h, w)
    for y in range(h):
        for x in range(w):
            rows = torch.tensor([-((i - y) ** 2) / (2 * (reach * max(h, w)) ** 2) for i in range(h)]).exp()
            columns = torch.tensor([-((i - x) ** 2) / (2 * (reach * max(h, w)) ** 2) for i in range(w)]).exp()
            weights = rows[:, None] * columns[None]
            blurred[y, x] = (map_ * weights).sum() / weights.sum()
    return (blurred / blurred.max()).sqrt()


def test_nearness_is_of_cells_near_what_the_map_shows():
    one = torch.zeros(2, 5, 9)
    one[0, 2, 1] = 3.0
    found = nearness(one, 0.25)
    assert torch.allclose(found[0], near(one[0], 0.25), atol=1e-6)
    assert found[0, 2].argmax() <= 1
    assert (found[0, 2, 1:].diff() < 0).all()  # falls with the distance
    assert torch.equal(found[1], torch.ones(5, 9))  # an empty map has nothing to be near to
    assert torch.allclose(nearness(1000 * one, 0.25), found)


def test_a_class_found_on_the_way_is_cut_off_by_its_first_map_that_is_not_empty():
    views = torch.full((1, 1, 3, 2, 2), -0.1)
    views[0, 0, 0, 0, 0], views[0, 0, 1] = -0.01, 1.0  # the class's channel is negative, the range is not empty
    chosen = settings(step_size=0.1, steps=6, emphasis="none")
    steps = climb(identity, views, started(views), torch.tensor([0]), chosen, head=HEAD)
    maps = [step.maps for step in counted(steps, chosen)]
    first = next(at for at, one in enumerate(maps) if one.any())
    assert first > 0
    assert maps[first].max() > 0
    assert all(one.max() <= maps[first].max() + 1e-6 for one in maps)  # a quarter of what it was at first


def test_steps_add_up_and_the_first_is_the_plain_map(net, images):
    for preset in ("default", "official"):
        out = advcam.AdvCAM(net, preset, scales=(1.0,), steps=4)(images, [[0], [1], [2]], record=True)
        assert torch.allclose(out.steps.sum(1), out.maps, rtol=1e-5)
        assert torch.equal(out.steps[:, 0], out.plain.maps)
    plain = advcam.AdvCAM(net, ceiling=None, emphasis="none", steps=4)(images, [[0], [1], [2]])
    default = advcam.AdvCAM(net, steps=4)(images, [[0], [1], [2]])
    assert not torch.allclose(plain.maps, default.maps)


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_default_is_scale_free(net, images, factor):
    """Pixels, features, logits in other units: the same map, but for its own unit."""
    rows = torch.tensor([0, 1, 2])
    chosen = settings("default", steps=5, restrain=1.0)

    def classifier(x, pixel=1.0, feature=1.0, logit=1.0):
        f = net.body(net.stem(x / pixel)) * feature
        return f, logit * (f.mean((2, 3)) / feature) @ net.fc.weight.T

    def summed(**units):
        net.eval()
        head = Head(net.fc.weight.detach() * units.get("logit", 1.0) / units.get("feature", 1.0), torch.zeros(4))
        views = make_views(images * units.get("pixel", 1.0), 1.0, False)
        steps = climb(lambda x: classifier(x, **units), views, rows, rows, chosen, head=head)
        return normalise(sum(step.maps for step in counted(steps, chosen)))

    for unit in ("pixel", "feature", "logit"):
        assert torch.allclose(summed(), summed(**{unit: factor}), atol=1e-3), unit


def test_small_scales_climb_half_the_steps_where_asked():
    official = settings("official")
    assert [official.steps_at(s) for s in (0.5, 1.0, 2.0)] == [13, 27, 27]
    assert [settings("official", steps=t).steps_at(0.5) for t in (3, 8, 10, 11)] == [3, 5, 5, 5]
    assert settings("default", steps=12).steps_at(0.5) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": "5"}, "steps must be a number, got '5'"),
        ({"scales": 1.5}, "scales must be a tuple of factors"),
        ({"mirror": "no"}, "mirror is True or False, got 'no'"),
        ({"ceiling": 0.0}, "ceiling is a share of the first map's maximum, above 0, or None; got 0.0"),
        ({"reach": 0}, "reach is a share of the map's longer side, above 0, or None; got 0"),
        ({"emphasis": "mean"}, "emphasis is one of none, gradient, got 'mean'"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"step_size": float("nan")}, "step_size must be a finite number"),
        ({"restrain": -1.0}, "restrain must be a finite number of at least 0"),
        ({"tau": 2.0}, "tau is a share of the map's maximum"),
        ({"scales": ()}, "scales must be positive factors"),
        ({"scales": (1.0, 0.0)}, "scales must be positive factors"),
        ({"score": "softmax"}, "score is one of logit, relu, got 'softmax'"),
        ({"step": 3}, "no setting 'step'; did you mean"),
    ],
)
def test_settings_that_cannot_work(change, message):
    with pytest.raises(SettingsError, match=message):
        settings("default", **change)


def test_unknown_preset_names_the_known():
    with pytest.raises(SettingsError, match=r"no preset is called 'offical'; did you mean official"):
        settings("offical")


def test_whose_rules_a_climb_goes_by_is_said():
    for preset, said in (
        ("official", "published rules"),
        ("paper", "equations as printed"),
        ("default", "default preset (ours)"),
        ("multiscale", "multiscale preset (ours)"),
        ("features", "features preset (ours)"),
        ("fast", "fast preset (ours)"),
    ):
        assert rules(asdict(settings(preset, steps=3, scales=(1.0,), restrain=2.0))) == said
    before = {name: value for name, value in asdict(settings("default")).items() if name not in ("space", "later")}
    assert rules(before) == "default preset (ours)"
    for space in ("features", "pixels"):
        assert rules(asdict(settings("fast", space=space))) == "fast preset (ours)"
    assert rules(asdict(settings("default", emphasis="none"))) == rules({}) == "rules of this run's own"
