"""Climbs whose maps are sent while they grow; a newer one stops the older."""

from __future__ import annotations

import base64
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from advcam.attribution import PRESETS, ClimbSettings, normalise, settings
from advcam.data import NetworkInput
from advcam.errors import InputError, SettingsError
from advcam.extractor import AdvCAM, Maps
from advcam.options import options_of

from .models import Model
from .pictures import Pictures

CONTROLS = ("steps", "step_size", "tau", "scales", "method", "suppress", "restrain", "mirror", "ceiling", "emphasis", "reach")
"""The settings that the page moves."""
LIKELY = 12
"""Classes that are offered to pick from, by their scores."""
PANES = 64
"""Panes, of all pages together, whose newest climb is known."""
MOST_CLASSES = 8


@dataclass(frozen=True)
class Asked:
    """A climb that a page asks for.

    Args:
        image: name of the image.
        model: name of the model.
        classes: positions of the classes among the model's outputs.
        preset: of the climb's settings.
        changes: settings that differ from it.
        pane: the part of a page that shows it; a newer climb of the same pane stops it.
    """

    image: str
    model: str
    classes: tuple[int, ...]
    preset: str = "default"
    changes: dict[str, Any] = field(default_factory=dict)
    pane: str = ""

    @classmethod
    def of(cls, data: object) -> Asked:
        """Makes it of what a page has sent.

        Raises:
            InputError: of another form.
        """
        try:
            asked = msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise InputError(f"not a climb: {str(error).replace('`', '')}") from None
        if not 1 <= len({*asked.classes}) <= MOST_CLASSES:
            raise InputError(f"pick at least one class and at most {MOST_CLASSES}; got {len(asked.classes)}")
        about = options_of(ClimbSettings)
        changes = {name: about[name].value(value) if name in about else value for name, value in asked.changes.items()}
        return replace(asked, changes=changes, classes=tuple(dict.fromkeys(asked.classes)))

    @property
    def settings(self) -> ClimbSettings:
        """The settings of the climb.

        Raises:
            SettingsError: unknown, or out of range.
        """
        return settings(self.preset, **self.changes)


class Live:
    """The climbs of all pages.

    Args:
        models: by name.
        pictures: the images.
        long_side: larger images are scaled down to it, pixels.
        layer: of the feature map; None: found.
        max_pixels: most pixels in one forward pass.
    """

    def __init__(
        self, models: Mapping[str, Model], pictures: Pictures, long_side: int, layer: str | None, max_pixels: int | None
    ) -> None:
        self.models, self.pictures, self.long_side, self.layer = models, pictures, long_side, layer
        self.max_pixels = max_pixels
        self._newest: OrderedDict[str, object] = OrderedDict()
        self._outputs: dict[str, int] = {}
        self._lock = threading.Lock()

    def model(self, name: str) -> Model:
        """Returns a model.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.models:
            raise InputError(f"there is no model {name!r:.80} here; known: {', '.join(self.models)}")
        return self.models[name]

    def presets(self) -> dict[str, dict[str, Any]]:
        """Returns what the page's controls are set to by each preset."""
        return {name: {control: made[control] for control in CONTROLS} for name, made in PRESETS.items()}

    def likely(self, model: str, image: str) -> list[dict[str, Any]]:
        """Returns the classes that a model sees in an image, highest score first.

        Raises:
            AdvcamError: no such model or image, or it cannot be read.
        """
        ready = self.model(model).ready()
        scores = AdvCAM(ready.model, max_pixels=self.max_pixels).scores(self._pixels(model, image))[0].float().cpu()
        if not bool(scores.isfinite().all()):
            raise InputError(f"{model}: its scores of this image are not finite; check its weights and its input")
        self._outputs[model] = len(scores)
        best = torch.topk(scores, min(LIKELY, len(scores)))
        return [self._class(model, at, value) for value, at in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def named(self, model: str, text: str) -> list[dict[str, Any]]:
        """Returns the classes of a model whose name or id a text is part of, at most 20.

        Raises:
            AdvcamError: no such model.
        """
        ready = self.model(model).ready()
        wanted = text.strip().lower()
        names = ready.names or ("",) * self._outputs.get(model, 0)
        own = self.model(model).class_id
        found = [at for at, name in enumerate(names) if wanted in name.lower() or wanted == str(own(at))]
        return [self._class(model, at, None) for at in found[:20]]

    def _class(self, model: str, at: int, score: float | None) -> dict[str, Any]:
        names = self.model(model).ready().names
        number = self.model(model).class_id(at)
        return {"at": at, "id": number, "name": names[at] if names else f"class {number}", "score": score}

    def steps(self, asked: Asked) -> Iterator[dict[str, Any]]:
        """Yields the sum of the maps after every step, until the climb ends or a newer one of the same pane begins.

        With several scales, those after the first follow one by one; the last maps are those of a call with all of them.

        Args:
            asked: the climb.

        Raises:
            AdvcamError: as for :class:`~advcam.AdvCAM`.
        """
        mine = object()
        with self._lock:
            self._newest[asked.pane] = mine
            self._newest.move_to_end(asked.pane)
            while len(self._newest) > PANES:
                self._newest.popitem(last=False)
        made, ready = asked.settings, self.model(asked.model).ready()
        pixels = self._pixels(asked.model, asked.image)
        done: list[Maps] = []
        for scale in made.scales:
            changes = asdict(made) | {"scales": (scale,)}
            climber = AdvCAM(ready.model, asked.preset, layer=self.layer, max_pixels=self.max_pixels, **changes)
            for step, grown in enumerate(climber.iterate(pixels, [list(asked.classes)]), 1):
                if self._newest.get(asked.pane) is not mine:
                    return
                yield self._told(joined([*done, grown], made), grown, step, made.steps_at(scale), len(done))
            done.append(grown)

    def _told(self, maps: Maps, grown: Maps, step: int, steps: int, before: int) -> dict[str, Any]:
        scores = grown.scores[:, 0].float().cpu() if grown.scores is not None else torch.zeros(0)
        own = [float(row[at]) for row, at in zip(scores, grown.target.tolist(), strict=True)]
        return {
            "step": step,
            "steps": steps,
            "scale": before + 1,
            "classes": maps.target.tolist(),
            "size": [int(side) for side in maps.maps.shape[1:]],
            "maps": _bytes(normalise(maps.maps)),
            "plain": _bytes(normalise(maps.plain.maps)),
            "scores": [value if math.isfinite(value) else None for value in own],
            "layer": maps.layer,
        }

    def _pixels(self, model: str, image: str) -> Tensor:
        owner = self.model(model)
        ready = owner.ready()
        prepare = NetworkInput(ready.mean, ready.std, self.long_side, ready.size)
        pixels: Tensor = prepare(self.pictures.read(image))[None].to(owner.device)
        return pixels


def joined(parts: list[Maps], made: ClimbSettings) -> Maps:
    """Returns the maps of single scales as those of all of them, on their common grid.

    Raises:
        SettingsError: no part.
    """
    if not parts:
        raise SettingsError("expected the maps of at least one scale")
    last = parts[-1]
    if len(made.scales) == 1:
        return last
    return Maps.of(
        [part.grids[0] for part in parts], last.size, image=last.image, target=last.target,
        first=tuple(part.first[0] for part in parts), grid=made.grid, layer=last.layer,
    )  # fmt: skip


def _bytes(maps: Tensor) -> str:
    """Maps in [0, 1] as bytes for the page, 255 for 1."""
    values = np.rint(255 * maps.float().cpu().numpy()).astype(np.uint8)
    return base64.b64encode(values.tobytes()).decode()
