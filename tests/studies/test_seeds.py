"""Maps at every T from one climb, and what mIoU is summed from."""

import dataclasses

import numpy as np
import pytest
import torch

from advcam.attribution import settings
from advcam.extractor import AdvCAM
from advcam.metrics import resampled, sweep
from advcam.studies.climbs import Climber, scored
from advcam.studies.sample import of_own, truth
from advcam.studies.seeds import Score, measure

FORMS = {
    "default": {"steps": 5},
    "both terms": {"steps": 4, "suppress": 1.0, "restrain": 1.0, "mirror": True},
    "scales": {"steps": 12, "scales": (1.0, 0.5), "halve_small": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_maps_at_every_t_are_those_of_a_climb_of_t_steps(context, form):
    climber, item = Climber(context), context.data.eval[0]
    s = settings("default", **FORMS[form])
    image = climber.image(item)
    at = climber.sums(image, item.labels, s)
    assert len(at) == s.steps
    for t in (2, s.steps // 2, s.steps):
        alone = AdvCAM(climber.model, **dataclasses.asdict(dataclasses.replace(s, steps=t)))(image, [list(item.labels)])
        assert torch.equal(at[t - 1].maps, alone.maps)
        assert torch.equal(at[t - 1].normalised(item.size), alone.normalised(item.size))
    plain = AdvCAM(climber.model, **dataclasses.asdict(dataclasses.replace(s, steps=1)))(image, [list(item.labels)])
    torch.testing.assert_close(at[0].maps, plain.maps)  # not prepared: it is a single step
    assert torch.equal(at[0].maps, at[-1].plain.maps)


def test_scores_are_those_of_the_sweep_over_all_images(context, scenes):
    climber, classes = Climber(context), context.data.classes
    s, outputs = settings("default", steps=3), len(classes) + 1
    items = list(context.data.eval)[:4]
    parts = [measure(climber, s, scenes / "masks", item) for item in items]
    assert parts[0]["hits"].shape == (3, 100, len(items[0].labels) + 1)
    weights = resampled(len(items), 30, seed=2)
    for t in (1, 3):
        samples = []
        for item in items:
            maps = climber.sums(climber.image(item), item.labels, s)[t - 1]
            labels = [label + 1 for label in item.labels]
            samples.append((scored(maps, item.size), labels, truth(scenes / "masks", item, classes)))
        found = Score.of(items, parts, t, outputs, weights)
        for row, drawn in enumerate(weights[:6].long().tolist()):
            whole = sweep([one for one, count in zip(samples, drawn, strict=True) for _ in range(count)], outputs)
            assert float(found.mean_iou[row]) == pytest.approx(float(whole.mean_iou[whole.best]), abs=1e-12)
            assert float(found.noise[row]) == pytest.approx(float(whole.noise[whole.best]), abs=1e-12)
            assert float(found.threshold[row]) == whole.thresholds[whole.best]


def test_classes_that_an_image_is_not_said_to_have_still_count(context, scenes):
    item = next(item for item in context.data.eval if len(item.labels) == 1)
    (own,) = item.labels
    other = dataclasses.replace(item, labels=((own + 1) % 5,))
    part = measure(Climber(context), settings("default", steps=1), scenes / "masks", other)
    assert part["true"][own + 1] > 0
    assert part["true"].sum() == item.size[0] * item.size[1]
    assert (part["hits"][:, :, 1] == 0).all()


def test_of_own_leaves_what_is_ignored():
    mask = torch.tensor([[0, 2, 3, 5, 255]])
    assert of_own(mask, (1, 4)).tolist() == [[0, 1, 3, 2, 255]]
    assert of_own(mask, ()).tolist() == [[0, 1, 1, 1, 255]]


def test_a_row_has_paired_differences(context, scenes):
    items = list(context.data.eval)[:3]
    parts = [measure(Climber(context), settings("default", steps=2), scenes / "masks", item) for item in items]
    weights = resampled(len(items), 40)
    one, two = (Score.of(items, parts, t, 6, weights) for t in (1, 2))
    row = two.row(gain=one, itself=two)
    assert row["gain"] == pytest.approx(float(two.mean_iou[0] - one.mean_iou[0]))
    assert row["gain_low"] == pytest.approx(np.percentile((two.mean_iou - one.mean_iou)[1:], 2.5))
    assert (row["itself"], row["itself_low"], row["itself_high"]) == (0, 0, 0)
    assert row["mean_iou_low"] <= row["mean_iou_high"]
