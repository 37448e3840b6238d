"""A local page on which maps grow while they are computed, and masks are corrected; ``advcam explore``."""

from .correcting import Correcting
from .corrections import Corrections
from .live import Live
from .models import Model
from .pictures import Pictures

__all__ = ["Correcting", "Corrections", "Live", "Model", "Pictures"]
