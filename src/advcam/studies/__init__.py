"""The paper's studies, on any run: each states its sample, gives intervals, and resumes where it stopped."""

from .run import STUDIES, run
from .settings import StudyConfig

__all__ = ["STUDIES", "StudyConfig", "run"]
