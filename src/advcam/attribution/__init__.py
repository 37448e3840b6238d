"""Class activation maps and anti-adversarial climbing. Pure: torch only, any device, batched, no files."""

from .climb import Classifier, Step, ascend, climb, gradients
from .emphasis import counted
from .maps import METHODS, Head, gradient_scale
from .settings import PRECISIONS, PRESETS, ClimbSettings, rules, settings
from .views import add_views, fuse_scales, make_views, normalise, strided_size

__all__ = [
    "METHODS",
    "PRECISIONS",
    "PRESETS",
    "Classifier",
    "ClimbSettings",
    "Head",
    "Step",
    "add_views",
    "ascend",
    "climb",
    "counted",
    "fuse_scales",
    "gradient_scale",
    "gradients",
    "make_views",
    "normalise",
    "rules",
    "settings",
    "strided_size",
]
