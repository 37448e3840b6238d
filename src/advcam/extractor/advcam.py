"""``AdvCAM(model)(images, targets)``: the climb on any classifier, in three lines."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from numbers import Integral
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advcam.attribution import ClimbSettings, Step, climb, counted, make_views
from advcam.errors import AdvcamError, InputError, NetworkError, SettingsError, out_of_memory
from advcam.models import (
    Network,
    as_network_errors,
    check_fits,
    checked_forward,
    describe_value,
    evaluating,
    find,
    fused,
    unwrap,
)
from advcam.runtime import resolve_precision

from .inputs import Targets, as_lists, check_flag, check_images, check_list, check_scales, flatten_targets, read_settings
from .maps import Maps, no_maps

_CLASSES_AT_ONCE = 8  # of one image, where its features are computed only once


@dataclass(frozen=True)
class _Job:
    """One call: the images, the network (and the same, made fast), and image and class of each of M pairs."""

    images: Float[Tensor, "n 3 y x"]
    network: Network
    climber: Network
    image: Int[Tensor, " m"]
    target: Int[Tensor, " m"]


class AdvCAM:
    """Class activation maps of any trained classifier by anti-adversarial climbing (AdvCAM).

    ``A_c = sum_{t<T} CAM_c(x^t)``, ``x^t = x^(t-1) + xi dL/dx``. Preset ``default`` also caps and weights the later maps
    (settings ``ceiling`` and ``emphasis``). The model's mode, hooks, weights and gradients are left as they were. A map is 0
    where the network gives NaN or infinity, and a warning says so; a map without a positive value is all zeros, normalised too.

    Args:
        model: any module that returns logits [N, K], or an object that has them as ``.logits``: convolutional networks,
            transformers over patches, with any head. ``DataParallel`` and ``torch.compile`` are unwrapped. Thread-safe.
        preset: ``default``, ``paper``, ``official`` or ``fast``, see :data:`advcam.PRESETS`.
        layer: name of the module whose output is the feature map; None finds the last one at the first call.
        max_pixels: most pixels (mirror images included) in one forward pass, to bound memory; it changes results by rounding
            alone. None is 400,000 on a CPU and 2^22 elsewhere. It is halved where memory runs out.
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
        max_pixels: int | None = None,
        **changes: Any,
    ) -> None:
        if max_pixels is not None and not (isinstance(max_pixels, Integral) and max_pixels >= 1):
            raise SettingsError(f"max_pixels must be a whole number of at least 1, got {describe_value(max_pixels)}")
        if layer is not None and not isinstance(layer, str):
            raise SettingsError(f"layer is the name of a module, one of model.named_modules(); got {type(layer).__name__}")
        self.model, self.layer = model, layer
        self.max_pixels: int | None = None if max_pixels is None else int(max_pixels)
        self.settings: ClimbSettings = read_settings(preset, changes)
        self._network: Network | None = None

    def __repr__(self) -> str:
        where = str(self._network) if self._network else f"layer={self.layer!r}"
        return f"AdvCAM({type(self.model).__name__}, {where}, {self.settings})"

    @overload
    def __call__(self, images: Tensor, targets: Targets = None, *, record: bool = False) -> Maps: ...
    @overload
    def __call__(self, images: Sequence[Tensor], targets: Targets = None, *, record: bool = False) -> list[Maps]: ...
    def __call__(
        self, images: Tensor | Sequence[Tensor], targets: Targets = None, *, record: bool = False
    ) -> Maps | list[Maps]:
        """Compute the AdvCAM of every (image, class) pair.

        Args:
            images: float [N, 3, H, W], normalised as the model expects; or a list of [3, H, W] of several sizes.
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
        job = self._start(images, targets)
        climbed = [self._climb(job, scale, record) for scale in self.settings.scales]
        grids, first, recorded = zip(*climbed, strict=True)
        return self._maps(job, grids, first, recorded[0])

    def scores(self, images: Tensor) -> Float[Tensor, "n k"]:
        """The model's logits of the images in eval mode; memory is bounded as in a call.

        Args:
            images: float [N, 3, H, W], normalised as the model expects.

        Returns:
            [N, K], logits.

        Raises:
            InputError: images of another form, or too little memory for one.
            NetworkError: a model without logits; any error that it raises, as the cause.
        """
        model, images = unwrap(self.model), check_images(images, self.settings.bounds)
        check_fits(model, images)
        with _undisturbed(), evaluating(model), torch.no_grad():
            parts: list[Tensor] = []
            start = 0
            while start < len(images):
                at_once = min(len(images) - start, max(1, self._limit(images) // self._pixels_of(images, 1.0)))
                try:
                    parts.append(checked_forward(model, images[start : start + at_once].clone()))
                    start += at_once
                except Exception as error:
                    self._make_room(error, images, 1.0, at_once)
            return torch.cat(parts)

    def iterate(self, images: Tensor, targets: Targets = None) -> Iterator[Maps]:
        """Take the same climb one step at a time, and yield the sum so far after each of the T steps.

        Stop at any time: the model is not locked between steps. Memory does not grow with T; where it runs out in the first
        step, ``max_pixels`` is halved.

        Args:
            images: float [N, 3, H, W], normalised as the model expects.
            targets: as for a call.

        Yields:
            Maps whose ``steps`` [M, 1, h, w] and ``scores`` [M, 1, K] are of the latest step alone, and whose ``images`` are
            the pixels that this step was computed from.

        Raises:
            SettingsError: several scales.

        Example:
            >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
            >>> [tuple(out.maps.shape) for out in AdvCAM(net, steps=2).iterate(torch.rand(1, 3, 32, 32), [[2]])]
            [(1, 15, 15), (1, 15, 15)]
        """
        self._need_one_scale("iterate() yields steps")
        (scale,) = self.settings.scales
        job = self._start(images, targets)
        running, steps = self._begin(job, scale)
        total = first = None
        for t in range(self.settings.steps_at(scale)):
            steps = [next(climbs) for climbs in running] if t else steps
            maps, scores, pixels = (
                torch.cat(part) for part in zip(*((s.maps, s.scores, s.pixels) for s in steps), strict=True)
            )
            _warn(torch.cat([_strange(s) for s in steps]))
            total = maps if total is None else total + maps
            first = maps if first is None else first
            recorded = {"steps": maps[:, None], "scores": scores[:, None], "images": self._pixels(pixels)}
            yield self._maps(job, (total,), (first,), recorded)

    def _start(self, images: object, targets: Targets) -> _Job:
        """Everything checked, the network found, and made fast where it runs more than once."""
        s = self.settings
        with _undisturbed():
            images = check_images(images, s.bounds).detach().clone()
            check_scales(images, s.scales)
            self._network = find(self.model, images, self.layer)
            network = self._network.at(self._precision(images))
            self._check_head(network)
            lists = self._found(images) if targets is None else as_lists(targets, len(images), network.classes)
            once = s.steps == 1 and network.head is not None
            with as_network_errors(network.model, "fails when it is prepared"):
                climber = network if once else fused(network, images[:1])
            return _Job(images, network, climber, *flatten_targets(lists, images.device))

    def _climb(self, job: _Job, scale: float, record: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Every pair at one scale: the sum of its maps, the first of them, and what was recorded on the way."""

        def one(rows: slice) -> dict[str, Tensor]:
            steps = self._steps(job, rows, scale, move_last=record)
            first = step = next(steps)
            total, maps, scores = first.maps.clone(), [first.maps], [first.scores]
            strange = _strange(first)
            for step in steps:
                total += step.maps
                strange |= _strange(step)
                if record:
                    maps.append(step.maps)
                    scores.append(step.scores)
            kept = {"sum": total, "first": first.maps, "strange": strange}
            if record and step.moved is not None:
                kept |= {"steps": torch.stack(maps, 1), "scores": torch.stack(scores, 1), "images": self._pixels(step.moved)}
            return kept

        with _undisturbed():
            done = self._in_chunks(job, scale, one)
            joined = {name: torch.cat([part[name] for part in done]) for name in done[0]}
        _warn(joined.pop("strange"))
        return joined.pop("sum"), joined.pop("first"), joined

    def _begin(self, job: _Job, scale: float) -> tuple[list[Iterator[Step]], list[Step]]:
        """All climbs, in chunks that memory admits, and the first step of each."""
        while True:
            chunks = list(self._chunks(job, scale))
            running = [self._steps(job, rows, scale) for rows in chunks]
            try:
                return running, [next(climbs) for climbs in running]
            except Exception as error:
                longest = max(rows.stop - rows.start for rows in chunks)
                self._make_room(error, job.images, scale, min(self._room(job, scale), longest))

    def _steps(self, job: _Job, rows: slice, scale: float, *, move_last: bool = False) -> Iterator[Step]:
        """The climbs of some pairs, whose images are looked at once each."""
        s = self.settings
        with _undisturbed():
            own, image = job.image[rows].unique(return_inverse=True)
            raw = climb(
                job.climber, make_views(job.images[own], scale, s.mirror), image, job.target[rows], s,
                head=job.network.linear(), steps=int(s.steps_at(scale)), move_last=move_last,
            )  # fmt: skip
            steps = counted(raw, s)
        while True:
            with _undisturbed(), as_network_errors(job.network.model, "fails on its gradient"):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def _in_chunks(self, job: _Job, scale: float, one: Callable[[slice], dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """``one`` for all pairs, as many at once as memory admits: where it runs out, ``max_pixels`` is halved."""
        done: list[dict[str, Tensor]] = []
        start = 0
        while start < len(job.image):
            rows = next(self._chunks(job, scale, start))
            try:
                done.append(one(rows))
                start = rows.stop
            except Exception as error:
                self._make_room(error, job.images, scale, min(self._room(job, scale), rows.stop - rows.start))
        return done

    def _make_room(self, error: Exception, images: Tensor, scale: float, at_once: int) -> None:
        """Halves ``max_pixels`` where memory ran out with so many at once; another error, or one alone, is raised."""
        if isinstance(error, AdvcamError) or not out_of_memory(error):
            raise error
        if at_once == 1:
            raise InputError(
                f"not enough memory for one image of {images.shape[2]}x{images.shape[3]} at scale {scale:g}: give smaller"
                " images or scales, precision='bfloat16', or mirror=False"
            ) from error
        self.max_pixels = max(1, at_once * self._pixels_of(images, scale) // 2)

    def _chunks(self, job: _Job, scale: float, start: int = 0) -> Iterator[slice]:
        """Slices of the pairs, as many as ``max_pixels`` admits and at least one; an image's pairs together where they fit.

        A single step looks at each image once, for up to eight classes at the cost of one.
        """
        each = _CLASSES_AT_ONCE if self.settings.steps_at(scale) == 1 else 1
        room = self._room(job, scale)
        begin = at = start
        used = 0
        for _, group in groupby(job.image[start:].tolist()):
            count = len(list(group))
            cost = -(-count // each)
            if used and used + cost > room:
                yield slice(begin, at)
                begin, used = at, 0
            at, used = at + count, used + cost
            while used > room:  # one image has more classes than there is room for
                yield slice(begin, begin + room * each)
                begin, used = begin + room * each, used - room
        if begin < at:
            yield slice(begin, at)

    def _room(self, job: _Job, scale: float) -> int:
        """How many climbs go through the network at once; one where it mixes the images of a batch."""
        if job.network.mixes:
            return 1
        return max(1, self._limit(job.images) // self._pixels_of(job.images, scale))

    def _precision(self, images: Tensor) -> str:
        """What to compute in; ``auto`` leaves a model in another type than float32 as it is."""
        own = self.settings.precision == "auto" and images.dtype != torch.float32
        return "float32" if own else resolve_precision(self.settings.precision, images.device)

    def _pixels_of(self, images: Tensor, scale: float) -> int:
        return max(1, round(images.shape[2] * images.shape[3] * scale**2) * (2 if self.settings.mirror else 1))

    def _limit(self, images: Tensor) -> int:
        return self.max_pixels or (400_000 if images.device.type == "cpu" else 2**22)

    def _found(self, images: Tensor) -> list[list[int]]:
        """The classes that the model itself finds in each image."""
        logits = self.scores(images)
        likely = (logits > 0) & (logits.softmax(1) >= 0.1)
        likely.scatter_(1, logits.argmax(1, keepdim=True), True)
        return [row.nonzero()[:, 0].tolist() for row in likely]

    def _several_sizes(self, images: list[Tensor], targets: Targets, record: bool) -> list[Maps]:
        """Images of one size go together; the results come back in the order of the images."""
        lists: list[list[int]] | None = None
        if targets is not None:
            classes = self._classes(images[0][None]) if images else 0
            lists = as_lists(targets, len(images), classes)
            flatten_targets(lists, torch.device("cpu"))  # a class at all
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
        with _undisturbed():
            return find(self.model, check_images(images, self.settings.bounds).detach().clone(), self.layer).classes

    def _maps(self, job: _Job, grids: Sequence[Tensor], first: Sequence[Tensor], recorded: dict[str, Tensor]) -> Maps:
        size = (job.images.shape[2], job.images.shape[3])
        return Maps.of(
            grids, size, image=job.image, target=job.target, first=tuple(first), grid=self.settings.grid,
            layer=str(job.network), **recorded,
        )  # fmt: skip

    def _pixels(self, views: Float[Tensor, "c v 3 y x"]) -> Tensor:
        """The views as they are handed out: the image alone where there is no mirror image."""
        return views if self.settings.mirror else torch.squeeze(views, 1)

    def _need_one_scale(self, what: str) -> None:
        if len(self.settings.scales) > 1:
            raise SettingsError(f"{what} on one grid: give one scale, e.g. scales=(1.0,); got {self.settings.scales}")

    def _check_head(self, network: Network) -> None:
        s = self.settings
        if network.head is None and (s.score == "relu" or s.weights == "gradient"):
            raise NetworkError(
                f"score={s.score!r} and weights={s.weights!r} (preset 'official') are defined for a mean over cells and one"
                f" linear head; this network has {network}. Use another preset, or score='logit', weights='head'"
            )


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Neither the caller's inference mode nor their autocast reaches inside."""
    with torch.inference_mode(False), contextlib.ExitStack() as stack:
        for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _strange(step: Step) -> Tensor:
    """[C] whether a climb's scores are NaN or infinite."""
    return torch.logical_not(step.scores.isfinite().all(1))


def _warn(strange: Tensor) -> None:
    if count := int(strange.sum()):
        warnings.warn(
            f"the logits of {count} of {len(strange)} (image, class) pairs are NaN or infinite; what is not finite of their"
            " maps is 0. Look at the model's weights and at how images are normalised",
            RuntimeWarning,
            stacklevel=4,
        )
