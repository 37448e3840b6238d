"""Seconds an image of every setting and of the published loop, which take turns: ``python -m benchmarks.frontier.times``.

Seconds are those of one core, by the process's own clock: other work on the machine is not counted, as far as it leaves the
caches alone. It is an own process of one thread (``OMP_NUM_THREADS=1``), so that a processor without bfloat16 units can be had
by ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advcam import AdvCAM
from advcam.data import Item
from advcam.runtime import has_bfloat16
from advcam.stages.context import Context
from advcam.store import write_json
from advcam.studies.climbs import Climber

from ..quality.__main__ import trained
from .loop import Named, published
from .quality import split
from .settings import KEPT, SETTINGS, Setting

FEW = 2
"""Steps of the published loop at each scale that are timed in every round."""
LOOP, ONE_SCALE, OURS = "published loop, four scales", "published loop, one scale", "official, one scale"


def alike(context: Context, count: int) -> list[Item]:
    """The last of the images that nothing was chosen on, of the size that most of them have."""
    _, held_out = split(context, 39)
    (size, _), *_ = Counter(item.size for item in held_out).most_common(1)
    return [item for item in held_out if item.size == size][-count:]


def taken(context: Context, chosen: list[Setting], images: int, whole: bool) -> dict[str, Any]:
    """Seconds of every side in every round; a round is an image.

    Args:
        context: the run with the classifier.
        chosen: settings to time.
        images: number of rounds; one more before them is not counted.
        whole: also run the published loop with all its steps on the first image, and ``official`` at four scales.
    """
    climber = Climber(context)
    sides = {s.name: side(climber, s) for s in chosen}
    loop = Named(climber.model)
    items = alike(context, images)
    found: dict[str, list[float]] = {name: [] for name in (*sides, OURS, ONE_SCALE, LOOP)}
    official = AdvCAM(climber.model, "official", mirror=False, scales=(1.0,))
    for at, item in enumerate([items[0], *items]):
        image, labels = climber.image(item), list(item.labels)
        took = {}
        for name, make in sides.items():
            start = time.process_time()
            make(image, labels)
            took[name] = time.process_time() - start
        took[LOOP] = published(loop, image, labels, FEW)
        if at:
            start = time.process_time()
            official(image, [labels])
            took[OURS] = time.process_time() - start
            took[ONE_SCALE] = published(loop, image, labels, FEW, (1.0,))
            for name, seconds in took.items():
                found[name].append(seconds)
    record: dict[str, Any] = {
        "seconds": found,
        "labels": [len(item.labels) for item in items],
        "size": list(climber.image(items[0]).shape[2:]),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": has_bfloat16("cpu"),
    }
    if whole:
        image, labels = climber.image(items[0]), list(items[0].labels)
        few = published(loop, image, labels, FEW)
        all_steps = published(loop, image, labels, 27)
        again = published(loop, image, labels, FEW)
        start = time.process_time()
        AdvCAM(climber.model, "official", mirror=False)(image, [labels])
        record["whole"] = {"few": few, "all": all_steps, "again": again, "official": time.process_time() - start}
    return record


def side(climber: Climber, setting: Setting) -> Callable[[Tensor, list[int]], object]:
    """What makes the maps of a setting."""
    adv = climber.at(setting.climb)
    return lambda image, labels: adv(image, [labels])


def main() -> None:
    """Times one network on one data set and writes what was taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("network")
    parser.add_argument("data")
    parser.add_argument("file", type=Path, help="JSON to write")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--part", default="pixels", choices=("pixels", "features", "native"))
    parser.add_argument("--whole", action="store_true", help="the published loop once with all its steps")
    args = parser.parse_args()
    context = trained(args.work, args.network, args.data)
    chosen = [s for s in SETTINGS if (s.preset in ("fast", "features")) == (args.part == "features")]
    if args.part == "native":
        mine = [s for s in SETTINGS if s.name in KEPT]
        chosen = mine + [Setting(f"{s.name}, bfloat16", s.preset, s.changes | {"precision": "bfloat16"}) for s in mine]
    write_json(args.file, taken(context, chosen, args.images, args.whole))


if __name__ == "__main__":
    main()
