"""The curves of precision and recall that the classify step keeps."""

import json

import pytest
import torch

from advcam.errors import StoreError
from advcam.stages.ranking import average_precision, precision_recall
from advcam.store import read_json
from advcam.store.records import ClassifyMetrics


def test_a_curve_has_a_point_for_each_image_of_its_class():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.1]], dtype=torch.float64)
    truth = torch.tensor([[1], [0], [1], [0], [0]])
    found = precision_recall(scores, truth, ("cat",))
    assert found == {
        "cat": {
            "recall": [0.0, 0.5, 1.0],
            "precision": [1.0, 1.0, pytest.approx(2 / 3, abs=1e-6)],
            "threshold": [None, 0.9, 0.7],
        }
    }


def test_images_of_one_score_are_found_together():
    scores = torch.tensor([[0.5], [0.5], [0.5], [0.2]], dtype=torch.float64)
    found = precision_recall(scores, torch.tensor([[1], [1], [0], [1]]), ("cat",))["cat"]
    assert found["recall"] == pytest.approx([0, 2 / 3, 1], abs=1e-6)
    assert found["precision"] == pytest.approx([1, 2 / 3, 3 / 4], abs=1e-6)
    assert found["threshold"] == [None, 0.5, 0.2]


def test_a_pair_that_is_not_known_has_no_part_in_a_curve():
    scores = torch.tensor([[0.9], [0.8], [0.7]], dtype=torch.float64)
    known = precision_recall(scores[[0, 2]], torch.tensor([[1], [1]]), ("cat",))
    assert precision_recall(scores, torch.tensor([[1], [-1], [1]]), ("cat",)) == known
    assert precision_recall(scores, torch.tensor([[1], [0], [1]]), ("cat",)) != known


def test_a_class_that_no_image_shows_has_no_curve():
    scores = torch.rand(3, 2, dtype=torch.float64)
    assert [*precision_recall(scores, torch.tensor([[0, 1], [-1, 0], [0, 0]]), ("cat", "dog"))] == ["dog"]


@pytest.mark.parametrize("images", [1, 7, 99, 100])
def test_the_points_of_up_to_100_images_have_the_average_precision(images):
    draw = torch.Generator().manual_seed(images)
    scores = torch.rand(10 * images, 1, dtype=torch.float64, generator=draw)
    truth = torch.zeros(10 * images, 1, dtype=torch.long)
    truth[torch.randperm(10 * images, generator=draw)[:images]] = 1
    points = precision_recall(scores, truth, ("cat",))["cat"]
    assert len(points["recall"]) == images + 1
    recall, precision = (torch.tensor(points[name], dtype=torch.float64) for name in ("recall", "precision"))
    area = float(((recall[1:] - recall[:-1]) * precision[1:]).sum())
    assert area == pytest.approx(average_precision(scores, truth, ("cat",))["per_class"]["cat"], abs=2e-5)


def test_the_points_of_more_images_are_101_of_the_curve_with_its_ends():
    draw = torch.Generator().manual_seed(0)
    truth = (torch.rand(20_000, 1, generator=draw) < 0.3).long()
    scores = (torch.randn(20_000, 1, dtype=torch.float64, generator=draw) + truth).sigmoid()
    points = precision_recall(scores, truth, ("cat",))["cat"]
    assert len(points["recall"]) == 101
    assert (points["recall"][0], points["precision"][0], points["recall"][-1]) == (0, 1, 1)
    for recall, precision, threshold in list(zip(*points.values(), strict=True))[1:]:
        hit = (scores[:, 0] >= threshold - 1e-6) & (truth[:, 0] == 1)
        assert recall == pytest.approx(int(hit.sum()) / int(truth.sum()), abs=1e-3)
        assert precision == pytest.approx(int(hit.sum()) / int((scores >= threshold - 1e-6).sum()), abs=1e-3)


def test_a_run_keeps_the_curves_of_the_images_for_scoring(finished):
    kept = read_json(finished / "1-classify" / "metrics.json", ClassifyMetrics)
    assert (kept["precision_recall"]["split"], kept["precision_recall"]["images"]) == ("eval list", 8)
    shown = {name for name, value in kept["average_precision"]["per_class"].items() if value is not None}
    assert {*kept["precision_recall"]["per_class"]} == shown
    for name, points in kept["precision_recall"]["per_class"].items():
        steps = zip(points["recall"][1:], points["recall"], points["precision"][1:], strict=False)
        area = sum((after - before) * precision for after, before, precision in steps)
        assert area == pytest.approx(kept["average_precision"]["per_class"][name], abs=1e-4)


def test_a_damaged_curve_is_said(run):
    path = run / "1-classify" / "metrics.json"
    made = json.loads(path.read_text())
    made["precision_recall"]["per_class"] = {"ring": {"recall": [0, 7], "precision": [1, 1], "threshold": [None, 0.1]}}
    path.write_text(json.dumps(made))
    with pytest.raises(StoreError, match=r"Expected `?float`? <= 1.0.*recall"):
        read_json(path, ClassifyMetrics)
