"""Features of any network at several resolutions, found from one forward pass and not from names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advcam.errors import NetworkError

from .find import check_fits, is_no_map, on_probe
from .forward import checked_forward, evaluating, unwrap
from .layout import Layout, layout
from .trace import Trace, first_of, hooked

MOST_LEVELS = 2


@dataclass(frozen=True)
class Place:
    """Where features lie in a network: the output of the nth call of a module, and how it lies on a grid."""

    name: str
    nth: int
    layout: Layout


@dataclass(frozen=True)
class Levels:
    """A network as features at several resolutions.

    Args:
        model: the network.
        places: of the features, coarsest first.
    """

    model: nn.Module
    places: tuple[Place, ...]

    def __call__(self, images: Float[Tensor, "n b y x"]) -> list[Float[Tensor, "n d _ _"]]:
        """The features of images, in float32, without gradient.

        Raises:
            NetworkError: the model fails, or one of the layers did not run.
        """
        seen: dict[Place, Tensor] = {}
        size = (images.shape[2], images.shape[3])

        def watch(name: str) -> Any:
            calls = -1

            def keep(values: Any) -> None:
                nonlocal calls
                calls += 1
                for place in self.places:
                    if (place.name, place.nth) == (name, calls):
                        seen[place] = place.layout.to_grid(first_of(values), size).float().clone()

            return keep

        hooks = [hooked(self.model.get_submodule(name), "output", watch(name)) for name in {p.name for p in self.places}]
        try:
            with evaluating(self.model), torch.no_grad():
                checked_forward(self.model, images)
        finally:
            for hook in hooks:
                hook.remove()
        missing = [place.name for place in self.places if place not in seen]
        if missing:
            raise NetworkError(f"layer {missing[0]!r} did not run: which layers the model runs depends on the image")
        return [seen[place] for place in self.places]


def find_levels(model: nn.Module, images: Float[Tensor, "n b y x"]) -> Levels:
    """The features of the two grids before the coarsest; of a network with one grid, such as a transformer, its last features.

    Of each grid the last activation that lies on every path from image to output: in a convolutional network of strides 2 to 32
    those at strides 16 and 8. The coarsest is left out because its cells have learnt to tell classes, not places, apart.

    Args:
        model: any module whose output is a vector for each image: logits, or pooled features.
        images: representative images, normalised as the model expects; see :func:`~advcam.models.find.on_probe`.

    Raises:
        NetworkError: no layer's activation lies on a grid, or the model fails.
        InputError: images on another device or of another type than the model, or too little memory for one.
    """
    model = unwrap(model)
    check_fits(model, images)
    return Levels(model, on_probe(model, images, lambda probe: _places(model, probe)))


def _places(model: nn.Module, image: Tensor) -> tuple[Place, ...]:
    trace, named = Trace(model, image), dict(model.named_modules())
    size = (image.shape[2], image.shape[3])
    by_grid: dict[tuple[int, int], Place] = {}
    for call in trace.calls:
        if call.side != "output" or call.changed or not call.name or is_no_map(named[call.name], call):
            continue
        lies = layout(call.value.shape, size, {h * w for h, w in by_grid})
        if lies is not None and trace.is_cut(call):
            grid = lies.to_grid(call.value, size).shape[2:]
            by_grid[grid[0], grid[1]] = Place(call.name, call.nth, lies)
    if not by_grid:
        raise NetworkError(
            f"{type(model).__name__} has no layer whose activation lies on a grid and on every path from image to output, so it"
            " has no features to compare: give another network (--method affinity --refine-option features=resnet50) or, where"
            " they are only needed to choose a threshold, the threshold (--threshold 0.3)"
        )
    coarsest_first = [by_grid[grid] for grid in sorted(by_grid)]
    return tuple(coarsest_first[1 : 1 + MOST_LEVELS] or coarsest_first)
