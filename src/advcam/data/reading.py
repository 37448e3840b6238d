"""How the values of an image file become 8-bit RGB, or 8-bit channels of another number: range of values, bands, page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advcam.errors import ImageError, SettingsError
from advcam.limits import MAX_BANDS
from advcam.options import Config, option

from .channels import Channels

if TYPE_CHECKING:
    from .places import Place

Window = tuple[float, float] | str
Bands = tuple[int, ...] | Literal["all"] | None

RANGES = ("auto", "dtype", "data", "image")
"""Ranges with a name; others are two numbers."""
PERCENTILES = (0.1, 99.9)
"""Of a data set's values: what is shown as black and as white."""
OF_ONE_IMAGE = (0.5, 99.5)
USED = 0.25
"""Share of the type's range from which on an image of more than 8 bits is taken to use all of it."""
SAMPLE = 1024
"""Values of an image that the range of a data set is computed from."""
AT_ONCE = 2**22
"""Values that become 8-bit ones at once: in float64 those of a large image would not fit into memory."""
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Reading:
    """How a file's values become 8-bit channels: ``255 (value - low) / (high - low)``, rounded down and clipped.

    The channels are red, green and blue, except where ``bands`` or ``one_channel`` ask for another number.

    Args:
        window: (low, high); or ``dtype``: 0 and the largest value of the file's type (1 of float); or ``image``: the .5th and
            99.5th percentile of each image. 8-bit images are left as they are by ``dtype``.
        bands: numbers of the bands, from 1: three are red, green and blue, one is grey, others are channels of their own;
            ``all``: every band, until :meth:`counted` says how many; None: the file's own colours.
        page: of a file of several, from 1.
        deep_only: whether the range is that of images of more than 8 bits, so that 8-bit ones are left as they are.
        one_channel: give grey as one channel, not as three equal ones; colours become grey.
    """

    window: Window = "dtype"
    bands: Bands = None
    page: int = 1
    deep_only: bool = False
    one_channel: bool = False

    def record(self) -> Any:
        """Plain data, for a file; :meth:`from_record` reads it."""
        kept = asdict(self)
        return kept if self.one_channel else {name: value for name, value in kept.items() if name != "one_channel"}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Reading:
        """The reading that :meth:`record` described; None describes the default."""
        if not record:
            return cls()
        window, bands = record["window"], record["bands"]
        window = window if isinstance(window, str) else (float(window[0]), float(window[1]))
        read: Bands = "all" if bands == "all" else tuple(bands) if bands else None
        return cls(window, read, record["page"], record["deep_only"], record.get("one_channel", False))

    @property
    def is_plain(self) -> bool:
        """Whether 8-bit images are left as they are."""
        return self.bands is None and not self.one_channel and (self.window == "dtype" or self.deep_only)

    @property
    def channels(self) -> int:
        """The number of channels that a network is given."""
        assert self.bands != "all", "all bands were not counted"
        return 1 if self.one_channel else len(self.bands) if self.bands and len(self.bands) != 1 else 3

    def counted(self, bands: int) -> Reading:
        """The reading with numbers for ``all`` bands, of images that have so many."""
        return replace(self, bands=tuple(range(1, bands + 1))) if self.bands == "all" else self

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
    bands: str = option(
        "", "bands, from 1: three are red, green and blue (4,3,2), one is grey, others are the network's channels; all: every"
        " band; empty: the file's colours", flag="bands", example="4,3,2",
    )  # fmt: skip
    one_channel: bool = option(False, "give grey images to the network as one channel, not as three", flag="one-channel")
    page: int = option(1, "page of a file of several, frame or slice, from 1", flag="page", least=1, most=10**6)

    def __post_init__(self) -> None:
        super().__post_init__()
        bands = bands_of(self.bands)
        if self.one_channel and bands and len(bands) != 1:
            raise SettingsError(f"--one-channel is for one band, such as --bands 1; got --bands {self.bands}")
        window_of(self.range)

    @property
    def reading(self) -> Reading:
        """The reading that is asked for."""
        return Reading(window_of(self.range), bands_of(self.bands), self.page, one_channel=self.one_channel)


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


def bands_of(text: str) -> Bands:
    """The bands that an option names: numbers from 1, ``all``, or none.

    Raises:
        SettingsError: anything else.
    """
    if text in ("", "all"):
        return "all" if text else None
    numbers = [int(part) if part.strip().isdecimal() and len(part) < 9 else 0 for part in text.split(",")]
    if not (len(numbers) <= MAX_BANDS and all(0 < number <= MAX_BANDS for number in numbers)):
        raise SettingsError(f"--bands is numbers from 1 to {MAX_BANDS} such as 4,3,2, or all; got {text!r:.60}")
    return tuple(numbers)


def chosen(path: Place, array: NDArray[Any], bands: Bands) -> NDArray[Any]:
    """The bands of an image [H, W, C] that are asked for.

    Raises:
        ImageError: a band that it does not have, or bands of which none was chosen.
    """
    count = array.shape[2]
    if bands == "all" and count > MAX_BANDS:
        raise ImageError(f"{path}: has more than {MAX_BANDS} bands; say which: --bands 4,3,2")
    if bands == "all" or (bands is None and count in (1, 3)):
        return array
    if bands is None:
        raise ImageError(
            f"{path}: has {count} bands; say which are red, green and blue, or which one is grey: --bands 4,3,2; --bands all"
            " makes a network of them all"
        )
    if max(bands) > count:
        raise ImageError(f"{path}: has {count} bands, and --bands asks for {','.join(map(str, bands))}")
    return array[:, :, [band - 1 for band in bands]]


def sample_of(array: NDArray[Any]) -> NDArray[np.float64]:
    """At most :data:`SAMPLE` finite values of an image, spread by multiples of the golden ratio.

    Equal steps would take a few columns alone where the width divides them.
    """
    flat = np.ma.compressed(array)
    at = slice(None) if flat.size <= SAMPLE else (np.arange(SAMPLE) * GOLDEN % 1 * flat.size).astype(np.int64)
    values = flat[at].astype(np.float64)
    return values[np.isfinite(values)]


def of_type(array: NDArray[Any]) -> tuple[float, float]:
    """Black and white of an image's type: 0 and 65535 for all integers of more than 8 bits, 0 and 1 for float."""
    return (0.0, 255.0) if array.dtype == np.uint8 else (0.0, 65535.0) if array.dtype.kind in "iu" else (0.0, 1.0)


def as_8_bits(path: Place, array: NDArray[Any], reading: Reading) -> Image.Image:
    """An image [H, W, C] of any type in 8 bits, with as many channels as ``reading`` says; masked values become 0.

    Raises:
        ImageError: bands that it does not have, or float values outside of [0, 1] without a range.
    """
    bands = chosen(path, array, reading.bands)
    if bands.dtype == np.uint8 and (reading.window == "dtype" or reading.deep_only):
        shown = np.ma.filled(bands, 0)
    else:
        low, high = _window(path, bands, reading.window)
        rows = max(1, AT_ONCE // max(1, bands[0].size))
        shown = np.concatenate([_scaled(bands[at : at + rows], low, high) for at in range(0, len(bands), rows)])
    if shown.shape[2] in (1, 3):
        image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3))))
        return Channels([image.convert("L")]) if reading.one_channel else image
    return Channels([Image.fromarray(np.ascontiguousarray(shown[:, :, at])) for at in range(shown.shape[2])])


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (values.astype(np.float64) - low) * (255 / (high - low)) + 1e-6
    return np.nan_to_num(np.clip(np.ma.filled(scaled, 0), 0, 255), nan=0).astype(np.uint8)


def _window(path: Place, array: NDArray[Any], window: Window) -> tuple[float, float]:
    if not isinstance(window, str):
        return window
    if window == "image":
        sample = sample_of(array)
        low, high = np.percentile(sample, OF_ONE_IMAGE) if sample.size else (0.0, 1.0)
        return (float(low), float(high)) if high > low else (float(low), float(low) + 1)
    low, high = of_type(array)
    values = np.ma.compressed(array) if array.dtype.kind == "f" else np.zeros(0)
    if values.size and (np.nanmin(values) < low or np.nanmax(values) > high):
        raise ImageError(
            f"{path}: float pixels have no fixed range, and these are outside of 0 to 1: give --range LOW,HIGH, data or image"
        )
    return low, high
