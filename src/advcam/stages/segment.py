"""Masks -> a segmentation network, and its predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from advcam.data import IGNORE, Augmentation, Item, Normalisation, TrainingViews, read_image
from advcam.errors import SettingsError
from advcam.metrics import confusion, mean_iou
from advcam.models.classifiers import Backbone
from advcam.models.encoders import start
from advcam.models.segmentation import segmentation_network
from advcam.models.weights import load_state
from advcam.segmenter import Segmenter
from advcam.store import digest, load_mask, read_json, save_mask, write_bytes, write_json
from advcam.training import Plan, fit

from .context import Context


@dataclass(frozen=True)
class SegmentConfig:
    """How the network is trained.

    Args:
        network: of segmentation-models-pytorch, on the classifier's backbone, whose weights it starts from.
        crop: side of the training crops, pixels.
        scales: smallest and largest factor of the training views.
        long_side: larger pictures are scaled down to it.
        holdout: share of the training pictures whose masks choose the best epoch instead of training it.
        predict_scales: factors whose predictions are averaged.
        predict_mirror: average with the mirror image too.
        precision: of the training, ``float32`` or ``bfloat16``.
    """

    network: str = "deeplabv3plus"
    epochs: int = 10
    batch: int = 16
    lr: float = 1e-4
    head_lr: float = 1e-3
    weight_decay: float = 1e-4
    crop: int = 320
    scales: tuple[float, float] = (0.5, 1.5)
    long_side: int = 640
    holdout: float = 0.05
    predict_scales: tuple[float, ...] = (1.0,)
    predict_mirror: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        self.plan(), self.augmentation()  # what cannot work is said before hours are spent on what comes first
        if not self.predict_scales or not all(0.1 <= scale <= 10 for scale in self.predict_scales):
            raise SettingsError(f"predict_scales are factors from 0.1 to 10, e.g. (0.75, 1.0, 1.25); got {self.predict_scales}")
        if self.batch < 2:
            raise SettingsError(f"the segmentation network's BatchNorm needs a batch of at least 2; got {self.batch}")

    def plan(self, frozen: bool = True) -> Plan:
        """How the training goes."""
        return Plan(self.epochs, self.batch, self.lr, self.head_lr, self.weight_decay, frozen, self.precision)

    def augmentation(self) -> Augmentation:
        """How training views are taken."""
        return Augmentation(self.crop, self.scales, self.long_side)


def run(context: Context, config: SegmentConfig) -> None:
    """Trains the network on the masks of the training pictures; writes model.safetensors, model.json, metrics.json and
    predictions/ID.png of the pictures for scoring (of all, where no list names them).

    Cross entropy, pixels of 255 ignored. The epoch kept is the best by mIoU against held-out *pseudo* masks: no ground
    truth is looked at.
    """
    with context.step("segment", asdict(config)) as todo:
        if not todo:
            return
        folder = context.run.folder("segment")
        made = read_json(context.run.folder("classify") / "model.json")
        backbone = Backbone.from_record(made["backbone"])
        if not (folder / "model.safetensors").is_file():
            _train(context, config, backbone, made)
        segmenter = Segmenter.load(folder, context.machine.torch_device())
        wanted = context.data.eval or context.data.items
        left = [item for item in wanted if not context.run.prediction(item.id).is_file()]
        with context.reporter.bar("predict", len(wanted), done=len(wanted) - len(left)) as advance:
            for item in left:
                save_mask(context.run.prediction(item.id), segmenter(read_image(item.path)))
                advance(1)


def _train(context: Context, config: SegmentConfig, backbone: Backbone, made: dict[str, Any]) -> None:
    torch.manual_seed(context.seed)
    folder, ids = context.run.folder("segment"), (0, *context.data.classes.ids)
    model = segmentation_network(config.network, backbone, len(ids))
    own = made["own"] is not None
    start(model, backbone, None if own else load_state(context.run.classifier()), made["weights"], made["from_scratch"])
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder: nn.Module = model.encoder  # type: ignore[assignment]
    positions = context.data.classes.positions(others=IGNORE)
    train, held = _split(context, config.holdout)
    normalise = Normalisation(*backbone.normalisation())
    views = TrainingViews(
        train, config.augmentation(), normalise, context.seed, len(ids),
        masks=[context.run.mask(item.id) for item in train], remap=positions,
    )  # fmt: skip
    plan = config.plan(frozen=not (own and made["from_scratch"]))

    def look(network: nn.Module) -> dict[str, Any]:
        segmenter = Segmenter(network, np.arange(len(ids)), normalise, config.long_side, mirror=False)
        counts = torch.zeros(len(ids), len(ids), dtype=torch.long)
        for item in context.reporter.track(held, len(held), "held-out pseudo masks"):
            predicted = torch.from_numpy(segmenter(read_image(item.path)))
            counts += confusion(predicted, torch.from_numpy(positions[load_mask(context.run.mask(item.id))]), len(ids))
        return {"held_out_mean_iou": float(mean_iou(counts))}

    encoding = {id(p) for p in encoder.parameters()}
    state, history = fit(
        model, encoder, [p for p in model.parameters() if id(p) not in encoding], views, _cross_entropy, plan, look,
        "held_out_mean_iou", folder, context.machine, context.reporter, "segment",
    )  # fmt: skip
    write_json(
        folder / "model.json",
        {
            "network": config.network,
            "backbone": backbone.record(),
            "classes": context.data.classes.record(),
            "long_side": config.long_side,
            "predict_scales": config.predict_scales,
            "predict_mirror": config.predict_mirror,
        },
    )
    rule = "mIoU against held-out pseudo masks (no ground truth)"
    write_json(folder / "metrics.json", {"history": history, "best_epoch_by": rule, "held_out": len(held)})
    write_bytes(folder / "model.safetensors", save(state))


def _split(context: Context, holdout: float) -> tuple[list[Item], list[Item]]:
    items = sorted(context.data.train, key=lambda item: digest([context.seed, "segment", item.id]))
    held = max(1, round(len(items) * holdout))
    return (items[held:], items[:held]) if len(items) > held + 1 else (items, items)


def _cross_entropy(scores: Tensor, masks: Tensor) -> Tensor:
    """Mean over the pixels that count; 0 where none does."""
    return F.cross_entropy(scores, masks, ignore_index=IGNORE, reduction="sum") / (masks != IGNORE).sum().clamp_min(1)
