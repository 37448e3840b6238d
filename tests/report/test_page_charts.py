"""What the charts of the page are made of: curves of precision and recall, and intervals of classes."""

import json
import re

import pytest
from test_page import Read, changed, percent, reported

from advcam.report.figures import per_class, precision


def measured(curves, areas):
    made = {
        "average_precision": {"mean": 0.5, "micro": 0.5, "per_class": areas},
        "split": "eval list",
        "images": 9,
        "rule": "r",
    }
    kept = {"per_class": curves, "split": "eval list", "images": 9, "rule": "the rule"}
    return made | {"history": []} | ({"precision_recall": kept} if curves is not None else {})


CAT = {"recall": [0.0, 0.5, 1.0], "precision": [1.0, 1.0, 0.4], "threshold": [None, 0.9, 0.2]}


def test_a_curve_is_a_stair_whose_area_is_the_average_precision():
    _, chart = precision(measured({"cat": CAT}, {"cat": 0.7}), {"cat": 8})
    path = re.search(r'd="([^"]+)" class="line', chart.svg)[1]
    corners = [tuple(map(float, point)) for point in re.findall(r"([\d.]+) ([\d.]+)", path)]
    left, middle, right = 52, (52 + 466) / 2, 466
    top, bottom = 12, 256
    low = bottom - 0.4 * (bottom - top)
    assert corners == [pytest.approx(one, abs=0.1) for one in [(left, top), (middle, top), (middle, low), (right, low)]]
    assert (chart.ids, chart.legend) == ([8], ("cat",))
    assert chart.rows[:2] == [["0", "100.0 %"], ["10", "100.0 %"]]
    assert chart.rows[5:7] == [["50", "100.0 %"], ["60", "40.0 %"]]
    assert chart.note == "eval list, 9 images; the rule. The lowest average precision first."


def test_of_many_classes_the_lowest_are_drawn_and_that_is_said():
    names = [f"class {at:02}" for at in range(23)]
    curves, areas = dict.fromkeys(names, CAT), {name: 1 - at / 23 for at, name in enumerate(names)}
    _, chart = precision(measured(curves, areas), {name: at for at, name in enumerate(names, 1)})
    assert chart.legend == tuple(reversed(names[3:]))
    assert "The 20 lowest of 23 classes." in chart.note


@pytest.mark.parametrize(("curves", "charts"), [(None, 1), ({}, 1), ({"of another run": CAT}, 1)])
def test_without_a_curve_there_is_no_chart_of_it(curves, charts):
    made = precision(measured(curves, {"cat": 0.7}), {"cat": 8})
    assert len(made) == charts
    assert ("were not kept by this run" in made[0].note) == (curves is None)


def test_lists_of_unequal_length_are_drawn_as_far_as_they_go():
    _, chart = precision(measured({"cat": CAT | {"precision": [1.0, 0.5]}}, {"cat": 0.7}), {"cat": 8})
    assert [row[1] for row in chart.rows] == ["50.0 %"] * 6  # up to a recall of 50 %


def test_a_run_of_an_earlier_version_has_a_page(run):
    changed(run / "1-classify" / "metrics.json", lambda metrics: metrics.pop("precision_recall"))
    changed(run / "metrics.json", lambda m: [found.pop("per_class_intervals", None) for found in m.values()])
    read = reported(run)
    assert "Precision and recall of the classifier" not in read.page
    assert "The scores behind it were not kept by this run" in read.text
    metrics = json.loads((run / "metrics.json").read_text())
    background = next(row for row in read.rows if row[0] == "background" and len(row) == 5)
    assert background[3] == f"{percent(metrics['masks']['per_class']['background'])} %"


def test_the_page_of_a_run_has_a_curve_for_each_class(finished):
    read, kept = Read(finished / "report.html"), json.loads((finished / "1-classify" / "metrics.json").read_text())
    assert "Precision and recall of the classifier" in read.text
    names = [*kept["precision_recall"]["per_class"]]
    header = next(row for row in read.rows if row and row[0] == "recall in %")
    assert {*header[1:]} == {*names}
    reached = next(row for row in read.rows if row and row[0] == "100" and len(row) == len(header))
    for name, cell in zip(header[1:], reached[1:], strict=True):
        assert cell == f"{percent(kept['precision_recall']['per_class'][name]['precision'][-1])} %"


def test_classes_have_intervals_beside_the_mean():
    found = {"mean_iou": 0.5, "interval": [0.4, 0.6], "per_class": {"cat": 0.5, "dog": 0.2}}
    found["per_class_intervals"] = {"cat": [0.45, 0.55], "dog": None}
    (chart,) = per_class({"masks": found})
    assert chart.svg.count('class="interval"') == 2
    assert chart.rows == [["mean of all", "50.0 % [40.0, 60.0]"], ["cat", "50.0 % [45.0, 55.0]"], ["dog", "20.0 %"]]
