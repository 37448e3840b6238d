"""Whatever is given to a public function, it returns something sound or raises an error of ours, soon and in little memory.

``ATTACK_EXAMPLES=100000`` makes a long hunt of it. A good call is spoilt in one or two arguments.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import signal
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import advcam
from advcam import attribution, metrics, refinement
from advcam.data import ClassTable, Dataset, Item, content_of
from advcam.errors import AdvcamError
from advcam.stages.context import save_data
from advcam.stages.table import ORDER
from advcam.store import RunFolder, save_mask
from conftest import SmallNet

if not os.path.exists("/proc/self/statm"):
    pytest.skip("memory is bounded as Linux does it", allow_module_level=True)
hypothesis = pytest.importorskip("hypothesis")
resource = pytest.importorskip("resource")
from hypothesis import HealthCheck, Phase, given, note, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "60"))
SECONDS, MEMORY = 20, 2 * 2**30  # of one call


# Odd values


class Odd:
    """A value, shown by a label: some values cannot be shown."""

    def __init__(self, value, label):
        self.value, self.label = value, label

    def __repr__(self):
        return self.label


class Boom:
    """Fails at whatever is asked of it."""

    ndim = 1

    def fail(self, *_, **__):
        raise LookupError("boom")

    __index__ = __iter__ = __repr__ = __array__ = __len__ = __bool__ = __eq__ = __call__ = __float__ = tolist = fail
    __hash__ = object.__hash__
    shape = property(fail)


NUMBERS = [
    -1, 0, 1, 2, 3, 5, 7, 255, 256, 1000, 10**5, 10**9, 2**63, 10**30, 10**400, 10**5000, -(10**9), -(2**63), 0.5, 1.5, -0.5,
    1e-9, 1e-300, 1e30, 1e300, -1e300, math.nan, math.inf, -math.inf, 1j, True, Fraction(1, 3), np.int64(2), np.int8(-1),
    np.uint8(3), np.float32(0.5), np.float64("nan"), np.float16(2), np.bool_(True), np.array(2), torch.tensor(2),
    torch.tensor(0.5),
]  # fmt: skip
THINGS = [
    None, "text", "", "cam", "0", b"", b"text", [], (), {}, set(), {0: 1}, object(), object, int, Boom(), Boom, lambda x: x,
    ..., range(3), range(10**9), [[]], [[0], [1]], [None], ["a"], iter([1, 2]), np.zeros(2), np.zeros((2, 3)), np.array(["a"]),
    np.array([None]), np.array([0.0, 0.5]), np.array([1, 2]), slice(None), NotImplemented, nn.ReLU(), ValueError("v"),
]  # fmt: skip
ODD = [
    *(Odd(n, f"{type(n).__name__} {n if n is True or not isinstance(n, int) or abs(n) < 10**99 else 'huge'}") for n in NUMBERS),
    *(Odd(thing, f"thing {at}: {type(thing).__name__}") for at, thing in enumerate(THINGS)),
]
TYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.uint8,
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16,
]  # fmt: skip
FILLS = [0, 1, -1, 2, 0.25, 200, 255, math.nan, math.inf, -math.inf, 1e30, 1e38, 1e300, -1e300, 1e-40, 2**40]


def nested(x):
    return torch.nested.nested_tensor(list(x) if x.ndim > 1 and len(x) else [x.flatten()])


def with_one(value):
    def changed(x):
        x = x.clone()
        if x.numel():
            x.view(-1)[-1] = value
        return x

    return changed


CHANGES = {
    "sparse rows": lambda x: x.to_sparse_csr(),
    "sparse": lambda x: x.to_sparse(),
    "nested": nested,
    "meta": lambda x: x.to("meta"),
    "quantized": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
    "numpy": lambda x: x.detach().numpy(),
    "list": lambda x: x.tolist(),
    "a list of rows": list,
    "parameter": lambda x: nn.Parameter(x.float()),
    "graph": lambda x: x.float().requires_grad_() * 2,
    "inference": lambda x: torch.inference_mode()(lambda: x.clone() * 1)(),
    "conjugate": lambda x: x.to(torch.complex64).conj(),
    "imaginary": lambda x: torch.complex(x.float(), x.float()).conj().imag,
    "transposed": lambda x: x.movedim(-1, 0) if x.ndim else x,
    "not contiguous": lambda x: x.repeat_interleave(2, -1)[..., ::2] if x.ndim else x,
    "backwards": lambda x: x.flip(-1) if x.ndim else x,
    "expanded": lambda x: x[:1].expand(x.shape) if x.ndim else x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x,
    "row": lambda x: x[0],
    "batch": lambda x: x[None],
    "last": lambda x: x[..., None],
    "flat": lambda x: x.flatten(),
    "no row": lambda x: x[:0],
    "no column": lambda x: x[..., :0],
    "one row": lambda x: x[:1],
    "two rows": lambda x: x.repeat(2, *[1] * (x.ndim - 1)),
    "one column": lambda x: x[..., :1],
    "larger": lambda x: x.repeat(*[1] * (x.ndim - 1), 2),
    "negative": lambda x: -x,
    "half as large": lambda x: x / 2,
    "plus one": lambda x: x + 1,
    "zeros": lambda x: torch.zeros_like(x),
    "one NaN": with_one(math.nan),
    "one infinity": with_one(math.inf),
    "one minus infinity": with_one(-math.inf),
    "one huge": with_one(3e38),
    "one negative": with_one(-1),
    "one of 255": with_one(255),
    **{str(t): lambda x, t=t: x.to(t) for t in TYPES},
    **{f"times {f}": lambda x, f=f: x * f for f in (0, 1e-40, 1e30, 1e38, -1e38, 1e300, math.nan)},
}


def changed(good, name):
    """A good tensor, changed; itself where torch itself cannot."""
    try:
        return Odd(CHANGES[name](good.clone()), f"{name} of the good one")
    except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError):
        return Odd(good, f"the good one, not made {name}")


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 9]), max_size=5))
    dtype, fill = draw(st.sampled_from(TYPES)), draw(st.sampled_from(FILLS))
    try:
        value = torch.full(shape, fill, dtype=torch.float64).to(dtype)
    except RuntimeError:
        value = torch.zeros(shape)
    return Odd(value, f"full({shape}, {fill}).to({dtype})")


def grouped(parts, kind):
    return Odd(kind(part.value for part in parts), f"{kind.__name__} of {parts}")


ANYTHING = st.one_of(
    st.sampled_from(ODD),
    tensors(),
    st.builds(grouped, st.lists(st.one_of(st.sampled_from(ODD), tensors()), max_size=4), st.sampled_from([list, tuple])),
)


@st.composite
def odd(draw, good):
    """Something else than the good value: it changed, a part of it changed, or anything at all."""
    kind = draw(st.integers(0, 2))
    if isinstance(good, torch.Tensor) and kind:
        return changed(good, draw(st.sampled_from(sorted(CHANGES))))
    if isinstance(good, (list, tuple)) and good and kind:
        at, parts = draw(st.integers(0, len(good) - 1)), list(good)
        part = draw(odd(parts[at]))
        parts[at] = part.value
        return Odd(type(good)(parts), f"the good one, of which {at} is {part}")
    if isinstance(good, (int, float)) and not isinstance(good, bool) and kind:
        return draw(st.sampled_from(ODD[: len(NUMBERS)]))
    return draw(ANYTHING)


# Calls


@contextlib.contextmanager
def bounded():
    """Too much time or memory is an error."""

    def late(*_):
        raise AssertionError(f"takes more than {SECONDS} seconds")

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before, limits = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(now + MEMORY), limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


def finite(result):
    """Every number in a result is finite."""
    if isinstance(result, torch.Tensor):
        if not bool(result.isfinite().all()):
            raise AssertionError(f"{tuple(result.shape)} of {result.dtype} is not finite")
    elif isinstance(result, float):
        assert math.isfinite(result)
    elif isinstance(result, (tuple, list)):
        for part in result:
            finite(part)
    elif isinstance(result, advcam.Maps):
        finite((result.maps, *result.grids, *result.first, result.steps, result.images))
        assert len(result.maps) == len(result.image) == len(result.target)
    elif isinstance(result, metrics.InstanceCounts):
        finite(result.average_precision())


def like(name):
    """As large as an argument, and finite."""

    def judge(result, given):
        assert result.shape == given[name].shape, f"{name} {tuple(given[name].shape)} gave {tuple(result.shape)}"
        finite(result)

    return judge


def marginals(result, given):
    like("unary")(result, given)
    assert not result.numel() or (result.sum(1) - 1).abs().max() < 1e-4


def labels(result, given):
    assert result.ndim == 2
    assert result.dtype == torch.uint8


def any_number(result, given):
    """NaN is what absent classes, or NaN given, lead to."""


def sound(result, given):
    finite(result)


def shown(result, given):
    """Some text."""
    assert all(result)


def seeded(*size, **more):
    return torch.rand(*size, generator=torch.Generator().manual_seed(1), **more)


def unwatched(module):
    """A module as users have it: conftest lets the shapes in its signatures be checked before it can check anything itself."""
    spec = importlib.util.spec_from_file_location(f"unwatched_{module.__name__.rpartition('.')[2]}", module.__file__)
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    return own


VIEWS = unwatched(attribution.views)
NET = SmallNet().eval()
X = seeded(2, 3, 20, 28)
PIXELS = (seeded(1, 3, 9, 8) * 255).to(torch.uint8)
PROBABILITIES = torch.stack([seeded(9, 8), 1 - seeded(9, 8)])[None]
TRUTH = torch.tensor([[0, 1, 2, 255, 0, 1, 2, 0]]).repeat(9, 1)
MAPS = seeded(2, 9, 8)
MASKS = torch.zeros(2, 9, 8, dtype=torch.bool)
MASKS[0, :4, :3] = MASKS[1, 5:, 4:] = True
FIELD = seeded(2, 9, 8) - 0.5
MADE = advcam.AdvCAM(NET, steps=2, scales=(1.0, 0.5))(X, [[0, 1], [2]])


RUNS = tempfile.TemporaryDirectory()


def a_run(root):
    """A run of one image, with its mask."""
    image, about = root / "images" / "a.png", {"labels": None, "classes": None, "train_list": None, "eval_list": None}
    run = RunFolder.create(root / "run", ORDER, about | {"images": str(image.parent), "eval_name": None, "seed": 0}, {})
    image.parent.mkdir()
    Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(image)
    item = Item("a", image, (0,), (16, 20), content_of(image))
    save_data(run, Dataset(ClassTable((1,), ("cat",)), (item,), (), ()), root / "labels.csv")
    save_mask(run.mask("a"), np.ones((16, 20), np.uint8))
    return str(run.root)


def cut_kernels(depth):
    """A network whose kernels need 11 pixels."""
    layers = [
        nn.Conv2d(3, 4, 7),
        nn.ReLU(),
        nn.Conv2d(4, 4, 5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, depth),
    ]
    return nn.Sequential(*layers).eval()


NARROW = cut_kernels(4)
SETTINGS = attribution.PRESETS["default"] | {"steps": 2, "preset": "default"}


def of_settings(call):
    """A call of the climb with some settings; ``steps`` and the number of anything asked for in earnest are left as asked."""

    def made(images, targets=None, model=NET, record=False, **changes):
        return call(advcam.AdvCAM(model, **changes), images, targets, record)

    return made


AS_GIVEN = {"images": X, "targets": [[0, 1], [2]], "model": NET}
KERNELS = {"gaussian": (3.0, 3.0), "bilateral": (50.0, 5.0, 10.0)}
COUNTS = torch.tensor([[3, 1, 0], [1, 5, 2], [0, 0, 4]])
CALLS = {
    "AdvCAM": (of_settings(lambda adv, x, c, record: adv(x, c, record=record)), AS_GIVEN | {"record": True}, sound),
    "AdvCAM settings": (
        of_settings(lambda adv, x, c, record: adv(x, c)), AS_GIVEN | SETTINGS | {"layer": None, "max_pixels": None}, sound
    ),
    "AdvCAM official": (
        of_settings(lambda adv, x, c, record: adv(x, c)),
        AS_GIVEN | SETTINGS | {"preset": "official", "steps": 2, "mirror": True, "grid": 16, "scales": (1.0, 0.5),
                               "restrain": 7.0, "suppress": 1.0},
        sound,
    ),
    "AdvCAM of a list": (
        of_settings(lambda adv, x, c, record: adv(x, c, record=record)),
        {"images": [X[0], X[1, :, :, :22]], "targets": [[0, 1], [2]], "steps": 2},
        sound,
    ),
    "AdvCAM of small images": (
        of_settings(lambda adv, x, c, record: adv(x, c)),
        {"images": X[..., :14, :14], "targets": [[0, 1], [2]], "model": NARROW, "steps": 2, "scales": (1.0, 0.9)},
        sound,
    ),
    "scores": (of_settings(lambda adv, x, c, record: adv.scores(x)), {"images": X, "max_pixels": 500}, any_number),
    "iterate": (of_settings(lambda adv, x, c, record: list(adv.iterate(x, c))), AS_GIVEN | {"steps": 2, "mirror": True}, sound),
    "cam": (advcam.cam, {"model": NET, "images": X, "targets": [[0, 1], [2]], "scales": (1.0,)}, sound),
    "normalised": (MADE.normalised, {"size": (20, 28)}, lambda r, given: (sound(r, given), like_size(r, given))),
    "of_image": (MADE.of_image, {"row": 1}, sound),
    "settings": (attribution.settings, SETTINGS | {"preset": "paper"}, any_number),
    "make_views": (VIEWS.make_views, {"images": X, "scale": 0.5, "mirror": True}, any_number),
    "add_views": (VIEWS.add_views, {"maps": MAPS[None]}, any_number),
    "strided_size": (VIEWS.strided_size, {"size": (20, 28), "stride": 4}, sound),
    "fuse_scales": (VIEWS.fuse_scales, {"maps": [MAPS, MAPS[:, ::2]], "size": (20, 28), "grid": 16}, any_number),
    "normalise": (VIEWS.normalise, {"maps": MAPS}, any_number),
    "dense_crf": (
        advcam.dense_crf,
        {"images": PIXELS, "unary": -PROBABILITIES.log(), "iterations": 2, **KERNELS, "compatibility": 1 - torch.eye(2)},
        marginals,
    ),
    "random_walk": (
        advcam.random_walk,
        {"maps": MAPS, "boundary": seeded(1, 9, 8), "radius": 3, "beta": 10, "log2_steps": 3},
        like("maps"),
    ),
    "feature_walk": (
        refinement.feature_walk,
        {"maps": MAPS, "features": seeded(4, 9, 8), "radius": 3, "beta": 8, "log2_steps": 3},
        like("maps"),
    ),
    "similarity_walk": (
        advcam.similarity_walk,
        {"maps": MAPS, "features": seeded(4, 9, 8), "temperature": 0.1, "restart": 0.05, "reach": 0.3},
        like("maps"),
    ),
    "on_one_grid": (
        refinement.on_one_grid, {"levels": [seeded(4, 9, 8), seeded(2, 5, 4)], "size": (9, 8)}, any_number
    ),
    "separation": (
        refinement.separation,
        {"maps": MAPS, "features": seeded(4, 9, 8), "thresholds": (0.2, 0.5), "balance": 0.5},
        any_number,
    ),
    "sweep": (
        advcam.sweep,
        {
            "samples": [(MAPS, [1, 2], TRUTH), (MAPS[:1], [2], TRUTH)], "num_classes": 3, "thresholds": (0.0, 0.3, 0.6),
            "ignore": 255,
        },
        any_number,
    ),
    "sweep_counts": (
        metrics.sweep_counts,
        {"maps": MAPS, "classes": [1, 2], "truth": TRUTH, "num_classes": 3, "thresholds": (0.0, 0.5), "ignore": 255},
        lambda r, given: (r.result(), r + r),
    ),
    "argmax_mask": (
        refinement.argmax_mask,
        {"maps": MAPS, "classes": (7, 9), "threshold": 0.3, "size": (18, 16), "margin": 0.1},
        labels,
    ),
    "confidence": (
        refinement.confidence,
        {"maps": MAPS, "threshold": 0.3, "temperature": 0.09},
        lambda r, given: all(bool(((part >= 0) & (part <= 1)).all()) for part in r),
    ),
    "finds": (
        metrics.finds,
        {"scores": torch.tensor([0.1, 0.4, 0.9]), "bad": torch.tensor([True, False, True])},
        lambda r, given: r is None or 0 <= r <= 1,
    ),
    "confident_labels": (
        refinement.confident_labels,
        {"image": PIXELS[0], "maps": MAPS, "classes": (7, 9), "foreground": 0.35, "background": 0.15, "certainty": 0.7},
        labels,
    ),
    "confident_affinity_labels": (
        refinement.confident_affinity_labels,
        {"image": PIXELS[0], "maps": MAPS, "classes": (7, 9), "foreground": 4, "background": 32},
        labels,
    ),
    "unary_from_labels": (
        refinement.unary_from_labels,
        {"labels": TRUTH[None], "num_classes": 3, "certainty": 0.7, "ignore": 255},
        sound,
    ),
    "unary_from_probabilities": (
        refinement.unary_from_probabilities,
        {"probabilities": PROBABILITIES, "floor": 1e-5},
        like("probabilities"),
    ),
    "pamr": (
        refinement.pamr,
        {"images": PIXELS.float(), "maps": MAPS[None], "iterations": 2, "dilations": (1, 2)},
        like("maps"),
    ),
    "cluster": (refinement.cluster, {"displacement": FIELD, "iterations": 3, "threshold": 2.5}, sound),
    "instance_maps": (refinement.instance_maps, {"maps": MAPS, "instances": torch.arange(72).view(9, 8) // 30}, sound),
    "detect": (
        refinement.detect,
        {"scores": MAPS, "class_index": torch.tensor([0, 1]), "threshold": 0.3, "min_size": 3},
        sound,
    ),
    "irn_loss": (
        refinement.irn_loss,
        {"boundary_logits": seeded(1, 1, 9, 8), "displacement": FIELD[None], "labels": TRUTH[None], "radius": 3},
        any_number,
    ),
    "psa_loss": (refinement.psa_loss, {"features": seeded(1, 4, 9, 8), "labels": TRUTH[None], "radius": 3}, any_number),
    "resampled": (metrics.resampled, {"n": 4, "resamples": 3, "seed": 0}, sound),
    "interval": (metrics.interval, {"values": seeded(5, 2), "level": 0.95}, any_number),
    "resampled_mean": (metrics.resampled_mean, {"values": seeded(4, 2), "weights": metrics.resampled(4, 3)}, any_number),
    "resampled_seeds": (
        metrics.resampled_seeds,
        {
            "hits": torch.ones(4, 2, 3), "predicted": torch.ones(4, 2, 3), "true": torch.ones(4, 3),
            "weights": metrics.resampled(4, 3), "at_once": 2,
        },
        any_number,
    ),
    "resampled_iou": (
        metrics.resampled_iou,
        {
            "hits": torch.ones(4, 3), "predicted": torch.ones(4, 3), "true": torch.ones(4, 3),
            "weights": metrics.resampled(4, 3),
        },
        any_number,
    ),
    "confusion": (metrics.confusion, {"prediction": TRUTH % 255, "truth": TRUTH, "classes": 3, "ignore": 255}, sound),
    "iou": (metrics.iou, {"counts": COUNTS}, any_number),
    "boundary_counts": (
        metrics.boundary_counts,
        {"prediction": TRUTH % 255, "truth": TRUTH, "classes": 3, "ratio": 0.1, "ignore": 255},
        sound,
    ),
    "boundary_iou": (metrics.boundary_iou, {"counts": torch.ones(3, 4).long()}, any_number),
    "mean_iou": (metrics.mean_iou, {"counts": COUNTS}, any_number),
    "noise": (metrics.noise, {"counts": COUNTS}, any_number),
    "match_instances": (
        metrics.match_instances,
        {
            "masks": MASKS, "classes": torch.tensor([1, 2]), "scores": torch.tensor([0.9, 0.4]), "truth_masks": MASKS,
            "truth_classes": torch.tensor([1, 1]), "ious": (0.5, 0.75), "ignore": MASKS[0],
        },
        sound,
    ),
    "box_overlaps": (
        metrics.box_overlaps,
        {"score_map": MAPS[0], "boxes": torch.tensor([[0, 0, 4, 5], [2, 2, 7, 8]]), "thresholds": (0.0, 0.5)},
        sound,
    ),
    "box_counts": (
        metrics.box_counts,
        {"score_map": MAPS[0], "boxes": torch.tensor([[0, 0, 4, 5]]), "thresholds": (0.0, 0.5), "ious": (0.3, 0.5)},
        lambda r, given: finite(r.max_box_acc_v2()[0]),
    ),
    "max_box_acc": (
        metrics.box_counts(MAPS[0], torch.tensor([[0, 0, 4, 5]])).max_box_acc, {"iou": 0.5}, sound,
    ),
    "pixel_counts": (
        metrics.pixel_counts,
        {"score_map": MAPS[0], "truth": MASKS[0], "ignore": MASKS[1], "thresholds": (0.0, 0.5)},
        lambda r, given: r.average_precision(),
    ),
    "mask_boxes": (metrics.mask_boxes, {"mask": MASKS[0]}, sound),
    "Run": (
        lambda root, id, side: (advcam.Run(root)._repr_html_(), advcam.Run(root).plot(id, side)._repr_html_()),
        {"root": a_run(Path(RUNS.name)), "id": "a", "side": 20}, shown,
    ),
    "Run.mask": (lambda root, id: (str(advcam.Run(root).mask(id)),), {"root": f"{RUNS.name}/run", "id": "a"}, shown),
    "Run.image": (lambda root, id: (str(advcam.Run(root).image(id)),), {"root": f"{RUNS.name}/run", "id": "a"}, shown),
    "Maps.plot": (
        lambda images, names, side: (MADE.plot(images, names, side)._repr_html_(),),
        {"images": X, "names": ["cat", "dog", "cow"], "side": 20}, shown,
    ),
    "Maps.plot of one": (
        lambda image: (MADE.of_image(0).plot(image)._repr_html_(),), {"image": (255 * X[0]).to(torch.uint8)}, shown,
    ),
    "min_max": (metrics.min_max, {"maps": MAPS}, like("maps")),
}  # fmt: skip
IN_EARNEST = {"steps", "iterations"}
"""As many as were asked for, however long that takes."""


def like_size(result, given):
    assert given["size"] is None or tuple(result.shape[1:]) == tuple(given["size"])


def attack(name, given):
    call, _, judge = CALLS[name]
    with bounded():
        try:
            result = call(**given)
        except AdvcamError as error:
            said = str(error)
            assert len(said) > 20, said  # what was expected, what came
            assert " ".join(said.split()).isprintable(), said
        else:
            judge(result, given)


@pytest.mark.parametrize("name", CALLS)
def test_good_calls(name):
    call, good, judge = CALLS[name]
    judge(call(**good), good)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
@settings(
    deadline=None, derandomize=True, max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)  # fmt: skip
@given(data=st.data())
def test_spoilt_calls(name, data):
    good = CALLS[name][1]
    spoilt = data.draw(st.lists(st.sampled_from(sorted(good)), min_size=1, max_size=2, unique=True))
    bad = {argument: data.draw(odd(good[argument]), label=argument) for argument in spoilt}
    given_ = good | {argument: value.value for argument, value in bad.items()}
    for argument in IN_EARNEST & set(bad):
        asked = given_[argument]
        hypothesis.assume(not isinstance(asked, (int, float)) or not asked > 40)
    note(f"{name}: {bad}")
    attack(name, given_)


def head(channels, *layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()


REFUSE_SMALL = {
    "kernels": NARROW,
    "pooling": head(4, nn.Conv2d(3, 4, 3, 2, 1), nn.MaxPool2d(8), nn.ReLU()),
    "reflection": head(4, nn.ReflectionPad2d(9), nn.Conv2d(3, 4, 3), nn.ReLU()),
    "instance norm": head(4, nn.Conv2d(3, 4, 3, 8, 1), nn.InstanceNorm2d(4), nn.ReLU()),
    "one size": nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 4)).eval(),
    "unfolded": head(4, nn.Conv2d(3, 4, 3, 2, 1), nn.Unfold(4), nn.Unflatten(1, (4, 16)), nn.ReLU()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSE_SMALL)
def test_views_smaller_than_the_network_takes(name):
    for size in (24, 16, 12, 8, 4, 2, 1):
        for scales in ((1.0,), (1.0, 0.5), (0.5, 0.1), (0.3,), (16.0,)):
            for more in ({}, {"mirror": True, "halve_small": True}):
                settings_ = {"steps": 2, "scales": scales} | more
                attack("AdvCAM", AS_GIVEN | {"images": seeded(2, 3, size, size + 4), "model": REFUSE_SMALL[name]} | settings_)
                attack(
                    "AdvCAM of a list",
                    {"images": [seeded(3, size, size)], "targets": [[1]], "model": REFUSE_SMALL[name]} | settings_,
                )
        attack("scores", {"images": seeded(1, 3, size, size), "model": REFUSE_SMALL[name]})


NUMPY = {
    "steps": np.int64(2), "step_size": np.float64(0.01), "suppress": np.float64(1), "restrain": np.float64(2),
    "grid": np.int32(1), "tau": np.float64(0.5), "scales": (np.float64(1.0),), "bounds": (np.float64(-1), np.int64(2)),
    "ceiling": np.float64(0.5), "max_pixels": np.uint8(200),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPY)
def test_numbers_of_numpy_are_the_numbers_that_they_are(name):
    value = NUMPY[name]
    own = tuple(part.item() for part in value) if isinstance(value, tuple) else value.item()
    theirs, ours = (advcam.AdvCAM(NET, **{"steps": 2, name: given})(X, [[0, 1], [2]], record=True) for given in (value, own))
    assert torch.equal(theirs.maps, ours.maps)
    assert theirs.steps.shape[1] == 2


SIZES = [
    (-1, 3), (0, 0), (3, -1), (2.0, 3), (None, 3), "ab", 5, (5,), (1, 2, 3), (10**9, 10**9), (2**62, 4), (10**400, 1), b"ab",
    torch.tensor(3), torch.rand(2), np.array([0.5, 1]), [[1, 2]], (True, True), {3: 1, 4: 2}, (math.nan, 1), (10**5, 10**5),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=range(len(SIZES)))
def test_sizes_that_are_none(size):
    with pytest.raises(AdvcamError, match="expected"):
        MADE.normalised(size)


@pytest.mark.parametrize(
    "size", [(9, 5), [9, 5], (np.int64(9), np.int8(5)), torch.Size([9, 5]), np.array([9, 5]), torch.tensor([9, 5])]
)
def test_sizes(size):
    assert torch.equal(MADE.normalised(size), MADE.normalised((9, 5)))


@pytest.mark.parametrize("radius", [13, 100, 10**4, np.int64(10**12)])
def test_a_radius_beyond_the_grid_is_the_grid(radius):
    maps = seeded(2, 8, 9)
    for walk, field in ((advcam.random_walk, seeded(1, 8, 9)), (refinement.feature_walk, seeded(4, 8, 9))):
        with bounded():
            assert torch.equal(walk(maps, field, radius), walk(maps, field, 12))
        with bounded(), pytest.raises(AdvcamError, match="pairs of neighbours: expected at most .* take a smaller radius"):
            walk(torch.zeros(1, 200, 200), torch.zeros(1, 200, 200), radius * 10)


KNOWN = {
    "dense_crf": [
        {"unary": -PROBABILITIES.log() * math.nan}, {"unary": "text"}, {"unary": None}, {"unary": PROBABILITIES.long()},
        {"unary": PROBABILITIES[0]}, {"iterations": -1}, {"gaussian": (0.0, 3.0)}, {"gaussian": (-1.0, 3.0)},
        {"gaussian": (math.nan, 3.0)}, {"gaussian": (3.0, 1e300)}, {"bilateral": (math.inf, 1.0, 1.0)},
        {"bilateral": (10**400, 1.0, 1.0)}, {"compatibility": torch.full((2, 2), math.nan)}, {"images": PIXELS.to_sparse()},
        {"images": PIXELS.float()},
    ],
    "random_walk": [
        {"maps": MAPS * math.nan}, {"boundary": seeded(1, 9, 8) * math.nan}, {"maps": MAPS.double() * 1e300},
        {"beta": 10**400}, {"log2_steps": 10**400}, {"boundary": seeded(1, 9, 8).to("meta")},
        {"maps": MAPS.to(torch.complex64)}, {"radius": 2.5}, {"radius": 10**400},
    ],
    "similarity_walk": [
        {"maps": MAPS * math.nan}, {"features": seeded(4, 9, 8) * math.inf}, {"features": seeded(4, 8, 9)},
        {"temperature": 0}, {"temperature": -1}, {"restart": 0}, {"restart": 2}, {"reach": math.nan}, {"reach": 10**400},
        {"maps": MAPS.double() * 1e300}, {"features": torch.zeros(4, 9, 8)},
    ],
    "on_one_grid": [
        {"levels": []}, {"levels": None}, {"size": (0, 3)}, {"size": (10**9, 10**9)}, {"levels": [MAPS.to("meta")]},
    ],
    "separation": [{"balance": 2}, {"balance": math.nan}, {"thresholds": (0.5, 0.2)}, {"features": MAPS * math.nan}],
    "sweep": [
        {"samples": None}, {"samples": "text"}, {"samples": []}, {"samples": torch.tensor(1)},
        {"samples": [(MAPS, [1, 2], TRUTH[:3])]}, {"samples": [(MAPS, [1, 3], TRUTH)]},
        {"samples": [(MAPS * math.nan, [1, 2], TRUTH)]}, {"samples": [(MAPS, [1, 2], TRUTH.float())]},
        {"thresholds": (0.5, 0.1)}, {"thresholds": (math.nan,)}, {"thresholds": "text"}, {"thresholds": None},
        {"thresholds": (0.1, 10**400)}, {"num_classes": 10**9}, {"ignore": None}, {"ignore": 10**400},
    ],
    "settings": [{"step_size": 10**400}, {"grid": 10**9}, {"scales": (1e9,)}, {"ceiling": 1e300}],
    "confusion": [{"classes": 10**9}],
    "boundary_counts": [{"classes": 10**9}, {"ratio": -0.1}, {"ratio": 10**400}, {"truth": TRUTH[0]}],
    "resampled": [{"n": 10**12}],
    "unary_from_labels": [{"num_classes": 10**9}],
    "pamr": [{"dilations": (10**9,)}],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KNOWN)
def test_what_is_refused(name):
    call, good, _ = CALLS[name]
    for bad in KNOWN[name]:
        with bounded(), pytest.raises(AdvcamError):
            call(**good | bad)
