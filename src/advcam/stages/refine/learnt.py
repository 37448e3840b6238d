"""Refinements that train a network on confident labels of the maps: IRN and PSA."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image
from safetensors.torch import save
from torch import Tensor

from advcam.data import IGNORE, Item, Normalisation, TrainingViews, fit_within
from advcam.errors import NetworkError, RunError
from advcam.models.affinity import AffinityNet, BoundaryNet
from advcam.models.encoders import Encoder
from advcam.models.weights import load_state, load_weights
from advcam.refinement import (
    cluster,
    confident_affinity_labels,
    confident_labels,
    detect,
    feature_walk,
    instance_maps,
    irn_loss,
    psa_loss,
    random_walk,
)
from advcam.stages.context import Context, redo
from advcam.stages.maps import MapSource
from advcam.stages.sharing import without_left_out
from advcam.stages.start import Start, trained_start
from advcam.store import load_mask, save_mask, write_bytes, write_json
from advcam.training import ImageLoss, divided, fit

from .settings import Irn, Learnt, Psa, RefineConfig
from .single import NO_THRESHOLD, Found, Instances, Refiner, pixels, resize

Confident = Callable[[Tensor, Tensor, tuple[int, ...]], Tensor]


def by_irn(context: Context, config: RefineConfig, settings: Irn, source: MapSource) -> Refiner:
    """Returns IRN: spreads maps by a random walk over learnt boundaries; finds objects by learnt displacements to centres."""
    confident = partial(confident_labels, foreground=settings.foreground, background=settings.background)

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        total: Tensor = irn_loss(output[:, :1], output[:, 1:], _on_cells(labels, output), settings.pair_radius).total
        return total

    network, normalise = _trained(context, config, settings, source, BoundaryNet, confident, loss)

    def refine(image: Image, maps: Tensor, ids: tuple[int, ...]) -> Found:
        seen = normalise(image).to(maps.device)
        with torch.no_grad():
            plain, mirrored = network(torch.stack([seen, seen.flip(-1)]))
        boundary = ((plain[:1] + mirrored[:1].flip(-1)) / 2).sigmoid()
        powers = resize(maps, (boundary.shape[1], boundary.shape[2])).clamp_min(0) ** settings.power
        parts, of_class = powers[:0], []
        if settings.instances:
            parts, held = instance_maps(powers, cluster(plain[1:]))
            of_class = [ids[at] for at in held.tolist()]
        walked = random_walk(torch.cat([powers, parts]), boundary, settings.radius, settings.beta, settings.log2_steps)
        full = resize(walked, (image.height, image.width))
        whole, split = full[: len(ids)], full[len(ids) :]
        instances = _objects(split, of_class, settings) if settings.instances else None
        return Found(_of_maximum(whole), ids, settings.threshold, instances)

    return refine


def _of_maximum(maps: Tensor) -> Tensor:
    """Returns the maps divided by their common maximum."""
    return maps / maps.amax().clamp_min(1e-5) if maps.numel() else maps


def _objects(maps: Tensor, of_class: list[int], settings: Irn) -> Instances:
    """Returns the objects of per-object maps by descending score, at most as many as a mask has ids."""
    least = round(settings.min_size * maps.shape[1] * maps.shape[2])
    everything = torch.arange(len(of_class), device=maps.device)
    masks, which, scores = detect(_of_maximum(maps), everything, settings.threshold, least)
    order = scores.argsort(descending=True, stable=True)[: IGNORE - 1]
    classes = tuple(of_class[at] for at in which[order].tolist())
    return Instances(masks[order].cpu(), classes, tuple(scores[order].tolist()))


def by_psa(context: Context, config: RefineConfig, settings: Psa, source: MapSource) -> Refiner:
    """Returns PSA: spreads the maps and a background map by a random walk over learnt affinities."""
    confident = partial(confident_affinity_labels, foreground=settings.foreground, background=settings.background)

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        total: Tensor = psa_loss(output, _on_cells(labels, output), settings.pair_radius).total
        return total

    network, normalise = _trained(context, config, settings, source, AffinityNet, confident, loss)

    def refine(image: Image, maps: Tensor, ids: tuple[int, ...]) -> Found:
        with torch.no_grad():
            features = network(normalise(image)[None].to(maps.device))[0]
        cells = resize(maps, (features.shape[1], features.shape[2])).clamp(0, 1)
        everything = torch.cat([(1 - cells.amax(0, keepdim=True)) ** settings.alpha, cells])
        walked = feature_walk(everything, features, settings.radius, settings.beta, settings.log2_steps)
        shares = walked / walked.sum(0).clamp_min(1e-12)
        return Found(resize(shares, (image.height, image.width)), (0, *ids), NO_THRESHOLD)

    return refine


NETWORKS: dict[str, type[Encoder]] = {"irn": BoundaryNet, "psa": AffinityNet}


def try_network(context: Context, config: RefineConfig, start: Start) -> None:
    """Builds the network that a method trains, if any, with its initial weights, so that errors show early.

    Raises:
        SettingsError: the network cannot be built on the backbone, or the batch cannot be divided.
        NetworkError: the weights do not fit, or the hub cannot be reached.
    """
    if config.method in NETWORKS:
        network = NETWORKS[config.method](start.backbone)
        start.give(network)
        divided(network, None, config.settings().plan(), len(context.data.train), context.runtime, config.method)


def _on_cells(labels: Tensor, output: Tensor) -> Tensor:
    """Returns the labels [n, H, W] at the nearest pixel of each cell of the network's output."""
    return F.interpolate(labels[:, None].float(), size=output.shape[2:], mode="nearest")[:, 0].long()


def _trained(
    context: Context,
    config: RefineConfig,
    settings: Learnt,
    source: MapSource,
    kind: type[Encoder],
    confident: Confident,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Encoder, Normalisation]:
    """Trains the network on confident labels of the training images, or loads its weights from the step's folder."""
    folder, start = context.run.folder("refine"), trained_start(context)
    normalise = Normalisation(*start.backbone.normalisation())
    torch.manual_seed(context.seed)
    network, path = kind(start.backbone, settings.frozen), folder / "model.safetensors"
    if not path.is_file():
        start.give(network)
        _write_confident(context, config, source, confident)
        _train(context, config, settings, network, loss, normalise)
    try:
        load_weights(network, load_state(path), str(path))
    except NetworkError as error:
        raise RunError(f"{error}. {redo(context.run, 'refine')}") from None
    return network.eval().to(context.runtime.torch_device()), normalise


def _train(
    context: Context,
    config: RefineConfig,
    settings: Learnt,
    network: Encoder,
    loss: Callable[[Tensor, Tensor], Tensor],
    normalise: Normalisation,
) -> None:
    folder, train = context.run.folder("refine"), _to_learn(context)
    views = TrainingViews(
        train, settings.augmentation(config.long_side), normalise, context.seed, len(context.data.classes) + 1,
        masks=[context.run.confident(item.id) for item in train],
    )  # fmt: skip
    head: list[Any] = []
    state, history = fit(
        network, None, head, views, ImageLoss(loss), settings.plan(), lambda _network: {}, None,
        folder, context.runtime, context.reporter, config.method,
    )  # fmt: skip
    write_json(folder / "metrics.json", {"history": history})
    write_bytes(folder / "model.safetensors", save(state))


def _write_confident(context: Context, config: RefineConfig, source: MapSource, confident: Confident) -> None:
    """Writes confident/ID.png of every training image; an image without classes is all background.

    Raises:
        RunError: there is no confident pixel of any class, or none of background.
    """
    run, train, device = context.run, context.data.train, context.runtime.torch_device()
    left = [item for item in train if not run.confident(item.id).is_file()]
    with context.reporter.bar("confident labels", len(train), done=len(train) - len(left)) as advance:
        for item, stored in source(left):
            image = fit_within(item.read(), config.long_side)
            ids = np.zeros((image.height, image.width), dtype=np.uint8)
            if stored.classes:
                maps = resize(stored.maps.to(device), ids.shape)
                ids = confident(pixels(image, maps), maps, stored.classes).cpu().numpy()
            save_mask(run.confident(item.id), ids)
            advance(1)
    _check_confident(context, config.method)


def _to_learn(context: Context) -> list[Item]:
    """Returns the training images but those that the climb has left out."""
    return without_left_out(context.run, "climb", context.data.train, context.run.confident)


def _check_confident(context: Context, method: str) -> None:
    background = classes = 0
    for item in _to_learn(context):
        ids = load_mask(context.run.confident(item.id))
        background += int((ids == 0).sum())
        classes += int(((ids != 0) & (ids != IGNORE)).sum())
        if background and classes:
            return
    folder = context.run.folder("refine") / "confident"
    remedies = {
        "irn": "background=0.25" if classes else "foreground=0.25",  # thresholds to raise or lower
        "psa": "background=16" if classes else "foreground=16",  # powers to lower, for more background or foreground
    }
    shutil.rmtree(folder)  # so that the step can be run again with other settings
    raise RunError(
        f"{context.run.root}: the confident labels hold no pixel of {'background' if classes else 'any class'}, so there is"
        f" nothing to learn; check the maps, or try --refine-option {remedies[method]}"
    )
