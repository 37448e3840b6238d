"""How maps grow over the climb: some images are climbed again, and the map after every step is kept as a strip of 8 bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from advcam.attribution import fuse_scales, strided_size
from advcam.data import Item
from advcam.errors import RunError, StoreError
from advcam.extractor import AdvCAM
from advcam.limits import MAX_PIXELS
from advcam.stages.context import Context, network_input, trained_classifier
from advcam.stages.maps import recorded
from advcam.store import RunFolder, atomic_write

CELLS = 64
"""Cells of the long side of a map on the page, at most."""
ABOUT = "advcam-growth"
"""The PNG text chunk that says what the strip holds."""


@dataclass(frozen=True)
class Growth:
    """The maps of one image after every step of the climb.

    Args:
        classes: the class id of each map.
        maps: [T, k, h, w] the sum of the maps so far, 255 where the last sum has its maximum.
    """

    classes: tuple[int, ...]
    maps: NDArray[np.uint8]


def grow(context: Context, items: Sequence[Item]) -> None:
    """Climbs images again with the settings of the run's climb, and writes the map after every step.

    The strip ``report/growth/ID.png`` has a row for each class and a column for each step. Images without a label are left out.

    Raises:
        RunError: the run has not climbed, or its classifier is missing.
        ImageError: an image is gone or has changed.
    """
    config = recorded(context.run)
    if config is None or not context.run.done("climb"):
        raise RunError(
            f"{context.run.root}: has not climbed, so no map can grow; `advcam climb --run {context.run.root}` makes the maps"
        )
    context.run.see_no_links(context.run.root / "report")
    config = config.at(context.precision("climb", config.precision))
    key, labelled = context.run.state()["steps"]["climb"]["key"], [item for item in items if item.labels]
    if config.window and (large := [item.id for item in labelled if max(item.size) > config.window]):
        labelled = [item for item in labelled if item.id not in large]
        context.reporter.say(f"{len(large)} images were climbed in windows, which cannot be shown step by step")
    model, record = trained_classifier(context)
    climbers = [
        AdvCAM(model, config.preset, max_pixels=context.runtime.max_pixels, **config.changes | {"scales": (scale,)})
        for scale in config.settings().scales
    ]
    prepare = network_input(record)
    prepare, device = replace(prepare, long_side=config.window or prepare.long_side), context.runtime.torch_device()
    for item in context.reporter.track(labelled, len(labelled), "climb, step by step"):
        maps = _steps(climbers, prepare(item.read())[None].to(device), item)
        classes = tuple(context.data.classes.ids[at] for at in item.labels)
        save_growth(growth_file(context.run, item), Growth(classes, maps), key)


def _steps(climbers: Sequence[AdvCAM], image: Tensor, item: Item) -> NDArray[np.uint8]:
    """The sum of an image's maps after every step [T, k, h, w]; that of several scales is the sum of their sums."""
    sums = [[found.maps.float().cpu() for found in climber.iterate(image, [item.labels])] for climber in climbers]
    grid, longest = strided_size(item.size), max(map(len, sums))
    grown = torch.stack([fuse_scales([of[min(t, len(of) - 1)] for of in sums], grid) for t in range(longest)])
    peak = grown[-1].amax((1, 2)).clamp_min(1e-12)[:, None, None]
    return np.stack([np.stack([eight_bits(one.numpy()) for one in maps]) for maps in grown / peak])


def eight_bits(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A map in [0, 1] in 8 bits, its long side at most :data:`CELLS`."""
    grey = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    factor = CELLS / max(grey.shape)
    if factor >= 1:
        return grey
    height, width = (max(1, round(side * factor)) for side in grey.shape)
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR))


def growth_file(run: RunFolder, item: Item) -> Path:
    """The path of an image's strip."""
    return run.root / "report" / "growth" / f"{item.id}.png"


def save_growth(path: Path, growth: Growth, climb: str) -> None:
    """Writes a strip: a row for each class, a column for each step; ``climb`` is the key of the climb that it shows."""
    steps, classes, height, width = growth.maps.shape
    strip = growth.maps.transpose(1, 2, 0, 3).reshape(classes * height, steps * width)
    about = PngInfo()
    about.add_text(ABOUT, json.dumps({"classes": growth.classes, "steps": steps, "climb": climb}))
    with atomic_write(path) as temporary:
        Image.fromarray(strip).save(temporary, format="PNG", pnginfo=about)


def load_growth(run: RunFolder, item: Item, climb: str) -> Growth | None:
    """Reads an image's strip; None without one, or if it is of another climb.

    Raises:
        StoreError: it is damaged.
    """
    path = growth_file(run, item)
    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS or image.mode != "L":
                raise ValueError(f"{image.mode} of {image.width}x{image.height}")
            about: dict[str, Any] = json.loads(str(image.info[ABOUT]))
            steps, classes = int(about["steps"]), tuple(int(number) for number in about["classes"])
            strip = np.asarray(image)
        height, width = (side // count for side, count in zip(strip.shape, (len(classes), steps), strict=True))
        if strip.shape != (len(classes) * height, steps * width) or not strip.size:
            raise ValueError(f"{strip.shape} for {len(classes)} classes and {steps} steps")
    except Exception as error:  # Pillow may raise anything on a damaged file
        raise StoreError(f"{path}: is no strip of maps ({error}); delete it") from None
    if about["climb"] != climb:
        return None
    return Growth(classes, strip.reshape(len(classes), height, steps, width).transpose(2, 0, 1, 3))


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of the items, evenly spaced from the first to the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(at * (len(items) - 1) / max(1, count - 1))] for at in range(count)]
