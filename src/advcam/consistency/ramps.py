"""The weight of the losses of unlabelled images at the start of training."""

from __future__ import annotations

import math

from advcam.errors import InputError


def ramp_up(progress: float, share: float = 0.1) -> float:
    """The weight of the losses of unlabelled images: ``exp(-5 (1 - t)^2)``, ``t = min(progress / share, 1)``.

    Args:
        progress: of the training, from 0 to 1.
        share: of the training after which the weight is 1, from 0 (at once) to 1.

    Returns:
        0.0067 at the start to 1.

    Raises:
        InputError: a share or a progress outside 0 to 1.

    Source: Laine & Aila, ICLR 2017 (arXiv 1610.02242); the share as in yassouali/CCT, ``configs/config.json``.

    Example:
        >>> [round(ramp_up(progress), 4) for progress in (0, 0.05, 0.1, 1)]
        [0.0067, 0.2865, 1.0, 1.0]
    """
    if not (0 <= share <= 1 and 0 <= progress <= 1):
        raise InputError(f"progress {progress} and share {share}: expected parts of the training, 0 to 1")
    t = progress / share if progress < share else 1.0
    return math.exp(-5 * (1 - t) ** 2)
