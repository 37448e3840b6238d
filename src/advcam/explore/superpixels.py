"""Regions of an image that follow its edges, to be taken by a click: superpixels by local k-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcam.data import fit_within

SIDE = 800
"""Larger images are divided at this size, pixels."""
ROUNDS = 6
COMPACT = 12.0
"""Difference of colours, in steps of 255, that counts as much as the side of a region."""


def superpixels(image: Image.Image, count: int) -> NDArray[np.uint16]:
    """Divides an image into regions of similar colours and size.

    Each pixel belongs to the nearest of the nine centres about it, by colour and place; centres are the means of their pixels.

    Args:
        image: 8-bit RGB.
        count: about how many regions, 4 to 10,000.

    Returns:
        uint16 [H, W], the number of each pixel's region; a region may be in several parts.

    Source: SLIC (Achanta et al., TPAMI 2012), in CIELAB, with the search limited to the neighbours of the first grid.
    """
    small = fit_within(image.convert("RGB"), SIDE)
    width, height = small.size
    step = max(2.0, (width * height / count) ** 0.5)
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    scale = COMPACT / step
    points = np.stack([*_lab(small), y * scale, x * scale], -1).reshape(-1, 5)
    row = np.minimum((y * rows / height).astype(np.int64), rows - 1).ravel()
    column = np.minimum((x * columns / width).astype(np.int64), columns - 1).ravel()
    near = [
        np.clip(row + dy, 0, rows - 1) * columns + np.clip(column + dx, 0, columns - 1)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    labels = row * columns + column
    for _ in range(ROUNDS):
        centres = _means(points, labels, rows * columns)
        best = np.full(len(points), np.inf, np.float32)
        for candidate in near:
            apart = np.square(points - centres[candidate]).sum(1)
            closer = apart < best
            best[closer], labels[closer] = apart[closer], candidate[closer]
    found = Image.fromarray(labels.reshape(height, width).astype(np.int32))
    return np.asarray(found.resize(image.size, Image.Resampling.NEAREST)).astype(np.uint16)


def _means(points: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    sizes = np.maximum(np.bincount(labels, minlength=count), 1)
    sums = [np.bincount(labels, weights=points[:, at], minlength=count) / sizes for at in range(points.shape[1])]
    means = np.stack(sums, 1).astype(np.float32)
    means[np.bincount(labels, minlength=count) == 0] = np.inf  # a centre without pixels takes none
    return means


def _lab(image: Image.Image) -> NDArray[np.float32]:
    """Lightness and two colour axes [3, H, W], by CIELAB of sRGB."""
    rgb = np.asarray(image, np.float32) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089], np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])]).astype(np.float32)
