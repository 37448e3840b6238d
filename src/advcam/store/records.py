"""Types of the JSON files of a run; each file is checked against its type when it is read, wherever the run came from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from advcam.limits import MAX_BANDS, MAX_CLASSES, MAX_PIXELS, MAX_SEED, MIN_SIDE

Count = Annotated[int, Meta(ge=0)]
Side = Annotated[int, Meta(ge=MIN_SIDE, le=MAX_PIXELS)]
Number = float | None
Band = Annotated[int, Meta(ge=1, le=MAX_BANDS)]
Channels = tuple[float, ...]
Step = Annotated[str, Meta(pattern=r"\A[a-z]+\Z")]
History = list[dict[str, int | float | None]]


class ClassRecord(TypedDict):
    """A class and its id in masks."""

    id: Annotated[int, Meta(ge=1, le=MAX_CLASSES)]
    name: str


class About(TypedDict):
    """What a run is made from: its folder of images, hashes of its labels, classes and lists, and the seed."""

    images: str
    labels: str | None
    classes: str | None
    train_list: str | None
    eval_list: str | None
    eval_name: str | None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)]
    reading: NotRequired[dict[str, Any]]


LAYOUT = 2
"""Version of the layout of run.json; runs of another version are refused."""


class StepRecord(TypedDict):
    """Settings and state of a step: ``config`` has all settings, ``key`` is a hash of all that changes the result."""

    state: Literal["planned", "running", "done"]
    key: str
    config: dict[str, Any]
    given: list[str]
    needs: Step | None
    seconds: float
    threads: Count | None
    precision: str | None


class RunRecord(TypedDict):
    """``run.json``."""

    layout: Literal[2]
    key: str
    about: About
    versions: dict[str, str]
    classes: list[ClassRecord]
    steps: dict[Step, StepRecord]


class ItemRecord(TypedDict):
    """An image of a run."""

    id: str
    path: str
    labels: tuple[Count, ...]
    size: tuple[Side, Side]
    content: str | None
    unknown: NotRequired[tuple[Count, ...]]


class SkipRecord(TypedDict):
    """An image that was left out, and why."""

    image: str
    reason: str


class ReadingRecord(TypedDict):
    """How images' values become 8-bit channels."""

    window: Literal["dtype", "image"] | tuple[float, float]
    bands: Annotated[tuple[Band, ...], Meta(min_length=1, max_length=MAX_BANDS)] | None
    page: Annotated[int, Meta(ge=1)]
    deep_only: bool
    one_channel: NotRequired[bool]


class DataRecord(TypedDict):
    """``data.json``; ``files``: paths of the class list and the lists of images, as they were given."""

    classes: Annotated[list[ClassRecord], Meta(min_length=1, max_length=MAX_CLASSES)]
    train: list[ItemRecord]
    eval: list[ItemRecord]
    skipped: list[SkipRecord]
    labels_file: NotRequired[str]
    files: NotRequired[dict[str, str]]
    reading: NotRequired[ReadingRecord]


class BackboneRecord(TypedDict):
    """A timm network."""

    name: str
    options: dict[str, Any]
    output_stride: int
    mean: Channels | None
    std: Channels | None
    dilated: bool
    channels: NotRequired[Band]


@dataclass(frozen=True)
class ClassifierRecord:
    """``1-classify/model.json``."""

    backbone: BackboneRecord
    own: str | None
    code: str | None
    classes: Annotated[list[ClassRecord], Meta(min_length=1)]
    long_side: Annotated[int, Meta(ge=MIN_SIDE)]
    weights: str | None
    from_scratch: bool


@dataclass(frozen=True)
class NetworkRecord:
    """``model.json`` of a segmentation network: how to build it, and its settings for prediction."""

    network: str
    backbone: BackboneRecord
    output_stride: int | None
    classes: Annotated[list[ClassRecord], Meta(min_length=1)]
    long_side: int
    predict_scales: tuple[float, ...]
    predict_mirror: bool
    predict_merge: str
    predict_crf: bool
    reading: ReadingRecord | None = None


class Precision(TypedDict):
    """Average precision of a classifier."""

    mean: Number
    micro: Number
    per_class: dict[str, Number]


Share = Annotated[float, Meta(ge=0, le=1)]


class PrecisionRecall(TypedDict):
    """Points of a class's curve of precision and recall; the threshold of the first, which finds nothing, is None."""

    recall: list[Share]
    precision: list[Share]
    threshold: list[Share | None]


class PrecisionRecalls(TypedDict):
    """Curves of precision and recall of the classes that the images show."""

    per_class: dict[str, PrecisionRecall]
    split: str
    images: Count
    rule: str


class ClassifyMetrics(TypedDict):
    """``1-classify/metrics.json``; runs of earlier versions have no ``precision_recall``."""

    average_precision: Precision
    split: str
    images: Count
    rule: str
    precision_recall: NotRequired[PrecisionRecalls]
    history: History


class TrainingMetrics(TypedDict):
    """``metrics.json`` of a step that trained a network."""

    history: History
    epoch_kept: NotRequired[str]
    held_out: NotRequired[Count]
    labelled: NotRequired[Count]
    others: NotRequired[Count]
    mode: NotRequired[str]


class ThresholdRecord(TypedDict):
    """``3-refine/threshold.json``: a background threshold chosen without ground truth, and from how many maps.

    ``threshold`` is that of the maps, ``walked`` that of the maps after the method's walk, if it has one.
    """

    threshold: Annotated[float, Meta(ge=0, lt=1)]
    walked: NotRequired[Annotated[float, Meta(ge=0, lt=1)]]
    maps: Count
    rule: str


class Curve(TypedDict):
    """Seed quality at each background threshold."""

    threshold: list[float]
    mean_iou: list[Number]
    noise: list[Number]


class AtThreshold(TypedDict):
    """Seed quality at a background threshold that was chosen without ground truth."""

    threshold: float
    mean_iou: Number
    noise: Number
    rule: str


class Boundary(TypedDict):
    """Boundary IoU of masks."""

    mean_iou: Number
    per_class: dict[str, Number]
    interval: tuple[float, float] | None
    per_class_intervals: NotRequired[dict[str, tuple[float, float] | None]]
    rule: str


class Measured(TypedDict):
    """Scores of masks or seeds against ground truth."""

    mean_iou: Number
    noise: Number
    split: str
    rule: str
    per_class: dict[str, Number]
    threshold: NotRequired[float]
    curve: NotRequired[Curve]
    without_truth: NotRequired[AtThreshold]
    interval: NotRequired[tuple[float, float] | None]
    per_class_intervals: NotRequired[dict[str, tuple[float, float] | None]]
    boundary: NotRequired[Boundary]


class Best(TypedDict):
    """A score at its best threshold; for ``top1`` also the share of images classified correctly."""

    value: Number
    threshold: NotRequired[float]
    classification: NotRequired[Number]
    images: NotRequired[Count]


class Places(TypedDict):
    """Localisation scores of one kind of maps."""

    max_box_acc: Best
    max_box_acc_v2: Best
    pxap: Number
    top1: Best | None
    maps: NotRequired[Count]
    split: NotRequired[str]


class Localisation(TypedDict):
    """Localisation of both kinds of maps."""

    plain: NotRequired[Places]
    advcam: NotRequired[Places]
    split: str
    rule: str


class OfObjects(TypedDict):
    """Average precision of objects at one IoU threshold."""

    mean: Number
    per_class: dict[str, Number]


class Objects(TypedDict):
    """Scores of instance masks against ground truth."""

    average_precision: dict[str, OfObjects]
    found: Count
    there: Count
    split: str
    rule: str


class Metrics(TypedDict, total=False):
    """``metrics.json`` of a run."""

    seed_plain: Measured
    seed_advcam: Measured
    masks: Measured
    predictions: Measured
    semi: Measured
    localisation: Localisation
    instances: Objects
    average_precision: dict[str, Any]
    ground_truth: dict[str, Any]
    confidence: dict[str, Any]


_Id = Annotated[int, Meta(ge=1, le=MAX_CLASSES)]
ObjectRecord = TypedDict("ObjectRecord", {"id": _Id, "class": _Id, "score": float})
"""An object in an instance mask."""


class StudyRecord(TypedDict):
    """``studies/NAME/study.json``."""

    study: str
    classifier: str
    rule: str


_PART = r"(?!\.{1,2}(?:/|\Z))[^/\0]+"
_BELOW = re.compile(rf"{_PART}(?:/{_PART})*\Z")


def is_below(name: str) -> bool:
    """Whether an image's id stays below any folder it is joined to: relative, and without ``..``."""
    windows = os.name == "nt" and any(sign in name for sign in "\\:")
    return bool(_BELOW.match(name)) and not windows
