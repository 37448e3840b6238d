"""Windows that cover a side, and maps put together."""

from itertools import pairwise

import pytest
import torch

from advcam.attribution.windows import Span, place, spans
from advcam.errors import InputError


@pytest.mark.parametrize(("window", "multiple"), [(64, 8), (64, 16), (128, 32), (96, 8), (17, 1)])
def test_what_is_kept_covers_a_side_once_and_lies_inside_its_window(window, multiple):
    for side in range(1, 700, 7):
        found = spans(side, window, multiple)
        assert [at for span in found for at in range(span.kept.start, span.kept.stop)] == list(range(side))
        for before, after in pairwise(found):
            edge, eighth = before.kept.stop, window // 8 // multiple * multiple
            assert min(before.seen.stop - edge, edge - after.seen.start) >= eighth
            assert before.seen.stop - after.seen.start >= window // 4 // multiple * multiple
        assert all(span.seen.start % multiple == 0 and span.seen.stop - span.seen.start <= window for span in found)


def test_a_short_side_is_one_window():
    assert spans(50, 64, 16) == [Span(slice(0, 50), slice(0, 50))]


@pytest.mark.parametrize(("window", "nearest"), [(100, "96"), (48, "64"), (20, "64")])
def test_a_window_of_broken_cells_names_the_nearest(window, nearest):
    with pytest.raises(InputError, match=f"a multiple of 16 of at least 64.*{nearest} is the nearest"):
        spans(500, window, 16)


def test_cells_of_windows_are_put_where_they_belong():
    whole = torch.arange(9 * 13.0).reshape(1, 9, 13)
    joined = torch.zeros_like(whole)
    for rows in spans(33, 16, 4):  # 9 cells of 4 pixels, the last of 1
        for columns in spans(50, 32, 4):
            part = whole[
                :, rows.seen.start // 4 : -(-rows.seen.stop // 4), columns.seen.start // 4 : -(-columns.seen.stop // 4)
            ]
            place(joined, part, rows, columns, 4)
    assert torch.equal(joined, whole)
