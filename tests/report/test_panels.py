"""Maps as heat, and panels beside each other."""

import numpy as np
from PIL import Image

from advcam.report import grid, heat


def test_heat_is_black_red_yellow_white_over_the_darkened_image():
    values = np.array([[0, 1 / 3, 2 / 3, 1]], np.float32)
    shown = np.asarray(heat(values, Image.new("RGB", (4, 1), (100, 100, 100)))).astype(int)[0]
    share = 0.25 + 0.6 * values[0][:, None]
    colours = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255]])
    assert np.abs(shown - (100 * (1 - share) + colours * share)).max() <= 1
    assert (np.diff(shown.sum(1)) > 0).all()  # the stronger, the brighter


def test_heat_is_enlarged_to_the_image_and_shows_it_without_colour():
    shown = np.asarray(heat(np.zeros((2, 3), np.float32), Image.new("RGB", (30, 20), (200, 0, 0))))
    assert shown.shape == (20, 30, 3)
    assert (shown == shown[..., :1]).all()
    assert shown.any()


def test_rows_are_as_high_as_their_highest_and_what_was_not_made_leaves_no_gap():
    red, blue = Image.new("RGB", (10, 20), "red"), Image.new("RGB", (30, 5), "blue")
    sheet = np.asarray(grid([[red, None, blue], [blue]], gap=2))
    assert sheet.shape == (20 + 2 + 5, 10 + 2 + 30, 3)
    assert (sheet[:20, :10] == (255, 0, 0)).all()
    assert (sheet[:5, 12:] == (0, 0, 255)).all()
    assert (sheet[22:, :30] == (0, 0, 255)).all()
    assert (sheet[:20, 10:12] == 255).all()
    assert (sheet[20:22] == 255).all()
