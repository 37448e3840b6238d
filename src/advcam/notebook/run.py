"""A run folder as Python sees it: numbers, and arrays of its images, maps and masks. Nothing is written."""

from __future__ import annotations

import os
import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from advcam.data import Dataset, Item, place
from advcam.errors import InputError, RunError, StoreError, known
from advcam.expect import describe, expect_whole
from advcam.report import coloured, heat
from advcam.report.figures import TITLES, curves_of
from advcam.report.rows import rows_of, worst_first
from advcam.report.studies import finished
from advcam.stages.context import load_data, redo
from advcam.stages.moved import relocated
from advcam.stages.table import ORDER, STEPS
from advcam.stages.truth import corrected_mask
from advcam.store import RunFolder, load_maps, load_mask, read_json
from advcam.store.masks import voc_palette
from advcam.store.records import ClassifyMetrics, Metrics

from .drawings import LARGEST
from .figures import Curves, Pictures
from .studies import Study, study_of

PALETTE = np.array(voc_palette(), dtype=np.uint8).reshape(256, 3)
PREDICTING = ("segment", "semi")
"""Steps that predict."""
MASKS = ("refine", *PREDICTING, "corrected")
"""What makes masks."""
WORST = 3
"""Images that are drawn where none is named."""


class Run:
    """A run folder, to look at from Python: nothing in it is changed, and a run that is half done shows what there is.

    Arrays are numpy's; ``torch.from_numpy`` takes them as they are. Images are named by their ids, see ``images``.

    Args:
        root: the run's folder, as given to ``--out`` or ``--run``.
        images: where its images are now, if they have moved, as ``--images``; unlike a command, this records nothing.

    Raises:
        InputError: not a path.
        RunError: the folder is not a run, or one of an incompatible version; or an image of the run is not in ``images``.
        DataError: there is no folder ``images``, or no image in it.
        StoreError: its ``run.json`` is damaged.

    Source: ours (a view of files).

    Example:
        >>> Run("runs/none")
        Traceback (most recent call last):
            ...
        advcam.errors.RunError: runs/none: expected a run folder, and it has no run.json; give the one of `advcam run --out`
    """

    def __init__(self, root: str | os.PathLike[str], images: str | os.PathLike[str] | None = None) -> None:
        if not isinstance(root, (str, os.PathLike)):
            raise InputError(f"root {describe(root)}: expected the path of a run folder, as text or a Path")
        if images is not None and (not isinstance(images, (str, os.PathLike)) or not os.fspath(images)):
            raise InputError(f"images {describe(images)}: expected the folder where the run's images are, as text or a Path")
        self._folder = RunFolder(Path(root), ORDER)
        if not (self.root / "run.json").is_file():
            raise RunError(f"{self.root}: expected a run folder, and it has no run.json; give the one of `advcam run --out`")
        self._folder.state()
        self._moved = None if images is None else place(os.fspath(images))
        if self._moved:
            len(self._items)  # what is missing is said now

    @property
    def root(self) -> Path:
        """The folder."""
        return self._folder.root

    @property
    def steps(self) -> dict[str, str]:
        """The state of every step, in order: ``planned``, ``running`` (or stopped midway), ``done``, or ``not begun``."""
        begun = self._folder.state()["steps"]
        return {name: begun[name]["state"] if name in begun else "not begun" for name in ORDER}

    @property
    def classes(self) -> dict[int, str]:
        """The name of each class by its id, as in masks; 0 is background, 255 ignored."""
        return dict(zip(self._data.classes.ids, self._data.classes.names, strict=True))

    @property
    def images(self) -> list[str]:
        """The id of every image, sorted: its path below the folder of images, without suffix."""
        return list(self._items)

    @property
    def metrics(self) -> dict[str, Any]:
        """The contents of ``metrics.json``, by what is scored: ``masks``, ``seed_advcam``, ...; shares are from 0 to 1."""
        path = self.root / "metrics.json"
        if not path.is_file():
            raise RunError(
                f"{path}: is not there, the run has not been scored; `advcam evaluate --run {self._quoted} --masks DIR` writes"
                " it, where DIR has ground truth"
            )
        read_json(path, Metrics, "evaluate again")  # checks its form
        return read_json(path, dict[str, Any])

    @property
    def studies(self) -> dict[str, Study]:
        """The finished studies of the run's classifier, by name."""
        return {shown.name: study_of(self.root, shown) for shown in finished(self._folder)}

    def image(self, id: str) -> NDArray[np.uint8]:
        """Read an image.

        Args:
            id: of the image.

        Returns:
            uint8 [H, W, 3], RGB as the networks see it.

        Raises:
            InputError: the run has no such image.
            ImageError: it is gone, damaged, or not the one that the run was made from.
        """
        return np.array(self._item(id).read().convert("RGB"))

    def maps(self, id: str, plain: bool = False) -> dict[int, NDArray[np.float32]]:
        """Read the maps of the classes that an image is labelled with.

        Args:
            id: of the image.
            plain: the plain class activation maps, instead of the AdvCAMs.

        Returns:
            float32 [h, w] by class id, at stride 4 of the image, each with maximum 1 or all zeros.

        Raises:
            InputError: the run has no such image.
            RunError: the climb has not made them, or does not keep maps.
            StoreError: the file is damaged.
        """
        item = self._item(id)
        stored = load_maps(self._file(self._folder.maps(item.id, bool(plain)), "climb"))
        if tuple(stored.size) != tuple(item.size):
            path = self._folder.maps(item.id, bool(plain))
            raise StoreError(f"{path}: are not the maps of this image, which has another size; delete it, and climb again")
        return {number: values.numpy() for number, values in zip(stored.classes, stored.maps, strict=True)}

    def mask(self, id: str, step: str = "refine") -> NDArray[np.uint8]:
        """Read the mask that a step, or a person, made of an image.

        Args:
            id: of the image; of ``segment`` and ``semi`` one of those for scoring, if the run has any.
            step: whose mask: ``refine``, ``segment``, ``semi``, or ``corrected``, which a person looked at in the explorer.

        Returns:
            uint8 [H, W], class ids, 0 background, 255 undecided; a rejected mask is 255 throughout.

        Raises:
            InputError: the run has no such image, or there is no such step.
            RunError: the step has not made it, or nobody has looked at it.
            StoreError: the file is damaged.
        """
        if not isinstance(step, str) or step not in MASKS:
            raise InputError(f"step {describe(step)}: expected one of {', '.join(MASKS)}")
        if step in PREDICTING:
            return self.prediction(id, step)
        if step == "corrected":
            path = corrected_mask(self._folder, self._item(id).id)
            if not path.is_file():
                raise RunError(f"{path}: is not there, nobody has looked at this mask; `advcam explore --run {self._quoted}`")
            return load_mask(path, self._item(id).size)
        return self._plane(id, "refine", self._folder.mask)

    def confidence(self, id: str) -> NDArray[np.float32]:
        """Read how sure the mask of an image is of each pixel.

        Args:
            id: of the image.

        Returns:
            float32 [H, W] in [0, 1].

        Raises:
            InputError: the run has no such image.
            RunError: ``refine`` has not made it.
            StoreError: the file is damaged.
        """
        return self._plane(id, "refine", self._folder.confidence).astype(np.float32) / np.float32(255)

    def prediction(self, id: str, step: str = "segment") -> NDArray[np.uint8]:
        """Read what the segmentation network predicts for an image.

        Args:
            id: of the image, one of those for scoring if the run has any.
            step: whose network: ``segment``, or ``semi``.

        Returns:
            uint8 [H, W], class ids, 0 background.

        Raises:
            InputError: the run has no such image, or another step.
            RunError: the step has not made it, or predicts other images.
            StoreError: the file is damaged.
        """
        if not isinstance(step, str) or step not in PREDICTING:
            raise InputError(f"step {describe(step)}: expected segment or semi, the steps that predict")
        item, to_score = self._item(id), self._data.eval
        if to_score and item not in to_score:
            raise RunError(
                f"{self.root}: {step} predicts the {len(to_score)} images to score on, and {id} is none of them;"
                f" `advcam predict --model {shlex.quote(str(self._folder.folder(step)))} --images DIR --out DIR` predicts any"
            )
        return self._plane(id, step, lambda name: self._folder.prediction(name, step))

    def plot(self, id: str | None = None, side: int = 160) -> Pictures:
        """Draw an image with all that the run has of it: mask and prediction, and the maps of each class.

        Args:
            id: of the image; None draws the three worst by score, or else by confidence, or the first, by name.
            side: long side of each panel, in pixels.

        Returns:
            A drawing that a notebook shows; ``save("scene.png")`` or ``save("scene.html")`` writes it.

        Raises:
            InputError: the run has no such image.
            ImageError: it is gone or damaged.
            StoreError: a file of the run is damaged.
        """
        side = expect_whole(side, "side", 8, LARGEST)
        if id is not None:
            item = self._item(id)
            return Pictures([row for row in self._rows(item, side) if row], legend=self._legend([item]))
        rows, by = worst_first(rows_of(self._folder, self._data)[0])
        items = [row.item for row in rows[:WORST]]
        order = "the first by name" if by == "name" else f"the worst by {by}"
        shown = [row for item in items for row in self._rows(item, side) if row]
        return Pictures(shown, f"{len(items)} of {len(rows)} images, {order}.", self._legend(items))

    def precision_recall(self) -> Curves:
        """Draw precision against recall of the classifier, a curve for each class, on the images that it was measured on.

        Returns:
            A drawing that a notebook shows; ``save("curves.svg")`` or ``save("curves.html")`` writes it.

        Raises:
            RunError: the classifier has not been measured, by a version that did not keep its curves, or none of these images
                shows a class.
            StoreError: the file is damaged.
        """
        path = self._file(self._folder.folder("classify") / "metrics.json", "classify")
        kept = read_json(path, ClassifyMetrics, redo(self._folder, "classify"))
        drawn = curves_of(kept, {name: number for number, name in self.classes.items()})
        if not drawn:
            raise RunError(
                f"{path}: holds no curve of precision and recall: no image that it was measured on shows a class, or an earlier"
                f" version of advcam wrote it; delete it, and `advcam classify --run {self._quoted}` measures again"
            )
        return Curves(drawn[0])

    def __repr__(self) -> str:
        done = [name for name, state in self.steps.items() if state == "done"]
        return f"Run({str(self.root)!r}, {'done: ' + ', '.join(done) if done else 'nothing done yet'})"

    def _repr_html_(self) -> str:
        row = Markup('<tr><th style="text-align: left">{}</th><td style="text-align: left">{}</td></tr>')
        facts = [("steps", ", ".join(f"{name}: {state}" for name, state in self.steps.items()))]
        if (self.root / "data.json").is_file():
            data = self._data
            facts += [
                ("images", f"{len(data.items)}, of which {len(data.eval)} to score on"),
                ("classes", ", ".join(f"{number} {name}" for number, name in self.classes.items())),
            ]
        if (self.root / "metrics.json").is_file():
            facts += [(TITLES[what], _score(found)) for what, found in self.metrics.items() if what in TITLES]
        table = Markup("<table>{}</table>").format(Markup("").join(row.format(name, value) for name, value in facts))
        return str(Markup('<div class="advcam"><b>Run {}</b>{}</div>').format(str(self.root), table))

    # Files

    @cached_property
    def _data(self) -> Dataset:
        data = load_data(self._folder)
        return relocated(data, self._moved) if self._moved else data

    @cached_property
    def _items(self) -> dict[str, Item]:
        return {item.id: item for item in self._data.items}

    @property
    def _quoted(self) -> str:
        return shlex.quote(str(self.root))

    def _item(self, id: str) -> Item:
        if not isinstance(id, str):
            raise InputError(f"id {describe(id)}: expected the id of an image as text, such as {self.images[0]!r}")
        if id not in self._items:
            raise InputError(f"{self.root}: has no image {id!r}; {known(id, self._items)}")
        return self._items[id]

    def _plane(self, id: str, step: str, place: Any) -> NDArray[np.uint8]:
        item = self._item(id)
        return load_mask(self._file(place(item.id), step), item.size)

    def _file(self, path: Path, step: str) -> Path:
        """A file of a step, which must exist."""
        if path.is_file():
            return path
        state = self.steps[step]
        example = STEPS[step].example.replace("runs/first", self._quoted)
        if state != "done":
            raise RunError(f"{path}: is not there, {step} is {state}; `advcam {step} {example}` makes it")
        if step == "climb" and not self._folder.config("climb").get("keep", True):
            raise RunError(f"{path}: is not there, this run was made with --no-keep-maps; climb again without it to have maps")
        raise RunError(
            f"{path}: is not there although {step} is done: the image was left out (see skipped.csv), or the file was"
            f" deleted; `advcam {step} {example}` makes what is missing"
        )

    # Panels

    def _rows(self, item: Item, side: int) -> list[list[tuple[str, Image.Image]]]:
        """The image with its masks, then for each class its maps."""
        factor, run = side / max(item.size), self._folder
        image = item.read().convert("RGB").resize([max(1, round(length * factor)) for length in reversed(item.size)])
        masks = {"mask": run.mask(item.id), "prediction": run.prediction(item.id)}
        masks |= {"semi-supervised": run.prediction(item.id, "semi"), "corrected": corrected_mask(run, item.id)}
        found = {title: load_mask(path, item.size) for title, path in masks.items() if path.is_file()}
        first = [(item.id, image), *((title, coloured(ids, image)) for title, ids in found.items())]
        kinds = {"plain map": True, "AdvCAM": False}
        maps = {title: self.maps(item.id, plain) for title, plain in kinds.items() if run.maps(item.id, plain).is_file()}
        classes = sorted({number for of_classes in maps.values() for number in of_classes})
        name = self.classes.get
        return [
            first,
            *(
                [
                    (f"{title}, {name(number, number)}", heat(of_classes[number], image))
                    for title, of_classes in maps.items()
                    if number in of_classes
                ]
                for number in classes
            ),
        ]

    def _legend(self, items: list[Item]) -> dict[str, str]:
        ids = sorted({self._data.classes.ids[at] for item in items for at in item.labels})
        return {self.classes[number]: "#{:02x}{:02x}{:02x}".format(*PALETTE[number]) for number in ids}


def _score(found: Any) -> str:
    shown = "none" if found["mean_iou"] is None else f"{100 * found['mean_iou']:.1f} %"
    ends = found.get("interval")
    return f"mIoU {shown}" + (f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else "") + f" ({found['rule']})"
