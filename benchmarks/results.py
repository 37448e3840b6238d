"""The page of results and the README's table, from the counts that the benchmarks kept.

    .venv/bin/python -m benchmarks.results

Benchmarks keep pixel counts of every image and way under ``runs/results`` (:func:`keep`). This command computes all numbers,
intervals and paired differences from them, writes the numbers to ``benchmarks/results.json``, and from these the page
``benchmarks/README.md``, the same as ``docs/results.md``, and the table in ``README.md``. Without
``runs/results`` it writes these from ``results.json``.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advcam.metrics import THRESHOLDS, interval, resampled, resampled_seeds

KEPT, NUMBERS = Path("runs/results"), Path("benchmarks/results.json")
PAGES, README = (Path("benchmarks/README.md"), Path("docs/results.md")), Path("README.md")
RESAMPLES = 1000


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Args:
        data: name of the data set.
        network: name of the classifier.
        stage: ``seed``, ``masks``, ``network`` or ``semi``.
        maps: what the row starts from: ``plain``, ``published``, ``multiscale``, or what a network learnt from.
        way: how masks were made of it, or predictions.
        images: which images were scored.
        rule: how the background threshold was chosen.
        seconds: an image, or of the whole training; None where it was not taken.
    """

    data: str
    network: str
    stage: str
    maps: str
    way: str
    images: str
    rule: str
    seconds: float | None = None


def keep(what: Measured, names: Sequence[str], hits: Tensor, predicted: Tensor, true: Tensor) -> None:
    """Keeps the counts of one way: hits and predicted [n, t, l] at each threshold (t = 1 for masks), true [n, l]."""
    name = "-".join((what.data, what.network, str(len(names)), what.stage, what.maps, what.way))
    path = KEPT / f"{re.sub('[^a-zA-Z0-9.]+', '-', name)}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = asdict(what) | {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat()}
    np.savez_compressed(
        path, about=json.dumps(about), names=np.array(names),
        hits=hits.numpy().astype(np.int32), predicted=predicted.numpy().astype(np.int32), true=true.numpy().astype(np.int32),
    )  # fmt: skip


def keep_masks(what: Measured, names: Sequence[str], confusions: Tensor) -> None:
    """Keeps the confusion matrices of masks, int64 [n, l, l], true classes first."""
    keep(what, names, confusions.diagonal(dim1=1, dim2=2)[:, None], confusions.sum(1)[:, None], confusions.sum(2))


def measured(path: Path) -> tuple[dict[str, Any], tuple[str, ...], Tensor]:
    """Reads one way: what it is with its numbers, the images' names, and mIoU of the sample and of each resample."""
    with np.load(path) as kept:
        about, names = json.loads(str(kept["about"])), tuple(kept["names"].tolist())
        hits, predicted, true = (torch.from_numpy(kept[key]) for key in ("hits", "predicted", "true"))
    mean_iou, noise = resampled_seeds(hits, predicted, true, resampled(len(names), RESAMPLES))
    best = mean_iou.nan_to_num(-1).argmax(1, keepdim=True)
    at = int(best[0])
    mean_iou, noise = mean_iou.gather(1, best)[:, 0], noise.gather(1, best)[:, 0]
    h, p, g = (x.double().sum(0) for x in (hits, predicted, true))
    about |= {
        "count": len(names), "mean_iou": with_interval(mean_iou), "noise": round(100 * float(noise[0]), 1),
        "classes": [round(100 * float(v), 1) for v in h[at] / (p[at] + g - h[at])],
    }  # fmt: skip
    if hits.shape[1] > 1:
        about["threshold"] = THRESHOLDS[at]
    return about, names, mean_iou


def with_interval(values: Tensor) -> list[float]:
    """Percent: the sample's value, and the ends of the 95 % interval."""
    low, high = interval(values)
    return [round(100 * float(v), 1) for v in (values[0], low, high)]


def collect() -> list[dict[str, Any]]:
    """Numbers of all ways, each with its paired difference from the plain map and from the best of its table."""
    found = [measured(path) for path in sorted(KEPT.glob("*.npz"))]
    rows = []
    for about, names, values in found:
        for other, others, theirs in found:
            if others != names or any(other[key] != about[key] for key in ("data", "network")):
                continue
            if about["stage"] == other["stage"] == "seed" and other["maps"] == "plain" and about is not other:
                about["gain"] = with_interval(values - theirs)
            if about["stage"] == other["stage"] == "masks" and about is not other:
                low, _ = interval(values - theirs)
                about["best"] = about.get("best", True) and float(low) > 0
        rows.append(about)
    return rows


DATA = {
    "photos": "photographs of animals", "objects": "11 other things", "scenes": "generated scenes",
    "defects": "surface defects, 5 kinds", "one-class": "surface defects as one class",
}  # fmt: skip
NETWORKS = {
    "mobilenet": "MobileNetV2", "efficientnet": "EfficientNet-Lite0", "lite2": "EfficientNet-Lite2",
    "resnet": "ResNet-50 of half the channels", "hybrid": "small transformer",
    "mobilenet-consistency": "MobileNetV2, consistency", "mobilenet-erasing": "MobileNetV2, erasing",
}  # fmt: skip
MAPS = {
    "plain": "plain map", "plain, scales 1, 2": "plain map, scales 1 and 2", "published-one-scale": "`official`, one scale",
    "published": "`official`, its four scales", "default": "`default`", "fast": "`fast`",
    "features": "`features`", "features-2-reach": "`features`, scales 1 and 2, reach", "multiscale": "`multiscale` (a run's)",
}  # fmt: skip
WAYS = ("threshold", "PAMR", "CRF", "affinity alone", "affinity, PAMR", "affinity, CRF")
LEARNT = {
    "upper": "ground truth of all (U)", "plain": "masks of plain maps", "advcam": "masks of AdvCAMs",
    "psa": "masks of AdvCAMs by PSA",
    "few": "ground truth of 60 alone", "weak": "ground truth of 60, masks of AdvCAMs of the others",
    "unlabelled": "ground truth of 60, the others without labels", "rounds": "masks of AdvCAMs, then its own (`rounds=2`)",
}  # fmt: skip

GIVEN = ("alone", "with the CRF", "image labels given")
"""Ways of predicting."""

Row = dict[str, Any]


def score(row: Row | None, ends: bool = False) -> str:
    """``mIoU (noise)``, in bold where it is the best of its table beyond doubt."""
    if row is None:
        return ""
    value, low, high = row["mean_iou"]
    shown = f"{value:.1f}" + (f" [{low:.1f}, {high:.1f}]" if ends else "") + f" ({row['noise']:.1f})"
    return f"**{shown}**" if row.get("best") else shown


def one(rows: Iterable[Row], **wanted: Any) -> Row | None:
    """The row that has these values, if there is one."""
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def groups(rows: Sequence[Row], held_out: bool) -> list[tuple[str, str, list[Row]]]:
    """Rows by data set and network: those of the held-out images, or of all."""
    some = [row for row in rows if row["images"].startswith("the last") == held_out]
    pairs = [(data, network) for data in DATA for network in NETWORKS]
    found = [(data, network, [r for r in some if (r["data"], r["network"]) == (data, network)]) for data, network in pairs]
    return [(data, network, part) for data, network, part in found if part]


def held_out(rows: Sequence[Row]) -> str:
    """Seeds, and masks by every way without training, on the held-out images."""
    lines = []
    for data, network, part in groups(rows, held_out=True):
        for maps, name in MAPS.items():
            seed = one(part, stage="seed", maps=maps)
            if seed is None:
                continue
            gain = "" if "gain" not in seed else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*seed["gain"])
            made = [score(one(part, stage="masks", maps=maps, way=way)) for way in WAYS]
            lines.append(
                (
                    f"{NETWORKS[network]}, {DATA[data]}",
                    name,
                    score(seed, ends=True),
                    gain,
                    *made,
                    f"{seed['seconds']:.2f}" if seed["seconds"] else "",
                )
            )
    return table(("network, data", "maps", "seed", "over the plain map", *WAYS, "s an image"), lines)


def chain(rows: Sequence[Row]) -> str:
    """Masks by every way, and networks, on all images for scoring."""
    parts = []
    for data, network, part in groups(rows, held_out=False):
        count = part[0]["count"]
        parts.append(f"### {NETWORKS[network]}, {DATA[data]}, {count} images")
        ways = ("threshold", "pamr", "crf", "affinity", "psa", "irn")
        lines = []
        for maps in ("plain", "multiscale"):
            made = [one(part, stage="masks", maps=maps, way=way) for way in ways]
            if any(made):
                lines.append(
                    (MAPS[maps], score(one(part, stage="seed", maps=maps), ends=True), *(score(row, ends=True) for row in made))
                )
        if lines:
            parts.append(table(("maps", "seed", *ways), lines))
        best = one(part, maps="upper", way="alone")
        lines = []
        for maps, name in LEARNT.items():
            made = {row["way"]: row for row in part if row["maps"] == maps and row["stage"] in ("network", "semi")}
            if "alone" in made:
                share = f"{made['alone']['mean_iou'][0] / best['mean_iou'][0]:.2f}" if best else ""
                cells = [score(made.get(way), ends=True) for way in GIVEN]
                lines.append((name, *cells, share, f"{made['alone']['seconds']:.0f}"))
        if lines:
            parts.append(table(("learnt from", *GIVEN, "share of U, alone", "s"), lines))
    return "\n\n".join(parts)


def summary(rows: Sequence[Row]) -> str:
    """The README's table: seeds of plain map, published method and run, and the run's masks."""
    lines = []
    for data, network, part in groups(rows, held_out=True):
        ours = one(part, stage="seed", maps="multiscale")
        if ours is None or "-" in network:
            continue
        published = one(part, stage="seed", maps="published-one-scale")
        gain = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*ours["gain"])
        masks = one(part, stage="masks", maps="multiscale", way="affinity, PAMR")
        lines.append(
            (
                f"{NETWORKS[network]}, {DATA[data]}",
                score(one(part, stage="seed", maps="plain")),
                score(published),
                score(ours),
                gain,
                score(masks),
            )
        )
    return table(("network, data", "plain map", "published", "advcam", "over the plain map", "masks"), lines)


HEAD = """\
# Results

Made by `make results` from what `make bench-quality` and `make bench-chain` kept ({dates});
the numbers are in `results.json`. MIoU and, in round brackets, noise (the share of background among the pixels found), %;
in square brackets 95 %
intervals, bootstrap over images. Bold: above every other entry of its data set and network, beyond the interval of the
paired difference. Maps and masks know each image's image labels; networks' predictions do not.

## Seeds, and masks without training, on held-out images

39 images of each data set, one view, no mirror image. No setting of maps or masks was chosen on them (of the defects, on
10; `quality.md` says what was tuned on what). Seed: at the best background threshold, which uses the ground truth. Masks:
at the threshold that `refine` chooses without it. `official` is the published method, its step in equal units (1.7 % of the
pixel range). The ResNet has half the channels of ResNet-50; its weights are of ImageNet, tuned on other images
(`benchmarks/quality/fetched.py`). Seconds: of the maps, beside other work, so compare within a data set only.

{held_out}

## The whole chain

All images for scoring (`make bench-chain`), with the classifier of `make bench-quality`. Plain map: of the same two scales.
IRN and PSA learn from the training images,
at published thresholds; the others' threshold was chosen without ground truth. Networks: DeepLabV3+ on MobileNetV2, started
from the run's classifier, 200 steps of 16 images (the 60 with others: 150 steps more, of 8 and 8), mirror image and scales 1
and 1.25; U: the one learnt from the ground truth of all training images. Predictions are given no image labels but in the
column that says so. Seconds: training and predicting, beside other work.

{chain}

## Beside the field's numbers

Of PASCAL VOC 2012 with 20 classes and ResNet-50 or 101, as published: another data set and other networks than all of the
above, and so no comparison.

| | CAM / IRN | AdvCAM |
|---|---|---|
| seed, best threshold, train | 48.3 to 48.8 | 55.6 |
| masks by PSA | 61.0 | 68.0 |
| masks by IRN | 66.3 to 66.5 | 69.9 |
| DeepLab-v2, val / test | 63.5 / 64.8 | 68.1 / 68.0 |
| semi-supervised (CCT), 1,464 masks, val / test | 73.2 / - | 77.8 / 76.9 |
"""


def main() -> None:
    """Writes numbers, page and table."""
    if KEPT.is_dir():
        NUMBERS.write_text("[\n" + ",\n".join(json.dumps(row) for row in collect()) + "\n]\n")
    rows = json.loads(NUMBERS.read_text())
    dates = sorted({row["date"] for row in rows})
    said = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    for page in PAGES:
        page.write_text(HEAD.format(dates=said, held_out=held_out(rows), chain=chain(rows)))
    before, mark, after = README.read_text().partition("<!-- results -->\n")
    if mark:
        _, end, rest = after.partition("<!-- end of results -->\n")
        README.write_text(f"{before}{mark}{summary(rows)}\n{end}{rest}")


if __name__ == "__main__":
    main()
