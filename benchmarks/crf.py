"""The dense CRF beside pydensecrf: time and memory, set-up included, in a markdown table.

    .venv/bin/python benchmarks/crf.py [rounds]

pydensecrf (C++) is a peer, never a dependency: pip install --target /tmp/dcrf pydensecrf2; PYTHONPATH=/tmp/dcrf. Both sides
take turns in one process, torch on all its threads. "Cold" builds the lattice of positions, "warm" has it from the call before.
Memory is the peak of a child process, one for each side, less the peak after a call of 16 x 16 pixels.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from advcam.refinement import crf

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "photos" / "images"
SIZES = ((240, 320), (375, 500), (750, 1000))
LABELS = (2, 21)
GAUSSIAN, BILATERAL = (3.0, 3.0), (80.0, 13.0, 10.0)
Sides = tuple[np.ndarray, np.ndarray]


def case(height: int, width: int, labels: int) -> Sides:
    """An image [H, W, 3], a photograph where there is one, and unaries [L, H, W]: blobs with noise."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    unary = np.empty((labels, height, width), np.float32)
    for k in range(labels):  # one at a time: what is made here must not be the peak
        unary[k] = -2 * np.sin(5 * x + k) * np.cos(4 * y - 2 * k) + generator.standard_normal(x.shape, np.float32)
    waves = np.stack([np.sin(5 * x + k) * np.cos(4 * y - 2 * k) for k in range(3)], 2)
    image = (128 + 70 * waves + 12 * generator.standard_normal(waves.shape)).clip(0, 255).astype(np.uint8)
    if found := sorted(PHOTOGRAPHS.glob("*.jpg")):
        image = np.array(Image.open(found[0]).convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(image), unary


def ours(image: np.ndarray, unary: np.ndarray) -> np.ndarray:
    """Marginals [L, H, W]."""
    image = torch.tensor(image).permute(2, 0, 1)[None]
    return crf.dense_crf(image, torch.from_numpy(unary)[None], 10, GAUSSIAN, BILATERAL)[0].numpy()


def theirs(image: np.ndarray, unary: np.ndarray) -> np.ndarray:
    """The same by pydensecrf."""
    from pydensecrf.densecrf import DenseCRF2D

    labels, height, width = unary.shape
    model = DenseCRF2D(width, height, labels)
    model.setUnaryEnergy(unary.reshape(labels, -1))
    model.addPairwiseGaussian(sxy=GAUSSIAN[0], compat=GAUSSIAN[1])
    model.addPairwiseBilateral(sxy=BILATERAL[0], srgb=BILATERAL[1], rgbim=image, compat=BILATERAL[2])
    return np.array(model.inference(10)).reshape(unary.shape)


def times(given: Sides, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, taking turns."""
    taken: dict[str, list[float]] = {"cold": [], "warm": [], "theirs": []}
    for _ in range(rounds):
        crf._smoothing.cache_clear()
        for name, run in (("cold", ours), ("warm", ours), ("theirs", theirs)):
            start = time.perf_counter()
            run(*given)
            taken[name].append(time.perf_counter() - start)
    return taken


def memory(side: str, height: int, width: int, labels: int) -> int:
    """Peak MiB of one call in a process of its own, above that of a tiny call."""
    done = subprocess.run([sys.executable, __file__, side, *map(str, (height, width, labels))], capture_output=True, check=True)
    return int(done.stdout)


def child(side: str, *size: int) -> None:
    """What :func:`memory` starts."""
    run = {"ours": ours, "theirs": theirs}[side]
    given = case(*size)
    run(*case(16, 16, 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(*given)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


def main(rounds: int) -> None:
    """Print the table."""
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError:
        sys.exit("pydensecrf is not there to compare with: pip install --target /tmp/dcrf pydensecrf2; PYTHONPATH=/tmp/dcrf")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; 10 iterations; seconds, best (median) of {rounds}\n")
    print(
        "| size | labels | advcam cold | advcam warm | pydensecrf | cold : theirs | MiB | theirs | difference | labels equal |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    cases = [(height, width, labels) for height, width in SIZES for labels in LABELS]
    # first, while this process is small: the peak of a child starts at what its parent holds
    peaks = {size: [str(memory(side, *size)) for side in ("ours", "theirs")] for size in cases}
    for height, width, labels in cases:
        given = case(height, width, labels)
        a, b = ours(*given), theirs(*given)
        taken = times(given, rounds)
        seconds = [f"{min(t):.3f} ({statistics.median(t):.3f})" for t in taken.values()]
        ratio = f"{min(taken['cold']) / min(taken['theirs']):.2f}"
        same = [f"{np.abs(a - b).max():.1e}", f"{(a.argmax(0) == b.argmax(0)).mean():.4%}"]
        print(
            "|",
            " | ".join([f"{height} x {width}", str(labels), *seconds, ratio, *peaks[height, width, labels], *same]),
            "|",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        child(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
