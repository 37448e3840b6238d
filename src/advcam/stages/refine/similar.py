"""Maps spread over cells of similar features: those of the run's classifier or another network, and the image's colours."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from advcam.data import NetworkInput
from advcam.errors import SettingsError
from advcam.models.classifiers import Backbone, PretrainedClassifier, feature_network
from advcam.models.levels import Levels, find_levels
from advcam.refinement import on_one_grid, similarity_walk
from advcam.stages.context import Context, classifier_record, network_input, trained_classifier

from .settings import Affinity, Crf, Pamr
from .single import Refiner, along_edges, by_crf, by_threshold, pixels, resize

CELLS = 2400
"""Cells that are compared with one another: 40 x 60. With 4,800 masks are as good, with 1,200 by half a point worse."""
COLOURS = 0.25
"""Weight of the colours beside the features."""
NATIVE = 32
"""Output stride of the features' network: without dilation its last two grids before the coarsest are at strides 16 and 8."""

See = Callable[[Image, Float[Tensor, "k h w"]], Float[Tensor, "d y x"] | None]
"""A function from image and maps to features and colours on a grid; None for an image of one colour."""


def seeing(context: Context, settings: Affinity) -> See:
    """Returns what sees features and colours of the run's images; the network is loaded with the first image.

    Raises:
        NetworkError: the network cannot be loaded, or has no features on a grid.
        SettingsError: timm has no such network.
    """

    @cache
    def network() -> tuple[torch.nn.Module, NetworkInput]:
        return _network(context, settings)

    found: list[Levels] = []

    def see(image: Image, maps: Tensor) -> Tensor | None:
        colours = pixels(image, maps).float()
        if bool((colours.amax((1, 2)) == colours.amin((1, 2))).all()):
            return None  # in an image of one colour features tell the border from the rest, and nothing else
        model, prepare = network()
        given = prepare(image)[None].to(maps.device)
        if not found:
            found.append(find_levels(model, given))
        levels = [level[0] for level in found[0](given)]
        return torch.cat([on_one_grid(levels, _grid(maps)), COLOURS**0.5 * on_one_grid([colours], _grid(maps))])

    return see


def spread(
    image: Image, maps: Float[Tensor, "k h w"], seen: Float[Tensor, "d y x"] | None, s: Affinity
) -> Float[Tensor, "k y x"]:
    """Returns the maps after the walk and, where it follows, PAMR."""
    walk = walked(seen, maps, s)
    return along_edges(image, walk, Pamr().iterations) if s.then == "pamr" else walk


def by_affinity(s: Affinity, see: See) -> Refiner:
    """Returns the affinity method: a walk of the maps, then PAMR, the CRF or nothing."""
    last = by_crf(Crf(threshold=s.threshold)) if s.then == "crf" else by_threshold(s)
    return lambda image, maps, ids: last(image, spread(image, maps, see(image, maps), s), ids)


def walked(seen: Float[Tensor, "d y x"] | None, maps: Float[Tensor, "k h w"], s: Affinity) -> Float[Tensor, "k y x"]:
    """Returns the maps after the walk, each divided by its maximum; as they were where there is nothing to compare."""
    if seen is None or seen[0].numel() == 1 or s.restart == 1:
        return maps
    walk = similarity_walk(on_grid(maps, seen), seen, s.temperature, s.restart, s.reach)
    peak = walk.amax((1, 2), keepdim=True)
    return torch.where(peak > 0, walk / peak.clamp_min(1e-12), 0)


def on_grid(maps: Float[Tensor, "k h w"], seen: Float[Tensor, "d y x"]) -> Float[Tensor, "k y x"]:
    """Returns the maps on the grid of what was seen."""
    return resize(maps, (seen.shape[1], seen.shape[2]))


def try_features(settings: Affinity) -> None:
    """Builds the network that the features are taken of, if it is not the run's classifier, so that errors show early.

    Raises:
        SettingsError: timm has no such network, or weights are given of none.
        NetworkError: it cannot be loaded, or has no features on a grid.
    """
    if settings.features_weights and settings.features is None:
        raise SettingsError("features_weights is the file of a network's weights: give features=NAME too (the timm network)")
    if settings.features is not None:
        made = _named(settings.features, settings.features_weights)
        find_levels(made.model, torch.rand(1, 3, *(made.size or (128, 128))))


def _named(name: str, weights: str | None, channels: int = 3) -> PretrainedClassifier:
    return feature_network(
        Backbone(name, output_stride=NATIVE, channels=channels),
        Path(weights) if weights else None,
        "--refine-option features_weights=FILE",
    )


def _network(context: Context, settings: Affinity) -> tuple[torch.nn.Module, NetworkInput]:
    """Returns the network of the features, and how images are prepared for it."""
    if settings.features is None:
        model, record = trained_classifier(context, NATIVE)
        return model, network_input(record)
    made = _named(settings.features, settings.features_weights, context.data.reading.channels)
    model = made.model.to(context.runtime.torch_device())
    return model, NetworkInput(made.mean, made.std, classifier_record(context.run).long_side, made.size)


def _grid(maps: Tensor) -> tuple[int, int]:
    """The maps' grid, or a coarser one of the same shape with at most ``CELLS`` cells."""
    height, width = maps.shape[1:]
    share = min(1.0, (CELLS / (height * width)) ** 0.5)
    return max(1, int(height * share)), max(1, int(width * share))
