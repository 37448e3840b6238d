"""Images of other than three channels, which networks are given and people are shown three of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image


class Channels(Image.Image):
    """An image of any number of 8-bit channels.

    Arrays made of it have all channels [H, W, C], and so have its copies, also resized, cropped and turned ones, and those in
    another process. In everything else, such as saving, pasting and converting, it is the RGB image that people are shown: the
    first three channels, or the first as grey where there are fewer.

    Args:
        layers: a grey image of each channel.

    Example:
        >>> image = Channels([Image.new("L", (4, 2), value) for value in (10, 20, 30, 40)])
        >>> np.asarray(image.resize((2, 1))).tolist(), image.convert("RGB").getpixel((0, 0))
        ([[[10, 20, 30, 40], [10, 20, 30, 40]]], (10, 20, 30))
    """

    def __init__(self, layers: Sequence[Image.Image]) -> None:
        self.layers = tuple(layers)
        shown = self.layers[:3] if len(self.layers) > 2 else self.layers[:1] * 3
        vars(self).update(vars(Image.merge("RGB", shown)))

    @property
    def __array_interface__(self) -> dict[str, Any]:
        stacked = np.stack([np.asarray(layer) for layer in self.layers], axis=-1)
        return {"shape": stacked.shape, "typestr": "|u1", "version": 3, "data": stacked.tobytes()}

    def each(self, change: Callable[[Image.Image], Image.Image]) -> Channels:
        """The image with every channel changed."""
        return Channels([change(layer) for layer in self.layers])

    def resize(self, *args: Any, **more: Any) -> Channels:
        """As Pillow's, of every channel."""
        return self.each(lambda layer: layer.resize(*args, **more))

    def crop(self, *args: Any, **more: Any) -> Channels:
        """As Pillow's, of every channel."""
        return self.each(lambda layer: layer.crop(*args, **more))

    def transpose(self, *args: Any, **more: Any) -> Channels:
        """As Pillow's, of every channel."""
        return self.each(lambda layer: layer.transpose(*args, **more))

    def copy(self) -> Channels:
        """As Pillow's, of every channel."""
        return self.each(lambda layer: layer.copy())

    __copy__ = copy

    def thumbnail(self, *args: Any, **more: Any) -> None:
        """As Pillow's, of every channel."""
        smaller = self.copy().layers
        for layer in smaller:
            layer.thumbnail(*args, **more)
        vars(self).update(vars(Channels(smaller)))

    def convert(self, *args: Any, **more: Any) -> Image.Image:
        """As Pillow's, of the RGB image that people are shown."""
        return super().copy().convert(*args, **more)

    def __reduce__(self) -> tuple[Any, ...]:
        return Channels, (self.layers,)


def channels_of(image: Image.Image) -> int:
    """The number of channels that a network is given of an image."""
    return len(image.layers) if isinstance(image, Channels) else 3
