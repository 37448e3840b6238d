"""Bootstrap over images (Efron, 1979): percentile intervals of metrics."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_number, expect_tensor, expect_whole
from advcam.limits import MAX_COUNTS

QUANTILES = 16_000_000  # torch takes quantiles of no more numbers


def resampled(n: int, resamples: int = 1000, seed: int = 0) -> Float[Tensor, "b n"]:
    """Draw bootstrap samples: how often each of n images counts in each sample.

    Numbers that are computed with the same rows are paired, so their differences have intervals of their own.

    Args:
        n: number of images, at least 1.
        resamples: B, number of samples drawn with replacement, at least 0.
        seed: of the random numbers.

    Returns:
        float64 [1 + B, n], whole numbers that sum to n in each row; row 0, all ones, is the original sample.

    Raises:
        InputError: no image, a negative number of samples, or more of both than fit in memory.

    Source: Efron, Annals of Statistics 1979.

    Example:
        >>> weights = resampled(3, resamples=2)
        >>> weights.shape, weights.sum(1).tolist(), weights[0].tolist()
        (torch.Size([3, 3]), [3.0, 3.0, 3.0], [1.0, 1.0, 1.0])
    """
    n, resamples, seed = expect_whole(n, "n"), expect_whole(resamples, "resamples"), expect_whole(seed, "seed")
    if n < 1 or resamples < 0:
        raise InputError(f"expected at least one image and at least 0 samples, got {n} and {resamples}")
    if n * (1 + resamples) > MAX_COUNTS:
        raise InputError(
            f"{resamples:,} samples of {n:,} images each: expected at most {MAX_COUNTS:,} in all; take fewer samples"
        )
    drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    counts = torch.zeros(1 + resamples, n, dtype=torch.float64)
    counts[0] = 1
    counts[1:].scatter_add_(1, drawn, torch.ones((), dtype=torch.float64).expand(resamples, n))
    return counts


def interval(values: Float[Tensor, "b ..."], level: float = 0.95) -> tuple[Float[Tensor, ...], Float[Tensor, ...]]:
    """The percentile interval of a bootstrap: the quantiles ``(1 - level) / 2`` and ``(1 + level) / 2`` of the samples.

    Args:
        values: float [1 + B, ...], one for each row of :func:`resampled`; row 0, the original sample, is left out, and so is
            NaN.
        level: share of the samples inside the interval, 0 to 1.

    Returns:
        The lower and the upper end, [...] each, in the unit of the values.

    Raises:
        InputError: no row, values that are no floats, a level out of range.

    Source: Efron, Annals of Statistics 1979: percentile interval.

    Example:
        >>> [end.item() for end in interval(torch.tensor([9.0, 0.0, 1.0, 2.0, 3.0, 4.0]), level=0.5)]
        [1.0, 3.0]
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
    """The mean over images in every bootstrap sample, ``sum_i w_i v_i / sum_i w_i``, over images whose value is finite.

    Args:
        values: [N, ...], one entry for each image.
        weights: [B, N], at least 0, see :func:`resampled`.

    Returns:
        float64 [B, ...]; NaN where no image of the sample has a finite value.

    Raises:
        InputError: values and weights that do not fit.

    Source: Efron, Annals of Statistics 1979; that NaN is left out is ours.

    Example:
        >>> weights = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
        >>> resampled_mean(torch.tensor([1.0, 3.0, float("nan")]), weights).tolist()
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
    """Compute mIoU and noise at every background threshold in every bootstrap sample, from summed counts.

    ``IoU_l = H_l / (P_l + G_l - H_l)``, with ``H = sum_i w_i hits_i``, P of ``predicted`` and G of ``true`` likewise; the mean
    leaves out classes absent from both. ``noise = (G_0 - H_0) / sum_{l > 0} P_l``, the share of background among predicted
    foreground.

    Args:
        hits: [N, T, L], number of pixels of class l predicted as l, background first.
        predicted: [N, T, L], number of pixels predicted as l, ignored pixels left out.
        true: [N, L], number of pixels of class l.
        weights: [B, N], at least 0, see :func:`resampled`.
        at_once: number of samples computed together, at least 1; bounds memory.

    Returns:
        mIoU and noise, float64 [B, T] in [0, 1] each; NaN where nothing is divided by.

    Raises:
        InputError: counts and weights that do not fit.

    Source: Efron, Annals of Statistics 1979; mIoU as in IRN's ``eval_cam.py``, noise as in the AdvCAM paper, section 5.

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


def resampled_iou(
    hits: Shaped[Tensor, "n l"], predicted: Shaped[Tensor, "n l"], true: Shaped[Tensor, "n l"], weights: Float[Tensor, "b n"]
) -> Float[Tensor, "b l"]:
    """Compute the IoU of every class in every bootstrap sample, from summed counts.

    ``IoU_l = H_l / (P_l + G_l - H_l)``, with ``H = sum_i w_i hits_i``, P of ``predicted`` and G of ``true`` likewise.

    Args:
        hits: [N, L], number of pixels of class l predicted as l.
        predicted: [N, L], number of pixels predicted as l, ignored pixels left out.
        true: [N, L], number of pixels of class l.
        weights: [B, N], at least 0, see :func:`resampled`.

    Returns:
        float64 [B, L] in [0, 1]; NaN where the class is absent from both masks in all images of the sample.

    Raises:
        InputError: counts and weights that do not fit.

    Source: Efron, Annals of Statistics 1979; IoU as in IRN's ``eval_cam.py``.

    Example:
        >>> hits, predicted, true = torch.tensor([[4, 2]]), torch.tensor([[4, 4]]), torch.tensor([[6, 2]])
        >>> resampled_iou(hits, predicted, true, resampled(1, 0)).tolist()
        [[0.6666666666666666, 0.5]]
    """
    for name, counts in (("hits", hits), ("predicted", predicted), ("true", true)):
        expect_tensor(counts, name, "numbers", "n l", beside=hits)
        _check_weights(weights, counts, name)
    if predicted.shape != hits.shape or true.shape != hits.shape:
        raise InputError(
            f"hits {tuple(hits.shape)}, predicted {tuple(predicted.shape)}, true {tuple(true.shape)}: expected [n, l], the same"
        )
    h, p, g = (weights.double() @ counts.double() for counts in (hits, predicted, true))
    return h / (p + g - h)


def _check_weights(weights: Tensor, values: Tensor, name: str) -> None:
    """Raise InputError on weights of another form than :func:`resampled` gives, or of another number of images."""
    expect_tensor(weights, "weights", "numbers", "b n", finite=True, beside=values)
    if not values.ndim or len(values) != weights.shape[1] or not weights.numel():
        raise InputError(
            f"{name} {tuple(values.shape)} and weights {tuple(weights.shape)}: expected [n, ...] and [b, n], n images and b at"
            " least 1"
        )
