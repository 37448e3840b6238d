"""How many pixels go through a network at once, halved where memory runs out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from advcam.errors import AdvcamError, InputError, out_of_memory


@dataclass
class Budget:
    """Pixels in one forward pass.

    Args:
        max_pixels: the most; None is 400,000 on a CPU, whose caches are small, and 2^22 elsewhere.
        views: of each image.
    """

    max_pixels: int | None
    views: int

    def at_once(self, images: Tensor, scale: float) -> int:
        """How many images, at a scale, go through the network at once; at least one."""
        limit = self.max_pixels or (400_000 if images.device.type == "cpu" else 2**22)
        return max(1, limit // self._pixels_of(images, scale))

    def halve(self, error: Exception, images: Tensor, scale: float, at_once: int) -> None:
        """Halves ``max_pixels`` where memory ran out; raises any other error, and where a single image does not fit."""
        if isinstance(error, AdvcamError) or not out_of_memory(error):
            raise error
        if at_once == 1:
            raise InputError(
                f"not enough memory for one image of {images.shape[2]}x{images.shape[3]} at scale {scale:g}: give smaller"
                " images or scales, precision='bfloat16', or mirror=False"
            ) from error
        self.max_pixels = max(1, at_once * self._pixels_of(images, scale) // 2)

    def _pixels_of(self, images: Tensor, scale: float) -> int:
        return max(1, round(images.shape[2] * images.shape[3] * scale**2) * self.views)
