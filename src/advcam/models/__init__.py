"""The outside world's networks: any classifier as features and head, timm's backbones, smp's segmentation networks.

Importing this package also makes timm importable beside a CPU-only torch (see :mod:`.torchvision_mend`).
"""

from .torchvision_mend import mend

mend()

from .classifiers import Backbone, new_classifier, own_classifier, saved_classifier  # noqa: E402
from .network import FeatureNetwork, find, lent  # noqa: E402
from .segmentation import NETWORKS, STRIDE, segmentation_network, start_encoder  # noqa: E402
from .weights import State, load_state  # noqa: E402

__all__ = [
    "NETWORKS",
    "STRIDE",
    "Backbone",
    "FeatureNetwork",
    "State",
    "find",
    "lent",
    "load_state",
    "mend",
    "new_classifier",
    "own_classifier",
    "saved_classifier",
    "segmentation_network",
    "start_encoder",
]
