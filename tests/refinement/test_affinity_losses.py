"""Losses of pairs: beside the published ones, and beside a loop over pairs."""

import math

import numpy as np
import pytest
import torch

from advcam.errors import InputError
from advcam.refinement.affinity_losses import irn_loss, psa_loss
from advcam.refinement.paths import line, offsets

EPSILON = 1e-5


def scene(n=2, height=12, width=13):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 3, 7, 255])[torch.randint(0, 5, (n, height, width), generator=generator)]
    return torch.randn(n, 1, height, width, generator=generator), torch.randn(n, 2, height, width, generator=generator), labels


def pairs_of(labels, radius):
    """(image, cell, other cell, group) of all pairs that count: sources have all their neighbours."""
    n, height, width = labels.shape
    for i in range(n):
        for y in range(height - radius + 1):
            for x in range(radius - 1, width - radius + 1):
                for dy, dx in offsets(radius):
                    one, other = int(labels[i, y, x]), int(labels[i, y + dy, x + dx])
                    if 255 not in (one, other):
                        yield i, (y, x), (y + dy, x + dx), "neg" if one != other else "fg" if one else "bg"


def mean(values):
    return sum(values) / max(len(values), 1)


def test_irn_loss_equals_the_published_one(parity):
    published = np.load(parity / "irn_loss.npz")
    ours = irn_loss(*(torch.tensor(published[name]) for name in ("edge_logits", "displacement", "labels")))
    for part in (*ours._fields, "total"):
        assert float(getattr(ours, part)) == pytest.approx(float(published[part]), rel=1e-5), part


def test_irn_loss_equals_a_loop_over_pairs():
    logits, displacement, labels = scene()
    boundary = logits.sigmoid()
    parts = {name: [] for name in ("bg", "fg", "neg", "dp_fg", "dp_bg")}
    for i, (y, x), (v, u), group in pairs_of(labels, 4):
        a = 1 - max(float(boundary[i, 0, y + s, x + t]) for s, t in line(v - y, u - x))
        parts[group].append(-math.log((1 - a if group == "neg" else a) + EPSILON))
        if group != "neg":
            apart = displacement[i, :, y, x] - displacement[i, :, v, u]
            aim = torch.tensor([v - y, u - x]) if group == "fg" else 0
            parts[f"dp_{group}"].append(float((apart - aim).abs().mean()))
    ours = irn_loss(logits, displacement, labels, radius=4)
    assert [float(part) for part in ours] == pytest.approx([mean(values) for values in parts.values()], rel=1e-4)


def test_psa_loss_equals_a_loop_over_pairs():
    features, labels = torch.randn(1, 6, 8, 9, generator=torch.Generator().manual_seed(1)), scene(1, 8, 9)[2]
    parts = {name: [] for name in ("bg", "fg", "neg")}
    for i, one, other, group in pairs_of(labels, 3):
        a = math.exp(-float((features[i, :, *one] - features[i, :, *other]).abs().mean()))
        parts[group].append(-math.log((1 - a if group == "neg" else a) + EPSILON))
    ours = psa_loss(features, labels, radius=3)
    assert [float(part) for part in ours] == pytest.approx([mean(values) for values in parts.values()], rel=1e-4)
    assert float(ours.total) == pytest.approx(float(ours.bg / 4 + ours.fg / 4 + ours.neg / 2))


@pytest.mark.parametrize("label", [255, 0, 4])
def test_without_pairs_a_part_is_zero_and_gradients_are_numbers(label):
    labels = torch.full((2, 12, 13), label)
    logits = torch.full((2, 1, 12, 13), 60.0, requires_grad=True)  # a sigmoid of exactly 1
    displacement, features = torch.zeros(2, 2, 12, 13, requires_grad=True), torch.zeros(2, 4, 12, 13, requires_grad=True)
    irn, psa = irn_loss(logits, displacement, labels, radius=4), psa_loss(features, labels, radius=4)
    assert irn.neg == psa.neg == 0
    if label == 255:
        assert irn.total == psa.total == 0
    (irn.total + psa.total).backward()
    for x in (logits, displacement, features):
        assert x.grad.isfinite().all()


def test_gradients_are_those_of_the_loss():
    logits, displacement, labels = scene(1, 5, 6)
    logits, displacement = logits.double().requires_grad_(), displacement.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b, d: irn_loss(b, d, labels, radius=3).total, (logits, displacement))
    assert torch.autograd.gradcheck(lambda f: psa_loss(f, labels, radius=3).total, displacement)


def test_descending_the_loss_finds_the_boundary():
    labels = torch.zeros(1, 12, 16, dtype=torch.uint8)
    labels[:, :, 8:] = 5
    logits, displacement = torch.zeros(1, 1, 12, 16, requires_grad=True), torch.zeros(1, 2, 12, 16, requires_grad=True)
    optimizer = torch.optim.Adam([logits, displacement], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        irn_loss(logits, displacement, labels, radius=3).total.backward()
        optimizer.step()
    wall = logits.sigmoid()[0, 0]
    assert wall[:, 7:9].amax(1)[2:8].mean() > 0.7
    assert wall[2:8, 3:6].max() < 0.1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda b, d, s: irn_loss(b, d, s[:, ::2]),
            r"boundary_logits \(2, 1, 12, 13\) and labels \(2, 6, 13\) do not fit.*bring the labels to its grid",
        ),
        (lambda b, d, s: irn_loss(d, d, s), r"boundary_logits \(2, 2, 12, 13\).*expected \[n, 1, h, w\]"),
        (lambda b, d, s: irn_loss(b, b, s), r"displacement \(2, 1, 12, 13\).*expected \[n, 2, h, w\]"),
        (lambda b, d, s: irn_loss(b, d, s[:, None]), r"labels \(2, 1, 12, 13\).*expected whole numbers \[n, h, w\]"),
        (lambda b, d, s: irn_loss(b, d, s.float()), "torch.float32: expected whole numbers"),
        (lambda b, d, s: irn_loss(b, d, s - 1), "labels hold -1: expected 0 for background, class ids, and 255 for unknown"),
        (lambda b, d, s: irn_loss(b, d, s), "a grid of 12 x 13 cells has no pairs within radius 10"),
        (lambda b, d, s: psa_loss(d[0], s), r"features \(2, 12, 13\).*expected \[n, d, h, w\]"),
        (lambda b, d, s: psa_loss(d, s, radius=1), "radius 1 holds no pair"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call(*scene())
