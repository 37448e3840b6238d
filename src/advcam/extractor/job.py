"""The climbs of one call, in chunks that fit memory."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advcam.attribution import Classifier, ClimbSettings, Step, climb, counted, make_views
from advcam.errors import NumberWarning
from advcam.models import Inner, Network, as_network_errors, split_at

from .maps import Maps
from .memory import Budget

CLASSES_AT_ONCE = 8
"""Classes of one image that cost as much as one where its features are computed only once."""

_one_at_a_time = threading.Lock()
_before: list[bool | None] = []  # how convolutions were set before, once for each thread that climbs


@dataclass(frozen=True)
class Job:
    """One call: settings, images, the network and its fast copy, and image and class of each of M pairs.

    The pairs are in the order of the images. Their rows stand in ``rows`` too, where no device has to be waited for. ``inner``
    is the layer whose features are climbed; None where pixels are.
    """

    settings: ClimbSettings
    budget: Budget
    images: Float[Tensor, "n b y x"]
    network: Network
    climber: Network
    image: Int[Tensor, " m"]
    target: Int[Tensor, " m"]
    rows: tuple[int, ...]
    inner: Inner | None = None

    def climb(self, scale: float, record: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Climbs every pair at one scale: the sum of its maps, the first map, and what was recorded."""

        def one(rows: slice) -> dict[str, Tensor]:
            steps = self.steps(rows, scale, move_last=record)
            first = step = next(steps)
            total, maps, scores = first.maps.clone(), [first.maps], [first.scores]
            strange = not_finite(first)
            for step in steps:
                total += step.maps
                strange |= not_finite(step)
                if record:
                    maps.append(step.maps)
                    scores.append(step.scores)
            kept = {"sum": total, "first": first.maps, "strange": strange}
            if record and step.moved is not None:
                kept |= {"steps": torch.stack(maps, 1), "scores": torch.stack(scores, 1), **self.recorded_pixels(step.moved)}
            return kept

        with undisturbed():
            done = self._in_chunks(scale, one)
            joined = {name: torch.cat([part[name] for part in done]) for name in done[0]}
        warn_not_finite(joined.pop("strange"))
        return joined.pop("sum"), joined.pop("first"), joined

    def every_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """Climbs every pair: maps and pressures [M, T, h, w], neither capped nor weighted, and whether scores are finite.

        The pressure is 0 where no gradient was taken.
        """

        def one(rows: slice) -> dict[str, Tensor]:
            steps = [(step.maps, step.pressure, not_finite(step)) for step in self._shielded(self._climbs(rows, 1.0))]
            maps, pressures, strange = zip(*steps, strict=True)
            pushed = [torch.zeros_like(maps[0]) if part is None else part for part in pressures]
            return {"maps": torch.stack(maps, 1), "pressure": torch.stack(pushed, 1), "strange": torch.stack(strange).any(0)}

        with undisturbed():
            done = self._in_chunks(1.0, one)
            maps, pressures, strange = (torch.cat([part[name] for part in done]) for name in ("maps", "pressure", "strange"))
        return maps, pressures, strange

    def begin(self, scale: float) -> tuple[list[Iterator[Step]], list[Step]]:
        """All climbs, in chunks that fit memory, and the first step of each."""
        while True:
            chunks = list(self._chunks(scale))
            running = [self.steps(rows, scale) for rows in chunks]
            try:
                return running, [next(climbs) for climbs in running]
            except Exception as error:
                longest = max(rows.stop - rows.start for rows in chunks)
                self.budget.halve(error, self.images, scale, min(self._room(scale), longest))

    def steps(self, rows: slice, scale: float, *, move_last: bool = False) -> Iterator[Step]:
        """The climbs of some pairs, capped and weighted; each image has one first forward pass."""
        return self._shielded(counted(self._climbs(rows, scale, move_last), self.settings))

    def _climbs(self, rows: slice, scale: float, move_last: bool = False) -> Iterator[Step]:
        """The climbs of some pairs, neither capped nor weighted."""
        s = self.settings
        own = sorted(set(self.rows[rows]))
        image = torch.tensor([own.index(row) for row in self.rows[rows]])
        yield from climb(
            *self._start(make_views(self.images[own], scale, s.mirror)), image, self.target[rows], s,
            head=self.network.linear(), steps=self.steps_at(scale), move_last=move_last,
        )  # fmt: skip

    def _start(self, views: Float[Tensor, "n v b y x"]) -> tuple[Classifier, Float[Tensor, "n v d h w"]]:
        """What is climbed, the pixels or the features of the inner layer, behind the network as a function of it."""
        if self.inner is None:
            return self.climber, views
        features, rest = split_at(self.climber, self.inner, views.flatten(0, 1))
        return rest, features.unflatten(0, views.shape[:2])

    def _shielded(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps, taken without the caller's inference mode and autocast, and with the network's errors as ours."""
        while True:
            with undisturbed(), as_network_errors(self.network.model, "fails on its gradient"):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def steps_at(self, scale: float) -> int:
        """The number of steps at a scale."""
        return int(self.settings.steps_at(scale))

    def of_image(self, row: int) -> Job:
        """The pairs of one image."""
        start = self.rows.index(row) if row in self.rows else 0
        mine = slice(start, start + self.rows.count(row))
        return replace(
            self, images=self.images[row : row + 1], image=self.image[mine] - row, target=self.target[mine],
            rows=(0,) * (mine.stop - start),
        )  # fmt: skip

    def maps(
        self, grids: Sequence[Tensor], first: Sequence[Tensor], recorded: dict[str, Tensor], size: tuple[int, int] | None = None
    ) -> Maps:
        """The grids of every scale as maps of the images, which are of ``size`` where these are windows of them."""
        size = size or (self.images.shape[2], self.images.shape[3])
        return Maps.of(
            grids, size, image=self.image, target=self.target, first=tuple(first), grid=self.settings.grid,
            layer=str(self.network), **recorded,
        )  # fmt: skip

    def recorded_pixels(self, views: Float[Tensor, "c v b y x"]) -> dict[str, Tensor]:
        """The views as a field of :class:`Maps`, without their axis where there is no mirror image; nothing of features."""
        return {} if self.inner else {"images": views if self.settings.mirror else torch.squeeze(views, 1)}

    def _in_chunks(self, scale: float, one: Callable[[slice], dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """``one`` for all pairs, chunk by chunk; where memory runs out, ``max_pixels`` is halved."""
        done: list[dict[str, Tensor]] = []
        start = 0
        while start < len(self.rows):
            rows = next(self._chunks(scale, start))
            try:
                done.append(one(rows))
                start = rows.stop
            except Exception as error:
                self.budget.halve(error, self.images, scale, min(self._room(scale), rows.stop - rows.start))
        return done

    def _chunks(self, scale: float, start: int = 0) -> Iterator[slice]:
        """Slices of the pairs, as many as ``max_pixels`` allows and at least one; an image's pairs together where they fit.

        A single step computes an image's features once, so up to eight classes cost as much as one.
        """
        each = CLASSES_AT_ONCE if self.settings.steps_at(scale) == 1 else 1
        room = self._room(scale)
        begin = at = start
        used = 0
        for _, group in groupby(self.rows[start:]):
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

    def _room(self, scale: float) -> int:
        """How many climbs go through the network at once; one where it mixes the images of a batch."""
        return 1 if self.network.mixes else self.budget.at_once(self.images, scale)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Turns the caller's inference mode and autocast off inside, and TF32, in which torch convolves float32 on a GPU."""
    with torch.inference_mode(False), _convolving_in_float32(), contextlib.ExitStack() as stack:
        for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextlib.contextmanager
def _convolving_in_float32() -> Iterator[None]:
    """The setting is the process's: the first thread inside sees how it was, and the last one out puts it back."""
    with _one_at_a_time:
        _before.append(_before[0] if _before else _allow_tf32(False))
    try:
        yield
    finally:
        with _one_at_a_time:
            before = _before.pop()
            if not _before:
                _allow_tf32(before)


def _allow_tf32(allowed: bool | None) -> bool | None:
    """Sets the switch; returns how it was, or None where the caller has used torch's newer ones instead, which then stay."""
    with contextlib.suppress(RuntimeError):
        before = torch.backends.cudnn.allow_tf32
        if allowed is not None and allowed != before:
            torch.backends.cudnn.allow_tf32 = allowed
        return before
    return None


def not_finite(step: Step) -> Tensor:
    """[C] whether a climb's scores are NaN or infinite."""
    return torch.logical_not(step.scores.isfinite().all(1))


def warn_not_finite(strange: Tensor) -> None:
    """Warns where the scores of any climb are NaN or infinite."""
    if count := int(strange.sum()):
        warnings.warn(
            f"the logits of {count} of {len(strange)} (image, class) pairs are NaN or infinite; their maps are 0 where they"
            " are not finite. Check the model's weights and how images are normalised",
            NumberWarning,
            stacklevel=4,
        )
