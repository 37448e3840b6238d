"""What sharing out images costs and brings on this machine: `python -m benchmarks.engines RUN`, see benchmarks/engines.md.

RUN is a run with a finished climb. Its maps are made again in copies of it: by this process and by one and two actors of a Ray
cluster of this machine, in turns, each with one thread. Then units that do nothing go to one and two actors.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}

import torch

from advcam.engines import Row, Unit, Work, rows
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages import climb
from advcam.stages.maps import recorded, units
from advcam.stages.sharing import opened

STORE = "object store, bytes in use: before, most, after"


def main() -> None:
    """Measures, and prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=48, help="at most so many; 0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-pixels", type=int, default=1, help="of a unit; 1: images one by one")
    parser.add_argument("--units", type=int, default=10_000, help="that do nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    import ray

    ray.init("local", num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    ways = {"one process": Runtime(max_pixels=args.max_pixels)}
    ways |= {f"{n} actor{'s' * (n > 1)}": Runtime(engine="ray", actors=n, max_pixels=args.max_pixels) for n in (1, 2)}
    took: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(args.rounds if args.images else 0):
        for name, runtime in ways.items():
            took[name].append(climb_once(args.run, runtime, args.images))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end\n")
    print("| | images a second, best of the rounds | all rounds | seconds until the first batch |\n|---|---|---|---|")
    for name, found in took.items() if args.images else ():
        every = ", ".join(f"{rate:.2f}" for rate, _, _ in found)
        print(f"| {name} | {max(rate for rate, _, _ in found):.2f} | {every} | {min(first for _, first, _ in found):.1f} |")
    print(f"\n| {args.units:,} units of one image that do nothing | ms a unit | of them this process computes | {STORE} |")
    print("|---|---|---|---|")
    for count in (1, 2):
        each, own, store = nothing(ray, count, args.units)
        print(f"| {count} actor{'s' * (count > 1)} | {each:.2f} | {own:.2f} | {store} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory of the driver: {peak:.0f} MiB")


def climb_once(source: Path, runtime: Runtime, most: int) -> tuple[float, float, float]:
    """Climbs images of a copy of a run; returns images a second from the first row on, and seconds until then, and in all."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        copy = Path(shutil.copytree(source, Path(folder) / "run", ignore=shutil.ignore_patterns("2-*", "3-*", "4-*", "5-*")))
        context = reopen(copy, None, runtime, Reporter(quiet=True))
        config = recorded(reopen(source, None, runtime, Reporter(quiet=True)).run)
        assert config is not None
        parts = units(context, config, context.data.items)
        chosen: list[Unit] = []
        while parts and sum(len(part.wanted) for part in chosen) < most:
            chosen.append(parts.pop(0))
        work: Any = partial(climb.saving, context, config)
        if runtime.engine == "ray":
            work = partial(opened, climb.saving, context.run, context.seed, runtime, None, config)
        start, moments = time.perf_counter(), []
        for _ in rows(chosen, work, runtime, copy):
            moments.append(time.perf_counter())
        begin = moments[len(chosen[0].wanted) - 1]  # by then every actor has loaded the network, or nearly
        after = [moment for moment in moments if moment > begin]
        return len(after) / (moments[-1] - begin), begin - start, moments[-1] - start


def idle() -> Work:
    """Work that does nothing."""
    return lambda unit: [Row(name) for name in unit.wanted]


def nothing(ray: Any, count: int, number: int) -> tuple[float, float, str]:
    """Milliseconds of a unit of nothing, those that this process computes, and bytes of the object store in use."""
    with tempfile.TemporaryDirectory() as folder:
        before, used, start, began = in_use(ray), list[float](), 0.0, 0.0
        parts = [Unit.single(f"{at:06}") for at in range(number)]
        for at, _ in enumerate(rows(parts, idle, Runtime(engine="ray", actors=count), Path(folder))):
            if not at:
                start, began = time.perf_counter(), time.process_time()
            if at % 1000 == 0:
                used.append(in_use(ray))
        took, own = time.perf_counter() - start, time.process_time() - began
        return 1000 * took / number, 1000 * own / number, f"{before:.0f}, {max(used):.0f}, {in_use(ray):.0f}"


def in_use(ray: Any) -> float:
    """Bytes of the object store in use."""
    there, free = ray.cluster_resources(), ray.available_resources()
    return float(there["object_store_memory"] - free.get("object_store_memory", 0))


if __name__ == "__main__":
    main()
