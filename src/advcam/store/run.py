"""A run folder: what was made, from what, and how far it got."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.errors import RunError, StoreError

from .alone import LOCK
from .atomic import BEGINNING, read_json, remove, sweep, write_json
from .records import About, ClassRecord, RunRecord

STEPS = ("classify", "climb", "refine", "segment", "semi")
"""The steps in order. The command line, the folder names and the report read it from here."""

NEEDS = {"climb": "classify", "refine": "climb", "segment": "refine", "semi": "refine"}
"""The step that each is applied to."""


def digest(value: Any) -> str:
    """A short hash of plain data: equal for what gives equal results."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunFolder:
    """Paths and state of one run; the state is in ``run.json`` and always on disk."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> RunFolder:
        """An existing run.

        Raises:
            RunError: the folder is not a run.
        """
        if not (root / "run.json").is_file():
            raise RunError(
                f"{root}: not a run folder (no run.json); `advcam run --images DIR --labels FILE --out {root}` makes one"
            )
        run = cls(root)
        run.state()
        sweep(root)
        return run

    @classmethod
    def create(cls, root: Path, about: About, versions: dict[str, str]) -> RunFolder:
        """A new run, or the same one again; one that was refused before its first step gives way to another.

        Args:
            root: the folder.
            about: what identifies the run: data set, classes, seed.
            versions: of the libraries, recorded and not compared.

        Raises:
            RunError: the folder holds a run made from other data, or other files.
        """
        run, key = cls(root), digest(about)
        if (root / "run.json").is_file():
            run, state = cls.open(root), run.state()
            if state["key"] == key:
                return run
            if state["steps"]:
                raise RunError(
                    f"{root}: holds a run made from other data ({_difference(state['about'], about)}); give another --out"
                )
        elif root.exists() and (
            not root.is_dir() or any(not p.name.startswith((BEGINNING, LOCK, ".run.json.")) for p in root.iterdir())
        ):
            raise RunError(f"{root}: exists and is not a run folder; give another --out")
        write_json(
            root / "run.json",
            {"key": key, "about": about, "versions": versions | _machine(), "classes": [], "steps": {}, "options": {}},
        )
        return run

    def see_no_links(self, folder: Path) -> None:
        """Sees that what is written into a folder of the run lands there and nowhere else.

        Raises:
            RunError: it, or a folder in it, is a link.
        """
        below = (Path(root, name) for root, names, _ in os.walk(folder) for name in names)
        for path in (folder, *below):
            if path.is_symlink():
                raise RunError(
                    f"{path}: is a link to {path.readlink()}, which could lead anywhere, and advcam writes through no links in"
                    f" a run: put a folder there, or move all of {self.root} and link that"
                )

    def remember(self, options: dict[str, dict[str, Any]]) -> None:
        """Records the options given for steps that were not taken up yet; they outlive a drop of the step."""
        state = self.state()
        new = {step: given for step, given in options.items() if not self._made(state, step)}
        write_json(self.root / "run.json", state | {"options": state.get("options", {}) | new})

    def name_classes(self, classes: list[ClassRecord]) -> None:
        """Records the classes, each with id and name."""
        write_json(self.root / "run.json", self.state() | {"classes": classes})

    def state(self) -> RunRecord:
        """The contents of ``run.json``.

        Raises:
            StoreError: missing, or not what advcam writes; says where.
        """
        return read_json(self.root / "run.json", RunRecord, "put back what advcam wrote, or start another run")

    def folder(self, step: str) -> Path:
        """A step's folder, ``RUN/2-climb``."""
        return self.root / f"{STEPS.index(step) + 1}-{step}"

    def need(self, step: str, needs: str | None = None) -> str | None:
        """The step that one is applied to, seen to be done; ``needs`` where that is another than usual.

        Raises:
            RunError: it is not done.
        """
        before = needs or NEEDS.get(step)
        if before and not self.done(before):
            raise RunError(
                f"{self.root}: {step} needs {before}, which is not done; `advcam {before} --run {self.root}` does it"
            )
        return before

    def begin(self, step: str, settings: dict[str, Any], needs: str | None = None, threads: int = 0) -> bool:
        """Takes up a step; False where it is done already with the same settings.

        Args:
            step: its name.
            settings: what it is made with.
            needs: the step that it is applied to with these settings; None is the usual one.
            threads: that compute it; recorded.

        Raises:
            RunError: an earlier step is not done, or this one was made with other settings.
        """
        state, before = self.state(), self.need(step, needs)
        source = state["steps"][before]["key"] if before else state["key"]
        key = digest({"settings": settings, "source": source})
        made = state["steps"][step] if self._made(state, step) else None
        if made and made["key"] != key:
            what = _difference(made["settings"], settings) if made["settings"] != settings else f"another {before}"
            raise RunError(
                f"{self.folder(step)}: was made with other settings ({what}); start another run, or"
                f" `advcam {step} --run {self.root} --redo` with the options to change drops it and what follows from it"
            )
        if made and made["state"] == "done":
            return False
        self.see_no_links(self.folder(step))
        if not made:
            _remove(self.folder(step))  # what a dropped step may have left
            state["steps"][step] = {
                "state": "running", "key": key, "settings": settings, "needs": before, "seconds": 0.0, "threads": threads
            }  # fmt: skip
            write_json(self.root / "run.json", state)
        return True

    def _made(self, state: RunRecord, step: str) -> bool:
        """Whether a step has made anything; one that was stopped before, by an error, may be given other settings."""
        made = state["steps"].get(step)
        files = (path.is_file() for path in self.folder(step).rglob("*"))
        return made is not None and (made["state"] == "done" or any(files))

    def built_upon(self, step: str) -> bool:
        """Whether a step that is applied to this one is done."""
        return any(made["needs"] == step and made["state"] == "done" for made in self.state()["steps"].values())

    def recorded(self, step: str) -> dict[str, Any]:
        """The settings that a step was taken up with; nothing where it was not."""
        made = self.state()["steps"].get(step)
        return dict(made["settings"]) if made else {}

    def settings(self, step: str) -> dict[str, Any]:
        """What a step was made with, or is being made with; nothing where it has made nothing yet."""
        state = self.state()
        return dict(state["steps"][step]["settings"]) if self._made(state, step) else {}

    def end(self, step: str, seconds: float, done: bool) -> None:
        """Adds the time a step took this time, and says whether it is done."""
        state = self.state()
        state["steps"][step]["seconds"] += round(seconds, 2)
        state["steps"][step]["state"] = "done" if done else "running"
        write_json(self.root / "run.json", state)

    def drop(self, step: str) -> list[str]:
        """Removes a step and all that follow from it; returns the names of those that were there."""
        state = self.state()
        following = [step]
        for name in STEPS:
            needs = state["steps"][name]["needs"] if name in state["steps"] else NEEDS.get(name)
            following += [name] if needs in following else []
        gone = [name for name in STEPS if name in following and (name in state["steps"] or self.folder(name).exists())]
        for name in gone:
            self.see_no_links(self.folder(name))
        for name in reversed(gone):
            state["steps"].pop(name, None)
            write_json(self.root / "run.json", state)
            _remove(self.folder(name))
        for name in ("metrics.json", "per-image.csv", "doubts-evaluate.csv", "report.html", "report.png"):
            remove(self.root / name)  # they speak of what is gone
        return gone

    def begun(self, step: str) -> bool:
        """Whether a step was taken up."""
        return step in self.state()["steps"]

    def done(self, step: str) -> bool:
        """Whether a step is done."""
        made = self.state()["steps"].get(step)
        return made is not None and made["state"] == "done"

    # Files of the steps.

    def classifier(self) -> Path:
        """Weights of the classifier."""
        return self.folder("classify") / "model.safetensors"

    def maps(self, name: str, plain: bool = False) -> Path:
        """The maps of an image, by id; ``plain`` for those of one step."""
        return self.folder("climb") / ("cam" if plain else "maps") / f"{name}.npz"

    def mask(self, name: str) -> Path:
        """The mask of an image, by id."""
        return self.folder("refine") / "masks" / f"{name}.png"

    def confident(self, name: str) -> Path:
        """What the maps of an image are sure of, by id."""
        return self.folder("refine") / "confident" / f"{name}.png"

    def instances(self, name: str) -> Path:
        """The numbers of an image's objects, by id; classes and scores stand beside it in a .json of the same name."""
        return self.folder("refine") / "instances" / f"{name}.png"

    def prediction(self, name: str, step: str = "segment") -> Path:
        """A network's prediction for an image, by id; ``step`` is segment or semi."""
        return self.folder(step) / "predictions" / f"{name}.png"


def _remove(folder: Path) -> None:
    try:
        if folder.is_symlink() or folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be removed ({error.strerror}); remove it by hand and give the command again"
        ) from None


def _machine() -> dict[str, str]:
    return {"python": platform.python_version(), "platform": platform.platform()}


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    plain_new = json.loads(json.dumps(new, default=str))
    changed = [
        f"{name}: {_short(old.get(name))} -> {_short(plain_new.get(name))}"
        for name in sorted({*old, *new})
        if old.get(name) != plain_new.get(name)
    ]
    return "; ".join(changed[:4]) or "nothing that is recorded"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
