"""``AdvCAM(model)(images, targets)``: network found, climb called, model given back."""

from .advcam import AdvCAM
from .inputs import check_flag, check_images
from .maps import Maps
from .plain import cam

__all__ = ["AdvCAM", "Maps", "cam", "check_flag", "check_images"]
