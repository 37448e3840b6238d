"""Seven perturbations of an encoder's features z [n, c, h, w], which the auxiliary decoders of CCT are trained on.

Images are perturbed independently: random numbers are drawn, and maxima and norms are taken, for each image. Random numbers
come from torch's global generator of z's device. The gradient passes through z alone, not through masks or directions.
``prediction`` is the argmax of the main decoder, 0 background, at the size of the image or any other.

Source: Ouali, Hudelot & Tami, CVPR 2020 (arXiv 2003.09005); constants as in yassouali/CCT, ``configs/config.json`` and
``models/decoders.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor


def feature_dropout(z: Float[Tensor, "n c h w"], low: float = 0.7, high: float = 0.9) -> Float[Tensor, "n c h w"]:
    """F-Drop: set the most active cells to 0, ``z [a < gamma max a]``, a the mean over channels, gamma from U(low, high).

    Args:
        z: float [n, c, h, w], the encoder's features.
        low: least gamma, 0 to 1.
        high: greatest gamma, 0 to 1.

    Returns:
        [n, c, h, w].

    Source: Ouali, Hudelot & Tami, CVPR 2020; yassouali/CCT, ``models/decoders.py``. One gamma for each image (there: for each
    batch) is ours.

    Example:
        >>> feature_dropout(torch.tensor([[[[1.0, 2.0, 10.0]]]])).tolist()
        [[[[1.0, 2.0, 0.0]]]]
    """
    activity = z.mean(1, keepdim=True)
    gamma = torch.empty_like(activity[:, :, :1, :1]).uniform_(low, high)
    return z * (activity < gamma * activity.amax((2, 3), keepdim=True))


def feature_noise(z: Float[Tensor, "n c h w"], bound: float = 0.3) -> Float[Tensor, "n c h w"]:
    """F-Noise: multiply features by random factors, ``z + z e`` with e from U(-bound, bound) for every channel of every cell.

    Args:
        z: float [n, c, h, w], the encoder's features.
        bound: largest relative change, at least 0.

    Returns:
        [n, c, h, w].

    Source: Ouali, Hudelot & Tami, CVPR 2020; yassouali/CCT, ``models/decoders.py``. Noise for each image (there: for each
    batch) is ours.

    Example:
        >>> noisy = feature_noise(torch.ones(1, 2, 3, 3), bound=0.3)
        >>> noisy.shape, bool(((noisy - 1).abs() <= 0.3).all())
        (torch.Size([1, 2, 3, 3]), True)
    """
    return z + z * torch.empty_like(z).uniform_(-bound, bound)


def spatial_dropout(z: Float[Tensor, "n c h w"], rate: float = 0.5) -> Float[Tensor, "n c h w"]:
    """Set whole channels to 0 with probability ``rate``, and divide the others by ``1 - rate``.

    Args:
        z: float [n, c, h, w], the encoder's features.
        rate: probability, 0 to 1.

    Returns:
        [n, c, h, w].

    Source: Tompson et al., CVPR 2015; yassouali/CCT, ``models/decoders.py``.

    Example:
        >>> dropped = spatial_dropout(torch.ones(1, 64, 2, 2), rate=0.5)
        >>> dropped.unique().tolist()
        [0.0, 2.0]
    """
    return F.dropout2d(z, rate)


def context_mask(z: Float[Tensor, "n c h w"], prediction: Integer[Tensor, "n y x"]) -> Float[Tensor, "n c h w"]:
    """Con-Msk: hide the background and keep the objects, ``z [prediction > 0]``.

    Args:
        z: float [n, c, h, w], the encoder's features.
        prediction: integers [n, H, W], argmax of the main decoder, 0 for background, at any size.

    Returns:
        [n, c, h, w].

    Source: Ouali, Hudelot & Tami, CVPR 2020; yassouali/CCT, ``models/decoders.py``.

    Example:
        >>> context_mask(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[[0, 7, 7]]])).tolist()
        [[[[0.0, 2.0, 3.0]]]]
    """
    return z * _objects(z, prediction)


def object_mask(z: Float[Tensor, "n c h w"], prediction: Integer[Tensor, "n y x"]) -> Float[Tensor, "n c h w"]:
    """Obj-Msk: hide the objects and keep the background, ``z [prediction = 0]``.

    Args:
        z: float [n, c, h, w], the encoder's features.
        prediction: integers [n, H, W], argmax of the main decoder, 0 for background, at any size.

    Returns:
        [n, c, h, w].

    Source: Ouali, Hudelot & Tami, CVPR 2020; yassouali/CCT, ``models/decoders.py``.

    Example:
        >>> object_mask(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[[0, 7, 7]]])).tolist()
        [[[[1.0, 0.0, 0.0]]]]
    """
    return z * ~_objects(z, prediction)


def guided_cutout(
    z: Float[Tensor, "n c h w"], prediction: Integer[Tensor, "n y x"], share: float = 0.4
) -> Float[Tensor, "n c h w"]:
    """G-Cutout: set a random box inside the bounding box of each region to 0, its sides ``share`` of the region's.

    A region is all that the prediction has of one foreground class in an image.

    Args:
        z: float [n, c, h, w], the encoder's features.
        prediction: integers [n, H, W], argmax of the main decoder, 0 for background, at any size.
        share: of height and of width, 0 to 1; the sides are rounded down to pixels.

    Returns:
        [n, c, h, w]; the cells whose nearest pixel lies in a box are 0.

    Source: Ouali, Hudelot & Tami, CVPR 2020; yassouali/CCT, ``models/decoders.py``. A region for each class (there: an outer
    contour of all foreground) is ours.

    Example:
        >>> prediction = torch.zeros(1, 10, 10, dtype=torch.long)
        >>> prediction[:, :5, :5] = 7
        >>> guided_cutout(torch.ones(1, 1, 10, 10), prediction, share=0.4).eq(0).sum().item()  # 2 x 2 of 5 x 5
        4
    """
    classes = max(int(prediction.max()), 1) + 1
    n, height, width = prediction.shape
    rows = torch.zeros(n, classes, height, dtype=torch.bool, device=z.device).scatter_(1, prediction.long().mT, True)
    columns = torch.zeros(n, classes, width, dtype=torch.bool, device=z.device).scatter_(1, prediction.long(), True)
    down, across = _cut(rows[:, 1:], share, z.shape[2]), _cut(columns[:, 1:], share, z.shape[3])
    return z * (torch.einsum("nky,nkx->nyx", down, across) == 0)[:, None]


def virtual_adversarial(
    z: Float[Tensor, "n c h w"], decoder: Callable[[Tensor], Tensor], eps: float = 2.0, iterations: int = 1
) -> Float[Tensor, "n c h w"]:
    """I-VAT: ``z + eps d``, with d the direction in which the decoder's prediction changes fastest, ``|d| = 1`` for each image.

    From a random d, power iteration: ``d <- H d / |H d|``, with ``H = J' (diag p - p p') J`` the curvature at r = 0 of
    ``KL(p(z) || p(z + r))``, p the decoder's softmax and J the derivative of the logits. The published code estimates H d from
    the gradient of the KL at ``xi d``, xi = 1e-6, which float32 rounds away; the product with H is its exact limit for xi -> 0.

    Args:
        z: float [n, c, h, w], the encoder's features.
        decoder: the auxiliary decoder, z to logits [n, L, y, x], each image independent of the others. Its gradients are not
            changed.
        eps: length of the perturbation, in the unit of z.
        iterations: number of power iterations.

    Returns:
        [n, c, h, w].

    Source: Miyato et al., TPAMI 2018 (arXiv 1704.03976); yassouali/CCT, ``models/decoders.py``. The exact product is ours.

    Example:
        >>> z = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1)
        >>> moved = virtual_adversarial(z, lambda z: torch.cat([z[:, :1], -z[:, :1]], 1))  # logits of the first channel alone
        >>> [round(abs(value), 3) for value in (moved - z).flatten().tolist()]
        [2.0, 0.0]
    """
    at = z.detach().float()
    direction = _unit(torch.rand_like(at) - 0.5)
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        logits, back = torch.func.vjp(decoder, at)[:2]
        p = logits.softmax(1)
        for _ in range(iterations):
            change = torch.func.jvp(decoder, (at,), (direction,))[1]
            direction = _unit(back(p * (change - (p * change).sum(1, keepdim=True)))[0])
    return z + eps * direction


def _objects(z: Float[Tensor, "n c h w"], prediction: Integer[Tensor, "n y x"]) -> Bool[Tensor, "n 1 h w"]:
    """Where the prediction is foreground, on z's grid."""
    return F.interpolate((prediction[:, None] > 0).float(), size=z.shape[2:], mode="nearest") > 0


def _cut(seen: Bool[Tensor, "n k s"], share: float, cells: int) -> Float[Tensor, "n k cells"]:
    """1 on a random interval within that from the first to the last True, ``share`` as long; resized to ``cells``."""
    at = torch.arange(seen.shape[2], device=seen.device)
    first, end = torch.where(seen, at, len(at)).amin(2), torch.where(seen, at + 1, 0).amax(2)
    length = ((end - first) * share).long().clamp(min=0)  # of an absent class, end < first
    start = first + (torch.rand(first.shape, device=seen.device) * (end - first - length + 1)).long()
    stretch = (at >= start[..., None]) & (at < (start + length)[..., None])
    return F.interpolate(stretch.float(), size=cells, mode="nearest")


def _unit(d: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Scale each image's vector to length 1; zeros stay zeros."""
    return F.normalize(d.flatten(1), dim=1).view_as(d)
