"""Class activation maps and the climb that extends them. Pure: torch only, any device, batched, no files."""

from .climb import Step, ascend, climb
from .maps import Head, class_activation_map, gradient_scale
from .settings import PRESETS, ClimbSettings, settings
from .views import add_views, fuse_scales, make_views, normalise, strided_size

__all__ = [
    "PRESETS",
    "ClimbSettings",
    "Head",
    "Step",
    "add_views",
    "ascend",
    "class_activation_map",
    "climb",
    "fuse_scales",
    "gradient_scale",
    "make_views",
    "normalise",
    "settings",
    "strided_size",
]
