"""``AdvCAM(model)(images, targets)``: the climb on any classifier."""

from .advcam import AdvCAM
from .inputs import check_flag, check_images
from .maps import Maps
from .plain import cam
from .windows import check_window

__all__ = ["AdvCAM", "Maps", "cam", "check_flag", "check_images", "check_window"]
