"""How far a number would move had other images been drawn: bootstrap over images (Efron, 1979), percentile intervals."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_number, expect_tensor, expect_whole
from advcam.limits import MAX_COUNTS

QUANTILES = 16_000_000  # numbers of which torch takes them


def resampled(n: int, resamples: int = 1000, seed: int = 0) -> Float[Tensor, "b n"]:
    """How often each of n images counts: row 0 is the sample itself, each other row a draw of n with replacement.

    Every number of every setting is made of the same rows, so differences are paired.

    Args:
        n: images.
        resamples: draws; the result has one row more.
        seed: of the draws.

    Raises:
        InputError: no image, a negative number of draws, or more of both than memory is for.

    Example:
        >>> weights = resampled(3, resamples=2)
        >>> weights.shape, weights.sum(1).tolist(), weights[0].tolist()
        (torch.Size([3, 3]), [3.0, 3.0, 3.0], [1.0, 1.0, 1.0])
    """
    n, resamples, seed = expect_whole(n, "n"), expect_whole(resamples, "resamples"), expect_whole(seed, "seed")
    if n < 1 or resamples < 0:
        raise InputError(f"a bootstrap needs at least one image and no fewer than 0 draws; got {n} and {resamples}")
    if n * (1 + resamples) > MAX_COUNTS:
        raise InputError(f"{resamples:,} draws of {n:,} images each: expected at most {MAX_COUNTS:,} in all; take fewer draws")
    drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    counts = torch.zeros(1 + resamples, n, dtype=torch.float64)
    counts[0] = 1
    counts[1:].scatter_add_(1, drawn, torch.ones((), dtype=torch.float64).expand(resamples, n))
    return counts


def interval(values: Float[Tensor, "b ..."], level: float = 0.95) -> tuple[Float[Tensor, ...], Float[Tensor, ...]]:
    """The percentile interval of what the draws gave: rows 1 on, row 0 being the sample itself; NaN draws are left out.

    Args:
        values: [1 + B, ...], of the rows of :func:`resampled`.
        level: share of the draws inside, 0 to 1.

    Raises:
        InputError: no row, values that are no floats, a level out of range.
    """
    expect_tensor(values, "values")
    level = expect_number(level, "level", 0, 1)
    if not values.ndim or not 0 < values.numel() <= QUANTILES:
        raise InputError(f"values {tuple(values.shape)}: expected [1 + B, ...], at least one, at most {QUANTILES:,} numbers")
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    draws = values[1:] if len(values) > 1 else values
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype)
    low, high = draws.nanquantile(ends, 0)
    return low, high


def resampled_mean(values: Float[Tensor, "n ..."], weights: Float[Tensor, "b n"]) -> Float[Tensor, "b ..."]:
    """``sum_i w_i v_i / sum_i w_i`` of every row of weights, over the images whose value is not NaN.

    Args:
        values: [N, ...], one entry an image.
        weights: [B, N], see :func:`resampled`.

    Raises:
        InputError: values and weights that do not fit.

    Example:
        >>> resampled_mean(torch.tensor([1.0, 3.0, float("nan")]), torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])).tolist()
        [2.0, 3.0]
    """
    expect_tensor(values, "values", "numbers or booleans")
    _check_weights(weights, values, "values")
    flat = values.double().reshape(len(values), math.prod(values.shape[1:]))
    there = flat.isfinite()
    mean = (weights.double() @ flat.where(there, 0)) / (weights.double() @ there.double())
    return mean.reshape(len(weights), *values.shape[1:])


def resampled_seeds(
    hits: Shaped[Tensor, "n t l"],
    predicted: Shaped[Tensor, "n t l"],
    true: Shaped[Tensor, "n l"],
    weights: Float[Tensor, "b n"],
    at_once: int = 128,
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """MIoU and noise at every background threshold, of every row of weights: counts are summed, then divided.

    ``IoU_l = H_l / (P_l + G_l - H_l)`` with ``H = sum_i w_i hits_i`` and so on; classes absent from both are left out of the
    mean. ``noise = (G_0 - H_0) / sum_{l > 0} P_l``, the share of background among predicted foreground.

    Args:
        hits: [N, T, L], pixels predicted as l that are l, background first.
        predicted: [N, T, L], pixels predicted as l, of those that count.
        true: [N, L], pixels that are l.
        weights: [B, N], see :func:`resampled`.
        at_once: rows of weights taken together; bounds memory.

    Raises:
        InputError: counts and weights that do not fit.

    Example:
        >>> hits, predicted, true = torch.tensor([[[4, 2]]]), torch.tensor([[[4, 4]]]), torch.tensor([[6, 2]])
        >>> [round(float(v), 3) for v in resampled_seeds(hits, predicted, true, resampled(1, 0))]
        [0.583, 0.5]
    """
    for name, counts, shape in (("hits", hits, "n t l"), ("predicted", predicted, "n t l"), ("true", true, "n l")):
        expect_tensor(counts, name, "numbers", shape, beside=hits)
        _check_weights(weights, counts, name)
    at_once = expect_whole(at_once, "at_once", 1)
    if predicted.shape != hits.shape or true.shape != hits.shape[::2] or not hits.shape[2]:
        raise InputError(
            f"hits {tuple(hits.shape)}, predicted {tuple(predicted.shape)}, true {tuple(true.shape)}: expected [n, t, l], the"
            " same, and [n, l]"
        )
    (thresholds, labels), parts = hits.shape[1:], []
    flat, at = torch.cat([hits.flatten(1), predicted.flatten(1)], 1).double(), thresholds * labels
    for some in weights.double().split(at_once):
        summed = some @ flat
        h, p = (part.view(-1, thresholds, labels) for part in (summed[:, :at], summed[:, at:]))
        g = (some @ true.double())[:, None]
        mean_iou = (h / (p + g - h)).nanmean(-1)
        parts.append((mean_iou, (g[..., 0] - h[..., 0]) / p[..., 1:].sum(-1)))
    mean_ious, noises = zip(*parts, strict=True)
    return torch.cat(mean_ious), torch.cat(noises)


def _check_weights(weights: Tensor, values: Tensor, name: str) -> None:
    """Raises: weights of another form than :func:`resampled` gives, or of another number of images."""
    expect_tensor(weights, "weights", "numbers", "b n", finite=True, beside=values)
    if not values.ndim or len(values) != weights.shape[1] or not weights.numel():
        raise InputError(
            f"{name} {tuple(values.shape)} and weights {tuple(weights.shape)}: expected [n, ...] and [b, n], n images and b at"
            " least 1"
        )
