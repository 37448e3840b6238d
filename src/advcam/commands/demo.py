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

TRAIN, SCORED = 600, 150
"""Number of images to train on, and to score on."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Config):
    """The output folder of the demo."""

    out: Path = option(Path("demo"), "folder of the data set and the run", flag="out", common=True)


def run(config: DemoConfig, session: Session) -> Outcome:
    """Generates the data set if it does not exist, runs every step that is not done, scores and reports.

    The classifier is a very small timm network with random initial weights. The climb differs from the default: longer
    steps, restrained, with maps summed unweighted and without a ceiling.

    Raises:
        AdvcamError: a step failed.
    """
    data, root = config.out / "data", config.out / "run"
    with alone(root):
        if not (data / "eval.txt").is_file():
            write_dataset(data, TRAIN, SCORED, session.seed, SceneSettings(), session.reporter.track)
        where = pipeline.DataConfig(
            images=data / "images", labels=data / "labels.csv", classes=data / "classes.csv", train_list=data / "train.txt",
            eval_list=data / "eval.txt",
        )  # fmt: skip
        context = pipeline.start(root, where, session.seed, session.runtime, session.reporter)
        configs = {
            "classify": ClassifyConfig(
                backbone="test_resnet", output_stride=8, from_scratch=True, epochs=20, batch=32, lr=3e-3, weight_decay=1e-2,
                crop=128, scales=(1.0, 1.0),
            ),
            "climb": ClimbConfig(
                preset="default", changes={"steps": 12, "step_size": 0.02, "restrain": 3.0, "ceiling": None, "emphasis": "none"}
            ),
            "segment": SegmentConfig(epochs=8, batch=16, lr=1e-3, head_lr=2e-3, crop=128, scales=(1.0, 1.0)),
        }  # fmt: skip
        pipeline.plan(context, configs, {})
        report = pipeline.run_all(context, configs)
        pipeline.score(context, EvaluateConfig(masks=data / "masks"))
    return Outcome(f"report: {report.resolve()}")
