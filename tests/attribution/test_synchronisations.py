"""A step of the climb reads nothing back from a device and sends nothing to it: a device never waits for Python."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import advcam
from advcam.attribution import METHODS, PRESETS, climb, settings

READS = (
    "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique", "_unique2", "unique_dim",
    "unique_consecutive", "equal", "bincount", "repeat_interleave",
)  # fmt: skip
"""Operators whose result Python, or the shape of a tensor, depends on."""
SENDS = ("lift_fresh", "lift_fresh_copy")
"""What a tensor made of Python's numbers begins with."""
ONE, SEVERAL = [[0], [1], [2]], [[0, 3], [1], [2, 0, 1]]


class Waits(TorchDispatchMode):
    """Counts the operators at which a device would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        out = operator(*args, **(kwargs or {}))
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        moved = name in ("_to_copy", "copy_") and out.device != args[-1 if name == "copy_" else 0].device
        if name in READS or name in SENDS or by_mask or moved:
            self.seen[name] += 1
        return out


def waits(adv, images, targets, record=False):
    with Waits() as counted:
        adv(images, targets, record=record)
    return counted.seen


class SmallHead(nn.Module):
    """A network whose head is none of one linear module, so that maps need a gradient of the head too."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.parametrize("targets", [ONE, SEVERAL], ids=["one class", "several"])
@pytest.mark.parametrize("mirror", [False, True], ids=["alone", "mirrored"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_more_steps_of_any_preset_wait_no_more_often(net, images, preset, mirror, targets):
    few, many = (advcam.AdvCAM(net, preset, steps=steps, mirror=mirror, scales=(1.0,)) for steps in (3, 6))
    few(images, targets)  # finds the network
    before = waits(few, images, targets)
    assert before  # the input is checked and what is not finite is counted: once a call
    assert waits(many, images, targets) == before


@pytest.mark.parametrize("targets", [ONE, SEVERAL], ids=["one class", "several"])
@pytest.mark.parametrize("network", ["linear", "other head"])
@pytest.mark.parametrize("method", list(METHODS))
def test_more_steps_of_any_method_wait_no_more_often(net, images, method, network, targets):
    model = net if network == "linear" else SmallHead()
    changes = {"method": method, "restrain": 1.0, "suppress": 1.0, "bounds": (-9.0, 9.0), "reach": 0.25}
    few, many = (advcam.AdvCAM(model, steps=steps, **changes) for steps in (3, 6))
    few(images, targets)
    assert waits(many, images, targets, record=True) == waits(few, images, targets, record=True)


@pytest.mark.parametrize(
    "wait", [lambda x: x * float(x.max()), lambda x: x[x > 0].sum() + x, lambda x: x * torch.tensor([2.0])]
)
def test_a_step_that_waits_is_counted(images, wait):
    class Waiting(SmallHead):
        def forward(self, x):
            return super().forward(wait(x))

    few, many = (advcam.AdvCAM(Waiting(), steps=steps) for steps in (3, 6))
    few(images, ONE)
    assert waits(many, images, ONE) != waits(few, images, ONE)


AWAY = """
import sys
import torch
from torch import nn
try:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as add_device
except ImportError:
    sys.exit(77)
add_device("away")
from advcam.attribution import METHODS, PRESETS, Head, climb, counted, settings

rows = [torch.tensor(image) for image in ([0, 1, 2], [0, 0, 0, 2, 2, 2])]  # on the CPU, with values
with FakeTensorMode(allow_non_fake_inputs=True):
    layers = [nn.Conv2d(3, 8, 5, 2, 2, device="away"), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1, device="away"), nn.ReLU()]
    body = nn.Sequential(*layers).requires_grad_(False)
    head = Head(torch.rand(4, 16, device="away"), torch.zeros(4, device="away"))

    def classifier(x):
        f = body(x)
        f = f if f.requires_grad else f.detach().requires_grad_()
        return f, f.mean((2, 3)) @ head.weight.T + head.bias

    made = [("default", {"method": method}) for method in METHODS]
    for preset, changes in [*made, *((preset, {}) for preset in PRESETS), ("default", {"bounds": (0.0, 1.0), "restrain": 1.0})]:
        s = settings(preset, **changes)
        for image in rows:
            for used in ((head, None) if s.weights == "head" else (head,)):
                views = torch.rand(3, 2 if s.mirror else 1, 3, 40, 56, device="away")
                target = torch.zeros(len(image), dtype=torch.long, device="away")
                steps = list(counted(climb(classifier, views, image, target, s, head=used, steps=3), s))
                assert [step.maps.shape[0] for step in steps] == 3 * [len(image)], preset
                assert {step.maps.device.type for step in steps} == {"away"}, preset
print("climbed")
"""


def test_a_climb_runs_on_a_device_that_nothing_can_be_read_from():
    """Tensors without values on a device of their own: reading one raises, and so does mixing it with one of the CPU."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", AWAY], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this torch has no devices made of Python")
    assert done.stdout == "climbed\n", done.stderr[-3000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; CPU tests beside this one count operators")
@pytest.mark.parametrize("targets", [ONE, SEVERAL], ids=["one class", "several"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_cuda_never_waits_within_a_step(net, images, preset, targets):
    adv = advcam.AdvCAM(net.cuda(), preset, steps=6, scales=(1.0,))
    adv(images.cuda(), targets)
    job = adv._start(images.cuda(), targets)
    steps = job.steps(slice(0, len(job.rows)), 1.0)
    next(steps)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(steps)) == 5
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_images_of_climbs_may_lie_elsewhere_than_their_pixels(net, images):
    """Any order of the images, some without a climb: the same steps as one image at a time."""
    net.eval()

    def classifier(x):
        f = net.body(net.stem(x))
        return f, net.fc(f.mean((2, 3)))

    s, views = settings("default", restrain=1.0), images[:, None]
    rows, target = torch.tensor([2, 0, 2, 2, 0]), torch.tensor([1, 3, 0, 1, 2])
    together = [step.maps for step in islice(climb(classifier, views, rows, target, s), 3)]
    for at, (row, c) in enumerate(zip(rows.tolist(), target.tolist(), strict=True)):
        alone = climb(classifier, views[row : row + 1], torch.tensor([0]), torch.tensor([c]), s)
        for step, joined in zip(islice(alone, 3), together, strict=True):
            assert torch.allclose(step.maps[0], joined[at], rtol=1e-4, atol=1e-4 * float(step.maps.max()))
