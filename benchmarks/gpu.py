"""The climb on a GPU: images a second, share of the card's measured matrix peak, equality with the CPU, memory, the tests.

    benchmarks/gpu.sh [--no-install] [--cpu] [--small] [--minutes 9] [--out runs/gpu.json] [--tests PATH ...]

A ResNet-50 with random weights at output stride 16, photographs of VOC's sizes with one to three classes each, read from JPEG
files one batch ahead, which `advcam climb` does not do yet, and without writing maps. benchmarks/gpu.md says what was run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import advcam  # before timm: it makes torchvision importable beside a CPU-only torch

import timm  # isort: skip
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advcam.attribution import settings, strided_size
from advcam.data import NetworkInput
from advcam.data.ahead import ahead
from advcam.data.images import read_image
from advcam.progress import Waited
from advcam.runtime import has_bfloat16

TRAIN_AUG = 10_582
"""Images of VOC 2012's usual training list."""
CLASSES_OF_IMAGES = (1, 1, 2, 1, 2, 1, 3, 1)  # 1.5 on average, as in VOC
ALIKE = 1e-3
"""Share of a map's maximum by which float32 maps of two devices may differ."""


@dataclass(frozen=True)
class Work:
    """What is climbed, and how much of it."""

    network: str
    size: tuple[int, int]
    images: int
    changes: dict[str, Any]
    seconds: float
    matrix: int
    compared: tuple[int, int]


FULL = Work("resnet50", (375, 500), 512, {}, 40, 8192, (128, 160))
SMALL = Work("resnet18", (48, 64), 4, {"steps": 2}, 5, 256, (48, 64))


@dataclass
class Report:
    """What was found, written anew after every part."""

    file: Path
    found: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: Any) -> None:
        """Adds a part and writes all."""
        self.found[name] = value
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.found, indent=1) + "\n")


def wait(device: torch.device) -> None:
    """Waits until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def machine(device: torch.device) -> dict[str, Any]:
    """The device and the versions."""
    if device.type == "cuda":
        seen = torch.cuda.get_device_properties(device)
        card = {"device": seen.name, "GiB": round(seen.total_memory / 2**30, 1), "capability": f"{seen.major}.{seen.minor}"}
    else:
        card = {"device": f"CPU {platform.machine()}", "threads": torch.get_num_threads()}
    kept = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "torch": torch.__version__}
    return card | kept | {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "advcam": advcam.__version__}


def peaks(device: torch.device, side: int) -> dict[str, float]:
    """TFLOP/s of large matrix products on random values: the best of several, by precision."""

    def best(dtype: torch.dtype, tf32: bool) -> float:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        taken = []
        for _ in range(8):
            wait(device)
            start = time.perf_counter()
            for _ in range(4):
                a @ b
            wait(device)
            taken.append(time.perf_counter() - start)
        torch.set_float32_matmul_precision(before)
        return 4 * 2 * side**3 / min(taken[2:]) / 1e12

    found = {"float32": best(torch.float32, False)}
    if has_bfloat16(device.type):
        found["bfloat16"] = best(torch.bfloat16, False)
    return found | ({"tf32": best(torch.float32, True)} if device.type == "cuda" else {})


def photographs(folder: Path, work: Work) -> list[tuple[Path, list[int]]]:
    """Generated JPEG files, every fourth upright, and the classes of each."""
    rng = np.random.default_rng(0)
    made = []
    for at in range(work.images):
        height, width = work.size if at % 4 else work.size[::-1]
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        file = folder / f"{at:05}.jpg"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, quality=90)
        count = CLASSES_OF_IMAGES[at % len(CLASSES_OF_IMAGES)]
        made.append((file, rng.choice(20, count, replace=False).tolist()))
    return made


def batches(files: list[tuple[Path, list[int]]], size: tuple[int, int], pixels: int) -> list[list[tuple[Path, list[int]]]]:
    """Batches of images of one size, as a run makes them."""
    count = max(1, pixels // (size[0] * size[1]))
    turned = [files[::4], [file for at, file in enumerate(files) if at % 4]]
    return [same[at : at + count] for same in turned for at in range(0, len(same), count)]


def flops(model: nn.Module, preset: str, changes: dict[str, Any], images: Tensor, targets: list[list[int]]) -> float:
    """Operations of one batch, forward and backward: counted for two and three steps, of which all others are made."""
    s = settings(preset, **changes)

    def counted(scale: float, steps: int) -> int:
        adv = advcam.AdvCAM(model, preset, **(changes | {"scales": (scale,), "steps": steps, "halve_small": False}))
        adv(images, targets)
        with FlopCounterMode(display=False) as counter:
            adv(images, targets)
        return int(counter.get_total_flops())

    total = 0.0
    for scale in s.scales:
        two, three = counted(scale, 2), counted(scale, 3)
        total += two + (s.steps_at(scale) - 2) * (three - two)
    return total


def throughput(
    model: nn.Module, preset: str, precision: str, pixels: int, files: list[tuple[Path, list[int]]], work: Work, peak: float,
    device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    """Images a second from files to maps on the host, until the images or the seconds end."""
    changes = work.changes | {"precision": precision}
    prepare = NetworkInput((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), long_side=640)
    adv, waiting = advcam.AdvCAM(model, preset, **changes), Waited()

    def read(batch: list[tuple[Path, list[int]]]) -> Tensor:
        images = torch.stack([prepare(read_image(file)) for file, _ in batch])
        return images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images

    def climb(batch: list[tuple[Path, list[int]]], images: Tensor) -> Tensor:
        found = adv(images, [classes for _, classes in batch])
        return found.normalised(strided_size((images.shape[2], images.shape[3]))).half().cpu()

    work_list = batches(files, work.size, pixels)
    first = work_list[0]
    images = read(first)
    climb(first, images)
    operations = flops(model, preset, changes, images, [classes for _, classes in first]) / len(first)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    wait(device)
    start, done, taken = time.perf_counter(), 0, 0.0
    for batch, images in waiting.watch(ahead(work_list, read)):
        climb(batch, images)
        done, taken = done + len(batch), time.perf_counter() - start
        if taken > work.seconds:
            break
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident()
    rate = done / taken
    return {
        "recipe": preset, "precision": precision, "pixels a batch": pixels, "images": done, "seconds": taken,
        "images a second": rate, "minutes for VOC train_aug": TRAIN_AUG / rate / 60, "TFLOP an image": operations / 1e12,
        "TFLOP/s": operations * rate / 1e12, "share of peak": operations * rate / 1e12 / peak, "GiB": memory / 2**30,
        "waited": waiting.seconds / taken,
    }  # fmt: skip


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(model: nn.Module, preset: str, precision: str, work: Work, device: torch.device) -> dict[str, Any]:
    """The greatest difference of the maps from those of the CPU in float32, as a share of each map's maximum.

    On a CPU the same climb is taken one (image, class) pair at a time instead, so that its sums are taken in another order.
    """
    images = torch.randn(2, 3, *work.compared, generator=torch.Generator().manual_seed(1))
    cpu = model.to("cpu")
    likely = advcam.AdvCAM(cpu).scores(images).topk(2).indices.tolist()  # classes that have a map
    theirs = advcam.AdvCAM(cpu, preset, **(work.changes | {"precision": "float32"}))(images, likely)
    alone = {"max_pixels": 1} if device.type == "cpu" else {}
    adv = advcam.AdvCAM(model.to(device), preset, **(work.changes | {"precision": precision}), **alone)
    ours = adv(images.to(device), likely)
    far = [_far(a.cpu(), b) for a, b in ((ours.maps, theirs.maps), (ours.plain.maps, theirs.plain.maps))]
    alike = far[0] <= ALIKE if precision == "float32" else None
    return {"recipe": preset, "precision": precision, "maps": far[0], "first maps": far[1], "alike": alike}


def _far(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours - theirs).abs().amax((1, 2)) / theirs.amax((1, 2)).clamp_min(1e-12)).max())


def test_suite(paths: list[str], seconds: float) -> dict[str, Any]:
    """The last line of pytest, or that it took longer than there was."""
    parallel = ["-n", str(min(16, len(os.sched_getaffinity(0)))), "--dist", "loadfile"] if len(paths) != 1 else []
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *parallel, *paths]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    start, seconds = time.perf_counter(), max(seconds, 1)
    with tempfile.TemporaryFile("w+") as said:
        try:
            done = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, env=alone, timeout=seconds)
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = None
        said.seek(0)
        lines = said.read().splitlines()
    ends = [line for line in lines if re.search(r"\d+ (passed|failed|error)", line)]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    last = ends[-1].strip("= ") if ends else (lines[-1] if lines else "nothing")
    return {
        "status": status, "seconds": time.perf_counter() - start, "failed": failed,
        "said": last if status is not None else f"not finished in {seconds:.0f} s",
    }  # fmt: skip


def recipes(device: torch.device, pixels: int) -> Iterator[tuple[str, str, int]]:
    """Preset, precision and pixels a batch of each line of the table."""
    small = min(pixels, 2**20)  # of a run's batches
    if has_bfloat16(device.type):
        yield "default", "bfloat16", small
        if pixels > small:
            yield "default", "bfloat16", pixels
    yield "default", "float32", small
    if has_bfloat16(device.type):
        yield "official", "bfloat16", small
    yield "official", "float32", small


COLUMNS: dict[str, Callable[[Any], str]] = {
    "recipe": str, "precision": str, "pixels a batch": "{:,}".format, "images": str, "images a second": "{:.2f}".format,
    "minutes for VOC train_aug": "{:.1f}".format, "TFLOP an image": "{:.3g}".format, "TFLOP/s": "{:.3g}".format,
    "share of peak": "{:.1%}".format, "GiB": "{:.2f}".format, "waited": "{:.1%}".format,
}  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """All of it as one Markdown table, and a line each for what has no place in it."""
    apart_of = {(row["recipe"], row["precision"]): f"{row['maps']:.1e}" for row in found["apart"]}
    heads = [*COLUMNS, "from the CPU's maps"]
    rows = [
        [*(form(row[name]) for name, form in COLUMNS.items()), apart_of.get((row["recipe"], row["precision"]), "")]
        for row in found["throughput"]
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows]]
    about = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    best = ", ".join(f"{name} {value:.3g}" for name, value in found["peaks"].items())
    tests = found["tests"]["said"] if found.get("tests") else "not run"
    return "\n".join([*lines, "", f"Machine: {about}.", f"Matrix products, TFLOP/s: {best}.", f"Tests: {tests}."])


def main() -> int:
    """Runs all of it; 1 where float32 maps differ from the CPU's or a test fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="on the CPU, small: what can be checked without a GPU")
    parser.add_argument("--small", action="store_true", help="a tiny network and tiny images")
    parser.add_argument("--minutes", type=float, default=9.0, help="most, in all; what is left after the rest is for the tests")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"), help="file of the figures")
    parser.add_argument("--tests", nargs="*", default=["tests", "src"], metavar="PATH", help="what pytest runs; none: nothing")
    given = parser.parse_args()
    if not given.cpu and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --cpu checks what a CPU can")
    begun, device = time.perf_counter(), torch.device("cpu" if given.cpu else "cuda")
    work = SMALL if given.small or given.cpu else FULL
    torch.manual_seed(0)
    model = timm.create_model(work.network, num_classes=20, output_stride=16).eval()
    report = Report(given.out)
    report.add("machine", machine(device))
    report.add("peaks", peaks(device, work.matrix))
    chosen = list(recipes(device, 2**20 if given.cpu else 2**22))
    pairs = dict.fromkeys((preset, precision) for preset, precision, _ in chosen)
    report.add("apart", [apart(model, preset, precision, work, device) for preset, precision in pairs])
    model.to(device)
    report.add("throughput", [])
    with tempfile.TemporaryDirectory() as folder:
        files = photographs(Path(folder), work)
        for preset, precision, pixels in chosen:
            peak = report.found["peaks"][precision]
            row = throughput(model, preset, precision, pixels, files, work, peak, device)
            report.add("throughput", [*report.found["throughput"], row])
    if given.tests:
        report.add("tests", test_suite(given.tests, 60 * given.minutes - (time.perf_counter() - begun)))
    report.add("seconds", time.perf_counter() - begun)
    print(table(report.found))
    unlike = [row for row in report.found["apart"] if row["alike"] is False]
    return int(bool(unlike) or bool(report.found.get("tests") and report.found["tests"]["status"] != 0))


if __name__ == "__main__":
    sys.exit(main())
