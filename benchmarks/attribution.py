"""Plain maps and climbs beside other libraries and a faithful loop, in one process; benchmarks/attribution.md records it.

    .venv/bin/python benchmarks/attribution.py [memory|plain|exact|climb ...]

Random weights, random pixels: time does not depend on them. Every round runs all sides once, in turn; medians over rounds.
"""

from __future__ import annotations

import copy
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import advcam  # before timm, torchvision and the peers: it makes torchvision importable beside a CPU-only torch

import timm  # isort: skip
import torch
from torch import Tensor, nn

from advcam.runtime import has_bfloat16

Sides = dict[str, Callable[[], Any]]


def seconds(sides: Sides, rounds: int) -> dict[str, float]:
    """The median time of each side over rounds in which all take turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def table(title: str, times: dict[str, float], unit: str, of: Callable[[float], float]) -> None:
    """One line a side: seconds, and how they compare."""
    print(f"\n{title}\n| | seconds | {unit} |\n|---|---|---|")
    for name, value in times.items():
        print(f"| {name} | {value:.3f} | {of(value):.2f} |")


def plain() -> None:
    """Maps of a ResNet-50 at 448 x 448: forward passes that one or three classes of an image take."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam import methods

    torch.manual_seed(0)
    model, image, classes = timm.create_model("resnet50").eval(), torch.randn(1, 3, 448, 448), [3, 207, 281]
    ours = advcam.AdvCAM(model, steps=1)
    their = {name: timm.create_model("resnet50").eval() for name in ("grad-cam", "torchcam", "captum")}
    grad_cam = GradCAM(model=their["grad-cam"], target_layers=[their["grad-cam"].layer4])
    captum = LayerGradCam(their["captum"], their["captum"].layer4)
    torchcam = methods.CAM(their["torchcam"], target_layer="layer4", fc_layer="fc")

    def forward() -> None:
        with torch.no_grad():
            model(image)

    fast, laid_out = copy.deepcopy(model).to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)

    def forward_channels_last() -> None:
        with torch.no_grad():
            fast(laid_out)

    def with_torchcam(chosen: list[int]) -> None:
        for c in chosen:
            with torch.no_grad():
                scores = their["torchcam"](image)
            torchcam(c, scores)

    times = seconds(
        {
            "one forward pass": forward,
            "one forward pass, channels-last": forward_channels_last,
            "advcam, 1 class": lambda: ours(image, [classes[:1]]),
            "advcam, 3 classes": lambda: ours(image, [classes]),
            "advcam.cam(model, ...), 3 classes": lambda: advcam.cam(model, image, [classes]),
            "pytorch-grad-cam GradCAM, 1 class": lambda: grad_cam(image, [ClassifierOutputTarget(3)]),
            "pytorch-grad-cam GradCAM, 3 classes": lambda: [grad_cam(image, [ClassifierOutputTarget(c)]) for c in classes],
            "torchcam CAM, 1 class": lambda: with_torchcam(classes[:1]),
            "torchcam CAM, 3 classes": lambda: with_torchcam(classes),
            "captum LayerGradCam, 1 class": lambda: captum.attribute(image, target=3),
            "captum LayerGradCam, 3 classes": lambda: [captum.attribute(image, target=c) for c in classes],
        },
        15,
    )
    table("Plain maps, ResNet-50, 448 x 448, fp32", times, "forward passes", lambda t: t / times["one forward pass"])


def faithful_loop(model: nn.Module, views: Tensor, target: int, steps: int) -> Tensor:
    """What the published code does for one image and class at one scale, and at its cost.

    Each step: one forward pass, the gradient of the map and the gradient of the loss, both through the whole network with
    the gradients of all parameters.
    """
    model.requires_grad_(True)
    x, total, first = views.clone(), 0, None
    for _ in range(steps):
        low, high = x.min(), x.max()
        x = x.detach().requires_grad_()
        features: list[Tensor] = []
        hook = model.layer4.register_forward_hook(lambda _m, _i, out, kept=features: kept.append(out))
        model(x)
        hook.remove()
        (f,) = features
        f.retain_grad()
        z = torch.einsum("kd,ndhw->nkhw", model.fc.weight, f)
        model.zero_grad()
        z[:, target].relu().sum().backward(retain_graph=True)
        weight = f.grad.sum((2, 3)) / (f.grad > 0).sum()
        cam = torch.einsum("nd,ndhw->nhw", weight, f).relu()
        cam = cam[0] + cam[1].flip(-1) if len(cam) == 2 else cam[0]
        first = cam.detach() if first is None else first
        y = z.relu().mean((2, 3)).sum(0)
        mask = (cam.detach() / cam.detach().max() > 0.5).float()
        loss = 2 * y[target] - y.sum() - 7.0 * (mask * (cam - first).abs()).sum()
        model.zero_grad()
        x.grad = None
        loss.backward()
        total = total + cam.detach()
        x = torch.clamp(x.detach() + 0.08 * x.grad / x.grad.abs().max(), low, high)
    model.zero_grad()
    return total


def climb(steps: int = 27) -> None:
    """AdvCAM of a ResNet-50 (20 classes, as in the paper) on 375 x 500 beside the faithful loop, one class and two."""
    torch.manual_seed(0)
    for mirror in (False, True):
        model = timm.create_model("resnet50", num_classes=20).eval()
        image = torch.randn(1, 3, 375, 500)
        views = torch.cat([image, image.flip(-1)]) if mirror else image
        a, b = advcam.AdvCAM(model).scores(image)[0].topk(2).indices.tolist()  # classes that have a map
        options: dict[str, Any] = {"scales": (1.0,), "mirror": mirror, "steps": steps}
        exact = advcam.AdvCAM(model, "official", **options)
        rough = advcam.AdvCAM(model, "official", precision="auto", **options)
        units = has_bfloat16("cpu")  # without them precision auto is float32 too
        faithful_loop(model, views, a, 2)
        for precision in ("float32", "auto"):  # what is found of a model once is found
            advcam.AdvCAM(model, "official", precision=precision, **(options | {"steps": 2}))(image, [[a, b]])
        times = seconds(
            {
                "faithful loop, fp32, 1 class": lambda m=model, v=views, c=a: faithful_loop(m, v, c, steps),
                "advcam, fp32, 1 class": lambda adv=exact, i=image, c=[a]: adv(i, [c]),
                "advcam, fp32, 2 classes": lambda adv=exact, i=image, c=[a, b]: adv(i, [c]),
            }
            | (
                {
                    "advcam, bf16, 1 class": lambda adv=rough, i=image, c=[a]: adv(i, [c]),
                    "advcam, bf16, 2 classes": lambda adv=rough, i=image, c=[a, b]: adv(i, [c]),
                }
                if units
                else {}
            ),
            2,
        )
        unit = times["faithful loop, fp32, 1 class"]
        title = f"AdvCAM, {steps} steps, ResNet-50, 375 x 500, {'image and mirror image' if mirror else 'image alone'}"
        print(f"\n{title}\n| | seconds | times faster than the loop on as many classes |\n|---|---|---|")
        for name, value in times.items():
            print(f"| {name} | {value:.1f} | {unit * (2 if '2 classes' in name else 1) / value:.2f} |")
        theirs = torch.stack([faithful_loop(model, views, c, steps) for c in (a, b)])
        for name, adv in (("fp32", exact), *([("bf16", rough)] if units else [])):
            ours = adv(image, [[a, b]]).maps
            apart = float(((ours - theirs).abs().amax((1, 2)) / theirs.amax((1, 2))).max())
            pairs = [torch.stack([m.flatten(), n.flatten()]) for m, n in zip(ours, theirs, strict=True)]
            alike = min(float(torch.corrcoef(pair)[0, 1]) for pair in pairs)
            print(f"\n{name}: maps differ by {apart:.1e} of their maximum from the loop's; correlation {alike:.5f}")


def exact(steps: int = 27) -> None:
    """The same maps as the loop's in 64 bits, where rounding has no time to grow."""
    torch.manual_seed(0)
    model, image = timm.create_model("resnet50", num_classes=20).eval().double(), torch.randn(1, 3, 96, 128).double()
    (c,) = advcam.AdvCAM(model).scores(image)[0].topk(1).indices.tolist()
    theirs = faithful_loop(model, torch.cat([image, image.flip(-1)]), c, steps)
    (ours,) = advcam.AdvCAM(model, "official", scales=(1.0,), steps=steps)(image, [[c]]).maps
    apart = float((ours - theirs).abs().max() / theirs.max())
    print(f"\n64 bits, {steps} steps, 96 x 128: maps differ by {apart:.1e} of the maximum")


def memory() -> None:
    """Peak memory of the process after 1, 10 and 50 steps, and over 1,000 images in a loop."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=20).eval()
    image = torch.randn(1, 3, 224, 224)
    print("\nPeak memory of the process, MiB (ResNet-18, 224 x 224, two classes)\n| after | peak |\n|---|---|")
    advcam.AdvCAM(model, steps=2)(image, [[3, 8]])
    for steps in (1, 2, 10, 50):
        advcam.AdvCAM(model, steps=steps)(image, [[3, 8]])
        print(f"| {steps} steps | {_peak():.0f} |")
    adv = advcam.AdvCAM(model, steps=2)
    for count in range(1, 1001):
        adv(image, [[3, 8]])
        if count in (1, 10, 100, 500, 1000):
            gc.collect()
            print(f"| {count} images of 2 steps | {_peak():.0f} |")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Runs what was asked for, or all."""
    peers = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "grad-cam", "torchcam", "captum"))
    print(f"{time.strftime('%Y-%m-%d')}, {torch.get_num_threads()} threads, {peers}")
    parts = {"memory": memory, "plain": plain, "exact": exact, "climb": climb}  # memory first: what others took would hide it
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
