"""Maps -> masks."""

from .learnt import network_of
from .settings import MAPS, METHODS, RefineConfig
from .step import refine, refiner_of, run

__all__ = ["MAPS", "METHODS", "RefineConfig", "network_of", "refine", "refiner_of", "run"]
