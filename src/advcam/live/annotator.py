"""What a run makes of an image that another program shows it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from advcam.data import Item, Place, Reading, read_image
from advcam.data.names import key_of
from advcam.errors import ImageError, RunError, SettingsError, known
from advcam.extractor import AdvCAM
from advcam.formats import Masked
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.refinement import confidence
from advcam.runtime import Runtime
from advcam.segmenter import Segmenter
from advcam.stages.context import Context, network_input, trained_classifier
from advcam.stages.maps import climbed, map_source, recorded
from advcam.stages.refine import RefineConfig, refine, refiner_of

WAYS = {"semi": "semi", "predictions": "segment", "masks": "refine"}
"""What makes masks, the first that a run has done, with the step that it comes from."""

OF_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes of images that PNG holds as they are."""

Made = tuple[np.ndarray[Any, Any], dict[int, float]]
"""A mask of class ids [H, W], and a score of each class, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Shown(Item):
    """An image that is in memory, not in a file."""

    pixels: Image.Image = field(repr=False)

    def read(self) -> Image.Image:
        """The image."""
        return self.pixels


class Annotator:
    """Masks of any image, by a run's network or by its classifier, climb and refinement.

    An image that is one of the run's, pixel for pixel, gets the classes of its labels and no other. Of any other image the
    network says what it shows, or the classifier (each class of a probability above .5).

    Args:
        root: the run's folder.
        of: ``semi`` or ``predictions``: the network of that step; ``masks``: maps and refinement. None: the first of these
            that is done.
        device: as ``--device``.

    Raises:
        RunError: not a run, or one that has not done what is asked for.
        SettingsError: another ``of``.
    """

    def __init__(self, root: Path, of: str | None = None, device: str = "auto") -> None:
        self.context = reopen(root, None, Runtime(device=device), Reporter(quiet=True))
        run = self.context.run
        if of is not None and of not in WAYS:
            raise SettingsError(f"of={of!r}: {known(of, WAYS)}")
        done = [name for name, step in WAYS.items() if run.done(step) and of in (None, name)]
        if not done:
            wanted = WAYS[of or "masks"]
            raise RunError(f"{root}: {wanted} is not done, which annotates; `advcam {wanted} --run {root}` does it")
        self.of, step = done[0], WAYS[done[0]]
        self.version = f"advcam {self.of} {run.state()['steps'][step]['key'][:8]}"
        """Names what makes the masks: it changes with every setting that changes them."""
        self.files = {item.id: item for item in self.context.data.items}
        self._make = _by_maps(self.context) if step == "refine" else _by_network(self.context, step)
        self._alone = threading.Lock()

    @property
    def classes(self) -> dict[int, str]:
        """The name of each class id."""
        table = self.context.data.classes
        return dict(zip(table.ids, table.names, strict=True))

    def read(self, path: Place) -> Image.Image:
        """An image file, read as the run reads its own.

        Raises:
            ImageError: it cannot be read.
        """
        return read_image(path, None, self.context.data.reading)

    def given(self, image: Image.Image) -> Image.Image:
        """An image that another program has read from its file, as the run would read the file.

        It is a page by itself. One of 8 bits is left as it is where the run's range is of images of more bits.

        Raises:
            ImageError: whole numbers of 32 bits or floats, whose range is not known; or as :meth:`read`.
        """
        if image.mode == "F" or (image.mode.startswith("I") and image.mode != "I;16"):
            raise ImageError(f"an image of mode {image.mode}: expected 8 or 16 bits")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.png"
            (image if image.mode in OF_PNG else image.convert("RGB")).save(path)
            try:
                return read_image(path, None, _of_frames(self.context.data.reading))
            except ImageError as error:
                raise ImageError(str(error).replace(str(path), "an image of another program")) from None

    def need_frames(self) -> None:
        """Checks that the run can read what another program shows: grey or colours, not the bands of a file.

        Raises:
            SettingsError: it cannot.
        """
        reading, root = self.context.data.reading, self.context.run.root
        bands = reading.bands if isinstance(reading.bands, tuple) else ()
        if reading.channels not in (1, 3) or max(bands, default=0) > 3:
            raise SettingsError(
                f"{root}: its network is given the bands {','.join(map(str, bands))} of a file, and another"
                f" program shows grey or three colours; `advcam predict --run {root}` reads the files themselves"
            )

    def __call__(self, image: Image.Image, name: str) -> Masked:
        """The mask of an image, as :meth:`read` or :meth:`given` gives it, with the scores of its classes.

        Args:
            image: of any size.
            name: what the other program calls it: a path or the end of one.

        Raises:
            ImageError: not enough memory.
        """
        with self._alone:
            ids, scores = self._make(image, self._labels(image, name))
        there = {number: score for number, score in scores.items() if (ids == number).any()}
        return Masked(Path(name).stem, Path(name), ids, scores=there)

    def _labels(self, image: Image.Image, name: str) -> tuple[int, ...] | None:
        """The labels of the run's image that this is; None if it is none of them, or not all its labels are known."""
        paths = {id_: item.path for id_, item in self.files.items()}
        same = key_of(name, paths) or key_of(Path(name).name, paths)
        alike = [same] if same else [id_ for id_ in paths if id_.rsplit("/", 1)[-1] == Path(name).stem]
        for item in (self.files[id_] for id_ in alike):
            if item.size != (image.height, image.width) or item.unknown or not item.path.is_file():
                continue
            try:
                if np.array_equal(np.asarray(item.read()), np.asarray(image)):
                    return item.labels
            except ImageError:  # the file has changed since the run read it
                continue
        return None


def _of_frames(reading: Reading) -> Reading:
    """How a single frame is read where files are read so; a range that 8 bits cannot have is that of deep images."""
    window = reading.window
    deep = not isinstance(window, str) and (window[0] < 0 or window[1] <= 1 or window[1] > 255)
    return replace(reading, page=1, deep_only=reading.deep_only or deep)


def _by_network(context: Context, step: str) -> Callable[[Image.Image, Sequence[int] | None], Made]:
    segmenter = Segmenter.load(context.run.folder(step), context.runtime.torch_device())

    def make(image: Image.Image, labels: Sequence[int] | None) -> Made:
        shares = segmenter.probabilities(image, labels)
        _, scores = confidence(shares.clamp_min(torch.finfo(shares.dtype).tiny).log(), -1.0, 1.0)  # whose softmax they are
        return segmenter.mask(shares), _scored(segmenter.ids.tolist(), scores)

    return make


def _by_maps(context: Context) -> Callable[[Image.Image, Sequence[int] | None], Made]:
    config, climb = RefineConfig.from_record(context.run.config("refine")), recorded(context.run)
    assert climb is not None, "refine needs climb"
    plain = config.maps == "plain"
    refiner = refiner_of(context, config, map_source(context, plain))
    ready = trained_classifier(context)
    classifier, prepare = AdvCAM(ready[0]), network_input(ready[1])

    def found_in(image: Image.Image) -> list[int]:
        scores = classifier.scores(prepare(image)[None].to(context.runtime.torch_device()))[0]
        return [at for at, score in enumerate(scores.tolist()) if score > 0]

    def make(image: Image.Image, labels: Sequence[int] | None) -> Made:
        shown = tuple(found_in(image) if labels is None else labels)
        item = Shown("shown", Path("shown/shown.png"), shown, (image.height, image.width), pixels=image)
        alone = replace(context, data=replace(context.data, train=(item,), eval=()))
        ((_, maps, first),) = climbed(alone, climb, [item], ready)
        ids, found = refine(context, config, refiner, item, first if plain else maps)
        if found is None:
            return ids, {}
        _, scores = confidence(found.maps.float(), found.threshold)
        return ids, _scored(found.ids, scores)

    return make


def _scored(ids: Sequence[int], scores: torch.Tensor) -> dict[int, float]:
    """The best score of each id but 0."""
    best = dict[int, float]()
    for number, score in zip(ids, scores.tolist(), strict=True):
        best[number] = max(score, best.get(number, 0.0))
    best.pop(0, None)
    return best
