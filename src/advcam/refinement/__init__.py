"""Maps to masks. Pure: torch only, any device."""

from .pamr import pamr
from .threshold import label

__all__ = ["label", "pamr"]
