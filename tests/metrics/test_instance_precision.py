"""Average precision of instances: by hand, and beside loops."""

import pytest
import torch

from advcam.errors import InputError
from advcam.metrics.instances import IOUS, match_instances


def strip(*spans, length=20):
    """[n, 1, length]: one mask for each (first, last + 1)."""
    masks = torch.zeros(len(spans), 1, length, dtype=torch.bool)
    for mask, (first, last) in zip(masks, spans, strict=True):
        mask[:, first:last] = True
    return masks


def ids(*values):
    return torch.tensor(values, dtype=torch.long)


def test_by_hand():
    """Class 1: hit, miss, hit. Class 2: hit, the same instance hit again, hit. Of 2 each: 1/2 * 1 + 1/2 * 2/3."""
    first = match_instances(
        strip((0, 10), (14, 18), (10, 14)), ids(1, 1, 2), torch.tensor([0.9, 0.8, 0.5]), strip((0, 10), (10, 14)), ids(1, 2)
    )
    second = match_instances(
        strip((0, 5), (10, 14), (10, 13)), ids(1, 2, 2), torch.tensor([0.7, 0.9, 0.6]), strip((0, 6), (10, 14)), ids(1, 2)
    )
    found = first + second
    assert found.classes == (1, 2)
    assert found.average_precision()[1].tolist() == pytest.approx([0.5 + 0.5 * 2 / 3, 0.5 + 0.5 * 2 / 3])
    assert found.mean_average_precision().tolist() == pytest.approx([5 / 6] * 3)


def average_precision_by_loops(images, class_id, least):
    """The same, prediction by prediction, and every recall level by itself."""
    rows, truths = [], 0
    for image in images:
        masks, classes, scores, truth, truth_classes = image
        truths += int((truth_classes == class_id).sum())
        taken = set()
        for p in sorted(range(len(masks)), key=lambda p: -float(scores[p])):
            if classes[p] != class_id:
                continue
            ious = {
                t: float((masks[p] & truth[t]).sum()) / float((masks[p] | truth[t]).sum())
                for t in range(len(truth))
                if truth_classes[t] == class_id
            }
            best = max(ious, key=ious.get, default=None)
            hit = best is not None and ious[best] >= least and best not in taken
            if hit:
                taken.add(best)
            rows.append((float(scores[p]), hit))
    rows.sort(key=lambda row: -row[0])
    points, hits = [], 0
    for count, (_, hit) in enumerate(rows, 1):
        hits += hit
        points.append((hits / truths, hits / count))
    return sum(max((p for r, p in points if r >= level / truths), default=0) for level in range(1, truths + 1)) / truths


def test_beside_loops():
    generator = torch.Generator().manual_seed(0)
    images = []
    for _ in range(12):
        p, t = (int(n) for n in torch.randint(0, 6, (2,), generator=generator))
        corner = torch.randint(0, 5, (p + t, 2), generator=generator)
        masks = torch.zeros(p + t, 12, 12, dtype=torch.bool)
        for mask, (y, x) in zip(masks, corner, strict=True):
            mask[y : y + 6, x : x + 7] = True
        classes = torch.randint(1, 3, (p + t,), generator=generator)
        images.append((masks[:p], classes[:p], torch.rand(p, generator=generator), masks[p:], classes[p:]))
    total = match_instances(*images[0])
    for image in images[1:]:
        total = total + match_instances(*image)
    for row, least in zip(total.average_precision(), IOUS, strict=True):
        expected = [average_precision_by_loops(images, class_id, least) for class_id in total.classes]
        assert row.tolist() == pytest.approx(expected)
    assert 0.05 < total.mean_average_precision()[1] < 0.95


def test_ignored_pixels_do_not_count():
    ignore = strip((6, 20))[0]
    found = match_instances(
        strip((0, 12), (8, 16)), ids(1, 1), torch.tensor([0.5, 0.9]), strip((0, 6), (9, 12)), ids(1, 1), (0.75,), ignore
    )
    assert found.hits.tolist() == [[True]]  # the other prediction and the other truth lie wholly in there
    assert found.average_precision().tolist() == [[1.0]]


def test_nothing_predicted_nothing_there():
    none, no_ids, no_scores = strip(), ids(), torch.zeros(0)
    missed = match_instances(none, no_ids, no_scores, strip((0, 3)), ids(2))
    assert missed.average_precision().tolist() == [[0.0]] * 3
    invented = match_instances(strip((0, 3)), ids(1), torch.ones(1), none, no_ids)
    assert invented.average_precision().shape == (3, 0)
    assert invented.mean_average_precision().isnan().all()
    assert (missed + invented).classes == (2,)


MASKS, ONE, SCORE = strip((0, 3)), ids(1), torch.ones(1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: match_instances(MASKS, ONE, SCORE, strip((0, 3), length=9), ONE), r"\(1, 1, 20\) and truth \(1, 1, 9\)"),
        (lambda: match_instances(MASKS.int(), ONE, SCORE, MASKS, ONE), "masks are torch.int32.*expected booleans"),
        (lambda: match_instances(MASKS, ids(1, 2), SCORE, MASKS, ONE), r"1 masks need as many classes and scores, got \(2,\)"),
        (lambda: match_instances(MASKS, ONE, SCORE / 0 * 0, MASKS, ONE), "scores hold NaN"),
        (lambda: match_instances(MASKS, ONE, SCORE, MASKS, ONE, (50,)), r"ious \(50,\): expected overlaps above 0, up to 1"),
        (lambda: match_instances(MASKS, ONE, SCORE, MASKS, ONE, ignore=MASKS), r"ignore \(1, 1, 20\)"),
        (
            lambda: match_instances(MASKS, ONE, SCORE, MASKS, ONE) + match_instances(MASKS, ONE, SCORE, MASKS, ONE, (0.5,)),
            "cannot be added: match all images at the same ones",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
