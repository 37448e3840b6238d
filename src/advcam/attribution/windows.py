"""Windows that cover a large image, and one climb made of the climbs in each of them."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_whole
from advcam.limits import MAX_CELLS


class Span(NamedTuple):
    """One side of a window, in pixels: what it sees, and what is taken from it; the rest is there for its neighbours."""

    seen: slice
    kept: slice


def spans(side: int, window: int, multiple: int) -> list[Span]:
    """Windows that cover a side and overlap by at least a quarter; what is kept of each adds up to the side.

    Neighbours meet in the middle of their overlap, so that between a kept cell and the border of its window, unless that is
    the border of the image, there is an eighth of the window: there the features are nearly those of the whole image.

    Args:
        side: pixels.
        window: most pixels of a window, a multiple of ``multiple``, and at least four times it where the side is longer.
        multiple: windows begin at, and keep, multiples of it: the pixels of a cell, so that all cells lie on one grid.

    Returns:
        The spans from the first to the last; one where the side is no longer than the window.

    Raises:
        InputError: numbers that are out of range, or a window that is too small for ``multiple``.

    Source: ours.

    Example:
        >>> [(span.seen.start, span.seen.stop, span.kept.stop) for span in spans(100, window=64, multiple=8)]
        [(0, 64, 48), (40, 100, 100)]
    """
    side, window = expect_whole(side, "side", 1, MAX_CELLS), expect_whole(window, "window", 1, MAX_CELLS)
    multiple = expect_whole(multiple, "multiple", 1, MAX_CELLS)
    if side <= window:
        return [Span(slice(0, side), slice(0, side))]
    if window % multiple or window < 4 * multiple:
        raise InputError(
            f"a window of {window} pixels: expected a multiple of {multiple} of at least {4 * multiple}, since a cell of the"
            f" map is {multiple} pixels; {max(4, round(window / multiple)) * multiple} is the nearest"
        )
    last = -(-(side - window) // multiple)  # where the last one begins, in cells
    steps = -(-last // (3 * window // (4 * multiple)))
    starts = [at * last // steps * multiple for at in range(steps + 1)]
    stops = [min(side, start + window) for start in starts]
    meet = [(start + stop) // (2 * multiple) * multiple for start, stop in zip(starts[1:], stops[:-1], strict=True)]
    return [
        Span(slice(start, stop), slice(begin, end))
        for start, stop, begin, end in zip(starts, stops, [0, *meet], [*meet, side], strict=True)
    ]


def cells(pixels: slice, cell: int, origin: int = 0) -> slice:
    """The cells that some pixels lie in, counted from the pixel ``origin``."""
    return slice((pixels.start - origin) // cell, -(-(pixels.stop - origin) // cell))


def place(whole: Float[Tensor, "*b y x"], part: Float[Tensor, "*b h w"], rows: Span, columns: Span, cell: int) -> None:
    """Copy what is kept of a window's map to its place in the map of the whole image.

    Args:
        whole: [..., Y, X], the map of the whole image, which is changed.
        part: [..., h, w], the map of the window.
        rows: of the window.
        columns: of the window.
        cell: side of a cell in pixels.

    Source: ours.

    Example:
        >>> import torch
        >>> whole, row = torch.zeros(1, 4), Span(slice(0, 2), slice(0, 2))
        >>> for value, column in enumerate(spans(8, window=6, multiple=1), 1):
        ...     place(whole, torch.full((1, 3), float(value)), row, column, cell=2)
        >>> whole.tolist()
        [[1.0, 1.0, 2.0, 2.0]]
    """
    to = [cells(span.kept, cell) for span in (rows, columns)]
    of = [cells(span.kept, cell, span.seen.start) for span in (rows, columns)]
    whole[(..., *to)] = part[(..., *of)]
