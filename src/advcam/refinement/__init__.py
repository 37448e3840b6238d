"""From maps to masks. Pure: torch only, any device."""

from .affinity_losses import irn_loss, psa_loss
from .certainty import TEMPERATURE, confidence
from .confident import confident_affinity_labels, confident_labels
from .crf import dense_crf
from .instances import cluster, detect, instance_maps
from .pamr import pamr
from .similarity import on_one_grid, similarity_walk
from .threshold import argmax_mask, separation
from .unary import unary_from_labels, unary_from_probabilities
from .walk import feature_walk, random_walk

__all__ = [
    "TEMPERATURE",
    "argmax_mask",
    "cluster",
    "confidence",
    "confident_affinity_labels",
    "confident_labels",
    "dense_crf",
    "detect",
    "feature_walk",
    "instance_maps",
    "irn_loss",
    "on_one_grid",
    "pamr",
    "psa_loss",
    "random_walk",
    "separation",
    "similarity_walk",
    "unary_from_labels",
    "unary_from_probabilities",
]
