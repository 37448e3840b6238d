"""The outside world's networks: any classifier as features and head, timm's backbones, smp's segmentation networks.

Importing this package also makes timm importable beside a CPU-only torch (see :mod:`.torchvision_mend`). It imports torch
alone; timm and segmentation-models-pytorch come with :mod:`.classifiers` and :mod:`.segmentation`, which need them.
"""

from .torchvision_mend import mend

mend()

from .find import check_fits, find  # noqa: E402
from .lending import called, lent, logits_of, ours, said, shown, unwrapped  # noqa: E402
from .network import Network  # noqa: E402
from .prepared import prepared  # noqa: E402

__all__ = [
    "Network",
    "called",
    "check_fits",
    "find",
    "lent",
    "logits_of",
    "mend",
    "ours",
    "prepared",
    "said",
    "shown",
    "unwrapped",
]
