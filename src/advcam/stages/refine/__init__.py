"""The refine step: makes masks from maps."""

from .settings import MAPS, METHODS, RefineConfig
from .step import preflight, refine, refiner_of, run

__all__ = ["MAPS", "METHODS", "RefineConfig", "preflight", "refine", "refiner_of", "run"]
