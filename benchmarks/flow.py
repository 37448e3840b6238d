"""What the flow costs around the maps: training, thresholds, two processes at once; benchmarks/flow.md records it.

    .venv/bin/python -m benchmarks.flow training [--steps 40] [--rounds 3] [--precision float32]
    .venv/bin/python -m benchmarks.flow thresholds
    .venv/bin/python -m benchmarks.flow together RUN climb --preset default  # RUN is copied, not changed

``training``: MobileNetV2 on crops of the photographs, forward and backward pass and AdamW. The sides: a bare loop over batches
that lie in memory, which never waits; the same loop over a DataLoader; and ``advcam.training.fit``, as the classify step calls
it. ``thresholds``: counts of an image at 100 background thresholds, and at one. ``together``: one step of a run alone, and two
processes that do the same at once, by how threads wait and how many there are. All sides take turns; medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from advcam.process import keep_memory

keep_memory()  # as the command line does

import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from advcam.data import Normalisation, TrainingViews  # noqa: E402
from advcam.metrics import THRESHOLDS, sweep_counts  # noqa: E402
from advcam.pipeline import start  # noqa: E402
from advcam.progress import Reporter  # noqa: E402
from advcam.runtime import Runtime, resolve_precision  # noqa: E402
from advcam.stages.classify import build, network_of, soft_margin  # noqa: E402
from advcam.training import ImageLoss, fit  # noqa: E402

from .quality.data import DATA, classifier  # noqa: E402


def used() -> tuple[float, float, float]:
    """Wall, user and system time until now, with that of processes that have ended."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(one.ru_utime for one in each), sum(one.ru_stime for one in each)


def bare(model: torch.nn.Module, lr: float, precision: str, batches: Iterable[Any]) -> None:
    """Trains a network on batches, and does nothing else."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    model.train()
    for images, targets in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            scores = model(images.contiguous(memory_format=torch.channels_last))
        soft_margin(scores.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def training(args: argparse.Namespace) -> None:
    """Prints one row a side."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(workers=args.workers)
        precision = resolve_precision(args.precision, runtime.torch_device())
        context = start(Path(folder) / "run", DATA["photos"].where(Path(folder)), 0, runtime, Reporter(quiet=True))
        config = classifier("mobilenet", "photos", Path("runs/quality/weights"))
        views = TrainingViews(
            context.data.train[: args.steps * config.batch], config.augmentation(), Normalisation(config.mean, config.std), 0,
            len(context.data.classes),
        )  # fmt: skip
        plan = replace(config.plan(), epochs=1, precision=precision)

        def network() -> torch.nn.Module:
            model = build(config, len(context.data.classes), network_of(context, config))[0]
            return model.to(memory_format=torch.channels_last)

        def ours(model: torch.nn.Module) -> None:
            with tempfile.TemporaryDirectory() as where:
                fit(
                    model, None, [], views, ImageLoss(soft_margin), plan, lambda _network: {}, None, Path(where), runtime,
                    context.reporter, "classify",
                )  # fmt: skip

        ready = list(islice(DataLoader(views, config.batch), 4))
        in_memory = [ready[at % len(ready)] for at in range(args.steps)]
        loaded = DataLoader(views, config.batch, num_workers=runtime.readers)
        sides: dict[str, Callable[[torch.nn.Module], None]] = {
            "bare loop, batches in memory": lambda model: bare(model, config.lr, precision, in_memory),
            "bare loop, DataLoader": lambda model: bare(model, config.lr, precision, loaded),
            "advcam": ours,
        }
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in sides}
        for _ in range(args.rounds + 1):  # the first warms up
            for name, side in sides.items():
                model, before = network(), used()
                side(model)
                found[name].append(tuple(now - then for now, then in zip(used(), before, strict=True)))
    print(f"{precision}, {args.steps} steps of {config.batch}, {runtime.readers} workers, {torch.get_num_threads()} threads")
    print("| | ms a step | user | sys | beside the DataLoader's loop, same round |\n|---|---|---|---|---|")
    for name, taken in found.items():
        wall, user, system = (1000 * statistics.median(one[at] for one in taken[1:]) / args.steps for at in range(3))
        ratio = statistics.median(a[0] / b[0] for a, b in zip(taken[1:], found["bare loop, DataLoader"][1:], strict=True))
        print(f"| {name} | {wall:.0f} | {user:.0f} | {system:.0f} | {ratio:.2f} |")


def thresholds(args: argparse.Namespace) -> None:
    """Prints the time of one image's counts at 100 thresholds and at one, in one thread."""
    torch.set_num_threads(1)
    print("| image, classes | 100 thresholds, ms | one, ms | times |\n|---|---|---|---|")
    for size, shown, outputs in (((375, 500), 2, 21), ((240, 320), 2, 6)):
        maps, truth = torch.rand(shown, *size), torch.randint(0, outputs, size)
        taken: list[tuple[float, float]] = []
        for _ in range(20 * args.rounds):
            pair = []
            for cuts in (THRESHOLDS, (0.3,)):
                start_of = time.process_time()
                sweep_counts(maps, range(1, shown + 1), truth, outputs, cuts)
                pair.append(1000 * (time.process_time() - start_of))
            taken.append((pair[0], pair[1]))
        many, one = (statistics.median(times) for times in zip(*taken[3:], strict=True))
        print(f"| {size[1]} x {size[0]}, {shown} of {outputs - 1} | {many:.1f} | {one:.1f} | {many / one:.1f} |")


SETTINGS = {
    "spin, two threads each (libgomp's default)": {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": "2"},
    "sleep, two threads each (the command line's)": {"OMP_NUM_THREADS": "2"},
    "sleep, one thread each": {"OMP_NUM_THREADS": "1"},
}
"""How threads wait and how many there are, by the environment that asks for it."""


def together(args: argparse.Namespace) -> None:
    """Prints the seconds of one process alone and of two at once, by setting."""
    print("| threads | alone, s | two at once, s | work done beside alone |\n|---|---|---|---|")
    for name, environment in SETTINGS.items():
        taken: list[tuple[float, float]] = []
        for _ in range(args.rounds):
            taken.append((_at_once(args, environment, 1), _at_once(args, environment, 2)))
        alone, two = (statistics.median(times) for times in zip(*taken, strict=True))
        print(f"| {name} | {alone:.1f} | {two:.1f} | {statistics.median(2 * a / b for a, b in taken):.2f} |", flush=True)


def _at_once(args: argparse.Namespace, environment: dict[str, str], count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        for at in range(count):
            shutil.copytree(args.run, Path(folder) / str(at))
        start_of = time.perf_counter()
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "advcam", args.verb, "--run", f"{folder}/{at}", "--redo", "--quiet", *args.words],
                env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
            )
            for at in range(count)
        ]  # fmt: skip
        if any(process.wait() for process in running):
            raise SystemExit("a process failed")
        return time.perf_counter() - start_of


def main() -> None:
    """Runs the part that is named first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for part in (training, thresholds, together):
        own = parts.add_parser(part.__name__)
        own.set_defaults(part=part)
        own.add_argument("--rounds", type=int, default=3)
        if part is training:
            own.add_argument("--steps", type=int, default=40)
            own.add_argument("--precision", default="auto")
            own.add_argument("--workers", type=int)
        if part is together:
            own.add_argument("run", type=Path)
            own.add_argument("verb")
            own.add_argument("words", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    args.part(args)


if __name__ == "__main__":
    main()
