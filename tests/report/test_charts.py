"""Charts as a reader sees them: places, ticks, tooltips and the table beneath."""

import re
from xml.etree import ElementTree as ET

import pytest

from advcam.report.charts import Axis, bars, lines, matrix, scatter, ticks, up_to


def parts(chart, tag):
    return list(ET.fromstring(str(chart.svg)).iter(tag))


def words(chart):
    return [text.text for text in parts(chart, "text")]


def tooltips(chart):
    return [title.text for title in parts(chart, "title")]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 2, [1, 1.2, 1.4, 1.6, 1.8, 2]),
        (0, 0.03, [0, 0.01, 0.02, 0.03]),
        (1, 300, [50, 100, 150, 200, 250, 300]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
    assert len(ticks(low, high)) <= 6


@pytest.mark.parametrize(("value", "expected"), [(0, 1), (0.43, 0.5), (1, 1), (7.2, 8), (1234, 1500), (0.0999, 0.1)])
def test_an_axis_ends_at_the_next_round_value(value, expected):
    assert up_to(value) == expected


def test_a_logarithmic_axis_has_equal_room_for_equal_factors():
    axis = Axis(0.01, 1, 0, 200, log=True)
    assert [axis(value) for value in (0.01, 0.1, 1)] == [0, 100, 200]
    assert axis.ticks() == [0.01, 0.1, 1]


def test_a_curve_goes_up_where_values_do_and_every_point_says_its_value():
    chart = lines("Loss", "how", "epoch", "loss", {"loss": [(1, 0.5), (2, None), (3, 0.25)]}, {"best:": 3})
    path = next(path for path in parts(chart, "path") if "line" in path.get("class"))
    (x1, y1), (x2, y2) = re.findall(r"([\d.]+) ([\d.]+)", path.get("d"))
    assert float(x1) < float(x2)
    assert float(y1) < float(y2)  # downwards on the page
    assert [text for text in tooltips(chart) if text.startswith("loss")] == ["loss: 0.5 at 1", "loss: 0.25 at 3"]
    assert {"epoch", "loss", "best: 3"} <= {*words(chart)}
    assert chart.rows == [["1", "0.5"], ["3", "0.25"]]


def test_curves_of_classes_can_be_told_apart_and_singled_out():
    series = {f"class {at}": [(0, 1.0), (50, at / 20), (100, 0.0)] for at in range(20)}
    told = {name: [(100, 0.0)] for name in series}
    chart = lines("t", "", "x", "y", series, percent=True, told=told, ids={name: 7 + at for at, name in enumerate(series)})
    curves = [group for group in parts(chart, "g") if group.get("data-of")]
    assert [curve.get("data-of") for curve in curves] == [str(7 + at) for at in range(20)]
    assert len({curve.find("path").get("class") for curve in curves}) == 20
    assert [title.text for title in curves[3].iter("title")] == ["class 3", "class 3: 0.0 % at 100"]
    assert chart.ids == list(range(7, 27))
    assert chart.rows == [["100", *["0.0 %"] * 20]]


def test_bars_are_as_long_as_their_shares_and_none_is_said():
    chart = bars("IoU", "", "IoU in %", {"masks": {"cat": 0.5, "dog": None, "cow": 0.25}}, {("masks", "cat"): (0.4, 0.6)})
    widths = [float(bar.get("width")) for bar in parts(chart, "rect")]
    assert widths[0] == pytest.approx(2 * widths[2], abs=0.2)
    assert tooltips(chart) == [
        "cat", "cat, masks: 50.0 % [40.0, 60.0]", "dog", "dog, masks: \N{EN DASH}", "cow", "cow, masks: 25.0 %",
    ]  # fmt: skip
    assert chart.rows == [["cat", "50.0 % [40.0, 60.0]"], ["dog", "\N{EN DASH}"], ["cow", "25.0 %"]]
    assert any(line.get("class") == "interval" for line in parts(chart, "line"))


def test_a_matrix_has_a_cell_for_each_pair_the_larger_the_darker():
    chart = matrix("Confusion", "", "truth", "found", ["cat", "dog"], [[0.9, 0.1], [0.0, 1.0]], percent=True)
    shades = [float(cell.get("fill-opacity")) for cell in parts(chart, "rect")]
    assert shades[3] > shades[0] > shades[1] > shades[2]
    assert "truth cat, found dog: 10.0 %" in tooltips(chart)
    assert chart.rows == [["cat", "90.0 %", "10.0 %"], ["dog", "0.0 %", "100.0 %"]]


def test_points_lie_on_a_logarithmic_axis():
    chart = scatter("Sizes", "", "share in %", "IoU in %", [(0.01, 0.2, "a, cat"), (0.1, 0.8, "b, cat"), (1.0, 0.5, "c, dog")])
    first, second, third = (float(point.get("cx")) for point in parts(chart, "circle"))
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert tooltips(chart)[0] == "a, cat: 1 % of the image, IoU 20.0 %"


def test_names_are_text_and_long_ones_are_cut_but_told_in_full():
    name = "<script>alert(1)</script> & more"
    chart = bars("t", "", "x", {"masks": {name: 0.5}})
    assert "<script" not in str(chart.svg)
    assert words(chart)[-1] == "<script>alert(1)<" + "…"
    assert name in tooltips(chart)


def test_nothing_to_draw_is_an_empty_chart():
    assert lines("t", "", "x", "y", {"a": []}).rows == []
    assert lines("t", "", "x", "y", {"a": [(1, 0.0)]}).rows == [["1", "0"]]
