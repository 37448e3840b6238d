"""The climb step: makes an AdvCAM and a plain map for every class of every image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advcam.data import Item, Skip
from advcam.engines import Row, Unit, Work
from advcam.extractor import check_window
from advcam.models import find, find_inner, inner_or_none
from advcam.models.classifiers import Backbone
from advcam.store import save_maps

from .context import Context, trained_classifier
from .maps import ClimbConfig, climbing, units
from .sharing import listed_left_out, share_out
from .start import Start


def preflight(context: Context, config: ClimbConfig, start: Start) -> None:
    """Loads the classifier, if there is one, so that errors show before maps are deleted, and tries a climb of features.

    Raises:
        AdvcamError: as in :func:`advcam.stages.context.trained_classifier`, or a window or a climb of features that does not
            suit the network.
    """
    done, of_features = context.run.done("classify"), config.settings().space == "features"
    if not (done or of_features):
        return
    model, channels = start.network(), start.backbone.channels
    if done and config.window and any(max(item.size) > config.window for item in context.data.items):
        check_window(model, _probe(model, channels, config.window))
    if of_features:
        find_inner(find(model, _probe(model, channels)), _probe(model, channels))


def run(context: Context, config: ClimbConfig) -> list[Skip]:
    """Climbs every class of every image; writes maps/ID.npz and, from the same views, the plain maps cam/ID.npz.

    Images with both files are not climbed again. The batches are shared out by the run's engine.

    Returns:
        Images that end the processes that climb them, also listed in skipped.csv in the step's folder.

    Raises:
        NetworkError: the classifier has no class activation map.
        RunError: images could not be read; they are listed in failed.csv, the others are climbed.
    """
    config = config.at(precision=context.precision("climb", config.precision))
    if config.settings().space == "auto":
        config = config.at(space=context.runtime.once(lambda: _space(context)))
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


def _space(context: Context) -> str:
    """What a climb by ``space="auto"`` moves with the run's classifier."""
    model, record = trained_classifier(context)
    probe = _probe(model, Backbone.from_record(record.backbone).channels)
    return "features" if inner_or_none(find(model, probe), probe) else "pixels"


def _probe(model: nn.Module, channels: int, side: int = 128) -> Float[Tensor, "1 b y x"]:
    """An image of noise where the network is."""
    return torch.rand(1, channels, side, side, device=next(model.parameters()).device)


def _done(context: Context, item: Item) -> bool:
    return context.run.maps(item.id).is_file() and context.run.maps(item.id, plain=True).is_file()
