"""Quality against seconds an image, of every setting and of the published loop, with every network on every data set.

    .venv/bin/python -m benchmarks.frontier                                                    # two to three hours on a core
    .venv/bin/python -m benchmarks.frontier --networks mobilenet --data photos --count 10 --images 1

Climbs, counts and times are kept under ``--work`` by what they depend on: a stopped or repeated command goes on where it was.
The numbers are written to ``benchmarks/frontier.json``, beside those of other networks and data that it has;
``docs/figures/frontier.py`` draws from it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from advcam.data import Item
from advcam.runtime import has_bfloat16
from advcam.stages.context import Context
from advcam.store import write_bytes
from advcam.studies.cache import Part

from ..quality.__main__ import WAYS, trained
from ..quality.data import DATA, NETWORKS
from .points import DEFAULT, Point, Times, loaded, medians, of_table, plain, points, speed, table, within
from .quality import cached, counts, split
from .settings import CHOICES, KEPT, SETTINGS, SMALL
from .times import LOOP, ONE_SCALE, OURS

WORK, NUMBERS = Path("runs/quality"), Path("benchmarks/frontier.json")

WITHOUT = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Makes the processor one without AVX512 and bfloat16."""


def timed(work: Path, network: str, data: str, images: int, part: str, whole: bool) -> Times:
    """What ``times`` takes in an own process with one thread, and keeps: seconds, and times faster than the published loop."""
    file = work / f"{data}-{network}" / "frontier" / f"seconds-{part}.json"
    if not file.is_file():
        command = [sys.executable, "-m", "benchmarks.frontier.times", str(work), network, data, str(file)]
        command += ["--images", str(images), "--part", part] + (["--whole"] if whole else [])
        processor = {} if part == "native" else WITHOUT
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", **processor}, check=True)
    return medians(json.loads(file.read_text())["seconds"], LOOP)


def of_pair(work: Path, network: str, data: str, count: int, small: bool, times: Times, native: Times | None) -> list[Point]:
    """Points of one network on one data set.

    Args:
        work: folder of runs.
        network: name of the classifier.
        data: name of the data set.
        count: images of each half.
        small: leave out climbs of larger images and of mirror images.
        times: of all settings, without bfloat16.
        native: of some, as the processor is; None where it has no bfloat16.
    """
    context = trained(work, network, data)
    masks, (first, last) = DATA[data].masks(work / data), split(context, count)
    where = {"network": network, "data": data, "half": "first", "precision": "float32"}
    found = points(where, counts(context, first, CHOICES, masks), times)
    where["half"] = "last"
    found += points(where, counts(context, last, SMALL if small else SETTINGS, masks), times)
    for way, names in (("published", [LOOP]), ("published-one-scale", [ONE_SCALE, OURS])):
        parts = cached(context, last, WAYS[way].settings, WAYS[way].after, max(WAYS[way].after))
        if parts is not None:
            found += [
                replace(p, setting=name, **speed(name, times)) for name in names for p in points(where, {DEFAULT: parts}, {})
            ]
    return found + (in_bfloat16(context, where, last, native) if native is not None else [])


def in_bfloat16(context: Context, where: dict[str, str], items: Sequence[Item], times: Times) -> list[Point]:
    """Points of the settings whose counts ``benchmarks.quality`` kept in the processor's own precision."""
    parts: dict[str, list[Part]] = {}
    for name, (way, steps) in KEPT.items():
        kept = cached(context, items, WAYS[way].settings, WAYS[way].after, steps)
        if kept is None:
            return []
        parts[name] = kept
    made = points(where | {"precision": "bfloat16"}, parts, {})
    return [replace(point, **speed(f"{point.setting}, bfloat16", times)) for point in made]


def report(found: Sequence[Point]) -> str:
    """The tables."""
    last = [p for p in found if p.half == "last"]
    exact = [p for p in last if p.precision == "float32"]
    parts = [table(exact)]
    if rough := [p for p in last if p.precision == "bfloat16"]:
        parts.append("In bfloat16, on the processor as it is:\n\n" + table(rough))
    ours = [p for p in found if p.precision == "float32" and p.setting not in (LOOP, ONE_SCALE, OURS)]
    for half in ("first", "last"):
        rows = within([p for p in ours if p.half == half])
        parts.append(of_table((f"within a point of default on the {half} images", "cost", "mean less", "least"), rows))
    return "\n\n".join(parts)


def main() -> None:
    """Measures what is not kept yet, writes the numbers and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of runs and of what was measured")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--data", default="photos,objects")
    parser.add_argument("--count", type=int, default=39, help="images of each half: the first and the last by their hashes")
    parser.add_argument("--images", type=int, default=3, help="images that are timed")
    parser.add_argument("--small", action="store_true", help="leave out climbs of larger images and of mirror images")
    parser.add_argument("--numbers", type=Path, default=NUMBERS, help="JSON to write")
    args = parser.parse_args()
    found, measured = [], set()
    for data in args.data.split(","):
        for network in args.networks.split(","):
            whole = (network, data) == ("mobilenet", "photos")
            times = timed(args.work, network, data, args.images, "pixels", whole)
            times = timed(args.work, network, data, args.images, "features", False) | times
            native = timed(args.work, network, data, args.images, "native", False) if has_bfloat16("cpu") else None
            found += of_pair(args.work, network, data, args.count, args.small, times, native)
            measured.add((network, data))
    before = loaded(json.loads(args.numbers.read_text())["points"]) if args.numbers.is_file() else []
    found = [point for point in before if (point.network, point.data) not in measured] + found
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    rows = ",\n".join(json.dumps(plain(point)) for point in found)
    write_bytes(args.numbers, f'{{"date": "{today}", "points": [\n{rows}\n]}}\n'.encode())
    print(report(found))


if __name__ == "__main__":
    main()
