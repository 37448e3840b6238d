"""A detection function for CVAT's automatic annotation, which its command line loads.

``cvat-cli task auto-annotate ID --function-module advcam.live.cvat -p run=str:runs/first``
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from advcam.errors import SettingsError
from advcam.expect import expect_number
from advcam.formats.colours import objects
from advcam.formats.masks import Place
from advcam.formats.outlines import outlines

from .annotator import Annotator

MOST_OBJECTS = 255
"""Most shapes of an image; where there are more parts, a class's smallest ones are one shape."""


class Detection:
    """A run's masks as CVAT's shapes, one for each connected part of a class, with the score of the class in that image.

    Args:
        annotator: makes the masks.
        tolerance: by how many pixels polygons may leave the outline, where CVAT asks for polygons.

    Raises:
        SettingsError: the package cvat-sdk is not installed, a tolerance that is negative, or a run of bands that no frame has.
    """

    def __init__(self, annotator: Annotator, tolerance: float = 1.0) -> None:
        annotator.need_frames()
        try:
            from cvat_sdk import auto_annotation, masks  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise SettingsError("annotating for CVAT needs cvat-sdk: pip install 'advcam[cvat]'") from None
        self._cvat, self._encode = auto_annotation, masks.encode_mask
        self._annotator, self._tolerance = annotator, expect_number(tolerance, "tolerance", 0, 100)

    @property
    def spec(self) -> Any:
        """The labels: the run's classes, as masks."""
        labels = [self._cvat.label_spec(name, id_, type="mask") for id_, name in self._annotator.classes.items()]
        return self._cvat.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """The shapes of an image.

        Args:
            context: CVAT's: the name of the frame, the least score, and whether polygons are asked for.
            image: the frame.

        Raises:
            ImageError: more than 16 bits, or not enough memory.
        """
        found = self._annotator(self._annotator.given(image), context.frame_name)
        least, polygons = context.conf_threshold or 0.0, context.conv_mask_to_poly
        numbered, classes = objects(found.ids, MOST_OBJECTS)
        return [
            shape
            for number, id_ in classes.items()
            if found.scores[id_] >= least
            for shape in self._shapes(id_, numbered == number, found.scores[id_], polygons)
        ]

    def _shapes(self, id_: int, place: Place, score: float, polygons: bool) -> Iterator[Any]:
        if not polygons:
            yield self._cvat.mask(id_, self._encode(place), score=score)
            return
        for points in outlines(place, self._tolerance):
            yield self._cvat.polygon(id_, points.ravel().tolist(), score=score)


def create(run: str, of: str | None = None, device: str = "auto", tolerance: float = 1.0) -> Detection:
    """What CVAT's command line calls, with what is given by ``-p NAME=TYPE:VALUE``.

    Args:
        run: the run's folder.
        of: ``semi``, ``predictions`` or ``masks``, see :class:`~advcam.live.annotator.Annotator`; None: what the run has.
        device: as ``--device``.
        tolerance: by how many pixels polygons may leave the outline.

    Raises:
        RunError: not a run, or one that has not done what is asked for.
        SettingsError: a setting is invalid, or cvat-sdk is not installed.
    """
    return Detection(Annotator(Path(run), of, device), tolerance)
