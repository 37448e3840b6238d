"""The outside world's networks: any classifier as features and head, timm's backbones, smp's segmentation networks.

Importing this package also makes timm importable beside a CPU-only torch (see :mod:`.torchvision_mend`). It imports torch
alone; timm and segmentation-models-pytorch come with :mod:`.classifiers` and :mod:`.segmentation`, which need them.
"""

from .torchvision_mend import mend

mend()

from .network import FeatureNetwork, find, lent  # noqa: E402

__all__ = ["FeatureNetwork", "find", "lent", "mend"]
