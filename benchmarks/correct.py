"""Clicks and seconds to a mask that a person accepts, from scratch and from our masks; and what corrected masks bring.

    .venv/bin/python -m benchmarks.correct clicks --run RUN --masks DIR [--images 20]
    .venv/bin/python -m benchmarks.correct semi --run RUN --masks DIR --out DIR [-- OPTIONS OF advcam semi]

`clicks` simulates a person who knows the ground truth and uses the explorer's tools, on images drawn as its order `random`
draws them. Before each action she looks at what every tool would do at its best place, and takes what mends most pixels a
second:

* region: a click that gives a class to a region of the image, of about 1200, 400 or 120;
* dab: a click of the round brush, of radius 3, 6, 12 or 24 pixels;
* fill: a click that gives a class to a connected area of the mask;
* threshold: the class's mask is where its refined map exceeds .05, .10, ... .95 (a drag and a click).

She stops when the mask's mean IoU over background and classes is at least .9, with 255 of the ground truth left out, and
accepts; after 100 actions she gives up. Strokes are not simulated, which would save clicks, nor is doubt or a shaky hand, which
would cost some.

Seconds are those of the keystroke-level model (Card, Moran & Newell, CACM 1980): 1.35 to decide, 1.1 to point, 0.2 to click,
1.1 more to drag, 0.28 a key. An action is 1.35 + 1.1 + 0.2, and 0.28 more where the class, or the tool, is another than before;
a threshold 3.3 more (drag the slider, point at Apply and at the image again). Looking at the image first, and accepting: 1.35 +
0.28 each.

`semi` corrects 20 and 60 training images, worst first (lowest score) and at random, by their ground truth; trains `advcam semi`
on each and scores all on the images for scoring. 0 corrected images is the run's own network, `predictions`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from advcam.data import IGNORE, Item
from advcam.explore import Correcting, Corrections
from advcam.explore.superpixels import superpixels
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages.context import Context
from advcam.stages.truth import Truth
from advcam.store import load_scores, save_mask

Mask = NDArray[np.uint8]
ENOUGH, MOST = 0.9, 100
DECIDE, POINT, CLICK, DRAG, KEY = 1.35, 1.1, 0.2, 1.1, 0.28
RADII, REGIONS = (3, 6, 12, 24), (1200, 400, 120)


@dataclass(frozen=True)
class Action:
    """One thing to do: the pixels that get a class, and what it costs."""

    tool: str
    number: int
    place: NDArray[Any]
    clicks: int = 1
    more: float = 0.0

    def seconds(self, tool: str, number: int) -> float:
        """What it takes after another action."""
        return DECIDE + POINT + CLICK + self.more + KEY * (self.tool != tool) + KEY * (self.number != number)


def score(mask: Mask, truth: Mask) -> float:
    """Mean IoU over the labels that either has, without what the ground truth does not know."""
    known = truth != IGNORE
    ids = np.union1d(mask[known], truth[known])
    each = [
        ((mask == i) & (truth == i) & known).sum() / (((mask == i) | (truth == i)) & known).sum() for i in ids if i != IGNORE
    ]
    return float(np.mean(each)) if each else 1.0


def parts(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The number of each pixel's connected part of equal labels."""
    found, count = np.zeros(labels.shape, np.int64), 0
    for value in np.unique(labels):
        numbered, several = ndimage.label(labels == value)
        found += np.where(numbered, numbered + count, 0)
        count += several
    return found - 1


def best_part(of: NDArray[np.int64], mask: Mask, truth: Mask, number: int) -> tuple[int, int]:
    """The part that a class mends most, and by how many pixels."""
    gains = np.bincount(of.ravel(), weights=gained(mask, truth, number).ravel())
    at = int(gains.argmax())
    return at, int(gains[at])


def gained(mask: Mask, truth: Mask, number: int) -> NDArray[np.int64]:
    """1 where the class would be right and is not there, -1 where it would spoil what is right, else 0."""
    known = truth != IGNORE
    return (known & (truth == number) & (mask != number)).astype(np.int64) - (known & (truth != number) & (mask == truth))


def dabs(mask: Mask, truth: Mask, number: int) -> Iterator[Action]:
    """The best dab of each radius."""
    gain = torch.from_numpy(gained(mask, truth, number)).float()
    shape = [side + 2 * max(RADII) for side in mask.shape]
    spectrum = torch.fft.rfft2(gain, s=shape)
    y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    for radius in RADII:
        side = torch.arange(-radius, radius + 1)
        disc = (side[:, None] ** 2 + side[None] ** 2 <= radius**2).float()
        found = torch.fft.irfft2(spectrum * torch.fft.rfft2(disc, s=shape), s=shape)
        found = found[radius : radius + mask.shape[0], radius : radius + mask.shape[1]]
        row, column = divmod(int(found.argmax()), mask.shape[1])
        yield Action("brush", number, (x - column) ** 2 + (y - row) ** 2 <= radius**2)


def choices(mask: Mask, truth: Mask, regions: list[NDArray[np.int64]], maps: dict[int, Mask]) -> Iterator[Action]:
    """What each tool would do at its best place, with every class that is there."""
    numbers = sorted({*np.unique(truth).tolist()} - {IGNORE} | {0})
    areas = parts(mask)
    for number in numbers:
        for of in regions:
            yield Action("region", number, of == best_part(of, mask, truth, number)[0])
        yield Action("fill", number, areas == best_part(areas, mask, truth, number)[0])
        yield from dabs(mask, truth, number)
        for at in range(5, 100, 5) if number in maps else ():
            free = np.isin(mask, (0, IGNORE, number))
            yield Action(f"threshold {at}", number, free & (maps[number] > 2.55 * at), 2, DRAG + 2 * POINT)


def done(mask: Mask, action: Action) -> Mask:
    """The mask after an action."""
    new = mask.copy()
    if action.tool.startswith("threshold"):
        new[np.isin(mask, (IGNORE, action.number))] = 0
    new[action.place] = action.number
    return new


def mended(mask: Mask, truth: Mask, regions: list[NDArray[np.int64]], maps: dict[int, Mask]) -> dict[str, Any]:
    """Mends a mask until it is accepted: clicks, seconds, and how it was and became."""
    begin, clicks, seconds, tool, number = score(mask, truth), 0, DECIDE + KEY, "brush", -1
    actions = 0
    while score(mask, truth) < ENOUGH and actions < MOST:
        right = int(((mask == truth) & (truth != IGNORE)).sum())

        def worth(action: Action, now: Mask = mask, before: int = right, tool: str = tool, number: int = number) -> float:
            after = int(((done(now, action) == truth) & (truth != IGNORE)).sum())
            return (after - before) / action.seconds(tool, number)

        best = max(choices(mask, truth, regions, maps), key=worth)
        if worth(best) <= 0:
            break
        mask = done(mask, best)
        clicks, seconds, actions = clicks + best.clicks, seconds + best.seconds(tool, number), actions + 1
        tool, number = best.tool, best.number
    end = score(mask, truth)
    return {"clicks": clicks, "seconds": seconds + DECIDE + KEY, "begin": begin, "end": end, "accepted": end >= ENOUGH}


def opened(run: Path) -> tuple[Context, Correcting]:
    """A run as the explorer has it."""
    context = reopen(run, None, Runtime(), Reporter(quiet=True))
    return context, Correcting(context, Corrections(context.run, context.data.classes, "benchmark"))


def simulate(run: Path, masks: Path, count: int) -> None:
    """Prints a table of clicks and seconds per mask."""
    context, page = opened(run)
    truth, positions = Truth(masks), np.zeros(256, np.uint8)
    positions[[*context.data.classes.ids, IGNORE]] = [*context.data.classes.ids, IGNORE]
    drawn = sorted(page.items.values(), key=lambda item: page.rank[item.id])
    drawn = [item for item in drawn if item.labels and (masks / f"{item.id}.png").is_file()][:count]
    rows: dict[str, list[dict[str, Any]]] = {"nothing, no maps": [], "nothing, with maps": [], "our masks": []}
    for item in drawn:
        right = positions[truth(item)]
        regions = [parts(superpixels(item.read(), number)) for number in REGIONS]
        maps = {context.data.classes.ids[at]: page.map(item.id, context.data.classes.ids[at], "refined") for at in item.labels}
        nothing = np.zeros_like(right)
        ours = page.mask(item.id, "run")
        for name, begun, known in zip(rows, (nothing, nothing, ours), ({}, maps, maps), strict=True):
            rows[name].append(mended(begun, right, regions, known))
            print(item.id, name, {key: round(value, 2) for key, value in rows[name][-1].items()}, file=sys.stderr, flush=True)
    print("| begun from | mIoU at first | accepted | clicks: median | mean | seconds: median | mean |")
    print("|---|---|---|---|---|---|---|")
    for name, found in rows.items():
        clicks, seconds = ([row[key] for row in found] for key in ("clicks", "seconds"))
        print(
            f"| {name} | {100 * statistics.fmean(row['begin'] for row in found):.1f} |"
            f" {sum(row['accepted'] for row in found)} of {len(found)} | {statistics.median(clicks):.1f} |"
            f" {statistics.fmean(clicks):.1f} | {statistics.median(seconds):.1f} | {statistics.fmean(seconds):.1f} |"
        )


def lowest_first(context: Context, items: list[Item]) -> list[Item]:
    """Images with the lowest scores first, as the explorer orders them."""
    return sorted(items, key=lambda item: min(load_scores(context.run.confidence(item.id)).values(), default=1.0))


def compare(run: Path, masks: Path, out: Path, words: list[str]) -> None:
    """Trains on 20 and 60 corrected masks, worst first and at random, and prints the mIoU of each."""
    context, page = opened(run)
    train = [item for item in context.data.train if item.labels and (masks / f"{item.id}.png").is_file()]
    orders = {"worst first": lowest_first(context, train), "random": sorted(train, key=lambda item: page.rank[item.id])}
    print("| corrected | order | mIoU of the network |\n|---|---|---|")
    for name, order in orders.items():
        for count in (20, 60):
            new = out / f"{name.split()[0]}-{count}"
            if not new.exists():
                shutil.copytree(run, new, ignore=shutil.ignore_patterns("5-semi", "corrected", "studies"))
            for item in order[:count]:
                save_mask(new / "corrected" / "masks" / f"{item.id}.png", Truth(masks)(item))
            for verb in (["semi", "--run", new, *words], ["evaluate", "--run", new, "--masks", masks]):
                subprocess.run([sys.executable, "-m", "advcam", *map(str, verb)], check=True)
            found = json.loads((new / "metrics.json").read_text())
            if name == "worst first" and count == 20 and "predictions" in found:
                print(f"| 0 | | {100 * found['predictions']['mean_iou']:.1f} |")
            print(f"| {count} | {name} | {100 * found['semi']['mean_iou']:.1f} |", flush=True)


def main() -> None:
    """Reads the command line."""
    own = sys.argv[1:]
    words = own[own.index("--") + 1 :] if "--" in own else []
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    for verb in ("clicks", "semi"):
        made = verbs.add_parser(verb)
        made.add_argument("--run", type=Path, required=True)
        made.add_argument("--masks", type=Path, required=True)
        if verb == "clicks":
            made.add_argument("--images", type=int, default=20)
        else:
            made.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(own[: own.index("--")] if "--" in own else own)
    if args.verb == "clicks":
        simulate(args.run, args.masks, args.images)
    else:
        compare(args.run, args.masks, args.out, words)


if __name__ == "__main__":
    main()
