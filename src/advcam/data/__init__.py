"""Images with labels: folders, VOC, COCO, and synthetic scenes."""

from advcam.limits import IGNORE

from .channels import Channels, channels_of
from .coco import Coco, CocoImage, coco_classes, coco_files, found_in, read_coco
from .colours import read_colours
from .columns import csv_rows
from .folder import hard_classes, labels_of, listed, load, read_as
from .images import bytes_of, content_of, fit_within, look_at, read_image, read_with_doubt, shrunk
from .items import Dataset, Item, Skip
from .labels import ClassTable, Row, class_indices, normal
from .names import list_images, passed_over
from .opening import at_once
from .places import Address, Place, holds_images, place
from .reading import Reading, ReadingConfig
from .regions import Drawn, draw
from .semi import UNKNOWN, SemiViews
from .sources import Labels, images_of, read_labels, read_source, said, source_files
from .synthetic import Scene, SceneSettings, scene, write_dataset
from .tables import read_classes
from .transforms import Augmentation, NetworkInput, Normalisation, TrainingViews, Views, Windows
from .voc import voc_lists, voc_root

__all__ = [
    "IGNORE",
    "UNKNOWN",
    "Address",
    "Augmentation",
    "Channels",
    "ClassTable",
    "Coco",
    "CocoImage",
    "Dataset",
    "Drawn",
    "Item",
    "Labels",
    "NetworkInput",
    "Normalisation",
    "Place",
    "Reading",
    "ReadingConfig",
    "Row",
    "Scene",
    "SceneSettings",
    "SemiViews",
    "Skip",
    "TrainingViews",
    "Views",
    "Windows",
    "at_once",
    "bytes_of",
    "channels_of",
    "class_indices",
    "coco_classes",
    "coco_files",
    "content_of",
    "csv_rows",
    "draw",
    "fit_within",
    "found_in",
    "hard_classes",
    "holds_images",
    "images_of",
    "labels_of",
    "list_images",
    "listed",
    "load",
    "look_at",
    "normal",
    "passed_over",
    "place",
    "read_as",
    "read_classes",
    "read_coco",
    "read_colours",
    "read_image",
    "read_labels",
    "read_source",
    "read_with_doubt",
    "said",
    "scene",
    "shrunk",
    "source_files",
    "voc_lists",
    "voc_root",
    "write_dataset",
]
