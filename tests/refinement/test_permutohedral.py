"""Filtering on the permutohedral lattice, beside sums written out."""

import pytest
import torch

from advcam.errors import InputError
from advcam.refinement.permutohedral import permutohedral


def kernel(features):
    """exp(-|f_i - f_j|^2 / 2), all n x n of it."""
    return torch.exp(-torch.cdist(features.T, features.T).square() / 2)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_lattice_is_close_to_the_sums(d):
    """An approximation (linear between vertices, a blur of three): means of values within 6 % of their range, 2 % mostly."""
    features = 2 * torch.rand(d, 600, dtype=torch.float64)
    x = features.T[:, :1].sin() + 0.3 * torch.rand(600, 1, dtype=torch.float64)
    exact = kernel(features) @ x / kernel(features).sum(1, keepdim=True)
    lattice = permutohedral(features)
    ours = (lattice @ x) / (lattice @ torch.ones_like(x))
    assert float((ours - exact).abs().max()) < 0.06 * float(x.max() - x.min())
    assert float((ours - exact).abs().mean()) < 0.02 * float(x.max() - x.min())


def test_one_point_gives_a_gaussian():
    """What one point gives falls off as exp(-r^2 / 2), within 0.15 of its height; a point on a vertex gives itself 1."""
    line = torch.linspace(-3, 3, 61, dtype=torch.float64)
    features = torch.stack([line.repeat(61), line.repeat_interleave(61)])
    x = torch.zeros(61 * 61, 1, dtype=torch.float64)
    x[30 * 61 + 30] = 1
    ours = (permutohedral(features) @ x)[:, 0]
    assert torch.allclose(ours, torch.exp(-features.square().sum(0) / 2), atol=0.15)
    assert float(ours.max()) == pytest.approx(1)


def test_constants_symmetry_and_normalisation():
    features = 3 * torch.rand(5, 200, dtype=torch.float64)
    dense = permutohedral(features) @ torch.eye(200, dtype=torch.float64)
    assert torch.allclose(dense, dense.T, atol=0.2)  # blurring direction after direction is symmetric but for gaps
    root = dense.sum(1).rsqrt()
    normal = permutohedral(features).normalised() @ torch.eye(200, dtype=torch.float64)
    assert torch.allclose(normal, root[:, None] * dense * root, atol=1e-12)


def test_images_do_not_touch():
    features = torch.rand(5, 300)
    features[:, 100:200] *= 20  # another range of cells
    x = torch.rand(300, 3)
    together = permutohedral(features, 3) @ x
    alone = torch.cat([permutohedral(f) @ part for f, part in zip(features.split(100, 1), x.split(100), strict=True)])
    assert torch.equal(together, alone)


def test_far_apart_and_close_together():
    features = torch.tensor([[0.0, 0.0, 1e4], [0.0, 1e-3, -1e4]])
    ours = permutohedral(features) @ torch.eye(3)
    assert torch.allclose(ours[:2, :2], ours[:1, :1], rtol=1e-2)
    assert ours[2, :2].tolist() == ours[:2, 2].tolist() == [0, 0]
    wide = permutohedral(torch.rand(3, 50) * 5e4) @ torch.eye(50)  # codes beyond 32 bits
    assert torch.equal(wide, wide.diag().diag())


@pytest.mark.parametrize("reach", [2e4, 1e6, float("nan")])
def test_what_has_no_code_is_refused(reach):
    with pytest.raises(InputError, match="wider kernels"):
        permutohedral(torch.rand(5, 10) * reach)
