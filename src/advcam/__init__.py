"""Image-level labels in, pixel masks out, by anti-adversarial climbing (AdvCAM)."""

from advcam.attribution import PRESETS
from advcam.explain import AdvCAM, Maps, cam

__version__ = "0.1.0"
__all__ = ["PRESETS", "AdvCAM", "Maps", "__version__", "cam"]
