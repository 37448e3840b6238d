"""Whatever is given to the public functions, what leaves them is an error of ours; and what its message advises works."""

import warnings
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

import advcam
from advcam.attribution import ClimbSettings
from advcam.compat import captum, grad_cam
from advcam.errors import AdvcamError, InputError, NetworkError, SettingsError
from conftest import SmallNet

X = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(1))


class Mine(Exception):
    """An error that nobody knows."""


class Raises(SmallNet):
    """Fails as it is told, where it is told."""

    def __init__(self, error, where):
        super().__init__()
        self.error, self.where = error, where

    def forward(self, x):
        if self.where(x):
            raise self.error
        return super().forward(x)


ERRORS = [
    TypeError("t"), RuntimeError("r\nsecond line"), KeyError("k"), IndexError("i"), Mine("m"), Mine(), StopIteration(),
    AttributeError("a"), NotImplementedError(), ValueError("v"), AssertionError(), RecursionError("x"), OSError(2, "no"),
    MemoryError(), RuntimeError("CUDA out of memory"), Mine("DefaultCPUAllocator: can't allocate memory"),
]  # fmt: skip
WHERE = {
    "always": lambda x: True,
    "with two images": lambda x: len(x) == 2,
    "without gradient": lambda x: not torch.is_grad_enabled(),
    "at another size": lambda x: x.shape[-1] == 48,
}


def after_a_call(model):
    adv = advcam.AdvCAM(model, steps=2)
    try:
        adv(X[:1], [[0]])
    finally:
        adv(torch.randn(2, 3, 32, 48), [[0], [1]])


CALLS = {
    "call": lambda m: advcam.AdvCAM(m, steps=2)(X, [[0], [1]]),
    "found": lambda m: advcam.AdvCAM(m, steps=2)(X),
    "record": lambda m: advcam.AdvCAM(m, steps=2)(X, [[0], [3]], record=True),
    "list": lambda m: advcam.AdvCAM(m, steps=1)([X[0], X[1, :, :, :48]], [[0], [1]]),
    "scores": lambda m: advcam.AdvCAM(m).scores(X),
    "iterate": lambda m: list(advcam.AdvCAM(m, steps=2).iterate(X)),
    "cam": lambda m: advcam.cam(m, X),
    "official": lambda m: advcam.AdvCAM(m, "official", steps=2)(X),
    "afterwards": after_a_call,
    "grad_cam": lambda m: grad_cam.AdvCAM(m, [m.body], steps=2)(X),
    "captum": lambda m: captum.AdvCAM(m, m.body, steps=2).attribute(X, 1),
    "captum without target": lambda m: captum.AdvCAM(m, m.body, steps=2).attribute(X),
}


def only_ours(call):
    """The message, if there was an error; another's error fails the test."""
    said = ""
    try:
        call()
    except AdvcamError as error:
        said = str(error)
    assert " ".join(said.split()).isprintable()  # as the command line prints it
    return said


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("where", WHERE)
def test_models_that_raise(call, where):
    said = [only_ours(lambda error=error: CALLS[call](Raises(error, WHERE[where]))) for error in ERRORS]
    assert any(said) or where != "always"


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if len(gradient) == 2:
            raise Mine("backwards")
        return gradient


class Odd(SmallNet):
    """Does something else with two images than with one."""

    def __init__(self, does):
        super().__init__()
        self.does = does

    def forward(self, x):
        return self.does(self, x) if len(x) == 2 else super().forward(x)

    def plain(self, x):
        return SmallNet.forward(self, x)


def no_gradient(net, x):
    with torch.no_grad():
        return net.plain(x)


ODD = {
    "a row": lambda n, x: n.plain(x)[:1],
    "fewer classes": lambda n, x: n.plain(x)[:, :1],
    "no class": lambda n, x: n.plain(x)[:, :0],
    "nothing": lambda n, x: None,
    "whole numbers": lambda n, x: n.plain(x).long(),
    "complex numbers": lambda n, x: n.plain(x).to(torch.complex64),
    "no gradient": no_gradient,
    "an error on the way back": lambda n, x: n.plain(Backwards.apply(x)),
    "an error in the head": lambda n, x: n.fc(Backwards.apply(n.body(n.stem(x))).mean((2, 3))),
    "another way": lambda n, x: n.fc(torch.ones(len(x), 16)),
    "written over": lambda n, x: n.fc(n.body(n.stem(x).exp().add_(1)).mean((2, 3))),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("does", ODD)
def test_models_that_do_something_else_with_two_images(call, does):
    only_ours(lambda: CALLS[call](Odd(ODD[does])))


def test_keyboard_interrupts_pass():
    for where in WHERE.values():
        with pytest.raises(KeyboardInterrupt):
            advcam.AdvCAM(Raises(KeyboardInterrupt(), where), steps=2)(X if where(X[:1]) or where(X) else X[..., :48])


def nested(*lengths):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says torch
        return torch.nested.nested_tensor([torch.zeros(3, 8, length) for length in lengths])


class Boom:
    """Fails at whatever is asked of it."""

    ndim = 2

    def fail(self, *_, **__):
        raise Mine("boom")

    __index__ = __iter__ = __repr__ = __array__ = __len__ = __bool__ = __eq__ = __call__ = fail
    __hash__ = object.__hash__
    category = property(fail)


ANYTHING = [
    None, 0, -1, 5, 1.5, float("nan"), float("inf"), True, "cat", b"cat", 10**30, 1j, ..., [], (), {}, [[]], [[], []], [0, 1],
    [[0], [1]], [[0], [99]], [[-1], [0]], [[0.5], [1]], [["a"], ["b"]], [None, None], [[None], [0]], {0: [1], 1: [0]}, {0, 1},
    np.int64(1), np.float32(1), np.array(1), np.array([0, 1]), np.array([[1, 0, 0, 0], [0, 1, 0, 0]]), np.array([["a"]]),
    np.array([[object()] * 4] * 2), np.zeros((2, 4, 1)), torch.tensor(1), torch.tensor([0, 1]), torch.zeros(2, 4).to_sparse(),
    torch.full((2, 4), torch.nan), torch.zeros(2, 4, device="meta"), torch.zeros(2, 4, dtype=torch.complex64), object(), type,
    nested(4, 3), Boom(), [Boom(), 0], [[Boom()], [0]], lambda y: y[0],
    [lambda y: y[0]] * 2, "12", range(2), (1e-9,), (1e-3, 1), ("a",), (float("nan"),), [None],
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(ANYTHING)))
def test_arguments_of_any_kind(at):
    o, net = ANYTHING[at], SmallNet()
    gc, cap = lambda *a, **k: grad_cam.AdvCAM(net, [net.body], *a, steps=1, **k), captum.AdvCAM(net, net.body, steps=1)
    calls = [
        lambda: advcam.AdvCAM(net, steps=1)(X, o),
        lambda: advcam.AdvCAM(net, steps=1)([X[0], X[1, :, :30]], o),
        lambda: list(advcam.AdvCAM(net, steps=1).iterate(X, o)),
        lambda: advcam.AdvCAM(net, steps=1)(X, [[0], [1]], record=o),
        lambda: advcam.AdvCAM(o)(X),
        lambda: gc()(X, o),
        lambda: gc()(o),
        lambda: gc(o)(X),
        lambda: gc(lambda tensor: o)(X),
        lambda: gc()(X, None, o),
        lambda: gc()(X, None, False, o),
        lambda: gc(layer=o),
        lambda: grad_cam.AdvCAM(net, o),
        lambda: grad_cam.AdvCAM(net, [o]),
        lambda: grad_cam.AdvCAM(o, [net.body]),
        lambda: cap.attribute(X, o),
        lambda: cap.attribute(o, 1),
        lambda: cap.attribute(o),
        lambda: captum.AdvCAM(o, net.body),
        lambda: captum.AdvCAM(net, o),
        lambda: cap.interpolate(o, (4, 4)),
        lambda: cap.interpolate(X, o),
        lambda: cap.interpolate(X, (4, 4), o),
        *(
            lambda name=name: cap.attribute(X, 1, **{name: o})
            for name in ("additional_forward_args", "attribute_to_layer_input", "attr_dim_summation", "grad_kwargs")
        ),
    ]
    for call in calls:
        only_ours(call)


@pytest.mark.parametrize("name", [*(f.name for f in fields(ClimbSettings)), "preset", "layer", "max_pixels", "nonsense"])
def test_settings_of_any_kind(name):
    net = SmallNet()
    for o in ANYTHING:
        if not (name in ("steps", "grid") and isinstance(o, int) and o > 9):  # as many steps as were asked for
            only_ours(lambda o=o: advcam.AdvCAM(net, **({"steps": 2} | {name: o}))(X, [[0], [1]]))


IMAGES = [
    X[0], X[:, :1], X.double(), X.half(), X.bfloat16(), X.long(), X.to(torch.float8_e4m3fn), X.to(torch.complex64),
    X.to_sparse(), X.to("meta"), X.numpy(), [X[0].numpy()], [X[0], X[1].double()], [X[0], X[1, :1]], [X[0], X[1].to("meta")],
    [X[0], None],
    [X[0].to_sparse()], X * torch.nan, X[:0], X[:, :, :0], X[..., :1], X[..., :2, :2], [torch.zeros(3, 0, 5)], {"image": X},
    nested(2, 3),
    X.clone().requires_grad_(), X.permute(0, 1, 3, 2), X[:1].expand(2, 3, 40, 56), X.numpy().tolist(),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(IMAGES)))
def test_images_of_any_kind(at):
    o, net = IMAGES[at], SmallNet()
    for call in (
        lambda: advcam.AdvCAM(net, steps=1)(o, [[0], [1]]),
        lambda: advcam.AdvCAM(net, steps=1)(o),
        lambda: list(advcam.AdvCAM(net, steps=1).iterate(o)),
        lambda: advcam.AdvCAM(net).scores(o),
        lambda: advcam.cam(net, o),
        lambda: grad_cam.AdvCAM(net, [net.body], steps=1)(o),
        lambda: captum.AdvCAM(net, net.body, steps=1).attribute(o, 1),
        lambda: captum.AdvCAM(net, net.body, steps=1).attribute(o),
    ):
        only_ours(call)


# What messages advise


def test_other_channels_go_into_a_module_that_takes_rgb():
    grey = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    with pytest.raises(NetworkError, match="wrap it in a module that takes RGB images alone"):
        advcam.cam(grey, X)

    class FromRGB(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = grey

        def forward(self, x):
            return self.net(x.mean(1, keepdim=True))

    assert advcam.cam(FromRGB(), X, [[0], [1]]).maps.shape[0] == 2


@pytest.mark.parametrize(
    ("images", "said", "advised"),
    [
        (X.to(torch.float8_e4m3fn), r"convert them, images.float\(\)", lambda x: x.float()),
        (X.to("meta"), "give them on the device of the model", lambda x: torch.zeros_like(x, device="cpu")),
        (X.double(), r"e.g. images.to\(torch.float32\)", lambda x: x.to(torch.float32)),
        ([X[0], X[1].double()], r"Convert them, e.g. image.to\(images\[0\]\)", lambda x: [image.to(x[0]) for image in x]),
        (X[..., :3, :4], "Enlarge the images", lambda x: nn.functional.interpolate(x, scale_factor=8)),
    ],
)
def test_images_to_convert(net, images, said, advised):
    with pytest.raises(InputError, match=said):
        advcam.AdvCAM(net, steps=1)(images, [[0], [1]])
    assert advcam.AdvCAM(net, steps=1)(advised(images), [[0], [1]])


def test_weights_without_values():
    layers = nn.LazyConv2d(8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(4)
    lazy = nn.Sequential(*layers)
    with pytest.raises(NetworkError, match="'0.weight' of Sequential has no values yet.*call the model once on images"):
        advcam.AdvCAM(lazy).scores(X)
    lazy(X)
    assert advcam.AdvCAM(lazy).scores(X).shape == (2, 4)
    empty = SmallNet().to("meta")
    with pytest.raises(NetworkError, match=r"load its weights with load_state_dict\(..., assign=True\)"):
        advcam.cam(empty, X)
    empty.load_state_dict(SmallNet().state_dict(), assign=True)
    assert advcam.cam(empty, X, [[0], [1]]).maps.shape[0] == 2


def test_a_model_that_is_not_set_up():
    class Bare(nn.Module):
        def __init__(self):
            pass

    with pytest.raises(NetworkError, match=r"Bare is not set up: its __init__ must begin with super\(\).__init__\(\)"):
        advcam.cam(Bare(), X)


class TwoWays(SmallNet):
    """Goes through one of two bodies; which, cannot be seen from outside."""

    def __init__(self):
        super().__init__()
        self.other = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.way = {"first": True}

    def forward(self, x):
        return self.fc((self.body if self.way["first"] else self.other)(self.stem(x)).mean((2, 3)))


def test_a_model_that_takes_another_way(images):
    net = TwoWays()
    adv = advcam.AdvCAM(net, steps=2)
    adv(images, [[0]] * 3)
    net.way["first"] = False
    with pytest.raises(NetworkError, match="layer 'body' did not run.*Call again to trace it anew.*with layer="):
        adv(images, [[0]] * 3)
    assert "layer='other'" in adv(images, [[0]] * 3).layer
    always = advcam.AdvCAM(net, steps=2, layer="stem")
    for way in (True, False):
        net.way["first"] = way
        assert "layer='stem'" in always(images, [[0]] * 3).layer


def test_logits_of_other_images_than_were_given(images):
    class First(SmallNet):
        def forward(self, x):
            return super().forward(x)[:1]

    with pytest.raises(NetworkError, match=r"returned logits \(1, 4\) for 3 images: .*Give one image at a time"):
        advcam.AdvCAM(First(), steps=1)(images, [[0]] * 3)
    assert advcam.AdvCAM(First(), steps=1)(images[:1], [[0]]).maps.shape[0] == 1


def test_scales_that_leave_no_pixel(net, images):
    with pytest.raises(InputError, match=r"leave less than a pixel of images of 40x56.*scales of at least 0.025"):
        advcam.AdvCAM(net, steps=1, scales=(1.0, 1e-9))(images, [[0]] * 3)
    assert advcam.AdvCAM(net, steps=1, scales=(1.0, 0.2))(images, [[0]] * 3).maps.shape[0] == 3


def test_layers_that_give_no_map(net, images):
    with pytest.raises(NetworkError, match=r"'pool' is \(1, 16, 1, 1\), a single cell.* before the pooling, e.g. 'body'"):
        advcam.cam(net, images, layer="pool")
    with pytest.raises(NetworkError, match=r"'fc' is \(1, 4\): expected a feature map .*e.g. 'body'"):
        advcam.cam(net, images, layer="fc")
    assert advcam.cam(net, images, [[0]] * 3, layer="body").maps.shape[0] == 3


def test_too_little_memory_to_look_at_the_network(images):
    class Hungry(SmallNet):
        def forward(self, x):
            if x.shape[-1] > 100:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    large = images.repeat(1, 1, 4, 4)
    with pytest.raises(InputError, match="not enough memory to run Hungry on one image: give smaller images"):
        advcam.cam(Hungry(), large)
    assert advcam.cam(Hungry(), images, [[0]] * 3).maps.shape[0] == 3


def test_what_the_compatible_classes_advise(net, images):
    with pytest.raises(SettingsError, match="layers are given as target_layers here; leave layer= out"):
        grad_cam.AdvCAM(net, [net.body], layer="stem")
    with pytest.raises(InputError, match=r"cannot be resized.*Expected an attribution \[N, 1, h, w\], \(H, W\), and 'nearest'"):
        captum.AdvCAM.interpolate(torch.rand(2, 1, 4, 4), (8, 8), "cubic")
    assert captum.AdvCAM.interpolate(torch.rand(2, 1, 4, 4), (8, 8), "bilinear").shape == (2, 1, 8, 8)

    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.net, self.factor = net, factor

        def forward(self, x):
            return self.net(x) * self.factor

    with pytest.raises(InputError, match="wrap the model in a module that takes the images alone and adds them"):
        captum.AdvCAM(net, net.body).attribute(images, 1, additional_forward_args=3)
    assert captum.AdvCAM(Scaled(3), net.body, steps=1).attribute(images, 1).shape == (3, 1, 10, 14)
    with pytest.raises(SettingsError, match="give as layer the module whose output is this one's input"):
        captum.AdvCAM(net, net.body).attribute(images, 1, attribute_to_layer_input=True)
    assert captum.AdvCAM(net, net.stem, steps=1).attribute(images, 1).shape == (3, 1, 20, 28)
    with pytest.raises(SettingsError, match="make the object with mirror=True"):
        grad_cam.AdvCAM(net, [net.body])(images, aug_smooth=True)
    with pytest.raises(SettingsError, match="mirror=True or several scales when making the object"):
        grad_cam.AdvCAM(net, [net.body])(images, eigen_smooth=True)
    for options in ({"mirror": True}, {"scales": (0.5, 1.0)}):
        assert grad_cam.AdvCAM(net, [net.body], steps=1, **options)(images).shape == (3, 40, 56)


def test_the_published_settings_advise_others(net, images):
    with pytest.raises(NetworkError, match="Use another preset, or score='logit', weights='head'"):
        advcam.AdvCAM(net, "official", layer="stem", steps=1)(images, [[0]] * 3)
    assert advcam.AdvCAM(net, layer="stem", steps=1)(images, [[0]] * 3).maps.shape[0] == 3
    changed = {"score": "logit", "weights": "head", "scales": (1.0,)}
    assert advcam.AdvCAM(net, "official", layer="stem", steps=1, **changed)(images, [[0]] * 3).maps.shape[0] == 3


def test_pixels_outside_the_bounds_advise_none(net, images):
    with pytest.raises(InputError, match="give the bounds of normalised pixels, or none"):
        advcam.AdvCAM(net, steps=2, bounds=(0, 1))(images, [[0]] * 3)
    for bounds in ((-9.0, 9.0), None):
        assert advcam.AdvCAM(net, steps=2, bounds=bounds)(images, [[0]] * 3).maps.shape[0] == 3


def test_lists_of_images_in_inference_mode(net):
    with torch.inference_mode():
        out = advcam.AdvCAM(net, steps=2)([X[0] * 1, X[1, :, :, :40] * 1], [[0], [1]])
    assert [maps.target.tolist() for maps in out] == [[0], [1]]


# Refinement and evaluation by themselves

PIXELS, UNARY = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.rand(1, 2, 16, 16)
CELLS, TRUTH = torch.rand(1, 16, 16), torch.zeros(16, 16, dtype=torch.long)
KERNELS = {"gaussian": (3.0, 3.0), "bilateral": (50.0, 5.0, 10.0)}
FUNCTIONS = {
    "images": lambda odd: advcam.dense_crf(odd, UNARY, 1, **KERNELS),
    "unary": lambda odd: advcam.dense_crf(PIXELS, odd, 1, **KERNELS),
    "iterations": lambda odd: advcam.dense_crf(PIXELS, UNARY, odd, **KERNELS),
    "gaussian": lambda odd: advcam.dense_crf(PIXELS, UNARY, 1, **(KERNELS | {"gaussian": odd})),
    "bilateral": lambda odd: advcam.dense_crf(PIXELS, UNARY, 1, **(KERNELS | {"bilateral": odd})),
    "compatibility": lambda odd: advcam.dense_crf(PIXELS, UNARY, 1, compatibility=odd, **KERNELS),
    "maps": lambda odd: advcam.random_walk(odd, CELLS),
    "boundary": lambda odd: advcam.random_walk(CELLS, odd),
    "radius": lambda odd: advcam.random_walk(CELLS, CELLS, radius=odd),
    "beta": lambda odd: advcam.random_walk(CELLS, CELLS, beta=odd),
    "log2_steps": lambda odd: advcam.random_walk(CELLS, CELLS, log2_steps=odd),
    "samples": lambda odd: advcam.sweep(odd, 3),
    "sample": lambda odd: advcam.sweep([odd], 3),
    "maps of a sample": lambda odd: advcam.sweep([(odd, [1], TRUTH)], 3),
    "classes": lambda odd: advcam.sweep([(CELLS, odd, TRUTH)], 3),
    "truth": lambda odd: advcam.sweep([(CELLS, [1], odd)], 3),
    "num_classes": lambda odd: advcam.sweep([(CELLS, [1], TRUTH)], odd),
}
MANY = 10**9
ODD_VALUES = [
    None, -1, MANY, 0.5, float("nan"), "x", b"x", [], (), {}, object(), True, [None], ["x"], torch.zeros(2),
    torch.zeros(0, 3, 4), torch.zeros(1, 3, 8, 8), PIXELS.float(), UNARY * float("nan"), UNARY.half(), np.zeros((1, 3, 16, 16)),
]  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_odd_arguments_of_refinement_and_evaluation(name):
    refused = 0
    for odd in ODD_VALUES:
        if odd is MANY and name in ("num_classes", "iterations"):
            continue  # nothing is wrong with them but the time they take
        try:
            FUNCTIONS[name](odd)
        except AdvcamError as error:
            refused += bool(str(error))
    assert refused > len(ODD_VALUES) / 2
