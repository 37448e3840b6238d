"""Counts against a plain loop and against torchmetrics."""

import pytest
import torch

import advcam
from advcam.errors import InputError
from advcam.metrics import confusion, iou, mean_iou, noise, sweep_counts


def random_sample(seed, classes=4, size=(17, 23)):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, *size, generator=generator)
    truth = torch.randint(0, classes, size, generator=generator)
    truth[0] = 255
    return maps, [1, 3], truth


def test_all_thresholds_at_once_equal_one_at_a_time():
    samples = [random_sample(seed) for seed in range(3)]
    samples[1] = (torch.zeros(0, 17, 23), [], samples[1][2])  # an image with no class
    samples[2][0][:, :4] = 0.5  # ties with a threshold
    thresholds = (0.0, 0.25, 0.5, 0.9, 1.0)
    found = advcam.sweep(samples, 4, thresholds)
    for at, threshold in enumerate(thresholds):
        counts = torch.zeros(4, 4, dtype=torch.long)
        for maps, classes, truth in samples:
            scores = torch.zeros(4, *truth.shape)
            scores[0] = threshold
            for row, c in enumerate(classes):
                scores[c] = maps[row]
            scores[[c for c in range(1, 4) if c not in classes]] = -1
            counts += confusion(scores.argmax(0), truth, 4)
        assert found.mean_iou[at] == pytest.approx(float(mean_iou(counts)))
        assert found.noise[at] == pytest.approx(float(noise(counts)), nan_ok=True)
        assert torch.allclose(found.iou[at], iou(counts), equal_nan=True)


def test_counts_add():
    samples = [random_sample(seed) for seed in range(4)]
    parts = [sweep_counts(*sample, 4) for sample in samples]
    together = advcam.sweep(samples, 4)
    added = (parts[0] + parts[1]) + (parts[2] + parts[3])
    assert torch.equal(added.result().mean_iou, together.mean_iou)


def test_iou_equals_torchmetrics():
    from torchmetrics.functional.classification import multiclass_jaccard_index

    import advcam.models  # noqa: F401  (the mend)

    _, _, truth = random_sample(1)
    prediction = torch.randint(0, 4, truth.shape)
    theirs = multiclass_jaccard_index(prediction[None], truth[None], num_classes=4, average=None, ignore_index=255)
    assert torch.allclose(iou(confusion(prediction, truth, 4)).float(), theirs)


def test_by_hand():
    counts = confusion(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 255]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert iou(counts)[:2].tolist() == [0.5, 0.5]
    assert iou(counts)[2].isnan()  # absent from both
    assert mean_iou(counts) == 0.5
    assert noise(counts) == 0.5


def test_best_says_where_it_stands():
    """An object at .6 beside a stray cell at .4: the thresholds between are right, and the first of them is named."""
    maps, truth = torch.tensor([[[0.6, 0.6, 0.4, 0.0]]]), torch.tensor([[1, 1, 0, 0]])
    found = advcam.sweep([(maps, [1], truth)], 2, (0.0, 0.3, 0.5, 0.55, 0.7))
    assert found.best == 2
    assert found.mean_iou.tolist() == pytest.approx([7 / 12, 7 / 12, 1, 1, 1 / 4])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion(torch.zeros(2, dtype=torch.long), torch.zeros(3, dtype=torch.long), 2), "must be of one size"),
        (lambda: confusion(torch.tensor([5]), torch.tensor([0]), 2), "prediction holds 5 to 5; expected 0 to 1"),
        (lambda: confusion(torch.tensor([0]), torch.tensor([7]), 2), "truth holds 7 to 7"),
        (lambda: sweep_counts(torch.rand(1, 2, 2), [1], torch.zeros(3, 3, dtype=torch.long), 2), "do not fit"),
        (lambda: sweep_counts(torch.rand(1, 2, 2), [2], torch.zeros(2, 2, dtype=torch.long), 2), "positions 1 to 1"),
        (lambda: sweep_counts(torch.rand(1, 2, 2), [1], torch.full((2, 2), 9), 2), "the truth holds class 9"),
        (lambda: sweep_counts(torch.rand(1, 2, 2), [1], torch.full((2, 2), -1), 2), "the truth holds class -1"),
        (lambda: sweep_counts(torch.rand(1, 2, 2), [1], torch.zeros(2, 2, dtype=torch.long), 2, (0.5, 0.2)), "ascending"),
        (lambda: advcam.sweep([], 2), "no samples: expected"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
