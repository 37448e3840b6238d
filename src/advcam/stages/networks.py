"""A segmentation network: its config, its encoder's initial weights, its training, and its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from advcam.data import Augmentation, Views
from advcam.errors import NetworkError, RunError, SettingsError
from advcam.kinds import check_kinds
from advcam.models.classifiers import Backbone
from advcam.models.encoders import start
from advcam.models.weights import State, load_state
from advcam.segmenter import check_views
from advcam.store import write_bytes, write_json
from advcam.store.records import ClassifierRecord, NetworkRecord
from advcam.training import Objective, Plan, fit

from .context import Context, classifier_record

FILES = ("model.safetensors", "model.json", "metrics.json")
"""Of a trained network."""


@dataclass(frozen=True)
class NetworkConfig:
    """A segmentation network, how it is trained and how it is used.

    Args:
        network: ``deeplabv2`` or one of segmentation-models-pytorch.
        encoder: a timm network to put it on; empty is the classifier's backbone.
        encoder_weights: file of its weights; empty takes timm's.
        output_stride: pixels a cell of the encoder's last features, where network and backbone can change it; None is the
            network's own (``deeplabv2`` 8, others 16).
        epochs: passes over the training images.
        steps: so many steps instead.
        batch: images a step, over all processes.
        lr: of the encoder.
        head_lr: of the rest.
        bias_factor: see :class:`advcam.training.Plan`, as optimizer, schedule, warmup, ema, momentum, batch_norm.
        precision: of the training and of the predictions, see :class:`advcam.training.Plan`.
        crop: side of the training crops, pixels.
        scales: smallest and largest factor of the training views.
        long_side: larger images are scaled down to it.
        predict_scales: factors whose probabilities are merged.
        predict_mirror: merge with the mirror image too.
        predict_merge: ``mean`` or ``max`` of the views' probabilities.
        predict_crf: refine predictions by the dense CRF.
    """

    network: str = "deeplabv3plus"
    output_stride: int | None = None
    encoder: str = ""
    encoder_weights: str = ""
    start: str = "backbone"
    epochs: int = 10
    steps: int | None = None
    batch: int = 16
    lr: float = 3e-4
    head_lr: float = 3e-3
    bias_factor: float = 1.0
    weight_decay: float = 1e-2
    optimizer: str = "adamw"
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.05
    ema: float = 0.99
    batch_norm: str = "statistics"
    crop: int = 256
    scales: tuple[float, float] = (0.5, 1.5)
    long_side: int = 640
    precision: str = "auto"
    predict_scales: tuple[float, ...] = (1.0,)
    predict_mirror: bool = True
    predict_merge: str = "mean"
    predict_crf: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)  # what cannot work is said before hours are spent
        self.plan(), self.augmentation()
        check_views(self.predict_scales, self.predict_merge, self.long_side)
        if self.batch < 2:
            raise SettingsError(f"the segmentation network's BatchNorm needs a batch of at least 2; got {self.batch}")

    def plan(self, trained_norm: bool = False) -> Plan:
        """How the training goes; an encoder from scratch trains its BatchNorm."""
        norm = "trained" if trained_norm else self.batch_norm
        return Plan(
            self.epochs, self.batch, self.lr, self.head_lr, self.weight_decay, norm, self.precision, self.optimizer,
            self.schedule, self.warmup, self.ema, self.steps, self.momentum, self.bias_factor,
        )  # fmt: skip

    def augmentation(self) -> Augmentation:
        """How training views are taken."""
        return Augmentation(self.crop, self.scales, self.long_side)


def check_classes(context: Context) -> ClassifierRecord:
    """The record of the run's classifier, checked to have the run's classes.

    Raises:
        RunError: the class list has changed since.
    """
    made = classifier_record(context.run)
    now = context.data.classes.record()
    if made.classes != now:
        names = [", ".join(f"{c['id']} {c['name']}" for c in listed) for listed in (made.classes, now)]
        raise RunError(
            f"{context.run.root}: the classifier was made for the classes {names[0]}, the run has {names[1]} now; put"
            " data.json back, or start another run"
        )
    return made


@dataclass(frozen=True)
class Started:
    """The backbone of a network's encoder and its initial weights; see :func:`advcam.models.encoders.start`."""

    backbone: Backbone
    classifier: State | None
    weights: str | None
    from_scratch: bool

    @property
    def untrained(self) -> bool:
        """Whether it starts from random weights: its BatchNorm must then be trained."""
        return self.from_scratch and self.classifier is None

    def start(self, network: nn.Module) -> None:
        """Loads the initial weights into a network's encoder.

        Raises:
            NetworkError: weights that do not fit, or a hub that cannot be reached.
        """
        try:
            start(network, self.backbone, self.classifier, self.weights, self.from_scratch)
        except NetworkError as error:
            raise NetworkError(f"{error} (of the network's encoder: option encoder_weights=FILE, or encoder='')") from None


def encoder_of(context: Context, config: NetworkConfig) -> Started:
    """The encoder that a config with ``encoder``, ``encoder_weights`` and ``start`` asks for.

    Raises:
        RunError: as :func:`check_classes`.
    """
    made = check_classes(context)
    if config.encoder:
        return Started(Backbone(config.encoder), None, config.encoder_weights or None, False)
    classifier = None if made.own or config.start == "backbone" else load_state(context.run.classifier())
    return Started(Backbone.from_record(made.backbone), classifier, made.weights, made.from_scratch)


def has_network(folder: Path) -> bool:
    """Whether the folder has all files of a trained network."""
    return all((folder / name).is_file() for name in FILES)


def network_files(context: Context, step: str) -> list[Path]:
    """The files of a step that trains a network; predictions only if all could be made."""
    run, folder = context.run, context.run.folder(step)
    wanted = [] if (folder / "skipped.csv").is_file() else context.data.eval or context.data.items
    return [*(folder / name for name in FILES), *(run.prediction(item.id, step) for item in wanted)]


def network_record(context: Context, name: str, backbone: Backbone, stride: int | None, config: NetworkConfig) -> NetworkRecord:
    """The record of a network that a config describes."""
    return NetworkRecord(
        name, backbone.record(), stride, context.data.classes.record(), config.long_side, config.predict_scales,
        config.predict_mirror, config.predict_merge, config.predict_crf,
    )  # fmt: skip


def train(
    context: Context, config: NetworkConfig, step: str, model: nn.Module, untrained: bool, views: Views, objective: Objective,
    look: Callable[[nn.Module], dict[str, Any]], best_by: str | None, folder: Path,
) -> tuple[State, list[dict[str, Any]]]:  # fmt: skip
    """Trains a network as its config says; see :func:`advcam.training.fit`.

    Args:
        untrained: whether its encoder starts from random weights.
    """
    encoder: nn.Module = model.encoder  # type: ignore[assignment]
    encoding = {id(p) for p in encoder.parameters()}
    head = [p for p in model.parameters() if id(p) not in encoding]
    plan = config.plan(trained_norm=untrained)
    return fit(model, encoder, head, views, objective, plan, look, best_by, folder, context.runtime, context.reporter, step)


def save_network(context: Context, folder: Path, record: NetworkRecord, metrics: dict[str, Any], state: State) -> None:
    """Writes a trained network's files, weights last, in the first process."""
    if context.runtime.first:
        write_json(folder / "model.json", asdict(record))
        write_json(folder / "metrics.json", metrics)
        write_bytes(folder / "model.safetensors", save(state))
    context.runtime.wait()
