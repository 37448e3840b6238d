"""The images of a run in the order that pays most, their masks, maps and regions, and what is decided about them."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from advcam.cells import as_read
from advcam.data import IGNORE, Item, fit_within
from advcam.errors import AdvcamError, DataError, InputError, RunError, StoreError
from advcam.metrics import confusion, mean_iou
from advcam.stages.context import Context, load_data, redo
from advcam.stages.maps import map_source, maps_of
from advcam.stages.refine import RefineConfig, refiner_of
from advcam.stages.refine.single import Found, Refiner
from advcam.store import digest, load_scores, read_json
from advcam.store.masks import voc_palette
from advcam.store.records import ThresholdRecord

from .corrections import STATES, ChangedError, Corrections, Entry, read_mask
from .superpixels import superpixels

KINDS = ("refined", "advcam", "plain")
"""The maps that the page's threshold is of: after refining as the run's masks were, as they are, and without a climb."""


class Correcting:
    """The page's side of a run.

    Args:
        context: the run.
        corrections: where they are kept.
    """

    def __init__(self, context: Context, corrections: Corrections) -> None:
        self.context, self.corrections, self.run = context, corrections, context.run
        self.items = {item.id: item for item in context.data.items}
        self.scored = {item.id for item in context.data.eval}
        self.classes = context.data.classes
        ranked = sorted(self.items, key=lambda name: digest(["order", context.seed, name]))
        self.rank = {name: at for at, name in enumerate(ranked)}
        self.disagreements: dict[str, float | None] = {}
        self._refine_lock, self._refiner = threading.Lock(), dict[str, Refiner]()
        self._found: tuple[tuple[str, str], Found] | None = None
        self._scores: tuple[tuple[int, int], dict[str, float]] = ((0, 0), {})
        self._regions = lru_cache(maxsize=4)(self._superpixels)
        self.comparing, self.stopped = False, threading.Event()

    # The list.

    def about(self) -> dict[str, Any]:
        """Returns what the page knows of the run, with what is missing and how it is made."""
        palette = np.array(voc_palette()).reshape(256, 3)
        pairs = zip(self.classes.ids, self.classes.names, strict=True)
        ready = {step: self.run.done(step) for step in ("climb", "refine", "segment", "semi")}
        root, notes = self.run.root, list[str]()
        if not ready["climb"]:
            notes.append(f"This run has no maps yet: `advcam climb --run {root}` makes them.")
        if not ready["refine"]:
            notes.append(
                f"This run has no masks yet: `advcam refine --run {root}` makes them. You can draw masks from scratch."
            )
        return {
            "root": str(root),
            "classes": [{"id": i, "name": name, "colour": palette[i].tolist()} for i, name in pairs],
            "notes": notes,
            "ready": ready,
            "thresholds": self._thresholds(),
            "who": self.corrections.who,
            "states": STATES,
        }

    def _thresholds(self) -> dict[str, float]:
        """Returns the background threshold to begin with for each kind of maps: the run's, or .5 where it has none."""
        made, path = self.run.config("refine"), self.run.folder("refine") / "threshold.json"
        if path.is_file():
            chosen = read_json(path, ThresholdRecord, redo(self.run, "refine"))
            maps, refined = chosen["threshold"], chosen.get("walked", chosen["threshold"])
        else:
            maps = refined = made.get("threshold") or 0.5
        refined = 0.5 if "crf" in (made.get("method"), made.get("then")) or made.get("method") == "psa" else refined
        return {"refined": refined, "advcam": maps, "plain": maps}

    def images(self) -> dict[str, Any]:
        """Returns all images with what is known of them, and how many are still compared with their predictions.

        Raises:
            StoreError: the log of corrections is damaged.
        """
        decided, scores = self.corrections.decided(), self._lowest()
        rows = [self._row(item, decided.get(name, {}), scores.get(name)) for name, item in self.items.items()]
        left = len(self.items) - len(self.disagreements) if self.comparing else 0
        return {"images": rows, "comparing": left}

    def _lowest(self) -> dict[str, float]:
        """Returns the lowest score of each image that has one, by scores.csv of the refine step."""
        path = self.run.folder("refine") / "scores.csv"
        try:
            about = path.stat()
            if (about.st_mtime_ns, about.st_size) != self._scores[0]:
                lowest = dict[str, float]()
                for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")):
                    lowest[as_read(row["image"])] = min(float(row["score"]), lowest.get(as_read(row["image"]), 1.0))
                self._scores = ((about.st_mtime_ns, about.st_size), lowest)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, csv.Error, KeyError, TypeError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); {redo(self.run, 'refine')}") from None
        return self._scores[1]

    def _row(self, item: Item, decision: Mapping[str, str], score: float | None) -> dict[str, Any]:
        name = item.id
        there = self.corrections.mask(name).is_file()
        return {
            "id": name,
            "decision": (decision.get("action") or "elsewhere") if there else "",
            "draft": self.corrections.draft(name).is_file(),
            "score": score,
            "disagreement": self.disagreements.get(name),
            "mask": self.run.mask(name).is_file(),
            "labelled": bool(item.labels),
            "scored": name in self.scored,
            "rank": self.rank[name],
        }

    def begin_to_compare(self) -> None:
        """Compares masks with predictions in a thread."""
        self.comparing = True
        threading.Thread(target=self.compare, daemon=True).start()

    def compare(self) -> None:
        """Compares masks with predictions, image by image, until all are done or the server stops."""
        try:
            self._compare()
        finally:
            self.comparing = False

    def _compare(self) -> None:
        positions, outputs = self.classes.positions(others=0), len(self.classes) + 1
        for name, item in self.items.items():
            if self.stopped.is_set():
                return
            self.disagreements[name] = None
            step = self._predicted(name)
            if step is None:
                continue
            try:
                mask, other = (read_mask(path, item) for path in (self.run.mask(name), self.run.prediction(name, step)))
            except AdvcamError:  # said where the image is opened
                continue
            known = np.where(mask == IGNORE, IGNORE, positions[mask])
            predicted = np.where(other == IGNORE, 0, positions[other])
            agreed = float(mean_iou(confusion(torch.from_numpy(predicted), torch.from_numpy(known), outputs)))
            self.disagreements[name] = 1 - agreed if agreed == agreed else None

    # One image.

    def item(self, name: str) -> Item:
        """Returns an image of the run.

        Raises:
            InputError: there is no such image.
        """
        if name not in self.items:
            raise InputError(f"there is no image {name!r:.80} in this run")
        return self.items[name]

    def opened(self, name: str) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """Returns an image's mask as far as it has been mended, and what the page shows beside it.

        The mask is the draft, else the corrected one, else the run's; 255 throughout where none of these can be used.

        Raises:
            InputError: there is no such image.
            StoreError: the log or the corrected labels are damaged.
        """
        item = self.item(name)
        version, notes = self.corrections.version(name), list[str]()
        source, mask = "nothing", np.full(item.size, IGNORE, np.uint8)
        paths = {"draft": self.corrections.draft(name), "corrected": self.corrections.mask(name), "run": self.run.mask(name)}
        for kind, path in paths.items():
            if source == "nothing" and path.is_file():
                try:
                    source, mask = kind, read_mask(path, item)
                except AdvcamError as error:
                    notes.append(f"{error}. It is left as it is until you save another.")
        if source == "nothing" and not notes:
            notes.append(f"{paths['run']}: there is no mask of this image; it begins as 255, not known.")
        decision = self.corrections.decided().get(name, {})
        about = {
            "id": name,
            "size": item.size,
            "version": version,
            "source": source,
            "notes": notes,
            "labels": {str(i): state for i, state in self.corrections.labels(item).items()},
            "maps": [self.classes.ids[at] for at in item.labels] if self.run.maps(name).is_file() else [],
            "plain": self.run.maps(name, plain=True).is_file(),
            "refined": self.run.done("refine"),
            "prediction": self._predicted(name) is not None,
            "run": paths["run"].is_file(),
            "scores": {str(i): score for i, score in load_scores(self.run.confidence(name)).items()},
            "decision": decision if paths["corrected"].is_file() else {},
            "scored": name in self.scored,
        }
        return about, mask

    def mask(self, name: str, of: str) -> NDArray[np.uint8]:
        """Returns another mask to begin with: the ``run``'s, or the network's ``prediction``.

        Raises:
            InputError: there is no such image, or no such kind of masks.
            StoreError: the mask is missing, damaged, or of another size.
        """
        item, step = self.item(name), self._predicted(name)
        if of == "run":
            return read_mask(self.run.mask(name), item)
        if of != "prediction" or step is None:
            raise InputError(f"{name}: there is no {of!r:.40} mask")
        return read_mask(self.run.prediction(name, step), item)

    def _predicted(self, name: str) -> str | None:
        """The step that has predicted an image, the last first."""
        return next((step for step in ("semi", "segment") if self.run.prediction(name, step).is_file()), None)

    def map(self, name: str, number: int, kind: str) -> NDArray[np.uint8]:
        """Returns the map of a class at the size of the image, 255 for 1.

        Args:
            name: id of the image.
            number: id of the class.
            kind: of :data:`KINDS`.

        Raises:
            InputError: there is no such image, class or kind.
            RunError: the run has no such maps, or they are damaged.
            ImageError: the image is gone, or has changed.
        """
        item = self.item(name)
        if kind not in KINDS:
            raise InputError(f"maps are {', '.join(KINDS)}; got {kind!r:.40}")
        if number not in [self.classes.ids[at] for at in item.labels]:
            raise InputError(f"{name}: the run has no map of class {number}, which its labels do not name")
        if kind == "refined":
            found = self._refined_maps(item)
            own = found.maps[[at for at, other in enumerate(found.ids) if other == number]]
        else:
            stored = maps_of(self.context, item, kind == "plain")
            own = stored.maps[[stored.classes.index(number)]]
        full = F.interpolate(own.float().amax(0)[None, None], size=item.size, mode="bilinear", align_corners=False)[0, 0]
        values: NDArray[np.uint8] = np.rint(255 * full.clamp(0, 1).cpu().numpy()).astype(np.uint8)
        return values

    def _refined_maps(self, item: Item) -> Found:
        """Returns the maps that the run's mask of an image was made of."""
        if not self.run.done("refine"):
            raise RunError(
                f"{self.run.root}: the step refine is not done, so there are no refined maps; choose another map, or finish it:"
                f" `advcam refine --run {self.run.root}`"
            )
        with self._refine_lock:
            made = self.run.state()["steps"]["refine"]["key"]
            if self._found is None or self._found[0] != (item.id, made):
                config = RefineConfig.from_record(self.run.config("refine"))
                source = map_source(self.context, config.maps == "plain")
                if made not in self._refiner:
                    self._refiner = {made: refiner_of(self.context, config, source)}
                ((_, stored),) = source([item])
                maps = stored.maps.to(self.context.runtime.torch_device())
                with torch.no_grad():
                    found = self._refiner[made](fit_within(item.read(), config.long_side), maps, stored.classes)
                self._found = ((item.id, made), found)
            return self._found[1]

    def regions(self, name: str, count: int) -> NDArray[np.uint16]:
        """Returns the number of each pixel's region, uint16 [H, W], in about so many regions.

        Raises:
            InputError: there is no such image, or the number is out of range.
            ImageError: the image is gone, or has changed.
        """
        self.item(name)
        if not 4 <= count <= 10_000:
            raise InputError(f"regions: expected 4 to 10,000, got {count}")
        return self._regions(name, count)

    def _superpixels(self, name: str, count: int) -> NDArray[np.uint16]:
        return superpixels(self.items[name].read(), count)

    # Decisions.

    def received(self, name: str, data: bytes) -> NDArray[np.uint8]:
        """Returns a mask that a page has sent, one byte a pixel.

        Raises:
            InputError: there is no such image.
            DataError: it has another size, or holds ids that are no class of the run.
        """
        item = self.item(name)
        if len(data) != item.size[0] * item.size[1]:
            raise DataError(
                f"{name}: expected a mask of {item.size[1]}x{item.size[0]} pixels, got {len(data)} bytes; nothing was saved"
            )
        mask = np.frombuffer(data, np.uint8).reshape(item.size)
        odd = {*np.unique(mask).tolist()} - {0, IGNORE, *self.classes.ids}
        if odd:
            raise DataError(f"{name}: the mask holds {min(odd)}, which is no class of this run; nothing was saved")
        return mask

    def decide(self, name: str, action: str, data: bytes, was: str, order: str, seconds: float) -> tuple[str, str]:
        """Saves what a person says of a mask; returns the new version, and what it was: ``accept``, ``fix``, ...

        Args:
            name: id of the image.
            action: ``save``, which accepts the run's mask or one that differs from it; ``reject``; ``withdraw``.
            data: the mask as the page has it.
            was: the version that it was made from.
            order: in which order the image came up.
            seconds: for which it was looked at.

        Raises:
            InputError: there is no such image or action.
            DataError: a mask that cannot be saved.
            ChangedError: another page has saved this image meanwhile.
            StoreError: the disk is full.
        """
        item = self.item(name)
        self._see_unchanged()
        if action == "withdraw":
            return self.corrections.decide(Entry(name, "withdraw", order, seconds), None, was), "withdraw"
        if action == "reject":
            nothing = np.full(item.size, IGNORE, np.uint8)
            return self.corrections.decide(Entry(name, "reject", order, seconds), nothing, was), "reject"
        if action != "save":
            raise InputError(f"expected save, reject or withdraw; got {action!r:.40}")
        mask = self.received(name, data)
        if (mask == IGNORE).all():
            raise DataError(f"{name}: the mask is 255 throughout, so it says nothing; draw something, or reject it")
        changed = self._changed(item, mask)
        what = "fix" if changed else "accept"
        return self.corrections.decide(Entry(name, what, order, seconds, changed), mask, was), what

    def keep(self, name: str, data: bytes, was: str) -> str:
        """Saves a draft; returns the new version.

        Raises:
            AdvcamError: as for :meth:`decide`.
        """
        mask = self.received(name, data)
        self._see_unchanged()
        return self.corrections.keep(name, mask, was)

    def relabel(self, name: str, now: Mapping[str, str], was: Mapping[str, str]) -> None:
        """Corrects the labels of an image.

        Raises:
            InputError: there is no such image, class or state.
            ChangedError: another page has changed them meanwhile.
            StoreError: the disk is full.
        """
        self.item(name)
        self._see_unchanged()
        new, old = ({int(number): state for number, state in states.items() if number.isdecimal()} for states in (now, was))
        if {*new} != {*self.classes.ids} or not {*new.values()} <= {*STATES}:
            raise InputError(f"labels: expected for each class one of {', '.join(STATES)}")
        self.corrections.relabel(self.items, name, new, old)

    def _changed(self, item: Item, mask: NDArray[np.uint8]) -> int:
        """The number of pixels that differ from the run's mask, all where there is none."""
        try:
            return int((read_mask(self.run.mask(item.id), item) != mask).sum())
        except AdvcamError:
            return mask.size

    def _see_unchanged(self) -> None:
        """Refuses to write where the run's folder was deleted, or replaced by another run.

        Raises:
            ChangedError: it was.
        """
        if not (self.run.root / "run.json").is_file():
            raise ChangedError(f"{self.run.root}: the run is gone; nothing was saved, and this page still holds your mask")
        if load_data(self.run).classes != self.classes:
            raise ChangedError(f"{self.run.root}: is another run now, with other classes; start `advcam explore` again")
