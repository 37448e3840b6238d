"""Semi-supervised training: perturbed features, CutMix, and the losses that compare predictions. Pure."""

from .cutmix import cutmix, cutmix_boxes
from .losses import (
    CctLoss,
    Pseudo,
    UniMatchLoss,
    confident_cross_entropy,
    consistency_loss,
    cross_entropy,
    pseudo_labels,
    weak_loss,
)
from .perturbations import (
    context_mask,
    feature_dropout,
    feature_noise,
    guided_cutout,
    object_mask,
    spatial_dropout,
    virtual_adversarial,
)
from .ramps import ramp_up

__all__ = [
    "CctLoss",
    "Pseudo",
    "UniMatchLoss",
    "confident_cross_entropy",
    "consistency_loss",
    "context_mask",
    "cross_entropy",
    "cutmix",
    "cutmix_boxes",
    "feature_dropout",
    "feature_noise",
    "guided_cutout",
    "object_mask",
    "pseudo_labels",
    "ramp_up",
    "spatial_dropout",
    "virtual_adversarial",
    "weak_loss",
]
