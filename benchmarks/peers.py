"""Maps of other libraries beside ours: the same network, images and classes; seconds, peak memory and mIoU of each.

    .venv/bin/python -m benchmarks.peers                     # three hours on a core, nearly all of it in Score-CAM and ablation
    .venv/bin/python -m benchmarks.peers --only advcam.cam,advcam.fast --images 20

Every method runs in a process of its own with one thread, whose peak memory is its own, and what it gave is kept under
``runs/quality/DATA-NETWORK/peers``. Seconds are those of one core by the process's own clock, medians over maps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import advcam  # before the peers: it makes torchvision importable beside a CPU-only torch

import torch  # isort: skip
import torch.nn.functional as F
from torch import Tensor, nn

from advcam.attribution import strided_size
from advcam.data import IGNORE
from advcam.metrics import resampled, resampled_seeds, sweep_counts
from advcam.store import write_json
from advcam.studies.climbs import Climber
from advcam.studies.sample import truth

from .frontier.points import of_table
from .frontier.quality import split
from .quality.__main__ import trained
from .quality.data import DATA

WORK = Path("runs/quality")

Method = Callable[[Tensor, int], Tensor]
"""From an image [1, 3, y, x] and a class to a map of any size, at least 0."""


def ours(name: str, model: nn.Module) -> Method:
    """A preset, a method of plain maps, or ``cam``."""
    if name in advcam.PRESETS:
        adv = advcam.AdvCAM(model, name, precision="float32")
    else:
        adv = advcam.AdvCAM(model, precision="float32", steps=1, method=name)
    return lambda image, label: adv(image, [[label]]).maps[0]


def pytorch_grad_cam(name: str, model: nn.Module) -> Method:
    """pytorch-grad-cam, its map at the size of the image."""
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    made = getattr(library, name)(model=model, target_layers=[model.bn2])
    return lambda image, label: torch.from_numpy(made(image, [ClassifierOutputTarget(label)]))[0]


def torchcam(name: str, model: nn.Module) -> Method:
    """Torchcam, its map at the size of the features."""
    from torchcam import methods

    layers = {"target_layer": "bn2"} | ({"fc_layer": "classifier"} if name == "CAM" else {})
    made = getattr(methods, name)(model, **layers)

    def one(image: Tensor, label: int) -> Tensor:
        with torch.set_grad_enabled(name not in ("CAM", "ScoreCAM")):
            scores = model(image)
        found: Tensor = made(label, scores)[0]
        return found.reshape(found.shape[-2:]).detach()

    return one


def captum(name: str, model: nn.Module) -> Method:
    """Captum: Grad-CAM, or the drop of the score where a channel of the features is 0, as a weight of that channel."""
    from captum import attr

    made = getattr(attr, name)(model, model.bn2)
    if name == "LayerGradCam":
        return lambda image, label: made.attribute(image, target=label).detach()[0, 0].relu()

    def by_ablation(image: Tensor, label: int) -> Tensor:
        with torch.no_grad():
            f = model.forward_features(image)  # type: ignore[operator]
            channels = torch.arange(f.shape[1])[None, :, None, None].expand_as(f[:1])
            drop = made.attribute(image, target=label, layer_mask=channels)[:, :, :1, :1]
            return (drop * f).sum(1)[0].relu()

    return by_ablation


LIBRARIES = {"advcam": ours, "pytorch-grad-cam": pytorch_grad_cam, "torchcam": torchcam, "captum": captum}
METHODS = {
    "plain map": ("advcam.cam", "torchcam.CAM", "pytorch-grad-cam.GradCAM", "captum.LayerGradCam"),
    "Grad-CAM++": ("advcam.gradcam++", "pytorch-grad-cam.GradCAMPlusPlus", "torchcam.GradCAMpp"),
    "LayerCAM": ("advcam.layercam", "pytorch-grad-cam.LayerCAM", "torchcam.LayerCAM"),
    "climb": ("advcam.fast", "advcam.default", "advcam.multiscale"),
    "Score-CAM": ("pytorch-grad-cam.ScoreCAM", "torchcam.ScoreCAM"),
    "ablation": ("pytorch-grad-cam.AblationCAM", "captum.LayerFeatureAblation"),
}
"""What the maps are, and who makes them. Grad-CAM at the last layer of a network whose head is linear is the plain map."""


def measured(work: Path, network: str, data: str, method: str, images: int) -> dict[str, Any]:
    """Runs a method on the last images: seconds of each map, peak memory in MiB, and counts at every threshold."""
    context = trained(work, network, data)
    climber = Climber(context)
    library, _, name = method.partition(".")
    one = LIBRARIES[library](name, climber.model)
    _, items = split(context, 39)
    items, outputs = items[-images:], len(context.data.classes) + 1
    first = climber.image(items[0])
    if images > 2:  # what a library finds out once is not counted; a slow one takes longer than that
        one(first, items[0].labels[0])
    seconds, hits, predicted, true = [], [], [], []
    for item in items:
        image, maps = climber.image(item), []
        for label in item.labels:
            start = time.process_time()
            maps.append(one(image, label))
            seconds.append(time.process_time() - start)
        mask = truth(DATA[data].masks(work / data), item, context.data.classes)
        stored = [at_stride(found, item.size) for found in maps]
        full = F.interpolate(torch.stack(stored)[:, None], item.size, mode="bilinear")[:, 0]
        counts = sweep_counts(full, [label + 1 for label in item.labels], mask, outputs).counts
        hits.append(counts.diagonal(dim1=1, dim2=2).tolist())
        predicted.append(counts.sum(1).tolist())
        true.append(torch.bincount(mask[mask != IGNORE], minlength=outputs).tolist())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak, "hits": hits, "predicted": predicted, "true": true}


def at_stride(found: Tensor, size: tuple[int, int]) -> Tensor:
    """A map at stride 4, divided by its maximum, as ours are scored."""
    grid = F.interpolate(found.float()[None, None], strided_size(size), mode="bilinear")[0, 0].nan_to_num(0).relu()
    return (grid / grid.max().clamp_min(1e-12)).half().float()


def score(kept: dict[str, Any]) -> float:
    """MIoU at the best threshold, in percent."""
    hits, predicted, true = (torch.tensor(kept[key]) for key in ("hits", "predicted", "true"))
    mean_iou, _ = resampled_seeds(hits, predicted, true, resampled(len(true), 1))
    return 100 * float(mean_iou[0].nan_to_num(-1).max())


def rows(work: Path, network: str, data: str, chosen: Sequence[str], images: int) -> list[tuple[str, ...]]:
    """Maps, library, images, mIoU, seconds a map, peak memory; measures what is not kept."""
    found = []
    for what, methods in METHODS.items():
        for method in methods:
            file = work / f"{data}-{network}" / "peers" / f"{method}-{images}.json"
            if not file.is_file() and method in chosen:
                command = [sys.executable, "-m", "benchmarks.peers", "--one", method, "--work", str(work), "--network", network]
                command += ["--data", data, "--images", str(images)]
                subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
            if file.is_file():
                kept = json.loads(file.read_text())
                seconds = statistics.median(kept["seconds"])
                found.append((what, method, str(images), f"{score(kept):.1f}", f"{seconds:.3f}", f"{kept['peak']:.0f}"))
    return found


def main() -> None:
    """Prints the table of all that was asked for or kept."""
    every = [method for methods in METHODS.values() for method in methods]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--network", default="mobilenet")
    parser.add_argument("--data", default="photos")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--only", default=",".join(every))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        file = args.work / f"{args.data}-{args.network}" / "peers" / f"{args.one}-{args.images}.json"
        write_json(file, measured(args.work, args.network, args.data, args.one, args.images))
        return
    made = rows(args.work, args.network, args.data, args.only.split(","), args.images)
    print(of_table(("maps", "library and method", "images", "mIoU", "s a map", "peak memory, MiB"), made))


if __name__ == "__main__":
    main()
