"""Images with labels: folders, VOC, COCO, and synthetic scenes."""

from advcam.limits import IGNORE

from .coco import Coco, CocoImage, by_name, coco_classes, coco_files, joined, read_coco
from .folder import hard_classes, labels_of, listed, load
from .images import content_of, fit_within, look_at, read_image, read_with_doubt
from .items import Dataset, Item, Skip
from .labels import ClassTable, Row, class_indices, csv_rows, normal, read_classes, unique
from .names import list_images, passed_over
from .reading import Reading, ReadingConfig
from .regions import Drawn, draw
from .semi import UNKNOWN, SemiViews
from .sources import images_of, read_source, source_files
from .synthetic import Scene, SceneSettings, scene, write_dataset
from .transforms import Augmentation, NetworkInput, Normalisation, TrainingViews, Views
from .voc import voc_lists, voc_root

__all__ = [
    "IGNORE",
    "UNKNOWN",
    "Augmentation",
    "ClassTable",
    "Coco",
    "CocoImage",
    "Dataset",
    "Drawn",
    "Item",
    "NetworkInput",
    "Normalisation",
    "Reading",
    "ReadingConfig",
    "Row",
    "Scene",
    "SceneSettings",
    "SemiViews",
    "Skip",
    "TrainingViews",
    "Views",
    "by_name",
    "class_indices",
    "coco_classes",
    "coco_files",
    "content_of",
    "csv_rows",
    "draw",
    "fit_within",
    "hard_classes",
    "images_of",
    "joined",
    "labels_of",
    "list_images",
    "listed",
    "load",
    "look_at",
    "normal",
    "passed_over",
    "read_classes",
    "read_coco",
    "read_image",
    "read_source",
    "read_with_doubt",
    "scene",
    "source_files",
    "unique",
    "voc_lists",
    "voc_root",
    "write_dataset",
]
