"""The paper's studies, on any run: each states its sample, draws an interval, and goes on where it was stopped."""

from .run import STUDIES, run
from .settings import StudyConfig

__all__ = ["STUDIES", "StudyConfig", "run"]
