"""The refine step: maps to masks."""

from .learnt import try_network
from .settings import MAPS, METHODS, RefineConfig
from .step import refine, refiner_of, run

__all__ = ["MAPS", "METHODS", "RefineConfig", "refine", "refiner_of", "run", "try_network"]
