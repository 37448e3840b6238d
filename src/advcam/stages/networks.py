"""A segmentation network: its config, its encoder's initial weights, its training, and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from advcam.data import Augmentation, Item, Views
from advcam.errors import RunError, SettingsError
from advcam.limits import MIN_SIDE
from advcam.models.classifiers import Backbone
from advcam.models.segmentation import NETWORKS
from advcam.models.weights import State
from advcam.options import option
from advcam.segmenter import MERGES, check_views
from advcam.store import write_bytes, write_json
from advcam.store.records import ClassifierRecord, NetworkRecord
from advcam.training import CHOICES, NetworkTraining, Objective, Plan, divided, fit

from .context import Context, classifier_record
from .start import Start, trained_start, weights_digest

FILES = ("model.safetensors", "model.json", "metrics.json")
"""Files of a trained network."""
LEAST_CROP = 64
"""Pixels to which the crops of smaller images are padded, so that features have a few cells."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(NetworkTraining):
    """A segmentation network, its training, and its settings for prediction."""

    network: str = option(
        "deeplabv3plus", "architecture of the segmentation network", flag="network", choices=tuple(NETWORKS), common=True
    )
    output_stride: int | None = option(
        None, "pixels per cell of the encoder's last features, where it can be changed; none: deeplabv2 8, others 16", most=64,
        example="16",
    )  # fmt: skip
    encoder: str = option("", "timm network to put it on; empty: the classifier's backbone")
    encoder_weights: str = option("", "file of its weights; empty: timm's", file=True)
    start: str = option("backbone", "initial weights of the encoder")
    epochs: int = 10
    steps: int | None = option(None, "training iterations instead of epochs", least=1, most=10**9, example="30000")
    lr: float = 3e-4
    bias_factor: float = option(
        1.0, "factor of the learning rate of the head's biases, which then have no weight decay", above=0, most=1e6
    )
    weight_decay: float = 1e-2
    schedule: str = option("cosine", "learning-rate schedule", choices=CHOICES["schedule"])
    warmup: float = option(0.05, "share of the training over which learning rates rise from 0", least=0, below=1)
    ema: float = option(0.99, "decay of the moving average of the weights, which is kept; 0: no average", least=0, below=1)
    batch_norm: str = option(
        "statistics", "of the encoder: trained; statistics: running statistics kept; frozen: scales and shifts kept too",
        choices=CHOICES["batch_norm"],
    )  # fmt: skip
    crop: int = option(
        256, "side of the training crops, pixels; at most that of the largest image", flag="crop", least=MIN_SIDE, most=16_384
    )
    scales: tuple[float, float] = (0.5, 1.5)
    predict_scales: tuple[float, ...] = option(
        (1.0,), "scales of the image whose probabilities are merged", flag="predict-scales", least=0.1, most=10
    )
    predict_mirror: bool = option(True, "predict the mirror image too")
    predict_merge: str = option("mean", "how the views' probabilities are merged (max: DeepLab's rule)", choices=MERGES)
    predict_crf: bool = option(False, "refine predictions by the dense CRF")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.plan(), self.augmentation()
        check_views(self.predict_scales, self.predict_merge, self.long_side)
        if self.batch < 2:
            raise SettingsError(f"the segmentation network's BatchNorm needs a batch of at least 2; got {self.batch}")

    def identity(self) -> dict[str, Any]:
        """All that changes the network: what is in the file of the encoder's weights, not its name."""
        return self.record() | {"encoder_weights": weights_digest(self.encoder_weights, HINT)}

    def plan(self, trained_norm: bool = False) -> Plan:
        """Returns the training plan; an encoder with random weights trains its BatchNorm."""
        norm = "trained" if trained_norm else self.batch_norm
        return Plan(
            self.epochs, self.batch, self.lr, self.head_lr, self.weight_decay, norm, self.precision, self.optimizer,
            self.schedule, self.warmup, self.ema, self.steps, self.momentum, self.bias_factor,
        )  # fmt: skip

    def augmentation(self, items: Sequence[Item] = ()) -> Augmentation:
        """Returns the augmentation of training views, their crop no larger than the largest of the images.

        Beyond that a crop holds padding, from which the decoder's BatchNorm would take statistics that no whole image has.
        """
        largest = max((min(max(item.size), self.long_side) for item in items), default=self.crop)
        return Augmentation(min(self.crop, max(LEAST_CROP, -(-largest // 32) * 32)), self.scales, self.long_side)


def check_classes(context: Context) -> ClassifierRecord:
    """Returns the record of the run's classifier, which must have the run's classes.

    Raises:
        RunError: the class list has changed since the classifier was made.
    """
    made = classifier_record(context.run)
    now = context.data.classes.record()
    if made.classes != now:
        names = [", ".join(f"{c['id']} {c['name']}" for c in listed) for listed in (made.classes, now)]
        raise RunError(
            f"{context.run.root}: the classifier was made for the classes {names[0]}, the run has {names[1]} now; restore"
            " data.json, or start another run"
        )
    return made


HINT = " (of the network's encoder: option encoder_weights=FILE, or encoder='')"


def encoder_of(context: Context, config: NetworkConfig, start: Start | None = None) -> Start:
    """Returns what the encoder starts from, by the config's ``encoder``, ``encoder_weights`` and ``start``.

    Args:
        context: the run.
        config: config of the network.
        start: what networks of the run start from; None is the trained classifier.

    Raises:
        RunError: as in :func:`check_classes`.
    """
    if start is None:
        check_classes(context)
        start = trained_start(context)
    if config.encoder_weights and not config.encoder:
        raise SettingsError("encoder_weights is the file of an encoder's weights: give encoder=NAME too (its timm network)")
    if config.encoder:
        backbone = Backbone(config.encoder, channels=context.data.reading.channels)
        return Start(backbone, lambda: None, config.encoder_weights or None, False, start.network, HINT)
    return replace(start, hint=HINT, classifier=(lambda: None) if config.start == "backbone" else start.classifier)


def has_network(folder: Path) -> bool:
    """Whether a folder has all files of a trained network."""
    return all((folder / name).is_file() for name in FILES)


def network_files(context: Context, step: str) -> list[Path]:
    """Returns the files of a step that trains a network; its predictions only if none was left out."""
    run, folder = context.run, context.run.folder(step)
    wanted = [] if (folder / "skipped.csv").is_file() else context.data.eval or context.data.items
    return [*(folder / name for name in FILES), *(run.prediction(item.id, step) for item in wanted)]


def network_record(context: Context, name: str, backbone: Backbone, stride: int | None, config: NetworkConfig) -> NetworkRecord:
    """Returns the record of a network."""
    return NetworkRecord(
        name, backbone.record(), stride, context.data.classes.record(), config.long_side, config.predict_scales,
        config.predict_mirror, config.predict_merge, config.predict_crf, context.data.reading.record(),
    )  # fmt: skip


def train(
    context: Context, config: NetworkConfig, step: str, model: nn.Module, untrained: bool, views: Views, objective: Objective,
    look: Callable[[nn.Module], dict[str, Any]], best_by: str | None, folder: Path,
) -> tuple[State, list[dict[str, Any]]]:  # fmt: skip
    """Trains a network by its config; see :func:`advcam.training.fit`.

    Args:
        untrained: whether its encoder starts from random weights.
    """
    encoder: nn.Module = model.encoder  # type: ignore[assignment]
    encoding = {id(p) for p in encoder.parameters()}
    head = [p for p in model.parameters() if id(p) not in encoding]
    plan = config.plan(trained_norm=untrained)
    return fit(model, encoder, head, views, objective, plan, look, best_by, folder, context.runtime, context.reporter, step)


def check_batch(context: Context, config: NetworkConfig, step: str, model: nn.Module, untrained: bool, views: int) -> None:
    """Sees that a training's batches can be divided as the runtime says.

    Raises:
        SettingsError: they cannot.
    """
    encoder: nn.Module = model.encoder  # type: ignore[assignment]
    divided(model, encoder, config.plan(trained_norm=untrained), views, context.runtime, step)


def save_network(context: Context, folder: Path, record: NetworkRecord, metrics: dict[str, Any], state: State) -> None:
    """Writes the files of a trained network in the first process, weights last."""
    if context.runtime.first:
        write_json(folder / "model.json", asdict(record))
        write_json(folder / "metrics.json", metrics)
        write_bytes(folder / "model.safetensors", save(state))
    context.runtime.wait()
