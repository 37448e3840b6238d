"""Localisation: by hand, beside plain loops, and the figures that clovaai/wsolevaluation gives (OpenCV 4.12)."""

import math

import pytest
import torch

from advcam.errors import InputError
from advcam.metrics import (
    MAP_THRESHOLDS,
    Best,
    box_counts,
    box_overlaps,
    mask_boxes,
    min_max,
    pixel_counts,
)

HUNDRED = tuple(i * 0.01 for i in range(100))


def drawn(*rows):
    """A map in tenths, 0 for a dot, 1 for #."""
    return torch.tensor([[1.0 if c == "#" else 0.0 if c == "." else int(c) / 10 for c in row] for row in rows])


def boxes(*given):
    return torch.tensor(given)


def hit(score_map, box, threshold=0.0):
    """Whether the largest contour, and whether any contour, has exactly this box."""
    largest, every = box_overlaps(score_map, boxes(box), (0.0, threshold) if threshold else (0.0,))
    return largest[-1] == 1, every[-1] == 1


def test_a_box_ends_behind_its_last_pixel_but_within_the_map():
    score_map = drawn(".....", ".##..", ".##..", ".....")
    assert hit(score_map, (1, 1, 3, 3)) == (True, True)
    assert hit(drawn("...", ".##", ".##"), (1, 1, 2, 2)) == (True, True)


def test_corners_connect():
    assert hit(drawn("#....", ".#...", ".....", "....."), (0, 0, 2, 2)) == (True, True)


def test_holes_give_boxes_too():
    """The contour of a hole runs through the pixels around it."""
    ring = drawn("######.", "#....#.", "#....#.", "######.", ".......")
    assert hit(ring, (0, 0, 6, 4)) == (True, True)
    assert hit(ring, (0, 0, 6, 3)) == (False, False)
    thick = drawn("#######.", "#######.", "##...##.", "#######.", "#######.", "........")
    assert hit(thick, (1, 1, 6, 4)) == (False, True)
    assert hit(drawn("#####.", "#####.", "#####.", "#...#.", "#.#.#.", "#...#.", "#####.", "......"), (2, 4, 3, 5)) == (
        False,
        True,
    )


def test_a_diagonal_gap_is_no_way_out_of_a_hole():
    assert hit(drawn(".....", "..#..", ".#.#.", "..#..", "....."), (1, 1, 4, 4)) == (True, True)
    leaking = drawn("####..", "#..#..", "##..#.", ".####.", "......")  # 8-connected, so closed for a 4-connected hole
    assert hit(leaking, (0, 0, 5, 4)) == (True, True)


def test_the_largest_is_by_area_within_the_line_not_by_pixels():
    """A line of nine pixels holds no area; a square of four holds one."""
    score_map = drawn("#########.", "..........", "##........", "##........", "..........")
    assert hit(score_map, (0, 2, 2, 4)) == (True, True)
    assert hit(score_map, (0, 0, 9, 1)) == (False, True)


def test_a_ring_is_as_large_as_what_it_holds():
    score_map = drawn("#####.....", "#...#.###.", "#...#.###.", "#...#.###.", "#####.###.", "..........")
    assert hit(score_map, (0, 0, 5, 5)) == (True, True)


def test_of_equal_areas_the_last():
    score_map = drawn("##....##..", "##....##..", "..........", "#.........", "..........")
    assert hit(score_map, (6, 0, 8, 2)) == (True, True)
    assert hit(drawn("#...", "....", "..#.", "...."), (2, 2, 3, 3)) == (True, True)


def test_thresholds_are_shares_of_the_maximum_rounded_down_and_strict():
    score_map = drawn("....", ".24.", "....")
    low, high = (1, 1, 3, 2), (2, 1, 3, 2)
    assert hit(score_map, low, 0.49) == (True, True)  # floor(255 * .4) = 102, floor(.49 * 102) = 49 < floor(255 * .2) = 51
    assert hit(score_map, low, 0.5) == (False, False)  # 51 > 51 is not
    assert hit(score_map, high, 0.5) == (True, True)
    assert hit(score_map, high, 0.99) == (True, True)


def test_an_empty_map_says_the_first_pixel():
    faint = torch.full((5, 7), 0.9 / 255)
    largest, every = box_overlaps(faint, boxes((0, 0, 1, 1)), HUNDRED)
    assert largest.tolist() == every.tolist() == [0.25] * 100
    found = box_counts(torch.zeros(5, 7), boxes((0, 0, 0, 0)), HUNDRED)
    assert found.max_box_acc() == Best(1.0, 0.0)


def test_a_map_of_one_value_is_one_box():
    for size in ((4, 6), (1, 5), (5, 1), (1, 1)):
        full = torch.ones(size)
        assert hit(full, (0, 0, size[1] - 1, size[0] - 1), 0.7) == (True, True)


def test_any_true_box_suffices():
    score_map = drawn("##......", "##......", "........", ".....##.", ".....##.", "........")
    truth = boxes((5, 3, 7, 5), (3, 0, 4, 1))
    largest, every = box_overlaps(score_map, truth, (0.0,))
    assert (largest.item(), every.item()) == (1.0, 1.0)
    assert box_overlaps(score_map, truth[1:], (0.0,))[1].item() == 0


def test_a_mask_gives_its_own_boxes():
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(40, 50, generator=generator) < 0.2
    truth = mask_boxes(mask)
    for box in truth[::9]:
        assert box_overlaps(mask.float(), box[None], (0.0, 0.9))[1].tolist() == [1.0, 1.0]
    assert mask_boxes(torch.zeros(3, 4, dtype=torch.bool)).shape == (0, 4)


def by_loops(score_map, truth, threshold):
    """Regions by flooding pixel after pixel, holes likewise; the area of a filled region from its 2 x 2 squares."""
    height, width = score_map.shape
    level = (score_map.double() * 255).long().tolist()
    top = max(map(max, level))
    cut = int(threshold * top)
    inside = {(y, x) for y in range(height) for x in range(width) if level[y][x] > cut}
    outside = {(y, x) for y in range(-1, height + 1) for x in range(-1, width + 1)} - inside

    def parts(cells, steps):
        left, found = set(cells), []
        while left:
            stack, part = [left.pop()], set()
            while stack:
                y, x = stack.pop()
                part.add((y, x))
                near = {(y + dy, x + dx) for dy, dx in steps} & left
                left -= near
                stack += near
            found.append(part)
        return found

    cross = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    dark = parts(outside, cross)
    holes = [part for part in dark if (-1, -1) not in part]
    free = next(part for part in dark if (-1, -1) in part)
    around = {(y, x) for y in range(height) for x in range(width)} - free

    def box(part, more=0):
        y, x = [y for y, _ in part], [x for _, x in part]
        return min(x) - more, min(y) - more, min(max(x) + more + 1, width - 1), min(max(y) + more + 1, height - 1)

    def area(part):
        corners = [{(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)} & part for y in range(height) for x in range(width)]
        return sum({4: 1, 3: 0.5}.get(len(corner), 0) for corner in corners)

    def overlap(one, other):
        sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) + 1 for i in (0, 1)]
        both = max(0, sides[0]) * max(0, sides[1])
        sizes = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (one, other)]
        return both / (sum(sizes) - both)

    if not inside:
        return (max(overlap((0, 0, 0, 0), t) for t in truth),) * 2
    every_way = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    largest = max(parts(around, every_way), key=lambda part: (area(part), min(part)))
    found = [box(part) for part in parts(inside, every_way)] + [box(part, 1) for part in holes]
    return max(overlap(box(largest), t) for t in truth), max(overlap(b, t) for b in found for t in truth)


@pytest.mark.parametrize("levels", [2, 4, 12, 256])
def test_beside_loops(levels):
    generator = torch.Generator().manual_seed(levels)
    for size in ((9, 13), (14, 8), (1, 12), (12, 1)):
        score_map = (torch.rand(size, generator=generator) * levels).floor() / levels
        limit = torch.tensor([size[1], size[0], size[1], size[0]])
        corners = (torch.rand(3, 4, generator=generator) * limit).long()
        truth = torch.cat([torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])], 1)
        thresholds = (0.0, 0.1, 0.3, 0.5, 0.75, 0.9)
        largest, every = box_overlaps(score_map, truth, thresholds)
        for at, threshold in enumerate(thresholds):
            assert (largest[at].item(), every[at].item()) == by_loops(score_map, truth.tolist(), threshold)


def test_no_order_of_pixels_matters():
    """Mirrored maps and boxes: the overlaps are the same but for where a box ends."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    score_map = min_max(torch.sin(x / 6) * torch.cos(y / 5) + x / 40)
    truth = boxes((20, 10, 50, 30))
    assert all(
        torch.equal(a, b)
        for a, b in zip(box_overlaps(score_map, truth), box_overlaps(score_map.T, truth[:, [1, 0, 3, 2]]), strict=True)
    )


def made(kind, height, width):
    """A map that needs nothing but sines and whole numbers: smooth, rough, of four values, half of it 0, of two values."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = (
        torch.sin(x.double() * 0.11 + 1) * torch.cos(y.double() * 0.13)
        + 0.6 * torch.sin((x + 2 * y).double() * 0.21)
        + 0.3 * torch.sin(x.double() * 0.55) * torch.sin(y.double() * 0.47 + 2)
    )
    rough = ((x * 7919 + y * 104729 + x * y * 31) * 2654435761 % 4294967296 // 4194304).double() / 1024
    found = [waves, rough, (rough * 4).floor(), waves.clamp(min=0), (waves + rough > 0.6).double(), waves + 0.4 * rough][kind]
    return min_max(found).float()


TRUTH = boxes((42, 32, 67, 49), (18, 10, 52, 40), (51, 0, 69, 9))
CUTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99)
THEIRS = [
    (
        [0.31, 0.31, 0.31, 0.31, 0.31, 0.3870967741935, 0.8052631578947, 0.1057082452431, 0.03418803418803, 0.008547008547009],
        [
            0.31,
            0.31,
            0.31,
            0.31,
            0.8068965517241,
            0.5654761904762,
            0.8052631578947,
            0.1263157894737,
            0.03418803418803,
            0.008547008547009,
        ],
    ),
    (
        [0.31, 0.31, 0.31, 0.31, 0.3444444444444, 0.6712109061748, 0.2350230414747, 0.08294930875576, 0, 0],
        [
            0.31,
            0.31,
            0.31,
            0.31,
            0.3829787234043,
            0.6712109061748,
            0.2947368421053,
            0.08294930875576,
            0.04736842105263,
            0.0036866359447,
        ],
    ),
    (
        [
            0.31,
            0.31,
            0.31,
            0.3444444444444,
            0.3444444444444,
            0.3444444444444,
            0.3603686635945,
            0.3603686635945,
            0.3603686635945,
            0.3603686635945,
        ],
        [
            0.31,
            0.31,
            0.31,
            0.3829787234043,
            0.3829787234043,
            0.3829787234043,
            0.7578947368421,
            0.7578947368421,
            0.7578947368421,
            0.7578947368421,
        ],
    ),
    (
        [
            0.31,
            0.31,
            0.8516129032258,
            0.2755760368664,
            0.9473684210526,
            0.7578947368421,
            0.126582278481,
            0.03418803418803,
            0.02564102564103,
            0.008547008547009,
        ],
        [
            0.8068965517241,
            0.4700854700855,
            0.8516129032258,
            0.6354515050167,
            0.9473684210526,
            0.7578947368421,
            0.126582278481,
            0.03418803418803,
            0.02564102564103,
            0.008547008547009,
        ],
    ),
    (
        [0.31, 0.31, 0.31, 0.31, 0.31, 0.31, 0.31, 0.31, 0.31, 0.31],
        [
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
            0.8210526315789,
        ],
    ),
    (
        [0.31, 0.31, 0.31, 0.31, 0.31, 0.3225806451613, 0.8052631578947, 0, 0.04273504273504, 0],
        [
            0.31,
            0.31,
            0.31,
            0.31,
            0.8210526315789,
            0.5654761904762,
            0.8052631578947,
            0.1578947368421,
            0.04273504273504,
            0.008547008547009,
        ],
    ),
]


@pytest.mark.parametrize("kind", range(6))
def test_equals_the_published_code(kind):
    largest, every = box_overlaps(made(kind, 50, 70), TRUTH, CUTS)
    assert largest.tolist() == pytest.approx(THEIRS[kind][0], abs=1e-12)
    assert every.tolist() == pytest.approx(THEIRS[kind][1], abs=1e-12)


HITS = {
    0.3: ((4947, 1.0), (5217, 1.0)),
    0.5: ((702, 0.5), (2903, 1.0)),
    0.7: ((604, 0.5), (2366, 0.8333333333333334)),
}
PXAP = 0.4170082423450192


def test_equals_the_published_code_over_six_maps():
    """Its BoxEvaluator at thresholds in steps of .001, and the area that its MaskEvaluator computes."""
    truth = made(3, 50, 70) > 0.35
    ignore = (made(0, 50, 70) < 0.2) & ~truth
    maps = [made(kind, 50, 70) for kind in range(6)]
    counts, pixels = box_counts(maps[0], TRUTH), pixel_counts(maps[0], truth, ignore)
    for one in maps[1:]:
        counts, pixels = counts + box_counts(one, TRUTH), pixels + pixel_counts(one, truth, ignore)
    assert counts.maps == 6
    for iou, (largest, every) in HITS.items():
        at = counts.ious.index(iou)
        assert (counts.largest[at].sum().item(), counts.max_box_acc(iou).value) == pytest.approx(largest, abs=1e-12)
        assert (counts.every[at].sum().item(), counts.max_box_acc_v2()[1][iou].value) == pytest.approx(every, abs=1e-12)
    assert counts.max_box_acc_v2()[0] == pytest.approx(sum(each[1][1] for each in HITS.values()) / 3, abs=1e-12)
    assert pixels.average_precision() == pytest.approx(PXAP, abs=1e-12)


def test_average_precision_of_pixels():
    truth = torch.tensor([[True, True, False, False]])
    assert pixel_counts(truth.float(), truth).average_precision() == 1
    assert pixel_counts(1 - truth.float(), truth).average_precision() == 0.5
    assert pixel_counts(torch.zeros(1, 4), truth).average_precision() == 0.5  # all at one threshold
    assert math.isnan(pixel_counts(torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.bool)).average_precision())
    ignore = torch.tensor([[False, False, True, False]])
    assert pixel_counts(torch.tensor([[0.9, 0.5, 0.7, 0.1]]), truth, ignore).average_precision() == 1


def test_fine_thresholds_give_the_average_precision_of_torchmetrics():
    import advcam.models  # noqa: F401, I001  (the mend)
    from torchmetrics.functional.classification import binary_average_precision

    generator = torch.Generator().manual_seed(0)
    score_map = torch.randint(0, 200, (20, 30), generator=generator) / 200
    truth = torch.rand(20, 30, generator=generator) < score_map
    ours = pixel_counts(score_map, truth).average_precision()
    assert ours == pytest.approx(float(binary_average_precision(score_map.flatten(), truth.flatten().long())), abs=1e-6)


def test_top_1():
    """The counts of an image that the classifier gets wrong: there, and never right."""
    right = box_counts(drawn("...", ".#.", "..."), boxes((1, 1, 2, 2)))
    both = right + right.missed()
    assert (both.maps, both.max_box_acc().value, both.max_box_acc_v2()[0]) == (2, 0.5, 0.5)


def test_the_thresholds_are_the_published_code_s():
    assert len(MAP_THRESHOLDS) == 1000
    assert MAP_THRESHOLDS[3] == 0.003
    assert MAP_THRESHOLDS[-1] == 0.999


def test_noise_has_many_contours():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(120, 160, generator=generator)
    largest, every = box_overlaps(noise, boxes((0, 0, 159, 119)))
    assert largest[0] == 1
    assert every[-1] < 0.01


MAP, BOX, MASK = torch.rand(5, 6), boxes((0, 0, 2, 2)), torch.ones(5, 6, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: box_counts(MAP[None], BOX), r"score_map \(1, 5, 6\)"),
        (lambda: box_counts(MAP * 2, BOX), r"expected \[0, 1\]; min_max brings it there"),
        (lambda: box_counts(MAP - 1, BOX), "score_map holds -"),
        (lambda: box_counts(MAP * torch.nan, BOX), "score_map holds nan"),
        (lambda: box_counts(MAP, BOX.float()), r"boxes \(1, 4\) of torch.float32: expected at least one"),
        (lambda: box_counts(MAP, BOX[:0]), r"boxes \(0, 4\)"),
        (
            lambda: box_counts(MAP, boxes((0, 0, 6, 2))),
            r"box \[0, 0, 6, 2\]: expected 0 <= x0 <= x1 <= 5 and 0 <= y0 <= y1 <= 4",
        ),
        (lambda: box_counts(MAP, boxes((3, 0, 2, 2))), r"box \[3, 0, 2, 2\]"),
        (lambda: box_counts(MAP, BOX, (0.1, 0.2)), "ascending from 0, below 1; got 2 from 0.1 to 0.2"),
        (lambda: box_counts(MAP, BOX, (0.0, 1.0)), "below 1; got 2 from 0.0 to 1.0"),
        (lambda: box_counts(MAP, BOX, ()), "got none"),
        (lambda: box_counts(MAP, BOX, ious=(50,)), r"ious \(50,\): expected overlaps above 0, up to 1"),
        (lambda: box_counts(MAP, BOX).max_box_acc(0.6), r"at the IoUs \(0.3, 0.5, 0.7\), not at 0.6"),
        (lambda: box_counts(MAP, BOX) + box_counts(MAP, BOX, HUNDRED), "count all maps at the same ones"),
        (lambda: pixel_counts(MAP, MASK[1:]), r"truth \(4, 6\) of torch.bool: expected booleans \(5, 6\)"),
        (lambda: pixel_counts(MAP, MASK, MASK.int()), r"ignore \(5, 6\) of torch.int32"),
        (lambda: pixel_counts(MAP, MASK) + pixel_counts(MAP, MASK, None, HUNDRED), "cannot be added to those at 100"),
        (lambda: mask_boxes(MASK.int()), r"mask \(5, 6\) of torch.int32: expected booleans"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
