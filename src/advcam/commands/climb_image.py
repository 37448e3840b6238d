"""``advcam climb-image``: the map of a class on one image, and how it grows over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from advcam.attribution import strided_size
from advcam.data import ClassTable, NetworkInput, Place, Reading, ReadingConfig, fit_within, look_at, place, read_with_doubt
from advcam.errors import InputError, SettingsError, known
from advcam.extractor import AdvCAM
from advcam.models.classifiers import Backbone, PretrainedClassifier, pretrained_classifier
from advcam.models.own import allow, is_code, own_classifier
from advcam.options import option
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.report import grid, heat
from advcam.runtime import Runtime
from advcam.stages.classify import TimmInput
from advcam.stages.context import trained_classifier
from advcam.stages.maps import PresetConfig
from advcam.store import StoredMaps, atomic_write, save_maps

from .session import Outcome, Session

FRAME, LAST_FRAME = 250, 2000  # milliseconds
PANEL = 448  # long side of the images in the overlay and the animation, pixels


@dataclass(frozen=True, kw_only=True)
class ClimbImageConfig(PresetConfig, TimmInput, ReadingConfig):
    """The image, the network and the climb."""

    image: Place = option(help="an image of any kind: a path or an address", positional=True, common=True, make=place)
    model: str = option(help="timm:NAME, FILE.py:FUNCTION, or a run folder", flag="model", common=True)
    out: Path = option(help="where overlay, map file and animations go", flag="out", common=True)
    classes: tuple[str, ...] = option((), "class to climb, id or name; may be repeated", flag="class", repeat=True, common=True)
    top: int = option(
        2, "without --class: number of classes with the highest scores", flag="top", least=1, most=10**6, common=True
    )
    weights_file: Path | None = option(
        None, "weights of timm:NAME, instead of timm's from the hub", flag="weights", common=True
    )
    long_side: int = option(
        512,
        "larger images are scaled down to it, pixels; a network of one size gets that",
        flag="long-side",
        least=32,
        most=10**6,
    )
    layer: str | None = option(None, "layer whose output is the feature map; none: found", flag="layer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(scales := self.settings().scales) > 1:
            raise SettingsError(f"an animation has one grid: give one scale, e.g. --scales 1; got {scales}")


def run(config: ClimbImageConfig, session: Session) -> Outcome:
    """Climbs classes of one image; writes ``STEM.png``, ``STEM.npz`` and for each class k ``STEM-k.gif``.

    The overlay has a row for each class: image, plain map, AdvCAM. The map file has the format of a run's map files, with the
    network's own class ids. The animation shows the sum of the maps after every step.

    Raises:
        ImageError: the image cannot be read.
        InputError: the network does not have a class.
        NetworkError: the network cannot be loaded, or has no feature map.
    """
    path, out, runtime, reporter = config.image, config.out, session.runtime, session.reporter
    ready, reading = open_model(config, runtime, reporter)
    image, doubt = read_with_doubt(path, reading)
    if doubt:
        reporter.warn(f"{path}: {doubt}")
    prepare = NetworkInput(ready.mean, ready.std, config.long_side, ready.size)
    pixels = prepare(image)[None].to(runtime.torch_device())
    adv = AdvCAM(ready.model.to(pixels.device), config.preset, layer=config.layer, **config.changes)
    scores = adv.scores(pixels)[0]
    ids = ready.ids or tuple(range(len(scores)))
    classes = _classes(config, ready.names, ids, scores)

    steps = adv.settings.steps
    maps = list(reporter.track(adv.iterate(pixels, [classes]), steps, "climb"))
    last = maps[-1]
    reporter.say(f"{type(ready.model).__name__}: {last.layer}")

    stride = strided_size(image.size[::-1])
    small = fit_within(image.convert("RGB"), PANEL)
    frames = [[heat(values, small) for values in part.normalised().cpu().numpy()] for part in (last.plain, *maps)]
    with atomic_write(out / f"{path.stem}.png") as temporary:
        grid([[small, plain, climbed] for plain, climbed in zip(frames[0], frames[-1], strict=True)]).save(temporary, "PNG")
    for at, c in enumerate(classes):
        first, *rest = [frame[at] for frame in frames[1:]]
        with atomic_write(out / f"{path.stem}-{ids[c]}.gif") as temporary:
            durations = [*[FRAME] * len(rest), LAST_FRAME]
            first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    save_maps(out / f"{path.stem}.npz", StoredMaps(tuple(ids[c] for c in classes), last.normalised(stride), image.size[::-1]))
    grown = [part.scores for part in maps if part.scores is not None]
    names = [f" ({ready.names[c]})" if ready.names else "" for c in classes]
    lines = [
        f"class {ids[c]}{name}: score {grown[0][at, 0, c]:.2f} -> {grown[-1][at, 0, c]:.2f}"
        for at, (c, name) in enumerate(zip(classes, names, strict=True))
    ]
    return Outcome(f"overlay, maps, animations: {out}", lines)


def open_model(config: ClimbImageConfig, runtime: Runtime, reporter: Reporter) -> tuple[PretrainedClassifier, Reading]:
    """Loads the classifier that ``--model`` names, and says how images are read for it."""
    asked = config.reading
    if asked.bands == "all":
        asked = asked.counted(look_at(config.image, asked).bands)
    kind, _, name = config.model.partition(":")
    if kind == "timm":
        backbone = Backbone(name, config.backbone_option, 32, config.mean, config.std, channels=asked.channels)
        return pretrained_classifier(backbone, config.weights_file), asked
    run = Path(config.model).is_dir()
    if (run or is_code(config.model)) and (config.weights_file or config.backbone_option):
        raise SettingsError(f"--weights and --backbone-option are of --model timm:NAME; --model {config.model} has its own")
    if run and (config.mean or config.std):
        raise SettingsError(f"--mean and --std are as the run's classifier has them; --model {config.model} is a run")
    mean, std = Backbone("resnet50", mean=config.mean, std=config.std, channels=asked.channels).normalisation()
    if is_code(config.model) and not (config.mean and config.std):
        reporter.say(
            f"{config.model}: gets images as ImageNet's networks do, (image / 255 - mean) / std; else --mean and --std"
        )
    if run:
        context = reopen(Path(config.model), None, runtime, Reporter(quiet=True))
        model, record = trained_classifier(context)
        normalise = Backbone.from_record(record.backbone).normalisation()
        table = ClassTable.from_record(record.classes)
        given = asked if asked != ReadingConfig().reading else context.data.reading
        return PretrainedClassifier(model, *normalise, table.names, ids=table.ids), given
    if is_code(config.model):
        allow(config.model)  # typed as --model
        return PretrainedClassifier(own_classifier(config.model).eval(), mean, std), asked
    raise SettingsError(
        f"--model {config.model}: expected timm:NAME, FILE.py:FUNCTION, or the folder of a run whose classifier is to be used"
    )


def _classes(config: ClimbImageConfig, names: Sequence[str], ids: Sequence[int], scores: Tensor) -> list[int]:
    """Returns the positions of the classes asked for, or of those with the highest scores."""
    if not config.classes:
        return torch.topk(scores, min(config.top, len(scores))).indices.tolist()
    found: list[int] = []
    for wanted in config.classes:
        if wanted.lstrip("-").isdigit():
            if int(wanted) not in ids:
                raise InputError(f"class {wanted} is out of range; the network has classes {ids[0]} to {ids[-1]}")
            c = ids.index(int(wanted))
        else:
            matches = [i for i, name in enumerate(names) if wanted.lower() in (n.strip() for n in name.lower().split(","))]
            if not matches:
                hint = known(wanted, names) if names else "this network's classes have no names: give an id"
                raise InputError(f"no class is called {wanted!r}; {hint}")
            c = matches[0]
        found += [c] if c not in found else []
    return found
