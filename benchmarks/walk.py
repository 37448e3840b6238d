"""The random walk beside the published way, a dense matrix squared; each run in a process of its own.

    .venv/bin/python benchmarks/walk.py [--dense-up-to CELLS] [--maps 3]

Random maps and boundaries, radius 5, beta 10, 2^8 steps. Time is from maps and boundary to the spread maps, building included;
memory is the peak of the process less that before the call. OMP_NUM_THREADS=1 in front where others use the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from torch import Tensor

from advcam.refinement.paths import line, offsets
from advcam.refinement.walk import random_walk

SIZES = ((47, 63), (94, 125), (512, 512))
RADIUS, BETA, LOG2_STEPS = 5, 10, 8


def dense_walk(maps: Tensor, boundary: Tensor) -> Tensor:
    """The published way: all pairs in one matrix, which is squared."""
    height, width = boundary.shape[1:]
    cells = torch.arange(height * width).view(height, width)
    affinity = torch.eye(height * width)
    for dy, dx in offsets(RADIUS):
        rows, left, right = height - dy, max(-dx, 0), width - max(dx, 0)
        path = [boundary[0, y : y + rows, left + x : right + x] for y, x in line(dy, dx)]
        here, there = cells[:rows, left:right].flatten(), cells[dy:, left + dx : right + dx].flatten()
        affinity[here, there] = affinity[there, here] = (1 - torch.stack(path).amax(0).flatten()) ** BETA
    transition = affinity / affinity.sum(0)
    for _ in range(LOG2_STEPS):
        transition = transition @ transition
    return ((maps * (1 - boundary)).flatten(1) @ transition).view(maps.shape)


def scene(height: int, width: int, maps: int) -> tuple[Tensor, Tensor]:
    """The same random numbers in every process."""
    torch.manual_seed(0)
    return torch.rand(maps, height, width), torch.rand(1, height, width) ** 3


def peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def one(way: str, height: int, width: int, maps: int) -> None:
    """The child: prints seconds, bytes, and the result at every 97th cell."""
    walk = {"sparse": random_walk, "dense": dense_walk}[way]
    walk(*scene(12, 12, 1))  # what is loaded on the first call
    inputs = scene(height, width, maps)
    before = peak()
    seconds, processor = [], []
    for _ in range(1 if way == "dense" else 3):
        start, busy = time.perf_counter(), time.process_time()
        out = walk(*inputs)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
    numbers = {"seconds": min(seconds), "processor": min(processor), "bytes": peak() - before}
    print(json.dumps({**numbers, "sample": out.flatten()[::97].tolist()}))


def run(way: str, height: int, width: int, maps: int) -> dict[str, Any]:
    """The numbers of one child."""
    command = [sys.executable, __file__, "--child", way, str(height), str(width), "--maps", str(maps)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def row(cells: str, way: str, numbers: dict[str, Any], apart: str) -> None:
    """One line of the table."""
    times = f"{numbers['seconds']:.3g} | {numbers['processor']:.3g}"
    print(f"| {cells} | {way} | {times} | {numbers['bytes'] / 1e6:.0f} | {apart} |", flush=True)


def main() -> None:
    """Prints one line a size and way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dense-up-to", type=int, default=94 * 125, metavar="CELLS", help="largest grid of the dense way")
    parser.add_argument("--maps", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        one(args.child[0], int(args.child[1]), int(args.child[2]), args.maps)
        return
    print("| cells | way | seconds | processor seconds | peak memory, MB | largest difference |\n|---|---|---|---|---|---|")
    for height, width in SIZES:
        sparse = run("sparse", height, width, args.maps)
        row(f"{height} x {width}", "advcam", sparse, "")
        if height * width <= args.dense_up_to:
            dense = run("dense", height, width, args.maps)
            apart = max(abs(a - b) for a, b in zip(sparse["sample"], dense["sample"], strict=True))
            row("", "dense", dense, f"{apart:.1e}")


if __name__ == "__main__":
    main()
