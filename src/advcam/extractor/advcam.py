"""``AdvCAM(model)(images, targets)``: the climb on any classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advcam.attribution import ClimbSettings
from advcam.errors import NetworkError, SettingsError
from advcam.models import (
    Inner,
    Network,
    as_network_errors,
    check_fits,
    checked_forward,
    describe_value,
    evaluating,
    find,
    find_inner,
    fused,
    has_inner,
    inner_or_none,
    unwrap,
)
from advcam.runtime import resolve_precision

from .inputs import Targets, as_lists, check_flag, check_images, check_list, check_scales, flatten_targets, read_settings
from .job import Job, not_finite, undisturbed, warn_not_finite
from .maps import Maps, no_maps
from .memory import Budget
from .windows import LargeImage, Pixels, climb_windows


class AdvCAM:
    """Class activation maps of any trained classifier by anti-adversarial climbing (AdvCAM).

    ``A_c = sum_{t<T} CAM_c(x^t)``, ``x^t = x^(t-1) + xi dL/dx``. Preset ``default`` also caps and weights the later maps
    (settings ``ceiling`` and ``emphasis``), ``fast`` counts them three times (``later``). The model's mode, hooks, weights and
    gradients are left as they were. A map is 0 where the network gives NaN or infinity, and a warning says so; a map without a
    positive value is all zeros, normalised too.

    Args:
        model: any module that returns logits [N, K], or an object that has them as ``.logits``: convolutional networks,
            transformers over patches, with any head. ``DataParallel`` and ``torch.compile`` are unwrapped. Thread-safe.
        preset: ``default``, ``fast``, ``multiscale``, ``features``, ``paper`` or ``official``, see :data:`advcam.PRESETS`.
        layer: name of the module whose output is the feature map; None finds the last one at the first call.
        start_layer: name of the module whose output moves in the place of pixels (``fast``, ``features``); None finds the end
            of the last but one stage where the network says where stages end (timm does), else the last layer of a finer grid.
        max_pixels: most pixels (mirror images included) in one forward pass, to bound memory; it changes results by rounding
            alone. None is 400,000 on a CPU and 2^22 elsewhere. It is halved where memory runs out.
        window: side in pixels, a multiple of that of a cell. Larger images are climbed in windows that overlap by a quarter, so
            memory is that of a window; each step's maps are joined before they are capped, weighted, summed and normalised.
        changes: settings to change, such as ``steps`` or ``method``, see :class:`~advcam.attribution.ClimbSettings`.

    Raises:
        SettingsError: an unknown preset or setting, or a value out of range.
        NetworkError: at a call, a network without a feature map, or any error that the network itself raises.

    Source: Lee, Kim, Yoon, CVPR 2021, equations 3-7, with the sum over t = 0 .. T - 1 of jbeomlee93/AdvCAM.

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
        start_layer: str | None = None,
        max_pixels: int | None = None,
        window: int | None = None,
        **changes: Any,
    ) -> None:
        for name, value in (("max_pixels", max_pixels), ("window", window)):
            if value is not None and not (isinstance(value, Integral) and value >= 1):
                raise SettingsError(f"{name} must be a whole number of at least 1, got {describe_value(value)}")
        for name, module in (("layer", layer), ("start_layer", start_layer)):
            if module is not None and not isinstance(module, str):
                raise SettingsError(
                    f"{name} is the name of a module, one of model.named_modules(); got {type(module).__name__}"
                )
        self.model, self.layer, self.start_layer = model, layer, start_layer
        self.window = None if window is None else int(window)
        self.settings: ClimbSettings = read_settings(preset, changes)
        if start_layer is not None and self.settings.space == "pixels":
            raise SettingsError(
                f"start_layer={start_layer!r} is where a climb of features starts; this one moves pixels: give"
                " space='features', or preset 'features' or 'fast' too"
            )
        self._budget = Budget(None if max_pixels is None else int(max_pixels), views=2 if self.settings.mirror else 1)
        self._network: Network | None = None

    def __repr__(self) -> str:
        where = str(self._network) if self._network else f"layer={self.layer!r}"
        return f"AdvCAM({type(self.model).__name__}, {where}, {self.settings})"

    @property
    def max_pixels(self) -> int | None:
        """Most pixels in one forward pass; less than was given where memory ran out."""
        return self._budget.max_pixels

    @overload
    def __call__(self, images: Tensor, targets: Targets = None, *, record: bool = False) -> Maps: ...
    @overload
    def __call__(self, images: Sequence[Tensor], targets: Targets = None, *, record: bool = False) -> list[Maps]: ...
    def __call__(
        self, images: Tensor | Sequence[Tensor], targets: Targets = None, *, record: bool = False
    ) -> Maps | list[Maps]:
        """Compute the AdvCAM of every (image, class) pair.

        Args:
            images: float [N, C, H, W], normalised as the model expects; or a list of [C, H, W] of several sizes.
            targets: for each image a list of class ids, or a 0/1 tensor [N, K]. None takes the classes that the model predicts:
                the highest logit, and every positive one with at least a tenth of the softmax.
            record: also keep every step's map and scores and the final pixels; one scale only.

        Returns:
            The maps of all pairs; for a list of images, a list with the maps of each image.

        Raises:
            InputError: images or targets of another form, or a class the model does not have; too little memory for one image.
            NetworkError: a network without a feature map; any error that the network raises, as the cause.
            SettingsError: ``record`` with several scales.
        """
        if record := check_flag("record", record):
            self._need_one_scale("record=True keeps steps")
        if isinstance(images, (list, tuple)):
            return self._several_sizes(check_list(images), targets, record)
        if self.window is not None and max((whole := check_images(images, self.settings.bounds)).shape[2:]) > self.window:
            self._need_no_window(record, "record=True keeps")
            found = self._found(whole) if targets is None else targets
            with undisturbed():
                whole = whole.detach().clone()
            return self._joined(self._start(whole[..., : self.window, : self.window], found), [Pixels(one) for one in whole])
        job = self._start(images, targets)
        climbed = [job.climb(scale, record) for scale in self.settings.scales]
        grids, first, recorded = zip(*climbed, strict=True)
        return job.maps(grids, first, recorded[0])

    def in_windows(self, image: LargeImage, targets: Sequence[int]) -> Maps:
        """Compute the AdvCAMs of an image of which one window at a time is in memory.

        Args:
            image: gives its size, the range of its values and windows of itself; see :class:`~.windows.LargeImage`.
            targets: class ids.

        Returns:
            The maps of all classes, as those of the whole image.

        Raises:
            InputError: as for a call; a window that the cells of the map do not divide.
            NetworkError: as for a call.
            SettingsError: no window was given.
        """
        if self.window is None:
            raise SettingsError("an image in windows needs their size: AdvCAM(model, window=768)")
        height, width = image.size
        first = image.window(image.size, slice(0, min(height, self.window)), slice(0, min(width, self.window)))
        return self._joined(self._start(first[None], [targets]), [image])

    def scores(self, images: Tensor) -> Float[Tensor, "n k"]:
        """The model's logits of the images in eval mode; memory is bounded as in a call.

        Args:
            images: float [N, C, H, W], normalised as the model expects.

        Returns:
            [N, K], logits.

        Raises:
            InputError: images of another form, or too little memory for one.
            NetworkError: a model without logits; any error that it raises, as the cause.
        """
        model, images = unwrap(self.model), check_images(images, self.settings.bounds)
        check_fits(model, images)
        with undisturbed(), evaluating(model), torch.no_grad():
            parts: list[Tensor] = []
            start = 0
            while start < len(images):
                at_once = min(len(images) - start, self._budget.at_once(images, 1.0))
                try:
                    parts.append(checked_forward(model, images[start : start + at_once].clone()))
                    start += at_once
                except Exception as error:
                    self._budget.halve(error, images, 1.0, at_once)
            return torch.cat(parts)

    def iterate(self, images: Tensor, targets: Targets = None) -> Iterator[Maps]:
        """Take the same climb one step at a time, and yield the sum so far after each of the T steps.

        Stop at any time: the model is not locked between steps. Memory does not grow with T; where it runs out in the first
        step, ``max_pixels`` is halved.

        Args:
            images: float [N, C, H, W], normalised as the model expects.
            targets: as for a call.

        Yields:
            Maps whose ``steps`` [M, 1, h, w] and ``scores`` [M, 1, K] are of the latest step alone, and whose ``images`` are
            the pixels that this step was computed from; None where features are climbed.

        Raises:
            SettingsError: several scales.

        Example:
            >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
            >>> [tuple(out.maps.shape) for out in AdvCAM(net, steps=2).iterate(torch.rand(1, 3, 32, 32), [[2]])]
            [(1, 15, 15), (1, 15, 15)]
        """
        self._need_one_scale("iterate() yields steps")
        self._need_no_window(True, "iterate() yields")
        (scale,) = self.settings.scales
        job = self._start(images, targets)
        running, steps = job.begin(scale)
        total = first = None
        for t in range(self.settings.steps_at(scale)):
            steps = [next(climbs) for climbs in running] if t else steps
            maps, scores, pixels = (
                torch.cat(part) for part in zip(*((s.maps, s.scores, s.pixels) for s in steps), strict=True)
            )
            warn_not_finite(torch.cat([not_finite(s) for s in steps]))
            total = maps if total is None else total + maps
            first = maps if first is None else first
            recorded = {"steps": maps[:, None], "scores": scores[:, None], **job.recorded_pixels(pixels)}
            yield job.maps((total,), (first,), recorded)

    def _joined(self, job: Job, images: Sequence[LargeImage]) -> Maps:
        """The maps of images of one size, each climbed in windows."""
        assert self.window is not None
        of_scales = []
        for scale in self.settings.scales:
            rows = [job.of_image(row) for row in range(len(images))]
            parts = [
                climb_windows(one, image, self.window, scale)
                for one, image in zip(rows, images, strict=True)
                if len(one.target)
            ]
            of_scales.append([torch.cat(part) for part in zip(*parts, strict=True)])
        grids, first = zip(*of_scales, strict=True)
        return job.maps(grids, first, {}, images[0].size)

    def _start(self, images: object, targets: Targets) -> Job:
        """Checks the input, finds the network, and makes a fast copy where it runs more than once."""
        s = self.settings
        with undisturbed():
            images = check_images(images, s.bounds).detach().clone()
            check_scales(images, s.scales)
            self._network = find(self.model, images, self.layer)
            network = self._network.at(self._precision(images))
            self._check_head(network)
            lists = self._found(images) if targets is None else as_lists(targets, len(images), network.classes)
            once = s.steps == 1 and network.head is not None
            with as_network_errors(network.model, "fails when it is prepared"):
                climber = network if once else fused(network, images[:1])
            inner = self._inner(network, images)
            if inner is not None and not has_inner(climber, inner, network):
                climber = network
            s = replace(s, space="features" if inner else "pixels")
            return Job(s, self._budget, images, network, climber, *flatten_targets(lists, images.device), inner)

    def _inner(self, network: Network, images: Tensor) -> Inner | None:
        """Where a climb of features starts; None where pixels are climbed, or nothing is."""
        if self.settings.space == "pixels" or (self.settings.steps == 1 and self.start_layer is None):
            return None
        if self.settings.space == "auto" and self.start_layer is None:
            return inner_or_none(network, images)
        return find_inner(network, images, self.start_layer)

    def _precision(self, images: Tensor) -> str:
        """What to compute in; ``auto`` leaves a model in another type than float32 as it is."""
        own = self.settings.precision == "auto" and images.dtype != torch.float32
        return "float32" if own else resolve_precision(self.settings.precision, images.device)

    def _found(self, images: Tensor) -> list[list[int]]:
        """The classes that the model predicts for each image."""
        logits = self.scores(images)
        likely = (logits > 0) & (logits.softmax(1) >= 0.1)
        likely.scatter_(1, logits.argmax(1, keepdim=True), True)
        return [row.nonzero()[:, 0].tolist() for row in likely]

    def _several_sizes(self, images: list[Tensor], targets: Targets, record: bool) -> list[Maps]:
        """Runs images of one size together; returns the results in the order of the images."""
        lists: list[list[int]] | None = None
        if targets is not None:
            classes = self._classes(images[0][None]) if images else 0
            lists = as_lists(targets, len(images), classes)
            flatten_targets(lists, torch.device("cpu"))  # raises where no class is named
        out: dict[int, Maps] = {}
        for size in dict.fromkeys(image.shape for image in images):
            rows = [row for row, image in enumerate(images) if image.shape == size]
            named = [lists[row] for row in rows] if lists is not None else None
            if named is not None and not any(named):
                out |= {row: no_maps((size[1], size[2]), images[row]) for row in rows}
                continue
            together = self(torch.stack([images[row] for row in rows]), named, record=record)
            out |= {row: together.of_image(at) for at, row in enumerate(rows)}
        return [out[row] for row in range(len(images))]

    def _classes(self, images: Tensor) -> int:
        """How many classes the model has."""
        with undisturbed():
            return find(self.model, check_images(images, self.settings.bounds).detach().clone(), self.layer).classes

    def _need_one_scale(self, what: str) -> None:
        if len(self.settings.scales) > 1:
            raise SettingsError(f"{what} on one grid: give one scale, e.g. scales=(1.0,); got {self.settings.scales}")

    def _need_no_window(self, steps: bool, what: str) -> None:
        if steps and self.window is not None:
            raise SettingsError(f"{what} steps of a whole image: leave out window={self.window}")

    def _check_head(self, network: Network) -> None:
        s = self.settings
        if network.head is None and (s.score == "relu" or s.weights == "gradient"):
            raise NetworkError(
                f"score={s.score!r} and weights={s.weights!r} (preset 'official') are defined for a mean over cells and one"
                f" linear head; this network has {network}. Use another preset, or score='logit', weights='head'"
            )
