"""Masks of a run for programs that ask for them while people annotate: CVAT and Label Studio."""

from .annotator import WAYS, Annotator

__all__ = ["WAYS", "Annotator"]
