"""Pictures and what is known of them: folders with labels, and scenes made on the spot."""

from .coco import Coco, CocoImage, coco_classes, coco_files, joined, read_coco
from .folder import Dataset, Item, Skip, list_images, listed, load
from .images import at_least, fit_within, read_image
from .labels import IGNORE, ClassTable, read_classes
from .regions import draw
from .semi import UNKNOWN, SemiViews
from .sources import pictures_of, read_source, source_files
from .synthetic import Scene, SceneSettings, scene, write_dataset
from .transforms import Augmentation, Normalisation, TrainingViews, Views
from .voc import voc_lists, voc_root

__all__ = [
    "IGNORE",
    "UNKNOWN",
    "Augmentation",
    "ClassTable",
    "Coco",
    "CocoImage",
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
    "coco_classes",
    "coco_files",
    "draw",
    "fit_within",
    "joined",
    "list_images",
    "listed",
    "load",
    "pictures_of",
    "read_classes",
    "read_coco",
    "read_image",
    "read_source",
    "scene",
    "source_files",
    "voc_lists",
    "voc_root",
    "write_dataset",
]
