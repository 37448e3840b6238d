"""A segmentation network: which, how it is trained, and where its encoder starts from."""

from __future__ import annotations

from dataclasses import dataclass

from advcam.data import Augmentation
from advcam.errors import SettingsError
from advcam.kinds import check_kinds
from advcam.segmenter import check_views
from advcam.training import Plan


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
