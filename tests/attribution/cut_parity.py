"""Writes ``data/climb.npz``, the part of ``../shared/parity/climb.npz`` that a clone is tested with.

That file holds what the authors' code gave on a CPU, in float32, on a small random network. Kept, all in float32 and under the
same names:

* whole: the image, the network's weights, the classes, the pooled scores of every step, the map of all scales;
* of maps at one scale, the first, 10th, 19th and last step, and their sum over all steps (``single.C.sum``, added here);
* of pixels after the last step and of the map of all scales at full size, every 6th row and column;
* of the views at each scale, every 12th row and column.

From the repository's root: ``python tests/attribution/cut_parity.py``.
"""

from pathlib import Path

import numpy as np

FULL = Path(__file__).resolve().parents[3] / "shared" / "parity" / "climb.npz"
CUT = Path(__file__).resolve().parent / "data" / "climb.npz"


def cut(name, value):
    """What is kept of an array, or of a tensor of the same shape."""
    if name.startswith("view."):
        return value[..., ::12, ::12]
    if name.endswith((".final", ".high_res")):
        return value[..., ::6, ::6]
    if name.endswith(".maps"):
        return value[sorted({0, 9, 18, len(value) - 1} & set(range(len(value))))]
    return value


def with_sums(arrays):
    """The arrays, and the sum over steps of each climb's maps."""
    sums = {name.replace(".maps", ".sum"): value.sum(0) for name, value in arrays.items() if name.endswith(".maps")}
    return arrays | sums


if __name__ == "__main__":
    CUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(CUT, **{name: cut(name, value) for name, value in with_sums(dict(np.load(FULL))).items()})
    print(f"{CUT}: {CUT.stat().st_size} bytes")
