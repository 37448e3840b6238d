"""The outside world's networks: any classifier as features and head, timm's backbones, smp's segmentation networks.

Importing this package also makes timm importable beside a CPU-only torch (see :mod:`.torchvision_operators`). It imports torch
alone; timm and segmentation-models-pytorch come with :mod:`.classifiers` and :mod:`.segmentation`, which need them.
"""

from .torchvision_operators import register_operators

register_operators()

from .find import check_fits, find  # noqa: E402
from .forward import as_network_errors, checked_forward, describe_error, describe_value, evaluating, logits_of, unwrap  # noqa: E402
from .fused import fused  # noqa: E402
from .inner import Inner, find_inner, has_inner, inner_or_none, split_at  # noqa: E402
from .network import Network  # noqa: E402

__all__ = [
    "Inner",
    "Network",
    "as_network_errors",
    "check_fits",
    "checked_forward",
    "describe_error",
    "describe_value",
    "evaluating",
    "find",
    "find_inner",
    "fused",
    "has_inner",
    "inner_or_none",
    "logits_of",
    "register_operators",
    "split_at",
    "unwrap",
]
