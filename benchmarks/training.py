"""A training beside a bare loop over the same views, in one process by turns; benchmarks/training.md records it.

    .venv/bin/python -m benchmarks.training [--steps 40] [--rounds 3] [--precision float32]

MobileNetV2 on crops of the photographs, forward and backward pass and AdamW. The sides: a bare loop over batches that lie in
memory, which never waits; the same loop over a DataLoader; and ``advcam.training.fit``, as the classify step calls it.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from advcam import process

process.keep_memory()  # as the command line does

import torch  # noqa: E402
from torch.utils.data import DataLoader, Subset  # noqa: E402

from advcam.data import Normalisation, TrainingViews  # noqa: E402
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


def main() -> None:
    """Prints one row a side: the medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(workers=args.workers)
        precision = resolve_precision(args.precision, runtime.torch_device())
        context = start(Path(folder) / "run", DATA["photos"].where(Path(folder)), 0, runtime, Reporter(quiet=True))
        config = classifier("mobilenet", "photos")
        views = TrainingViews(
            context.data.train[: args.steps * config.batch], config.augmentation(), Normalisation(config.mean, config.std), 0,
            len(context.data.classes),
        )  # fmt: skip

        def network() -> torch.nn.Module:
            model = build(config, len(context.data.classes), network_of(context, config))[0]
            return model.to(memory_format=torch.channels_last)

        def loaded() -> Iterable[Any]:
            return DataLoader(Subset(views, range(len(views))), config.batch, num_workers=runtime.readers)

        ready = list(islice(DataLoader(views, config.batch), 4))
        in_memory = [ready[at % len(ready)] for at in range(args.steps)]

        def ours(model: torch.nn.Module) -> None:
            plan = config.plan().__class__(**{**vars(config.plan()), "epochs": 1, "precision": precision})
            with tempfile.TemporaryDirectory() as where:
                fit(
                    model, None, [], views, ImageLoss(soft_margin), plan, lambda _network: {}, None, Path(where), runtime,
                    context.reporter, "classify",
                )  # fmt: skip

        sides: dict[str, Callable[[torch.nn.Module], None]] = {
            "bare loop, batches in memory": lambda model: bare(model, config.lr, precision, in_memory),
            "bare loop, DataLoader": lambda model: bare(model, config.lr, precision, loaded()),
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


if __name__ == "__main__":
    main()
