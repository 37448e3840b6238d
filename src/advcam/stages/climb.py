"""The climb step: makes an AdvCAM and a plain map for every class of every image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from advcam.data import Item, Skip
from advcam.engines import Row, Unit, Work
from advcam.extractor import check_window
from advcam.models import find, find_inner
from advcam.store import save_maps

from .context import Context
from .maps import ClimbConfig, climbing, units
from .sharing import listed_left_out, share_out
from .start import Start


def preflight(context: Context, config: ClimbConfig, start: Start) -> None:
    """Loads the classifier, if there is one, so that errors show before maps are deleted, and tries ``space="features"``.

    Raises:
        AdvcamError: as in :func:`advcam.stages.context.trained_classifier`, or a window or a climb of features that does not
            suit the network.
    """
    done, of_features = context.run.done("classify"), config.settings().space == "features"
    if not (done or of_features):
        return
    model = start.network()

    def probe(side: int) -> Tensor:
        return torch.rand(1, start.backbone.channels, side, side, device=next(model.parameters()).device)

    if done and config.window and any(max(item.size) > config.window for item in context.data.items):
        check_window(model, probe(config.window))
    if of_features:
        find_inner(find(model, probe(128)), probe(128))


def run(context: Context, config: ClimbConfig) -> list[Skip]:
    """Climbs every class of every image; writes maps/ID.npz and, from the same views, the plain maps cam/ID.npz.

    Images with both files are not climbed again. The batches are shared out by the run's engine.

    Returns:
        Images that end the processes that climb them, also listed in skipped.csv in the step's folder.

    Raises:
        NetworkError: the classifier has no class activation map.
        RunError: images could not be read; they are listed in failed.csv, the others are climbed.
    """
    config = config.at(context.precision("climb", config.precision))
    everything = context.data.items
    files = [context.run.maps(item.id, plain) for item in everything for plain in (True, False)] if config.keep else []
    with context.step("climb", config, files) as todo:
        if not todo or not config.keep:
            return []
        left = [item for item in everything if not _done(context, item)]
        found = share_out(context, "climb", "climb", len(everything), units(context, config, left), saving, config)
        return listed_left_out(context, "climb", found)


def saving(context: Context, config: ClimbConfig) -> Work:
    """Returns what climbs the wanted images of a unit and writes their files."""
    climb = climbing(context, config)

    def save(unit: Unit) -> Iterator[Row]:
        for item, maps, plain in climb(unit):
            save_maps(context.run.maps(item.id), maps)
            save_maps(context.run.maps(item.id, plain=True), plain)
            yield Row(item.id)

    return save


def _done(context: Context, item: Item) -> bool:
    return context.run.maps(item.id).is_file() and context.run.maps(item.id, plain=True).is_file()
