"""The classify step: trains a multi-label classifier on images with labels, and measures it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from advcam.data import Augmentation, Item, NetworkInput, Normalisation, Skip, TrainingViews, shrunk
from advcam.errors import NetworkError, SettingsError, known
from advcam.models import find
from advcam.models.classifiers import Backbone, new_classifier, saved_classifier
from advcam.models.own import is_code, key_of, own_classifier
from advcam.options import Config, option
from advcam.store import digest, write_bytes, write_json
from advcam.store.records import ClassifierRecord
from advcam.training import ImageLoss, NetworkTraining, Plan, divided, fit

from .context import Context
from .ranking import CURVE, average_precision, precision_recall, ranked
from .start import Start

OF_BACKBONE = ("backbone_option", "output_stride", "mean", "std", "weights", "from_scratch", "classifier")
"""Options that belong to one backbone."""
FEW_STEPS = 50
"""Training steps below which a user is told of more: the defaults were measured with 218 steps and more."""


@dataclass(frozen=True, kw_only=True)
class TimmInput(Config):
    """What can be set of a timm network and its input."""

    backbone_option: dict[str, Any] = option({}, "argument of timm.create_model; may be repeated", flag="backbone-option")
    mean: tuple[float, ...] | None = option(
        None,
        "mean of the input's channels, in [0, 1]; none: timm's",
        flag="mean",
        example="0.5,0.5,0.5",
        least=0,
        most=1,
    )
    std: tuple[float, ...] | None = option(
        None,
        "standard deviation of the input's channels; none: timm's",
        flag="std",
        example="0.5,0.5,0.5",
        above=0,
    )


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(NetworkTraining, TimmInput):
    """How the classifier is trained or loaded."""

    backbone: str = option("resnet50", "a timm network", flag="backbone", common=True, replaces=OF_BACKBONE)
    output_stride: int = option(16, "pixels per cell of the map: 8, 16 or 32", flag="output-stride", choices=(8, 16, 32))
    dilated: bool = option(True, "dilate the convolutions where the stride is kept small, as timm does; False: do not, as IRN")
    weights: str | None = option(
        None, "start from this file instead of timm's pretrained weights", flag="weights", common=True, file=True,
        replaces=("from_scratch", "classifier"),
    )  # fmt: skip
    from_scratch: bool = option(
        False, "start from random weights; BatchNorm is then trained", flag="from-scratch", common=True,
        replaces=("weights", "classifier"),
    )  # fmt: skip
    classifier: str | None = option(
        None, "a trained one, skips training: weights of --backbone, or FILE.py:FUNCTION; its outputs are the run's classes",
        flag="classifier", common=True, file=True,
    )  # fmt: skip
    epochs: int = 5
    lr: float = 1e-4
    weight_decay: float = 1e-4
    holdout: float = option(
        0.1, "share of the training images kept for measuring where no list for scoring is given", least=0, below=1
    )
    long_sides: tuple[int, int] | None = option(
        None, "range of the longer side of the training views, pixels; replaces scales", example="320,640", most=10**6
    )
    frozen: tuple[str, ...] = option((), "prefixes of the names of parameters that are frozen", example="conv1,bn1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if told := self.backbone_option.keys() & {"num_classes", "output_stride"}:
            raise SettingsError(
                "backbone option 'num_classes' is not taken: the head is made anew for the run's classes; leave it out"
                if "num_classes" in told
                else "backbone option 'output_stride' is not taken: give --output-stride"
            )
        if self.weights and self.from_scratch:
            raise SettingsError("--weights and --from-scratch exclude each other: give one of them")
        self.network, self.plan(), self.augmentation()

    @property
    def network(self) -> Backbone:
        """The backbone as configured."""
        return Backbone(self.backbone, self.backbone_option, self.output_stride, self.mean, self.std, self.dilated)

    def plan(self) -> Plan:
        """Returns the training plan."""
        norm = "trained" if self.from_scratch else "statistics"
        return Plan(
            self.epochs, self.batch, self.lr, self.head_lr, self.weight_decay, norm, self.precision, self.optimizer,
            momentum=self.momentum,
        )  # fmt: skip

    def augmentation(self) -> Augmentation:
        """Returns the augmentation of training views."""
        return Augmentation(self.crop, self.scales, self.long_side, self.long_sides)

    def identity(self) -> dict[str, Any]:
        """Returns everything that changes the classifier: a file's contents, not its name."""
        return self.record() | {"weights": _content(self.weights), "classifier": _content(self.classifier)}

    @property
    def own(self) -> str | None:
        """``FILE.py:FUNCTION`` if the classifier is the user's own network, else None."""
        return self.classifier if is_code(self.classifier) else None


def preflight(context: Context, config: ClassifyConfig, _start: Start) -> None:
    """Builds the classifier and finds its class activation map, so that errors show before the training.

    Raises:
        NetworkError: the weights do not fit, or the network has no class activation map or another number of classes.
        SettingsError: the network cannot be built.
    """
    if not (config.weights or config.classifier or config.from_scratch):
        context.reporter.say(f"{config.backbone}: starts from timm's pretrained weights")
    if said := shrunk((item.size for item in context.data.items), config.long_side):
        context.reporter.say(said)
    backbone = network_of(context, config)
    mean, std = (_listed(values) for values in backbone.normalisation())
    if backbone.channels != 3:
        context.reporter.say(
            f"{config.own or config.backbone}: has {backbone.channels} channels as input, (image / 255 - mean) / std with mean"
            f" {mean}, std {std}: --mean and --std change these"
        )
    if config.weights:
        context.reporter.say(
            f"{config.backbone}: starts from {config.weights}, with a new head for {len(context.data.classes)} classes; images"
            f" are (image / 255 - mean) / std, mean {mean}, std {std}: --mean and --std if it learnt otherwise"
        )
    model, classes = build(config, len(context.data.classes), backbone)[0], len(context.data.classes)
    probe = torch.rand(1, backbone.channels, 128, 128)
    found = find(model, probe)
    outputs, stride = found.classes, 128 // found(probe)[0].shape[-1]
    if not config.own and stride != config.output_stride:
        context.reporter.say(f"{config.backbone} has output stride {stride}, not {config.output_stride} as asked for")
    if outputs != classes:
        raise NetworkError(
            f"the classifier has {outputs} outputs, the run {classes} classes ({', '.join(context.data.classes.names)}); it"
            " must have one for each, in this order; if the labels do not name all classes, list them in --classes FILE"
        )
    if not config.classifier:
        train, *_ = split_for_scoring(context, config.holdout)
        batch, _ = divided(model, None, config.plan(), len(train), context.runtime, "classify")
        each = max(1, len(train) // batch)
        if (steps := each * config.epochs) < FEW_STEPS:
            context.reporter.say(
                f"classify: {config.epochs} epochs of {len(train)} images are {steps} training steps, which may be too few:"
                f" --epochs {math.ceil(FEW_STEPS / each)} makes {FEW_STEPS}"
            )


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def network_of(context: Context, config: ClassifyConfig) -> Backbone:
    """Returns the backbone as configured, for as many channels as the run's images have."""
    return replace(config.network, channels=context.data.reading.channels)


def planned_start(context: Context, config: ClassifyConfig) -> Start:
    """Returns what networks of later steps will start from, with the classifier's initial weights, before it is trained."""
    backbone, classes = network_of(context, config), len(context.data.classes)
    state = (lambda: None) if config.own else (lambda: build(config, classes, backbone)[0].state_dict())
    return Start(backbone, state, config.weights, config.from_scratch, lambda: build(config, classes, backbone)[0])


def run(context: Context, config: ClassifyConfig) -> list[Skip]:
    """Trains (or loads) the classifier; writes model.safetensors, model.json and metrics.json.

    Multi-label soft-margin loss; average precision per class on the images for scoring, or on a held-out share. Both leave out
    pairs of an image and a class that are not known.

    Raises:
        NetworkError: weights or network do not fit.
    """
    config = replace(config, precision=context.precision("classify", config.precision))
    folder, classes = context.run.folder("classify"), context.data.classes
    files = [folder / name for name in ("model.safetensors", "model.json", "metrics.json")]
    code = key_of(config.own) if config.own else None  # hash of the file as it is used
    with context.step("classify", config, files) as todo:
        if not todo:
            return []
        train, scored, split = split_for_scoring(context, config.holdout, bool(config.classifier))
        backbone = network_of(context, config)
        mean, std = backbone.normalisation()
        normalise = Normalisation(mean, std)
        history: list[dict[str, Any]] = []
        torch.manual_seed(context.seed)
        model, head = build(config, len(classes), backbone)
        if not config.classifier:
            state, history = _train(context, config, model, head, normalise, train)
            model.load_state_dict(state)
        model.eval().to(context.runtime.torch_device())
        scores, truth = ranked(context, model, NetworkInput(mean, std, config.long_side), scored)
        _save(folder, model, config, context, replace(backbone, mean=mean, std=std), code)
        write_json(
            folder / "metrics.json",
            {
                "average_precision": average_precision(scores, truth, classes.names),
                "split": split,
                "images": len(scored),
                "rule": "single view, whole image",
                "precision_recall": {
                    "per_class": precision_recall(scores, truth, classes.names),
                    "split": split,
                    "images": len(scored),
                    "rule": CURVE,
                },
                "history": history,
            },
        )
    return []


def split_for_scoring(context: Context, holdout: float, given: bool = False) -> tuple[list[Item], list[Item], str]:
    """Returns the images to train on, those to measure on, and a name for the latter; a given classifier trains on none."""
    train, scored = list(context.data.train), list(context.data.eval)
    if scored:
        return train, scored, "eval list"
    if given:
        return [], train, "the run's own images (the classifier was given)"
    held = {item.id for item in sorted(train, key=lambda item: digest([context.seed, item.id]))[: round(len(train) * holdout)]}
    if len(held) < 2 or len(train) - len(held) < 2:
        return train, train, "the training images themselves (too few to hold some out)"
    return (
        [item for item in train if item.id not in held],
        [item for item in train if item.id in held],
        f"{len(held)} training images held out (share {holdout}, by seed)",
    )


def build(config: ClassifyConfig, classes: int, backbone: Backbone) -> tuple[nn.Module, tuple[str, ...]]:
    """Returns the classifier before any training, and the prefixes of its head's parameters if the head is new.

    Raises:
        NetworkError: the weights do not fit, the hub cannot be reached, or the user's file fails.
    """
    if config.own:
        return own_classifier(config.own), ()
    if config.classifier:
        return saved_classifier(backbone, classes, Path(config.classifier)), ()
    weights = Path(config.weights) if config.weights else None
    model, head = new_classifier(backbone, classes, weights, pretrained=not config.from_scratch)
    _freeze(model, config.frozen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise SettingsError(f"frozen: with {', '.join(config.frozen)} no parameter of {config.backbone} is left to train")
    return model, head


def _freeze(model: nn.Module, beginnings: tuple[str, ...]) -> None:
    named = dict(model.named_parameters())
    for beginning in beginnings:
        found = [parameter for name, parameter in named.items() if name.startswith(beginning)]
        if not found:
            there = known(beginning, dict.fromkeys(name.split(".")[0] for name in named))
            raise SettingsError(
                f"frozen: no parameter of the backbone begins with {beginning!r}; {there}. --classify-option frozen=() freezes"
                " none"
            )
        for parameter in found:
            parameter.requires_grad_(False)


def _train(
    context: Context,
    config: ClassifyConfig,
    model: nn.Module,
    head: tuple[str, ...],
    normalise: Normalisation,
    train: list[Item],
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fresh = [] if config.from_scratch else [p for name, p in model.named_parameters() if name.startswith(head)]
    views = TrainingViews(train, config.augmentation(), normalise, context.seed, len(context.data.classes))
    return fit(
        model, None, fresh, views, ImageLoss(soft_margin), config.plan(), lambda _network: {}, None,
        context.run.folder("classify"), context.runtime, context.reporter, "classify",
    )  # fmt: skip


def soft_margin(scores: Tensor, targets: Tensor) -> Tensor:
    """Returns the multi-label soft-margin loss without the pairs of image and class whose target is -1 (not known).

    Every other pair has the same weight as where all are known.

    Args:
        scores: logits [N, K].
        targets: 1, 0 or -1 [N, K].
    """
    return F.multilabel_soft_margin_loss(scores, targets.clamp(min=0), (targets >= 0).to(targets))


def _save(
    folder: Path, model: nn.Module, config: ClassifyConfig, context: Context, backbone: Backbone, code: str | None
) -> None:
    state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(state))
    classes: Any = context.data.classes.record()
    record = ClassifierRecord(
        backbone.record(), config.own, code, classes, config.long_side, config.weights, config.from_scratch
    )
    write_json(folder / "model.json", asdict(record))


def _content(reference: str | None) -> str | None:
    """Returns a hash of a file's contents (and the function called); its name does not matter."""
    if reference is None:
        return None
    file, _, function = reference.rpartition(":") if is_code(reference) else (reference, "", "")
    if not Path(file).is_file():
        raise NetworkError(f"{file}: there is no such file; check --weights or --classifier")
    return digest([Path(file).read_bytes().hex(), function])
