"""Pictures and what is known of them: folders with labels, and scenes made on the spot."""

from .folder import Dataset, Item, Skip, list_images, listed, load
from .images import at_least, fit_within, read_image
from .labels import IGNORE, ClassTable, read_classes
from .semi import UNKNOWN, SemiViews
from .synthetic import Scene, SceneSettings, scene, write_dataset
from .transforms import Augmentation, Normalisation, TrainingViews, Views

__all__ = [
    "IGNORE",
    "UNKNOWN",
    "Augmentation",
    "ClassTable",
    "Dataset",
    "Item",
    "Normalisation",
    "Scene",
    "SceneSettings",
    "SemiViews",
    "Skip",
    "TrainingViews",
    "Views",
    "at_least",
    "fit_within",
    "list_images",
    "listed",
    "load",
    "read_classes",
    "read_image",
    "scene",
    "write_dataset",
]
