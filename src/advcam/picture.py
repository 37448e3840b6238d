"""One image and one network, without a run folder: what the map of a class covers, and how it grows over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advcam.attribution import settings, strided_size
from advcam.data import ClassTable, NetworkInput, fit_within, read_with_doubt
from advcam.errors import InputError, SettingsError, known
from advcam.extractor import AdvCAM
from advcam.flow import reopen
from advcam.kinds import check_kinds
from advcam.models.classifiers import Backbone, PretrainedClassifier, pretrained_classifier
from advcam.models.own import allow, is_code, own_classifier
from advcam.progress import Reporter
from advcam.report import grid, heat
from advcam.runtime import Runtime
from advcam.stages.context import trained_classifier
from advcam.store import StoredMaps, atomic_write, save_maps

FRAME, LAST_FRAME = 250, 2000  # milliseconds
PANEL = 448  # longest side in the overlay and the animation, pixels


@dataclass(frozen=True)
class ClimbImageConfig:
    """What to look at, and how.

    Args:
        model: ``timm:NAME``, ``FILE.py:FUNCTION``, or a run folder whose classifier is to be used.
        weights: of ``timm:NAME``, instead of timm's own.
        classes: ids or names; empty takes the ``top`` ones.
        top: how many of the highest-scoring classes.
        long_side: larger images are scaled down to it; a network of one size gets that size.
        layer: name of the layer whose output is the feature map; None finds it.
        options: further arguments of ``timm.create_model``.
        mean: of the input's channels; None takes timm's.
        std: of the input's channels; None takes timm's.
        preset: of :data:`advcam.PRESETS`.
        changes: settings of the preset to change, by name.
    """

    model: str
    weights: Path | None = None
    classes: tuple[str, ...] = ()
    top: int = 2
    long_side: int = 512
    layer: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    preset: str = "default"
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.top < 1 or self.long_side < 32:
            raise SettingsError(f"top must be at least 1 and long_side at least 32; got {self.top} and {self.long_side}")
        if len(scales := settings(self.preset, **self.changes).scales) > 1:
            raise SettingsError(f"an animation has one grid: give one scale, e.g. --scales 1; got {scales}")


def climb_image(path: Path, config: ClimbImageConfig, out: Path, runtime: Runtime, reporter: Reporter) -> list[str]:
    """Climbs some classes of one image; writes ``STEM.png``, ``STEM.npz`` and for each class k ``STEM-k.gif``.

    The overlay has a row for each class: image, plain map, AdvCAM. The map file is a run's map file, with the network's
    own class ids. The animation shows the sum of the maps after every step.

    Returns:
        A line for each class: id, name, score before and after.

    Raises:
        ImageError: an image that cannot be read.
        InputError: a class that the network does not have.
        NetworkError: a network that cannot be had, or without a feature map.
    """
    image, doubt = read_with_doubt(path)
    if doubt:
        reporter.warn(f"{path}: {doubt}")
    ready = _ready(config, runtime)
    prepare = NetworkInput(ready.mean, ready.std, config.long_side, ready.size)
    pixels = prepare(image)[None].to(runtime.torch_device())
    adv = AdvCAM(ready.model.to(pixels.device), config.preset, layer=config.layer, **config.changes)
    classes = _classes(config, ready, adv.scores(pixels)[0])

    steps = adv.settings.steps
    maps = list(reporter.track(adv.iterate(pixels, [classes]), steps, "climb"))
    last = maps[-1]
    reporter.say(f"{type(ready.model).__name__}: {last.layer}")

    stride = strided_size(image.size[::-1])
    small = fit_within(image, PANEL)
    frames = [[heat(values, small) for values in part.normalised().cpu().numpy()] for part in (last.plain, *maps)]
    with atomic_write(out / f"{path.stem}.png") as temporary:
        grid([[small, plain, climbed] for plain, climbed in zip(frames[0], frames[-1], strict=True)]).save(temporary, "PNG")
    for at, c in enumerate(classes):
        first, *rest = [frame[at] for frame in frames[1:]]
        with atomic_write(out / f"{path.stem}-{c}.gif") as temporary:
            durations = [*[FRAME] * len(rest), LAST_FRAME]
            first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    save_maps(out / f"{path.stem}.npz", StoredMaps(tuple(classes), last.normalised(stride), image.size[::-1]))
    scores = [part.scores for part in maps if part.scores is not None]
    return [_line(c, ready.names, [s[at, 0, c] for s in scores]) for at, c in enumerate(classes)]


def _line(c: int, names: Sequence[str], scores: Sequence[Tensor]) -> str:
    name = f" ({names[c]})" if c < len(names) else ""
    return f"class {c}{name}: score {scores[0]:.2f} -> {scores[-1]:.2f}"


def _ready(config: ClimbImageConfig, runtime: Runtime) -> PretrainedClassifier:
    """The classifier that the reference names."""
    kind, _, name = config.model.partition(":")
    if kind == "timm":
        backbone = Backbone(name, config.options, output_stride=32, mean=config.mean, std=config.std)
        return pretrained_classifier(backbone, config.weights)
    mean, std = Backbone("resnet50", mean=config.mean, std=config.std).normalisation()
    if Path(config.model).is_dir():
        model, record = trained_classifier(reopen(Path(config.model), None, runtime, Reporter(quiet=True)))
        normalise = Backbone.from_record(record.backbone).normalisation()
        return PretrainedClassifier(model, *normalise, ClassTable.from_record(record.classes).names)
    if is_code(config.model):
        allow(config.model)  # typed as --model
        return PretrainedClassifier(own_classifier(config.model).eval(), mean, std)
    raise SettingsError(
        f"--model {config.model}: expected timm:NAME, FILE.py:FUNCTION, or the folder of a run whose classifier is to be used"
    )


def _classes(config: ClimbImageConfig, ready: PretrainedClassifier, scores: Tensor) -> list[int]:
    """The ids of the classes asked for, or of those with the highest scores."""
    if not config.classes:
        return torch.topk(scores, min(config.top, len(scores))).indices.tolist()
    found: list[int] = []
    for wanted in config.classes:
        if wanted.lstrip("-").isdigit():
            c = int(wanted)
        else:
            matches = [
                i for i, name in enumerate(ready.names) if wanted.lower() in (n.strip() for n in name.lower().split(","))
            ]
            if not matches:
                hint = known(wanted, ready.names) if ready.names else "this network's classes have no names: give an id"
                raise InputError(f"no class is called {wanted!r}; {hint}")
            c = matches[0]
        if not 0 <= c < len(scores):
            raise InputError(f"class {c} is out of range; the network has classes 0 to {len(scores) - 1}")
        found += [c] if c not in found else []
    return found
