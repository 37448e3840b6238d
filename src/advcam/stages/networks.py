"""A segmentation network: which, how it is trained, and where its encoder starts from."""

from __future__ import annotations

from dataclasses import dataclass

from advcam.data import Augmentation
from advcam.errors import SettingsError
from advcam.models.segmentation import NETWORKS
from advcam.options import option
from advcam.segmenter import MERGES, check_views
from advcam.training import CHOICES, NetworkTraining, Plan


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(NetworkTraining):
    """A segmentation network, how it is trained and how it is used."""

    network: str = option("deeplabv3plus", "architecture", flag="network", choices=tuple(NETWORKS), common=True)
    output_stride: int | None = option(
        None, "pixels per cell of the encoder's last features, where it can be changed; none: deeplabv2 8, others 16", most=64,
        example="16",
    )  # fmt: skip
    encoder: str = option("", "timm network to put it on; empty: the classifier's backbone")
    encoder_weights: str = option("", "file of its weights; empty: timm's", file=True)
    start: str = option("backbone", "where the encoder starts from")
    epochs: int = 10
    steps: int | None = option(None, "training steps instead of epochs", least=1, most=10**9, example="30000")
    lr: float = 3e-4
    bias_factor: float = option(1.0, "the head's biases learn at so many times its rate, then without decay", above=0, most=1e6)
    weight_decay: float = 1e-2
    schedule: str = option("cosine", "how learning rates fall", choices=CHOICES["schedule"])
    warmup: float = option(0.05, "share of the steps over which learning rates rise from 0", least=0, below=1)
    ema: float = option(0.99, "largest decay of the moving average of the weights, which is kept; 0: none", least=0, below=1)
    batch_norm: str = option(
        "statistics", "of the encoder: trained; statistics: running ones kept; frozen: scales and shifts kept too",
        choices=CHOICES["batch_norm"],
    )  # fmt: skip
    crop: int = 256
    scales: tuple[float, float] = (0.5, 1.5)
    predict_scales: tuple[float, ...] = option(
        (1.0,), "factors of the image's size whose probabilities are merged", flag="predict-scales", least=0.1, most=10
    )
    predict_mirror: bool = option(True, "merge with the mirror image too")
    predict_merge: str = option("mean", "of these views' probabilities (max: DeepLab's rule)", choices=MERGES)
    predict_crf: bool = option(False, "refine predictions by the dense CRF")

    def __post_init__(self) -> None:
        super().__post_init__()
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
