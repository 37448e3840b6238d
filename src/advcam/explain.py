"""``AdvCAM(model)(images, targets)``: the climb on any classifier, in three lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import index
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advcam.attribution import ClimbSettings, climb, fuse_scales, make_views, normalise, settings, strided_size
from advcam.errors import InputError, SettingsError
from advcam.models import FeatureNetwork, find, lent

Targets = Sequence[Sequence[int]] | Tensor | None


@dataclass(frozen=True)
class Maps:
    """The AdvCAMs of M (image, class) pairs, all pairs of the first image first.

    Args:
        maps: float32 [M, h, w], the un-normalised sum over steps and mirror; on the feature map's grid for one scale, at
            stride 4 for several.
        image: int64 [M], row of the images given.
        target: int64 [M], class id.
        grids: the same sum for each scale by itself, on that scale's own grid.
        first: the map of the first step for each scale: the plain map's ``grids``.
        size: (H, W) of the images given.
        grid: see :class:`~advcam.attribution.ClimbSettings`.
        steps: [M, T, h, w] the map of every step, with ``record=True``.
        scores: [M, T, K] every class's score at every step, with ``record=True``.
        images: the pixels after the last step, with ``record=True``: [M, 3, H, W], or [M, 2, 3, H, W] (image, mirror
            image) where the settings ask for mirror.
    """

    maps: Float[Tensor, "m h w"]
    image: Int[Tensor, " m"]
    target: Int[Tensor, " m"]
    grids: tuple[Float[Tensor, "m _ _"], ...]
    first: tuple[Float[Tensor, "m _ _"], ...]
    size: tuple[int, int]
    grid: int = 1
    steps: Float[Tensor, "m t h w"] | None = None
    scores: Float[Tensor, "m t k"] | None = None
    images: Tensor | None = None

    @property
    def plain(self) -> Maps:
        """The plain class activation maps of the same views: what ``steps=1`` gives, at no further cost."""
        maps = self.first[0] if len(self.first) == 1 else fuse_scales(self.first, strided_size(self.size))
        return Maps(maps, self.image, self.target, self.first, self.first, self.size, self.grid)

    def normalised(self, size: tuple[int, int] | None = None) -> Float[Tensor, "m y x"]:
        """The maps in [0, 1], each divided by its own maximum (a map of zeros stays zeros).

        Args:
            size: (H, W) to resize to first, from each scale's own grid; None leaves them on the grid of ``maps``.
        """
        if size is None:
            return normalise(self.maps)
        full = tuple(size) == tuple(self.size)
        return normalise(fuse_scales(self.grids, (size[0], size[1]), self.grid if full else 1))


class AdvCAM:
    """Anti-adversarial climbing on any classifier, post hoc: the model is used as it is and given back as it was.

    ``A_c = sum_{t<T} CAM_c(x^t)``, ``x^t = x^(t-1) + xi dL/dx`` (Lee, Kim, Yoon, CVPR 2021, equations 3-7).

    Args:
        model: any module that returns logits [N, K] and ends in global average pooling and a linear or 1x1 head.
        preset: ``default``, ``paper``, ``official`` or ``fast``, see :data:`advcam.PRESETS`.
        layer: name of the module whose output is the last feature map; None finds it at the first call.
        max_pixels: most pixels (views included) in one forward pass; bounds memory; changes results by rounding alone. None is
            2^18 on a CPU, whose caches are small, and 2^22 elsewhere.
        changes: settings to change, see :class:`~advcam.attribution.ClimbSettings`.

    Raises:
        SettingsError: an unknown preset or setting, or a value out of range.
        NetworkError: at the first call, a network without such a head.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        >>> out = AdvCAM(net, steps=3)(torch.rand(2, 3, 32, 32), [[0, 2], [1]])
        >>> out.maps.shape, out.image.tolist(), out.target.tolist()
        (torch.Size([3, 15, 15]), [0, 0, 1], [0, 2, 1])
    """

    def __init__(
        self,
        model: nn.Module,
        preset: str = "default",
        *,
        layer: str | None = None,
        max_pixels: int | None = None,
        **changes: Any,
    ) -> None:
        if max_pixels is not None and max_pixels < 1:
            raise SettingsError(f"max_pixels must be at least 1, got {max_pixels}")
        self.model, self.layer, self.max_pixels = model, layer, max_pixels
        self.settings: ClimbSettings = settings(preset, **changes)
        self._network: FeatureNetwork | None = None

    def __repr__(self) -> str:
        found = self._network
        where = f"layer={found.layer!r} ({found.side}), head={found.head!r}" if found else f"layer={self.layer!r}"
        return f"AdvCAM({type(self.model).__name__}, {where}, {self.settings})"

    def __call__(self, images: Float[Tensor, "n 3 y x"], targets: Targets = None, *, record: bool = False) -> Maps:
        """The AdvCAM of every (image, class) pair.

        Args:
            images: float [N, 3, H, W], normalised as the model wants them.
            targets: for each image a list of class ids, or a 0/1 tensor [N, K], or None: the classes that the model
                itself finds (its highest logit, and every positive one with at least a tenth of the softmax).
            record: also keep every step's map and scores and the final pixels; one scale only.

        Raises:
            InputError: images or targets of another form, or a class the model does not have.
            SettingsError: ``record`` with several scales.
        """
        s = self.settings
        if record and len(s.scales) > 1:
            raise SettingsError(f"record=True keeps steps on one grid: give one scale, e.g. scales=(1.0,); got {s.scales}")
        _check_images(images)
        with torch.inference_mode(False), lent(self.model):
            images = images.detach().clone()
            network = self._network = self._network or find(self.model, images, self.layer)
            network = dataclasses.replace(network, precision=s.precision)
            image, target = self._pairs(images, targets, network)
            climbed = [self._climb(network, images, image, target, scale, record) for scale in s.scales]
        grids, first, recorded = zip(*climbed, strict=True)
        size = (images.shape[2], images.shape[3])
        maps = grids[0] if len(grids) == 1 else fuse_scales(grids, strided_size(size))
        return Maps(maps, image, target, grids, first, size, s.grid, **recorded[0])

    def _climb(
        self, network: FeatureNetwork, images: Tensor, image: Tensor, target: Tensor, scale: float, record: bool
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Every pair at one scale: the sum of its maps, the first of them, and what was recorded on the way."""
        s, head = self.settings, network.linear()
        views = make_views(images, scale, s.mirror)
        sums, firsts, kept = [], [], []
        for rows in self._chunks(len(image), views):
            steps = climb(network.features, head, views[image[rows]], target[rows], s)
            first = next(steps)
            total, maps, scores = first.maps.clone(), [first.maps], [first.scores]
            for step in islice(steps, s.steps_at(scale) - 1):
                total += step.maps
                if record:
                    maps.append(step.maps)
                    scores.append(step.scores)
            sums.append(total)
            firsts.append(first.maps)
            if record:
                pixels = next(steps).pixels
                kept.append((torch.stack(maps, 1), torch.stack(scores, 1), pixels if s.mirror else pixels[:, 0]))
        recorded = (
            dict(zip(("steps", "scores", "images"), map(torch.cat, zip(*kept, strict=True)), strict=True)) if kept else {}
        )
        return torch.cat(sums), torch.cat(firsts), recorded

    def _pairs(self, images: Tensor, targets: Targets, network: FeatureNetwork) -> tuple[Tensor, Tensor]:
        """Row and class of every pair, checked."""
        classes = len(network.linear().weight)
        lists = self._found(images) if targets is None else _as_lists(targets, classes)
        if len(lists) != len(images):
            raise InputError(f"targets must name the classes of each of the {len(images)} images; got {len(lists)} of them")
        pairs = [(row, c) for row, names in enumerate(lists) for c in names]
        if not pairs:
            raise InputError("targets name no class at all: expected at least one class of one image")
        for row, c in pairs:
            if not 0 <= c < classes:
                raise InputError(f"image {row}: class id {c} is out of range; the model has classes 0 to {classes - 1}")
        rows, ids = zip(*pairs, strict=True)
        return torch.tensor(rows, device=images.device), torch.tensor(ids, device=images.device)

    def _found(self, images: Tensor) -> list[list[int]]:
        """The classes that the model itself finds in each image."""
        with torch.no_grad():
            logits = torch.cat([self.model(images[rows]) for rows in self._chunks(len(images), images)])
        likely = (logits > 0) & (logits.softmax(1) >= 0.1)
        likely.scatter_(1, logits.argmax(1, keepdim=True), True)
        return [row.nonzero()[:, 0].tolist() for row in likely]

    def _chunks(self, count: int, like: Tensor) -> Iterator[slice]:
        """Slices of ``count`` rows such as ``like`` has, at most ``max_pixels`` pixels together, at least one row each."""
        limit = self.max_pixels or (2**18 if like.device.type == "cpu" else 2**22)
        at_once = max(1, limit * 3 // like[0].numel())
        return (slice(start, start + at_once) for start in range(0, count, at_once))


def cam(model: nn.Module, images: Float[Tensor, "n 3 y x"], targets: Targets = None, **options: Any) -> Maps:
    """The plain class activation map ``ReLU(sum_d w_c[d] f_d)``: what :class:`AdvCAM` gives with one step.

    Args:
        model: as for :class:`AdvCAM`.
        images: as for :class:`AdvCAM`.
        targets: as for :class:`AdvCAM`.
        options: as for :class:`AdvCAM`.
    """
    return AdvCAM(model, **(options | {"steps": 1}))(images, targets)


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        came = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a float tensor [N, 3, H, W], normalised as the model wants it; got {came}")
    if not len(images):
        raise InputError("images must hold at least one image; got none")
    if not torch.isfinite(images).all():
        raise InputError("images hold NaN or infinite pixels; look at how they were normalised")


def _as_lists(targets: Sequence[Sequence[int]] | Tensor, classes: int) -> list[list[int]]:
    if isinstance(targets, Tensor):
        if targets.ndim != 2 or targets.shape[1] != classes or not ((targets == 0) | (targets == 1)).all():
            raise InputError(
                f"targets as a tensor must be 0/1 [N, {classes}]; got {tuple(targets.shape)}."
                " Class ids go in lists, e.g. [[0, 2], [1]]"
            )
        return [row.nonzero()[:, 0].tolist() for row in targets]
    try:
        return [[index(name) for name in names] for names in targets]
    except TypeError:
        raise InputError(f"targets must be a list of class ids for each image, e.g. [[0, 2], [1]]; got {targets!r}") from None
