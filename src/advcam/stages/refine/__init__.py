"""The refine step: maps to masks."""

from .settings import MAPS, METHODS, RefineConfig
from .step import preflight, refine, refiner_of, run

__all__ = ["MAPS", "METHODS", "RefineConfig", "preflight", "refine", "refiner_of", "run"]
