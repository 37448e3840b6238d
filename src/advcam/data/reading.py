"""How the values of an image file become 8-bit RGB: range of values, bands, page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcam.errors import ImageError, SettingsError
from advcam.options import Config, option

Window = tuple[float, float] | str

RANGES = ("auto", "dtype", "data", "image")
"""Ranges with a name; others are two numbers."""
PERCENTILES = (0.1, 99.9)
"""Of a data set's values: what is shown as black and as white."""
OF_ONE_IMAGE = (0.5, 99.5)
USED = 0.25
"""Share of the type's range from which on an image of more than 8 bits is taken to use all of it."""
SAMPLE = 1024
"""Values of an image that the range of a data set is computed from."""
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Reading:
    """How a file's values become 8-bit RGB: ``255 (value - low) / (high - low)``, rounded down and clipped.

    Args:
        window: (low, high); or ``dtype``: 0 and the largest value of the file's type (1 of float); or ``image``: the .5th and
            99.5th percentile of each image. 8-bit images are left as they are by ``dtype``.
        bands: numbers of the bands that are red, green and blue, or of one that is grey, from 1; None: the file's own colours.
        page: of a file of several, from 1.
        deep_only: whether the range is that of images of more than 8 bits, so that 8-bit ones are left as they are.
    """

    window: Window = "dtype"
    bands: tuple[int, ...] | None = None
    page: int = 1
    deep_only: bool = False

    def record(self) -> Any:
        """Plain data, for a file; :meth:`from_record` reads it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Reading:
        """The reading that :meth:`record` described; None describes the default."""
        if not record:
            return cls()
        window, bands = record["window"], record["bands"]
        window = window if isinstance(window, str) else (float(window[0]), float(window[1]))
        return cls(window, tuple(bands) if bands else None, record["page"], record["deep_only"])

    @property
    def is_plain(self) -> bool:
        """Whether 8-bit images are left as they are."""
        return self.bands is None and (self.window == "dtype" or self.deep_only)

    def of(self, samples: Sequence[NDArray[np.float64]], white: float) -> Reading:
        """The reading with numbers for ``auto`` and ``data``, from samples of a data set's images of more than 8 bits.

        ``auto`` keeps the range of the type where the values use it.

        Args:
            samples: values of these images, see :func:`sample_of`.
            white: the largest value of their type, see :func:`of_type`.
        """
        if self.window not in ("auto", "data"):
            return self
        values = np.concatenate([*samples, np.zeros(0)])
        if not values.size or (self.window == "auto" and values.min() >= 0 and USED * white <= values.max() <= white):
            return replace(self, window="dtype")
        low, high = (float(v) for v in np.percentile(values, PERCENTILES))
        return replace(self, window=(low, max(high, low + 1e-6)), deep_only=True)


@dataclass(frozen=True, kw_only=True)
class ReadingConfig(Config):
    """How images are read."""

    range: str = option(
        "auto", "values of images of more than 8 bits that become black and white: LOW,HIGH; dtype: the type's; data: of the"
        " data set, image: of each image, by percentiles; auto: dtype where the values use it, else data",
        flag="range",
    )  # fmt: skip
    bands: tuple[int, ...] | None = option(
        None, "bands that are red, green and blue, or one that is grey, from 1", flag="bands", example="4,3,2", least=1
    )
    page: int = option(1, "page of a file of several, frame or slice, from 1", flag="page", least=1, most=10**6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise SettingsError(f"--bands is one band or three, such as 4,3,2; got {','.join(map(str, self.bands))}")
        window_of(self.range)

    @property
    def reading(self) -> Reading:
        """The reading that is asked for."""
        return Reading(window_of(self.range), self.bands, self.page)


def window_of(text: str) -> Window:
    """The range that an option names: one of :data:`RANGES`, or ``LOW,HIGH``.

    Raises:
        SettingsError: neither.
    """
    if text in RANGES:
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        raise SettingsError(f"--range is {', '.join(RANGES)} or two ascending numbers such as 0,4095; got {text!r}")
    return low, high


def chosen(path: Path, array: NDArray[Any], bands: Sequence[int] | None) -> NDArray[Any]:
    """One or three bands of an image [H, W, C].

    Raises:
        ImageError: a band that it does not have, or more than three and none was chosen.
    """
    count = array.shape[2]
    if bands is None:
        if count in (1, 3):
            return array
        raise ImageError(f"{path}: has {count} bands; say which are red, green and blue, or which one is grey: --bands 4,3,2")
    if max(bands) > count:
        raise ImageError(f"{path}: has {count} bands, and --bands asks for {','.join(map(str, bands))}")
    return array[:, :, [band - 1 for band in bands]]


def sample_of(array: NDArray[Any]) -> NDArray[np.float64]:
    """At most :data:`SAMPLE` finite values of an image, spread by multiples of the golden ratio.

    Equal steps would take a few columns alone where the width divides them.
    """
    flat = array.reshape(-1)
    at = slice(None) if flat.size <= SAMPLE else (np.arange(SAMPLE) * GOLDEN % 1 * flat.size).astype(np.int64)
    values = flat[at].astype(np.float64)
    return values[np.isfinite(values)]


def of_type(array: NDArray[Any]) -> tuple[float, float]:
    """Black and white of an image's type: 0 and 65535 for all integers of more than 8 bits, 0 and 1 for float."""
    return (0.0, 255.0) if array.dtype == np.uint8 else (0.0, 65535.0) if array.dtype.kind in "iu" else (0.0, 1.0)


def as_rgb(path: Path, array: NDArray[Any], reading: Reading) -> Image.Image:
    """An image [H, W, C] of any type as 8-bit RGB.

    Raises:
        ImageError: bands that it does not have, or float values outside of [0, 1] without a range.
    """
    bands = chosen(path, array, reading.bands)
    if bands.dtype == np.uint8 and (reading.window == "dtype" or reading.deep_only):
        shown = bands
    else:
        low, high = _window(path, bands, reading.window)
        scaled = (bands.astype(np.float64) - low) * (255 / (high - low)) + 1e-6
        shown = np.nan_to_num(np.clip(scaled, 0, 255), nan=0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3))))


def _window(path: Path, array: NDArray[Any], window: Window) -> tuple[float, float]:
    if not isinstance(window, str):
        return window
    if window == "image":
        sample = sample_of(array)
        low, high = np.percentile(sample, OF_ONE_IMAGE) if sample.size else (0.0, 1.0)
        return (float(low), float(high)) if high > low else (float(low), float(low) + 1)
    low, high = of_type(array)
    if array.dtype.kind == "f" and array.size and (np.nanmin(array) < low or np.nanmax(array) > high):
        raise ImageError(
            f"{path}: float pixels have no fixed range, and these are outside of 0 to 1: give --range LOW,HIGH, data or image"
        )
    return low, high
