"""Maps -> masks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from advcam.data import Item, fit_within, read_image
from advcam.errors import SettingsError, known
from advcam.refinement import label, pamr
from advcam.store import load_maps, save_mask

from .context import Context

METHODS = ("pamr", "threshold")


@dataclass(frozen=True)
class RefineConfig:
    """How masks are made of maps.

    Args:
        method: ``pamr`` lets the maps follow the picture's edges first, ``threshold`` does not.
        threshold: background threshold, on maps with maximum 1. Fixed beforehand: no ground truth is looked at.
        iterations: rounds of PAMR.
        long_side: larger pictures are refined at this size.
    """

    method: str = "pamr"
    threshold: float = 0.3
    iterations: int = 10
    long_side: int = 640

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"no refinement is called {self.method!r}; {known(self.method, METHODS)}")
        if not 0 <= self.threshold < 1:
            raise SettingsError(f"the background threshold is a share of the map's maximum, 0 to 1; got {self.threshold}")


def run(context: Context, config: RefineConfig) -> None:
    """Writes masks/ID.png for every picture; one that is there is not made again."""
    with context.step("refine", asdict(config)) as todo:
        if not todo:
            return
        everything = context.data.items
        left = [item for item in everything if not context.run.mask(item.id).is_file()]
        with context.reporter.bar("refine", len(everything), done=len(everything) - len(left)) as advance:
            for item in left:
                save_mask(context.run.mask(item.id), refine(context, item, config))
                advance(1)


def refine(context: Context, item: Item, config: RefineConfig) -> np.ndarray[Any, Any]:
    """The mask of one picture, class ids uint8 [H, W]."""
    stored = load_maps(context.run.maps(item.id))
    if not stored.classes:
        return np.zeros(item.size, dtype=np.uint8)
    picture = fit_within(read_image(item.path), config.long_side)
    maps = resize(stored.maps, (picture.height, picture.width))
    if config.method == "pamr":
        device = context.machine.torch_device()
        image = torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None].float()
        maps = pamr(image, maps[None].to(device), config.iterations)[0].cpu()
    ids: np.ndarray[Any, Any] = label(maps, stored.classes, config.threshold, item.size).numpy()
    return ids


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [k, h, w] at another size (bilinear)."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
