"""``advcam demo``: generates scenes, runs every step on them, scores and reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advcam import pipeline
from advcam.data import SceneSettings, write_dataset
from advcam.options import Config, option
from advcam.stages.classify import ClassifyConfig
from advcam.stages.evaluate import EvaluateConfig
from advcam.stages.maps import ClimbConfig
from advcam.stages.segment import SegmentConfig
from advcam.store import alone

from .session import Outcome, Session

LESSONS = {
    "classify": "1 of 4, classify: a network learns which images show which classes, from image labels alone.\n"
    "  -> {root}/1-classify/metrics.json has its average precision, 1 at best",
    "climb": "2 of 4, climb: each image is changed in small steps that raise the score of a class, and the class activation"
    " maps seen on the way are summed.\n  -> {root}/2-climb/maps has the sums, {root}/2-climb/cam the plain maps",
    "refine": "3 of 4, refine: the maps become masks; a background threshold is chosen without ground truth.\n"
    "  -> {root}/3-refine/masks; 0 is background, other values are the ids of {data}/classes.csv",
    "segment": "4 of 4, segment: a segmentation network learns from the masks; it needs no labels any more.\n"
    "  -> {root}/4-segment/predictions; `advcam predict --model {root}/4-segment` for other images",
}
"""What the demo says before each step."""
LAST = (
    "scored against the ground truth, which nothing before has read: {root}/metrics.json\n"
    "Open the report in a browser. Then your own: advcam run --images DIR --labels FILE --out RUN"
)


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Config):
    """The output folder of the demo, and its size."""

    out: Path = option(Path("demo"), "folder of the data set and the run", flag="out", common=True)
    small: bool = option(False, "two thirds of the images and less training: two minutes", flag="small", common=True)


@dataclass(frozen=True)
class Size:
    """How many images, and how long the trainings are."""

    train: int
    scored: int
    epochs: int
    segment_epochs: int


SIZES = {False: Size(600, 150, 20, 8), True: Size(400, 60, 20, 6)}


def run(config: DemoConfig, session: Session) -> Outcome:
    """Generates the data set if it does not exist, runs every step that is not done, scores and reports.

    The classifier is a very small timm network with random initial weights. The climb differs from the default: longer
    steps, restrained, with maps summed unweighted and without a ceiling.

    Raises:
        AdvcamError: a step failed.
    """
    data, root, size = config.out / "data", config.out / "run", SIZES[config.small]

    def explain(text: str) -> None:
        session.reporter.say(text.format(root=root, data=data))

    with alone(root):
        if not (data / "eval.txt").is_file():
            write_dataset(data, size.train, size.scored, session.seed, SceneSettings(), session.reporter.track)
        where = pipeline.DataConfig(
            images=data / "images", labels=data / "labels.csv", classes=data / "classes.csv", train_list=data / "train.txt",
            eval_list=data / "eval.txt",
        )  # fmt: skip
        context = pipeline.start(root, where, session.seed, session.runtime, session.reporter)
        configs = {
            "classify": ClassifyConfig(
                backbone="test_resnet", output_stride=8, from_scratch=True, epochs=size.epochs, batch=32, lr=3e-3,
                weight_decay=1e-2, crop=128, scales=(1.0, 1.0),
            ),
            "climb": ClimbConfig(
                preset="default", changes={"steps": 12, "step_size": 0.02, "restrain": 3.0, "ceiling": None, "emphasis": "none"}
            ),
            "segment": SegmentConfig(
                epochs=size.segment_epochs, batch=16, lr=1e-3, head_lr=2e-3, crop=128, scales=(1.0, 1.0)
            ),
        }  # fmt: skip
        pipeline.plan(context, configs, {})
        report = pipeline.run_all(context, configs, lambda step: explain(LESSONS[step]))
        pipeline.score(context, EvaluateConfig(masks=data / "masks"))
        explain(LAST)
    return Outcome(f"report: {report.resolve()}")
