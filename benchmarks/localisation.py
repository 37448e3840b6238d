"""Localisation metrics beside clovaai/wsolevaluation: the largest difference on random maps, and the time of both.

    .venv/bin/python benchmarks/localisation.py CHECKOUT [maps]

CHECKOUT is your copy of https://github.com/clovaai/wsolevaluation. It needs OpenCV and munch, which are peers, never
dependencies: pip install --target /tmp/wsol --no-deps opencv-python-headless munch; PYTHONPATH=/tmp/wsol. Exits with 1 where
anything differs by more than rounding.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import advcam.models  # noqa: F401  (the mend of torchvision)
from advcam.metrics import MAP_THRESHOLDS, box_counts, box_overlaps, mask_boxes, min_max, pixel_counts

SIDE = 224  # theirs is fixed
KINDS = ("bumps", "fine bumps", "smooth noise", "noise", "four values", "two values", "half of it 0")
Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def sample(kind: int, height: int, width: int, generator: torch.Generator) -> Sample:
    """A map, one to three boxes, a truth and what to ignore."""

    def noise(*size: int) -> torch.Tensor:
        return torch.rand(1, 1, *size, generator=generator, dtype=torch.float64)

    def enlarged(cells: int) -> torch.Tensor:
        return F.interpolate(noise(cells, cells), size=(height, width), mode="bilinear")

    grain = 4 if height > 100 else 1  # their time grows with the number of contours
    rough = F.interpolate(noise(-(-height // grain), -(-width // grain)), scale_factor=grain)[..., :height, :width]
    smooth = F.avg_pool2d(F.avg_pool2d(noise(height + 12, width + 12), 7, 1), 7, 1)
    made = [
        enlarged(6),
        enlarged(24),
        smooth,
        rough,
        (rough * 4).floor(),
        (smooth > smooth.median()).double(),
        (enlarged(9) - 0.5).clamp(min=0),
    ][kind]
    score_map = min_max(made[0, 0]).float()
    if float(noise(1, 1)) < 0.2:
        score_map = score_map * float(noise(1, 1))
    there = mask_boxes(
        score_map >= float(noise(1, 1)) * score_map.max()
    )  # boxes beside those of the map, so that some are right
    boxes = there[torch.randint(0, len(there), (1 + int(3 * noise(1, 1)),), generator=generator)]
    side = torch.tensor([width, height, width, height])
    boxes = (boxes + (0.3 * (torch.rand(boxes.shape, generator=generator) - 0.5) * side).long()).clamp(min=0)
    boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)
    boxes = torch.minimum(boxes, side - 1)
    truth = min_max(enlarged(4)[0, 0]) > 0.6
    ignore = (min_max(enlarged(5)[0, 0]) > 0.7) & ~truth
    return score_map, boxes, truth, ignore


def evaluators(theirs: Any, cv2: Any, folder: Path, samples: list[Sample], ious: list[int]) -> dict[str, Any]:
    """Their evaluators, which read boxes and masks from files."""
    lines: dict[str, list[str]] = {"image_ids": [], "image_sizes": [], "boxes": [], "masks": []}
    for at, (_, boxes, truth, ignore) in enumerate(samples):
        lines["image_ids"].append(f"{at}")
        lines["image_sizes"].append(f"{at},{SIDE},{SIDE}")
        lines["boxes"] += [f"{at}," + ",".join(str(v) for v in box) for box in boxes.tolist()]
        lines["masks"].append(f"{at},{at}.png,{at}-ignore.png")
        cv2.imwrite(str(folder / f"{at}.png"), truth.numpy().astype(np.uint8) * 255)
        cv2.imwrite(str(folder / f"{at}-ignore.png"), ignore.numpy().astype(np.uint8) * 255)
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(text))
    found = {}
    for name, kind, places in (
        ("largest", "BoxEvaluator", "boxes"),
        ("every", "BoxEvaluator", "boxes"),
        ("pixels", "MaskEvaluator", "masks"),
    ):
        metadata = theirs.configure_metadata(str(folder))
        metadata.localization = str(folder / f"{places}.txt")
        found[name] = getattr(theirs, kind)(
            metadata=metadata, dataset_name="OpenImages", split="val", cam_threshold_list=list(np.arange(0, 1, 0.001)),
            iou_threshold_list=ious, mask_root=str(folder), multi_contour_eval=name == "every",
        )  # fmt: skip
    return found


def their_overlaps(theirs: Any, score_map: np.ndarray, boxes: np.ndarray, every: bool) -> np.ndarray:
    """What ``BoxEvaluator.accumulate`` makes on its way, for a map of any size."""
    found, numbers = theirs.compute_bboxes_from_scoremaps(score_map, list(np.arange(0, 1, 0.001)), every)
    overlaps = theirs.calculate_multiple_iou(np.concatenate(found), boxes).max(1)
    return np.array([part.max() for part in np.split(overlaps, np.cumsum(numbers)[:-1])])


def main(checkout: str, maps: int) -> int:
    """Prints the differences; returns the exit status."""
    for name in ("float", "int", "bool"):  # theirs is older than NumPy 1.24, which took these names away
        if name not in np.__dict__:
            setattr(np, name, {"float": float, "int": int, "bool": bool}[name])
    sys.path.insert(0, checkout)
    import cv2
    import evaluation as theirs  # type: ignore[import-not-found]

    print(f"OpenCV {cv2.__version__}, NumPy {np.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    assert list(MAP_THRESHOLDS) == np.arange(0, 1, 0.001).tolist()
    generator = torch.Generator().manual_seed(0)
    samples = [sample(at % len(KINDS), SIDE, SIDE, generator) for at in range(maps)]
    ious, worst = [30, 50, 70], 0.0
    with tempfile.TemporaryDirectory() as name:
        sides = evaluators(theirs, cv2, Path(name), samples, ious)
        start = time.process_time()
        for at, (score_map, *_) in enumerate(samples):
            for side in sides.values():
                side.accumulate(score_map.double().numpy(), f"{at}")
        their_time = time.process_time() - start
        their_largest, their_every, their_pixels = (np.asarray(side.compute()) / 100 for side in sides.values())
    start = time.process_time()
    total, pixels = None, None
    for score_map, boxes, truth, ignore in samples:
        counts, counted = box_counts(score_map, boxes), pixel_counts(score_map, truth, ignore)
        total, pixels = counts if total is None else total + counts, counted if pixels is None else pixels + counted
    our_time = time.process_time() - start
    v2, each = total.max_box_acc_v2()
    pairs = {f"MaxBoxAcc at {i / 100}": (total.max_box_acc(i / 100).value, t) for i, t in zip(ious, their_largest, strict=True)}
    pairs |= {f"MaxBoxAccV2 at {i / 100}": (each[i / 100].value, t) for i, t in zip(ious, their_every, strict=True)}
    pairs |= {"MaxBoxAccV2": (v2, np.average(their_every)), "PxAP": (pixels.average_precision(), float(their_pixels))}
    for name, (our_value, their_value) in pairs.items():
        worst = max(worst, abs(our_value - their_value))
        print(f"{name:20} ours {our_value:.12f}  theirs {their_value:.12f}  difference {abs(our_value - their_value):.1e}")
    for counts, side in ((total.largest, sides["largest"]), (total.every, sides["every"])):
        theirs_counted = np.stack([side.num_correct[i] for i in ious])
        worst = max(worst, float(np.abs(counts.numpy() - theirs_counted).max()))
    print(f"hits at all {len(MAP_THRESHOLDS)} thresholds: compared too; of {maps} maps of {SIDE} x {SIDE}")
    print(f"time a map: ours {1e3 * our_time / maps:.0f} ms, theirs {1e3 * their_time / maps:.0f} ms (boxes both ways, pixels)")
    furthest = 0.0
    for at in range(maps):
        height, width = torch.randint(1, 90, (2,), generator=generator).tolist()
        score_map, boxes, _, _ = sample(at % len(KINDS), height, width, generator)
        for ours, every in zip(box_overlaps(score_map, boxes), (False, True), strict=True):
            other = their_overlaps(theirs, score_map.double().numpy(), boxes.numpy(), every)
            furthest = max(furthest, float(np.abs(ours.numpy() - other).max()))
    print(f"IoU of boxes at all thresholds, {maps} maps of 1 to 89 pixels a side: largest difference {furthest:.1e}")
    return int(max(worst, furthest) > 1e-12)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 42))
