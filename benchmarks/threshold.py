"""The background threshold that is chosen from the image labels alone, per data set, beside a fixed one and the best one.

    .venv/bin/python -m benchmarks.threshold                      # every data set, MobileNetV2 and EfficientNet-Lite0
    .venv/bin/python -m benchmarks.threshold --data photos,scenes,objects --fixed 0.3

Reads what ``benchmarks.quality`` has kept (images, classifiers, sums of maps); measures what is missing. Seeds of preset
``multiscale``, on the images that no threshold and no setting was chosen on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advcam.metrics import THRESHOLDS, resampled, resampled_seeds

from .quality.__main__ import WAYS, WORK, trained
from .quality.data import DATA
from .quality.measure import RESAMPLES, Compared, Score, chosen_items, climb_all, counts_of, words

HEAD = (
    "| network, data | images | best, by the truth | chosen per data set, without truth | fixed {0:.2f} | chosen less fixed |"
    "\n|---|---|---|---|---|---|"
)


def row(work: Path, network: str, data: str, count: int, fixed: float) -> str:
    """A row of the table: mIoU of the seeds at each threshold, and the paired difference with its interval."""
    context = trained(work, network, data)
    items, t = chosen_items(context, count), max(WAYS["multiscale"].after[:2])
    parts = climb_all(context, items, {"multiscale": WAYS["multiscale"]}, DATA[data].masks(work / data))["multiscale"]
    weights = resampled(len(items), RESAMPLES)
    score = Score.of(parts, t, weights, Compared(context, items).threshold(parts, t))
    at = min(range(len(THRESHOLDS)), key=lambda i: abs(THRESHOLDS[i] - fixed))
    at_fixed = resampled_seeds(*counts_of(parts, t), weights)[0][:, at]
    return (
        f"| {network}, {data} | {len(items)} | {100 * float(score.mean_iou[0]):.1f} at {float(score.threshold[0]):.2f}"
        f" | {100 * float(score.at_chosen[0]):.1f} at {score.chosen:.2f} | {100 * float(at_fixed[0]):.1f}"
        f" | {words(score.at_chosen - at_fixed, sign=True)} |"
    )


def main() -> None:
    """Prints the table, row by row as it is made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of runs and of what benchmarks.quality kept")
    parser.add_argument("--networks", default="mobilenet,efficientnet")
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--count", type=int, default=39, help="images scored of each data set, as benchmarks.quality")
    parser.add_argument("--fixed", type=float, default=0.3, help="the threshold that is the same for every data set")
    args = parser.parse_args()
    print(HEAD.format(args.fixed))
    for data in args.data.split(","):
        for network in args.networks.split(","):
            if network == "efficientnet" and data == "one-class":
                continue  # benchmarks.quality has it with MobileNetV2 alone
            print(row(args.work, network, data, args.count, args.fixed), flush=True)


if __name__ == "__main__":
    main()
