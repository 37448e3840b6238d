"""The fully connected CRF (Kraehenbuehl & Koltun, NeurIPS 2011): near pixels of similar colour get equal labels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_number, expect_tensor, expect_whole
from advcam.limits import MAX_WEIGHT

from .permutohedral import Lattice, permutohedral


@torch.no_grad()
def dense_crf(
    images: UInt8[Tensor, "m b y x"],
    unary: Float[Tensor, "n l y x"],
    iterations: int = 10,
    gaussian: tuple[float, float] | None = (3.0, 3.0),
    bilateral: tuple[float, float, float] | None = (80.0, 13.0, 10.0),
    compatibility: Float[Tensor, "l l"] | None = None,
) -> Float[Tensor, "n l y x"]:
    """Refine label probabilities with the fully connected CRF: mean-field marginals of its energy.

    Energy: ``sum_i u_i(x_i) + sum_i<j mu(x_i, x_j) sum_k compat_k K_k(i, j)``. Each iteration is
    ``q <- softmax(-u - sum_k compat_k (K_k q) mu)``, from ``softmax(-u)``. A kernel K is a Gaussian of positions, or of
    positions and colours, normalised to ``D^-1/2 K D^-1/2``. Where an image has not three channels, a difference of colours
    is the root of three times the mean squared difference over its channels, so that srgb means the same; of more than three
    channels those differences are kept that lie along the three principal components of the image, as the lattice cannot have
    many dimensions.

    Args:
        images: uint8 [N, C, H, W], or [1, C, H, W] for all N: values 0 to 255, no mean subtracted.
        unary: float [N, L, H, W], -log probability; :func:`unary_from_labels` and :func:`unary_from_probabilities` make it.
        iterations: mean-field steps; 0 gives softmax(-unary).
        gaussian: (sxy, compat) of the kernel of positions: standard deviation in pixels, weight. None leaves it out.
        bilateral: (sxy, srgb, compat) of the kernel of positions and colours: standard deviations in pixels and in grey levels,
            weight. None leaves it out.
        compatibility: mu [L, L], the cost of two labels for a pair of pixels, made symmetric as in the C++ code. None is Potts:
            1 off the diagonal. The same in pydensecrf is ``compat=compat * mu``.

    Returns:
        [N, L, H, W] in [0, 1], summing to 1 over labels; float64 for float64, else float32. Deterministic, and the same for an
        image in a batch as for the image alone.

    Raises:
        InputError: images that are not uint8, unary of another number or size, with NaN or inf or of one label
            only, a standard deviation that is not positive, fewer than 0 iterations, a matrix that is not [L, L], a weight or
            cost beyond 1e6.

    Source: Kraehenbuehl & Koltun, NeurIPS 2011, equations 1-3 and algorithm 1; conventions of their C++ code (pydensecrf).

    Example:
        >>> from advcam.refinement import unary_from_labels
        >>> labels = torch.tensor([[[0, 0, 0, 1, 1, 1]] * 6])
        >>> images = (labels[:, None] * 200).byte().expand(1, 3, 6, 6)  # dark left, bright right
        >>> labels[0, 2, 1] = 1  # a mistake
        >>> dense_crf(images, unary_from_labels(labels, 2)).argmax(1)[0, 2].tolist()
        [0, 0, 0, 1, 1, 1]
    """
    _check(images, unary, compatibility)
    settings = (
        expect_whole(iterations, "expected iterations >= 0, got", 0),
        _kernel("gaussian", gaussian, "sxy", "compat"),
        _kernel("bilateral", bilateral, "sxy", "srgb", "compat"),
        compatibility,
    )
    if unary.device.type == "mps":  # torch does not promise embedding_bag with weights on MPS
        matrix = None if compatibility is None else compatibility.cpu()
        return dense_crf(images.cpu(), unary.cpu(), iterations, gaussian, bilateral, matrix).to(unary.device)
    unary = unary.to(torch.promote_types(unary.dtype, torch.float32))
    if not unary.numel() or len(images) == 1 or unary.device.type != "cpu":
        return _marginals(images, unary, *settings)
    one_by_one = zip(images.split(1), unary.split(1), strict=True)  # fits caches: six at once were 1.3 times slower
    return torch.cat([_marginals(image, its_unary, *settings) for image, its_unary in one_by_one])


def _marginals(
    images: UInt8[Tensor, "m b y x"],
    unary: Float[Tensor, "n l y x"],
    iterations: int,
    gaussian: list[Any] | None,
    bilateral: list[Any] | None,
    compatibility: Float[Tensor, "l l"] | None,
) -> Float[Tensor, "n l y x"]:
    """:func:`dense_crf` of checked input, all images together."""
    count, labels, height, width = unary.shape
    kernels: list[Lattice] = []
    if gaussian and unary.numel():
        kernels.append(_smoothing(height, width, *gaussian, unary.dtype, unary.device))
    if bilateral and unary.numel():
        kernels.append(_following(images, unary.dtype, *bilateral))
    mu = None if compatibility is None else (compatibility + compatibility.T).to(unary) / 2

    likely = -unary.movedim(1, -1).reshape(-1, labels).contiguous()  # [pixels of all images, L]
    q = _softmax_(likely.clone())
    for _ in range(iterations if kernels else 0):
        logits = likely
        for kernel in kernels:
            seen = _filter(kernel, q)
            logits = (seen if mu is None else seen @ -mu).add_(logits)  # Potts: -q (1 - I) is q up to a constant
        q = _softmax_(logits)
    return q.view(count, height, width, labels).movedim(-1, 1).contiguous()


@lru_cache(maxsize=2)
def _smoothing(height: int, width: int, sxy: float, compat: float, dtype: torch.dtype, device: torch.device) -> Lattice:
    """The kernel of positions. It depends on the image size alone, so the last two are cached."""
    return permutohedral(_positions(height, width, dtype, device) / sxy).normalised(compat)


def _following(images: UInt8[Tensor, "m b y x"], dtype: torch.dtype, sxy: float, srgb: float, compat: float) -> Lattice:
    """The kernel of positions and colours, of all images together."""
    positions = _positions(images.shape[2], images.shape[3], dtype, images.device) / sxy
    colours = torch.cat([_colours(image.flatten(1).to(dtype)) for image in images], 1) / srgb
    return permutohedral(torch.cat([positions.repeat(1, len(images)), colours]), len(images)).normalised(compat)


def _colours(channels: Float[Tensor, "b pixels"]) -> Float[Tensor, "_ pixels"]:
    """At most three numbers for each pixel, whose differences are those of its channels."""
    count = len(channels)
    if count == 3:
        return channels
    if count > 3:
        centred = channels - channels.mean(1, keepdim=True)
        channels = torch.linalg.eigh(centred @ centred.T).eigenvectors[:, -3:].T @ centred
    return channels * (3 / count) ** 0.5


def _positions(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "2 pixels"]:
    """(x, y) of every pixel, row by row; the lattice depends on this order of the features."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([x, y]).to(dtype).view(2, -1)


def _filter(kernel: Lattice, q: Float[Tensor, "pixels l"]) -> Float[Tensor, "pixels l"]:
    """``K q``. A kernel of one image's pixels is applied to all images, as further columns of q."""
    images = len(q) // kernel.points
    columns = q.unflatten(0, (images, -1)).transpose(0, 1).flatten(1)
    return (kernel @ columns).unflatten(1, (images, -1)).transpose(0, 1).flatten(0, 1)


def _softmax_(x: Float[Tensor, "pixels l"]) -> Float[Tensor, "pixels l"]:
    """Softmax of each row, in place: on a CPU five times as fast as torch's for two labels, and without a copy in memory."""
    x -= x.amax(1, keepdim=True)
    x.exp_()
    x /= x.sum(1, keepdim=True)
    return x


def _kernel(name: str, kernel: object, *parts: str) -> list[Any] | None:
    """The numbers of a kernel, checked: standard deviations, then the weight. None is no kernel."""
    if kernel is None:
        return None
    form = f"{name} = ({', '.join(parts)}), standard deviations above 0"
    numbers = [expect_number(number, f"expected {form}, got") for number in expect_list(kernel, f"expected {form}, got")]
    if len(numbers) != len(parts) or min(numbers[:-1]) <= 0 or abs(numbers[-1]) > MAX_WEIGHT:
        raise InputError(f"expected {form}, a weight within {MAX_WEIGHT:g}, got {tuple(numbers)}; None leaves it out")
    return numbers


def _check(images: Tensor, unary: Tensor, compatibility: Tensor | None) -> None:
    """Raise InputError on what :func:`dense_crf` does not take."""
    expect_tensor(images, "images", "numbers or booleans")
    expect_tensor(unary, "unary", "numbers or booleans", beside=images)
    if images.dtype != torch.uint8 or images.ndim != 4 or not images.shape[1]:
        raise InputError(
            f"expected the image itself, uint8 0..255, [N, C, H, W], got {images.dtype} {tuple(images.shape)}; "
            "give it as read, not scaled, no mean subtracted, no alpha channel"
        )
    if unary.ndim != 4 or len(images) not in (1, len(unary)) or unary.shape[2:] != images.shape[2:]:
        raise InputError(
            f"expected unary [N, L, H, W] of the number and size of images {tuple(images.shape)}, got {tuple(unary.shape)}; "
            "resize the scores to the image before -log"
        )
    if not unary.is_floating_point() or not bool(unary.isfinite().all()):
        raise InputError(
            f"expected finite float unary, -log probability, got {unary.dtype} or NaN or inf in it; "
            "unary_from_probabilities avoids log(0)"
        )
    if (labels := unary.shape[1]) < 2:
        raise InputError(f"expected at least 2 labels, got {labels}; background counts as one: stack [1 - p, p]")
    if compatibility is None:
        return
    expect_tensor(compatibility, "compatibility", "numbers or booleans", beside=unary)
    if tuple(compatibility.shape) != (labels, labels) or not bool((compatibility.double().abs() <= MAX_WEIGHT).all()):
        raise InputError(
            f"expected compatibility [{labels}, {labels}], a finite cost for each pair of labels, got "
            f"{tuple(compatibility.shape)}, or costs beyond {MAX_WEIGHT:g}; None is Potts"
        )
