"""Boundary IoU, against the published algorithm written out and against OpenCV's erosion."""

import pytest
import torch

from advcam.errors import InputError
from advcam.metrics import boundary_counts, boundary_iou, confusion
from advcam.metrics import iou as mask_iou


def eroded(mask):
    """One erosion by 3 x 3 pixels, pixel by pixel; outside the image there is nothing."""
    height, width = mask.shape
    return torch.tensor(
        [
            [
                all(
                    0 <= y + dy < height and 0 <= x + dx < width and bool(mask[y + dy, x + dx])
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                )
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


def published(prediction, truth, classes, distance, known):
    """``M - erode(M)`` of each class; ignored pixels belong to every class while eroding, and are not counted."""
    rows = []
    for label in range(classes):
        near = []
        for mask in (prediction == label, truth == label):
            inner = mask | ~known
            for _ in range(distance):
                inner = eroded(inner)
            near.append(mask & ~inner & known)
        rows.append([int((near[0] & near[1]).sum()), int(near[0].sum()), int(near[1].sum())])
    return torch.tensor(rows).T


def blobs(seed, classes, size):
    noise = torch.rand(classes, 1, *size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 9, 1, 4)[:, 0].argmax(0)


@pytest.mark.parametrize(("size", "distance"), [((30, 41), 1), ((30, 41), 3), ((41, 30), 9), ((12, 12), 16)])
def test_counts_are_those_of_erosions(size, distance):
    prediction, truth = blobs(1, 3, size), blobs(2, 3, size)
    truth[3:7, 4:9] = truth[-2:, :5] = 255
    ratio = distance / (size[0] ** 2 + size[1] ** 2) ** 0.5
    counts = boundary_counts(prediction, truth, 3, ratio)
    assert counts.tolist() == published(prediction, truth, 3, distance, truth != 255).tolist()
    both, ours, true = counts.double()
    assert boundary_iou(counts).tolist() == (both / (ours + true - both)).tolist()


@pytest.mark.parametrize("size", [(60, 80), (97, 131), (375, 500), (20, 25)])
def test_opencv_finds_the_same(size):
    """``mask_to_boundary`` of the published code: a ring of 0 around the image, and ``cv2.erode`` d times."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed; the erosion written out is compared anyway")
    distance = max(1, round(0.02 * (size[0] ** 2 + size[1] ** 2) ** 0.5))

    def contour(mask):
        ring = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        inner = cv2.erode(ring, torch.ones(3, 3, dtype=torch.uint8).numpy(), iterations=distance)
        return mask - inner[1:-1, 1:-1]

    prediction, truth = blobs(3, 4, size), blobs(4, 4, size)
    for label, (both, ours, true) in enumerate(boundary_counts(prediction, truth, 4).T.tolist()):
        p, t = (contour((ids == label).byte().numpy()) for ids in (prediction, truth))
        assert (both, ours, true) == (int((p & t).sum()), int(p.sum()), int(t.sum()))


def test_a_shifted_square_by_hand():
    """An 8 x 8 square one pixel aside, d = 1: 28 pixels each, of which only those of two columns' and rows' overlap."""
    truth, ours = torch.zeros(2, 20, 20, dtype=torch.long)
    truth[6:14, 6:14] = 1
    ours[6:14, 7:15] = 1
    both, mine, true = boundary_counts(ours, truth, 2)[:, 1].tolist()
    assert (both, mine, true) == (14, 28, 28)  # seven in the upper row and seven in the lower
    assert boundary_iou(torch.tensor([[both], [mine], [true]])).item() == pytest.approx(14 / 42)


def test_what_is_predicted_at_ignored_pixels_does_not_matter():
    """A band of 255 around an object, as in VOC: right wherever it counts is 1, whatever lies in the band."""
    truth = torch.zeros(60, 60, dtype=torch.uint8)
    truth[14:46, 14:46] = 255
    truth[16:44, 16:44] = 1
    counts = [boundary_counts(torch.where(truth == 255, fill, truth), truth, 2, 0.1) for fill in (0, 1)]
    assert counts[0].tolist() == counts[1].tolist()
    assert boundary_iou(counts[0]).tolist() == [1.0, 1.0]
    spilt = torch.zeros_like(truth)
    spilt[6:54, 6:54] = 1  # 8 pixels beyond the band, d = 8: not one pixel near the contour is right
    assert boundary_iou(boundary_counts(spilt, truth, 2, 0.1))[1] == 0.0


def test_a_thick_mask_may_miss_what_iou_does_not_see():
    """A rim of 3 pixels too much around a large disc hardly changes the IoU, and halves the boundary IoU."""
    y, x = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    far = ((y - 100) ** 2 + (x - 100) ** 2).sqrt()
    truth, ours = (far < 80).long(), (far < 83).long()
    assert mask_iou(confusion(ours, truth, 2))[1] > 0.92
    assert 0.2 < boundary_iou(boundary_counts(ours, truth, 2))[1] < 0.5


def test_a_batch_is_its_images_and_counts_add():
    prediction = torch.stack([blobs(seed, 3, (24, 33)) for seed in (1, 2, 3)])
    truth = torch.stack([blobs(seed, 3, (24, 33)) for seed in (4, 5, 6)])
    truth[1, 2:5, 3:9] = 255
    together = boundary_counts(prediction, truth, 4)
    assert together.shape == (3, 3, 4)
    for at in range(3):
        assert together[at].tolist() == boundary_counts(prediction[at], truth[at], 4).tolist()
    assert boundary_iou(together).shape == (3, 4)
    assert boundary_iou(together.sum(0))[3].isnan()  # a class that occurs nowhere


def test_nothing_counts():
    nothing = torch.full((10, 10), 255)
    assert boundary_counts(nothing, nothing, 2).sum() == 0
    assert boundary_counts(torch.zeros(0, 10, 10).long(), torch.zeros(0, 10, 10).long(), 2).shape == (0, 3, 2)
    assert boundary_counts(torch.zeros(0, 10).long(), torch.zeros(0, 10).long(), 2).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": torch.zeros(4, 5).long()}, "must be of one size"),
        ({"prediction": torch.full((5, 5), 2)}, "prediction holds 2 to 2; expected 0 to 1, or 255"),
        ({"truth": torch.full((5, 5), -1)}, "truth holds -1 to -1"),
        ({"truth": torch.zeros(5, 5)}, "whole numbers"),
        ({"classes": 0}, "classes"),
        ({"classes": 40_000}, "classes"),
        ({"ratio": 2}, "ratio 2: expected a number from 0 to 1"),
    ],
)
def test_what_is_refused(changes, message):
    given = {"prediction": torch.zeros(5, 5).long(), "truth": torch.zeros(5, 5).long(), "classes": 2}
    with pytest.raises(InputError, match=message):
        boundary_counts(**given | changes)


def test_counts_of_another_form():
    with pytest.raises(InputError, match=r"expected \[..., 3, L\]"):
        boundary_iou(torch.zeros(2, 4))
