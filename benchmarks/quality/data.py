"""The data sets and networks of the quality protocol: each network is trained on the image labels of each data set."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from advcam.data import SceneSettings, write_dataset
from advcam.pipeline import DataConfig
from advcam.stages.classify import ClassifyConfig
from advcam.store import load_mask, save_mask

from . import fetched

SHARED = Path("../shared")


@dataclass(frozen=True)
class DataSet:
    """Where a data set is, and how a classifier is trained on it.

    Args:
        where: makes the paths; whatever has to be written goes into the folder that it is given.
        masks: from the same folder, that of the ground truth.
        train: settings of the classifier's training.
    """

    where: Callable[[Path], DataConfig]
    masks: Callable[[Path], Path]
    train: dict[str, Any]


def listed(folder: Path) -> DataConfig:
    """A folder that has its lists."""
    return DataConfig(
        images=folder / "images", labels=folder / "labels.csv", classes=folder / "classes.csv",
        train_list=folder / "train.txt", eval_list=folder / "eval.txt",
    )  # fmt: skip


def scenes(work: Path) -> DataConfig:
    """600 generated scenes to train on, 150 to score."""
    if not (work / "eval.txt").is_file():
        write_dataset(work, 600, 150, 0, SceneSettings())
    return listed(work)


def defects(work: Path) -> DataConfig:
    """The tiles, halved by the number of the tile: no tile is in both halves."""
    source = SHARED / "defects"
    work.mkdir(parents=True, exist_ok=True)
    with (source / "labels.csv").open() as file:
        names = [row["image"] for row in csv.DictReader(file)]
    lists: dict[str, list[str]] = {"train": [], "eval": []}
    for name in names:
        tile = name.rsplit(".", 1)[0].split("_num_")[1]
        lists["eval" if hashlib.sha256(tile.encode()).digest()[0] % 2 else "train"].append(name)
    for half, chosen in lists.items():
        (work / f"{half}.txt").write_text("\n".join(sorted(chosen)) + "\n")
    return DataConfig(
        images=source / "images", labels=source / "labels.csv", classes=source / "classes.csv",
        train_list=work / "train.txt", eval_list=work / "eval.txt",
    )  # fmt: skip


def one_class(work: Path) -> DataConfig:
    """The tiles with all defects as one class, and more images without it than with it."""
    split, source = defects(work), SHARED / "defects"
    (work / "classes.csv").write_text("id,name\n1,defect\n")
    with (source / "labels.csv").open() as file:
        rows = [(row["image"], "defect" if row["labels"] else "") for row in csv.DictReader(file)]
    (work / "labels.csv").write_text("image,labels\n" + "".join(f"{name},{label}\n" for name, label in rows))
    (work / "masks").mkdir(exist_ok=True)
    for name, _ in rows:
        stem = name.rsplit(".", 1)[0]
        save_mask(work / "masks" / f"{stem}.png", (load_mask(source / "masks" / f"{stem}.png") > 0).astype(np.uint8))
    return replace(split, labels=work / "labels.csv", classes=work / "classes.csv")


DATA: dict[str, DataSet] = {
    "photos": DataSet(
        lambda _work: listed(SHARED / "photos"),
        lambda _work: SHARED / "photos" / "masks",
        {"epochs": 5, "crop": 256, "scales": (0.75, 1.25)},
    ),
    "objects": DataSet(
        lambda _work: listed(SHARED / "objects"),
        lambda _work: SHARED / "objects" / "masks",
        {"epochs": 30, "crop": 256, "scales": (0.75, 1.25)},
    ),
    "defects": DataSet(
        defects, lambda _work: SHARED / "defects" / "masks", {"epochs": 40, "crop": 352, "scales": (0.75, 1.1)}
    ),
    "one-class": DataSet(
        one_class, lambda work: work / "masks", {"epochs": 20, "crop": 320, "scales": (0.75, 1.1)}
    ),
    "scenes": DataSet(
        scenes, lambda work: work / "masks", {"epochs": 20, "crop": 128, "scales": (1.0, 1.0), "output_stride": 8}
    ),
}  # fmt: skip

NETWORKS: dict[str, dict[str, Any]] = {
    "mobilenet": {
        "backbone": "mobilenetv2_100",
        "backbone_option": {"pad_type": "same", "drop_rate": 0.2},
        "weights": str(SHARED / "photos" / "mobilenetv2_100.imagenet.safetensors"),
    },
    "efficientnet": {
        "backbone": "tf_efficientnet_lite0",
        "backbone_option": {"drop_rate": 0.2},
        "weights": str(SHARED / "networks" / "tf_efficientnet_lite0.imagenet.fp16.safetensors"),
    },
}
"""ImageNet networks; both take RGB in [-1, 1]. Those of `fetched` can be named too."""


def classifier(network: str, data: str, work: Path) -> ClassifyConfig:
    """How a network is trained on a data set; weights that have to be fetched are kept in ``work``."""
    how = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)} | DATA[data].train
    if network in fetched.NETWORKS:
        return ClassifyConfig(**how | fetched.NETWORKS[network], weights=str(fetched.weights(network, work)))
    return ClassifyConfig(**how | NETWORKS[network])
