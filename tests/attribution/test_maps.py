"""Every method by hand, under the climb, and against the head's own gradient."""

import pytest
import torch

import advcam
from advcam.attribution import METHODS, Head
from advcam.errors import SettingsError

F = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [1.0, 2.0]]])[None, None]  # two channels, 2 x 2 cells
G = torch.tensor([[[1.0, 0.0], [1.0, 2.0]], [[-1.0, 0.0], [0.0, -1.0]]])[None, None]


def by_hand(method):
    """The formulas written out cell by cell."""
    f, g = F[0, 0], G[0, 0]
    out = torch.zeros(2, 2)
    for i in range(2):
        for j in range(2):
            for d in range(2):
                cells = [(a, b) for a in range(2) for b in range(2)]
                if method in ("cam", "gradcam"):
                    w = sum(g[d, a, b] for a, b in cells) / (4 if method == "gradcam" else 1)
                    out[i, j] += w * f[d, i, j]
                elif method == "gradcam++":
                    w = 0.0
                    for a, b in cells:
                        below = 2 * g[d, a, b] ** 2 + g[d, a, b] ** 3 * f[d].sum()
                        w += (g[d, a, b] ** 2 / below if below != 0 else 0) * max(g[d, a, b], torch.tensor(0.0))
                    out[i, j] += w * f[d, i, j]
                elif method == "layercam":
                    out[i, j] += max(g[d, i, j], torch.tensor(0.0)) * f[d, i, j]
                elif method == "hirescam":
                    out[i, j] += g[d, i, j] * f[d, i, j]
                else:
                    out[i, j] += max(g[d, i, j] * f[d, i, j], torch.tensor(0.0))
    return out.relu()


@pytest.mark.parametrize("method", METHODS)
def test_by_hand(method):
    assert torch.allclose(METHODS[method](F, G)[0, 0], by_hand(method))


@pytest.mark.parametrize("method", METHODS)
def test_differentiable_in_the_features(method):
    f = F.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(METHODS[method](f, G).sum(), f)
    assert gradient.any()


def test_the_linear_head_s_gradient_is_what_autograd_gives():
    f, head, target = (
        torch.rand(3, 2, 5, 4, 6, requires_grad=True),
        Head(torch.randn(7, 5), torch.zeros(7)),
        torch.tensor([1, 6, 1]),
    )
    y = f.mean((3, 4)) @ head.weight.T
    (expected,) = torch.autograd.grad(y[torch.arange(3), :, target].sum(), f)
    assert torch.allclose(head.gradient(f, target), expected, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_analytic_and_gradient_ways_agree_under_the_climb(net, images, method):
    """The same network with a head that is not known to be linear."""

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            pooled = self.net.pool(self.net.body(self.net.stem(x))).flatten(1)
            return torch.nn.functional.linear(pooled, self.net.fc.weight, self.net.fc.bias)

    settings = {"steps": 3, "method": method, "restrain": 1.0, "suppress": 0.5, "mirror": True}
    known = advcam.AdvCAM(net, **settings)(images, [[0, 2], [1], [3]])
    hidden = advcam.AdvCAM(Hidden(), **settings)(images, [[0, 2], [1], [3]])
    assert "head='fc'" in known.layer
    assert "head by gradient" in hidden.layer
    assert torch.allclose(known.maps, hidden.maps, rtol=1e-3, atol=1e-3 * float(known.maps.max()))
    assert known.maps.any()


def test_grad_cam_is_cam_over_the_cells(net, images):
    cam = advcam.cam(net, images, [[1]] * 3)
    assert torch.allclose(advcam.cam(net, images, [[1]] * 3, method="gradcam").maps * 10 * 14, cam.maps, rtol=1e-4, atol=1e-6)


def test_methods_that_cannot_work(net):
    with pytest.raises(SettingsError, match=r"method is one of cam, gradcam, gradcam\+\+.*got 'gradcampp'"):
        advcam.AdvCAM(net, method="gradcampp")
    with pytest.raises(SettingsError, match="go with method='cam'; got method='layercam'"):
        advcam.AdvCAM(net, "official", method="layercam")
