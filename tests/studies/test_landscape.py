"""Planes through pixels, of networks whose score is known."""

import pytest
import torch
from torch import nn

from advcam.attribution import settings
from advcam.studies.climbs import Climber
from advcam.studies.landscape import attacked, change, curvature, direction, gradient, measure, plane

S = settings("default", steps=4, step_size=0.02)


class Linear(nn.Module):
    """Logits linear in the pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 6, 6))

    def forward(self, x):
        return x, torch.einsum("nchw,kchw->nk", x, self.weight)


def test_a_linear_network_is_a_plane():
    net, x, target = Linear().double().requires_grad_(False), torch.rand(1, 3, 6, 6).double(), torch.tensor([1])
    g = gradient(net, x, target, S)
    assert torch.allclose(g[0], net.weight[1])
    u, v = direction(g, x, S)[0], torch.randn(3, 6, 6).double()
    surface = net(plane(x[0], u, v, 0.5, 5))[1][:, 1].view(5, 5)
    assert float(curvature(surface)) < 1e-10
    along = float((net.weight[1] * u).sum())
    across = float((net.weight[1] * v).sum())
    a = torch.linspace(-0.5, 0.5, 5).double()
    exact = (a[:, None] * along + a * across).square().mean().sqrt()
    assert float(change(surface)) == pytest.approx(float(exact), rel=1e-10)


def test_curvature_is_of_the_second_derivative():
    a = torch.linspace(-1, 1, 9, dtype=torch.float64)
    surface = 3 * a[:, None] ** 2 - 2 * a**2 + a[:, None] * a + a
    assert float(curvature(surface)) == pytest.approx((6 + 4) / 2)
    assert curvature(torch.stack([surface, surface * 2])).tolist() == pytest.approx([5, 10])


def test_a_direction_is_what_a_step_of_one_does():
    x, g = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    extent = x.amax((1, 2, 3)) - x.amin((1, 2, 3))
    torch.testing.assert_close(direction(g, x, S).abs().amax((1, 2, 3)), extent)


def test_an_attack_goes_down_and_a_climb_up(context):
    climber = Climber(context)
    item = context.data.eval[0]
    part = measure(climber, S, 0.05, 3, 0, item)
    original, climbed, down = part["surfaces"][:, :, 1, 1].T
    assert part["surfaces"].shape == (len(item.labels), 3, 3, 3)
    assert (climbed > original).all()
    assert (down < original).all()
    ahead, behind = part["surfaces"][:, 0, 2, 1], part["surfaces"][:, 0, 0, 1]
    assert (ahead > original).all()
    assert (behind < original).all()


def test_an_attack_of_a_linear_network_is_its_climb_mirrored():
    net, x, target = Linear(), torch.rand(1, 3, 6, 6), torch.tensor([0])
    free = settings("default", steps=3, step_size=0.01, clip=False, step_unit="pixel")
    moved = attacked(net, x, target, free)
    torch.testing.assert_close(moved, x - 3 * 0.01 * net.weight[:1].detach() / net.weight[0].abs().max())
