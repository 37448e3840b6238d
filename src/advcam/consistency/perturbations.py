"""Seven ways to perturb an encoding z [n, c, h, w] that leave what it shows recognisable (CCT).

Of each image on its own: what is drawn is drawn for every image, what is normalised is normalised over one image. Random
numbers come from torch's global generator of z's device. The gradient passes through z alone, never through a mask or a
direction. ``prediction`` is the argmax of the main decoder, 0 background, at the size of the image or any other.

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
    """F-Drop: ``z [a < gamma max a]``, a the mean over channels, gamma from U(low, high): the most active cells go."""
    activity = z.mean(1, keepdim=True)
    gamma = torch.empty_like(activity[:, :, :1, :1]).uniform_(low, high)
    return z * (activity < gamma * activity.amax((2, 3), keepdim=True))


def feature_noise(z: Float[Tensor, "n c h w"], bound: float = 0.3) -> Float[Tensor, "n c h w"]:
    """F-Noise: ``z + z * e``, e from U(-bound, bound) for every channel of every cell."""
    return z + z * torch.empty_like(z).uniform_(-bound, bound)


def spatial_dropout(z: Float[Tensor, "n c h w"], rate: float = 0.5) -> Float[Tensor, "n c h w"]:
    """Whole channels are set to 0 with probability ``rate``, the others divided by ``1 - rate`` (Tompson et al., CVPR 2015)."""
    return F.dropout2d(z, rate)


def context_mask(z: Float[Tensor, "n c h w"], prediction: Integer[Tensor, "n y x"]) -> Float[Tensor, "n c h w"]:
    """Con-Msk: ``z [prediction > 0]``, the context is hidden and the objects are left."""
    return z * _objects(z, prediction)


def object_mask(z: Float[Tensor, "n c h w"], prediction: Integer[Tensor, "n y x"]) -> Float[Tensor, "n c h w"]:
    """Obj-Msk: ``z [prediction = 0]``, the objects are hidden and the context is left."""
    return z * ~_objects(z, prediction)


def guided_cutout(
    z: Float[Tensor, "n c h w"], prediction: Integer[Tensor, "n y x"], share: float = 0.4
) -> Float[Tensor, "n c h w"]:
    """G-Cutout: within the bounding box of each region a box, its sides ``share`` of the region's, is set to 0.

    A region is what the prediction holds of one foreground class (published: an outer contour of all foreground).

    Args:
        z: encoding.
        prediction: class of every pixel.
        share: of height and of width, rounded down to pixels.

    Returns:
        [n, c, h, w]; boxes lie at a place drawn evenly, and hide the cells on whose nearest pixel they lie.
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
    """I-VAT: ``z + eps d``, d the direction in which what the decoder says of z changes fastest, ``|d| = 1`` for each image.

    From a random d, ``d <- H d / |H d|``, with H the curvature at r = 0 of ``KL(p(z) || p(z + r))``, p the decoder's softmax:
    ``H = J' (diag p - p p') J``, J the derivative of the logits. The published code takes the gradient of the KL at ``xi d``,
    xi = 1e-6, for the same thing; that gradient is ``xi^2 H d``, which single precision and the 1e-8 it adds to the norm it
    divides by leave nothing of. Here xi -> 0 is exact, and the length is eps.

    Source: Miyato et al., TPAMI 2018 (arXiv 1704.03976).

    Args:
        z: encoding.
        decoder: the auxiliary decoder, z to logits [n, L, y, x], every image on its own. Its gradients are not touched.
        eps: length of the perturbation.
        iterations: of the power method.
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
    """1 on a stretch ``share`` as long as from the first to the last seen, somewhere between them; on a grid of ``cells``."""
    at = torch.arange(seen.shape[2], device=seen.device)
    first, end = torch.where(seen, at, len(at)).amin(2), torch.where(seen, at + 1, 0).amax(2)
    length = ((end - first) * share).long().clamp(min=0)  # nothing seen ends before it starts
    start = first + (torch.rand(first.shape, device=seen.device) * (end - first - length + 1)).long()
    stretch = (at >= start[..., None]) & (at < (start + length)[..., None])
    return F.interpolate(stretch.float(), size=cells, mode="nearest")


def _unit(d: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Of length 1 for each image; zeros stay zeros."""
    return F.normalize(d.flatten(1), dim=1).view_as(d)
