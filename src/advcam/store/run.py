"""The run folder: its state in ``run.json`` and the paths of its files."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcam.errors import RunError, StoreError

from .alone import LOCK
from .atomic import BEGINNING, read_json, remove, sweep, write_json
from .records import LAYOUT, About, ClassRecord, RunRecord, StepRecord

RESTORE = "restore the file that advcam wrote, or start another run"
"""Advice for a damaged file of a run, for error messages."""


def digest(value: Any) -> str:
    """Returns a short hash of plain data; equal data have equal hashes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunFolder:
    """Paths and state of one run; the state is kept in ``run.json``, never only in memory.

    Args:
        root: the folder.
        order: the steps in order, each with the step it needs.
    """

    root: Path
    order: Mapping[str, str | None]

    @classmethod
    def open(cls, root: Path, order: Mapping[str, str | None]) -> RunFolder:
        """Opens an existing run.

        Raises:
            RunError: the folder is not a run.
        """
        if not (root / "run.json").is_file():
            raise RunError(
                f"{root}: not a run folder (no run.json); `advcam run --images DIR --labels FILE --out {root}` makes one"
            )
        run = cls(root, order)
        run.state()
        sweep(root)
        return run

    @classmethod
    def create(cls, root: Path, order: Mapping[str, str | None], about: About, versions: dict[str, str]) -> RunFolder:
        """Creates a run, or opens it if it has the same data; a run without a finished or started step is replaced.

        Args:
            root: the folder.
            order: the steps in order, each with the step it needs.
            about: what identifies the run: data set, classes, seed.
            versions: versions of the libraries; recorded, not compared.

        Raises:
            RunError: the folder holds a run on other data, or files that are not a run.
        """
        run, key = cls(root, order), digest(about)
        if (root / "run.json").is_file():
            run, state = cls.open(root, order), run.state()
            if state["key"] == key:
                return run
            if any(map(run.begun, state["steps"])):
                raise RunError(
                    f"{root}: holds a run made from other data ({_difference(state['about'], about)}); give another --out"
                )
        elif root.exists() and (
            not root.is_dir() or any(not p.name.startswith((BEGINNING, LOCK, ".run.json.")) for p in root.iterdir())
        ):
            raise RunError(f"{root}: exists and is not a run folder; give another --out")
        write_json(
            root / "run.json",
            {"layout": LAYOUT, "key": key, "about": about, "versions": versions | _machine(), "classes": [], "steps": {}},
        )
        return run

    def see_no_links(self, folder: Path) -> None:
        """Checks that a folder of the run neither is nor contains a link to a folder elsewhere.

        Raises:
            RunError: the folder, or a folder in it, is a link.
        """
        below = (Path(root, name) for root, names, _ in os.walk(folder) for name in names)
        for path in (folder, *below):
            if path.is_symlink():
                raise RunError(
                    f"{path}: is a link to {path.readlink()}, and advcam does not write through links inside a run: replace it"
                    f" with a folder, or move all of {self.root} and link that"
                )

    def plan(self, step: str, config: dict[str, Any], given: Iterable[str]) -> None:
        """Records the settings of a step that has written no file yet; they survive dropping the step.

        Args:
            step: name of the step.
            config: its settings as plain data.
            given: names of the settings that were typed.
        """
        state = self.state()
        if not self._made(state, step):
            state["steps"][step] = _planned(config, sorted(given))
            write_json(self.root / "run.json", state)

    def name_classes(self, classes: list[ClassRecord]) -> None:
        """Records the id and name of each class."""
        write_json(self.root / "run.json", self.state() | {"classes": classes})

    def state(self) -> RunRecord:
        """Returns the contents of ``run.json``.

        Raises:
            StoreError: the file is missing or malformed; the message says where.
            RunError: the file was written by an incompatible version of advcam.
        """
        path = self.root / "run.json"
        try:
            state = read_json(path, RunRecord, RESTORE)
        except StoreError:
            held = read_json(path, dict[str, Any], RESTORE)
            if held.keys() >= {"key", "about", "steps"} and held.get("layout") != LAYOUT:
                raise RunError(
                    f"{self.root}: was made by another version of advcam, whose run.json this version cannot read; its maps,"
                    " masks and networks can still be used; to go on, start another run with the same options"
                ) from None
            raise
        for step, made in state["steps"].items():
            if not {step, made["needs"] or step} <= self.order.keys():
                raise StoreError(f"{path}: {step!r}, or the step it needs, is not a step of advcam; {RESTORE}")
        return state

    def folder(self, step: str) -> Path:
        """Returns the folder of a step, e.g. ``RUN/2-climb``."""
        return self.root / f"{list(self.order).index(step) + 1}-{step}"

    def need(self, step: str, needs: str | None = None) -> str | None:
        """Returns the step that ``step`` needs (``needs``, or by default the one in ``order``), which must be done.

        Raises:
            RunError: that step is not done.
        """
        before = needs or self.order.get(step)
        if before and not self.done(before):
            raise RunError(
                f"{self.root}: {step} needs {before}, which is not done; `advcam {before} --run {self.root}` does it"
            )
        return before

    def begin(
        self,
        step: str,
        config: dict[str, Any],
        identity: dict[str, Any] | None = None,
        needs: str | None = None,
        threads: int = 0,
    ) -> bool:
        """Starts or resumes a step; returns False if it is already done with the same settings.

        Args:
            step: name of the step.
            config: its settings as plain data; a precision that was asked for as ``auto`` is recorded as ``auto``.
            identity: everything that changes the result, if that is not the config itself.
            needs: the step it needs with these settings; None is the one in ``order``.
            threads: number of threads that compute it; recorded.

        Raises:
            RunError: the step it needs is not done, or it was made with other settings.
        """
        state, before = self.state(), self.need(step, needs)
        source = state["steps"][before]["key"] if before else state["key"]
        key = digest({"settings": config if identity is None else identity, "source": source})
        planned = state["steps"].get(step)
        made = planned if self._made(state, step) else None
        if made and made["key"] != key:
            settled = {"precision": made["precision"]}
            what = _difference(made["config"] | settled, {"precision": None} | config)
            what = what or f"a file that they name has changed, or so has {before or 'the data'}"
            raise RunError(
                f"{self.folder(step)}: was made with other settings ({what}); leave these options out to go on with what is"
                f" there, start another run, or `advcam {step} --run {self.root} --redo` with the options to change (it"
                " deletes this step and all that depends on it)"
            )
        if made and made["state"] == "done":
            return False
        self.see_no_links(self.folder(step))
        if not made:
            _remove(self.folder(step))  # files left by a step that was dropped
            asked = {"precision": planned["config"].get("precision")} if planned and "precision" in config else {}
            state["steps"][step] = _planned(config | asked, planned["given"] if planned else []) | {
                "state": "running", "key": key, "needs": before, "threads": threads, "precision": config.get("precision")
            }  # fmt: skip
            write_json(self.root / "run.json", state)
        return True

    def _made(self, state: RunRecord, step: str) -> bool:
        """Whether a step is done or has written a file; until then its settings may still change."""
        made = state["steps"].get(step)
        files = made and made["state"] != "planned" and (path.is_file() for path in self.folder(step).rglob("*"))
        return made is not None and (made["state"] == "done" or any(files or ()))

    def built_upon(self, step: str) -> bool:
        """Whether a step that needs this one is done."""
        return any(made["needs"] == step and made["state"] == "done" for made in self.state()["steps"].values())

    def config(self, step: str) -> dict[str, Any]:
        """Returns the settings that a step was planned or started with, ``auto`` resolved; empty if it was neither."""
        made = self.state()["steps"].get(step)
        return made["config"] | ({"precision": made["precision"]} if made["precision"] else {}) if made else {}

    def asked(self, step: str, typed: bool = False) -> dict[str, Any]:
        """Returns the recorded settings of a step with ``auto`` as it was asked for; only those typed if ``typed``."""
        made = self.state()["steps"].get(step)
        config, given = (made["config"], made["given"]) if made else ({}, [])
        return {name: value for name, value in config.items() if name in given or not typed}

    def given(self, step: str) -> list[str]:
        """Returns the names of a step's settings that were typed."""
        made = self.state()["steps"].get(step)
        return made["given"] if made else []

    def precision(self, step: str) -> str | None:
        """Returns the precision that a step was started with; None if it has written nothing."""
        state = self.state()
        return state["steps"][step]["precision"] if self._made(state, step) else None

    def end(self, step: str, seconds: float, done: bool) -> None:
        """Adds the time that this attempt at a step took, and records whether the step is done."""
        state = self.state()
        state["steps"][step]["seconds"] += round(seconds, 2)
        state["steps"][step]["state"] = "done" if done else "running"
        write_json(self.root / "run.json", state)

    def drop(self, step: str) -> list[str]:
        """Deletes a step and every step that depends on it, but keeps their settings; returns the names of those deleted."""
        state = self.state()
        following = [step]
        for name in self.order:
            needs = state["steps"][name]["needs"] if self.begun(name) else self.order.get(name)
            following += [name] if needs in following else []
        gone = [name for name in self.order if name in following and (self.begun(name) or self.folder(name).exists())]
        for folder in (self.root / "report", *map(self.folder, gone)):
            self.see_no_links(folder)
        for name in reversed(gone):
            if name in state["steps"]:
                state["steps"][name] = _planned(state["steps"][name]["config"], state["steps"][name]["given"])
            write_json(self.root / "run.json", state)
            _remove(self.folder(name))
        for name in ("metrics.json", "per-image.csv", "doubts-evaluate.csv", "report.html", "report.png"):
            remove(self.root / name)  # their numbers refer to deleted files
        _remove(self.root / "report")
        return gone

    def begun(self, step: str) -> bool:
        """Whether a step was started."""
        return self.state()["steps"].get(step, {"state": "planned"})["state"] != "planned"

    def done(self, step: str) -> bool:
        """Whether a step is done."""
        made = self.state()["steps"].get(step)
        return made is not None and made["state"] == "done"

    # Paths of the steps' files.

    def classifier(self) -> Path:
        """Returns the path of the classifier's weights."""
        return self.folder("classify") / "model.safetensors"

    def maps(self, name: str, plain: bool = False) -> Path:
        """Returns the path of an image's maps: its AdvCAMs, or its plain maps (no climb) if ``plain``."""
        return self.folder("climb") / ("cam" if plain else "maps") / f"{name}.npz"

    def mask(self, name: str) -> Path:
        """Returns the path of an image's mask."""
        return self.folder("refine") / "masks" / f"{name}.png"

    def confidence(self, name: str) -> Path:
        """Returns the path of an image of how sure its mask is of each pixel, 0 to 255."""
        return self.folder("refine") / "confidence" / f"{name}.png"

    def confident(self, name: str) -> Path:
        """Returns the path of an image's confident labels."""
        return self.folder("refine") / "confident" / f"{name}.png"

    def instances(self, name: str) -> Path:
        """Returns the path of an image's instance mask; its objects' classes and scores are in a .json of the same name."""
        return self.folder("refine") / "instances" / f"{name}.png"

    def prediction(self, name: str, step: str = "segment") -> Path:
        """Returns the path of a network's prediction for an image; ``step`` is segment or semi."""
        return self.folder(step) / "predictions" / f"{name}.png"


def _planned(config: dict[str, Any], given: list[str]) -> StepRecord:
    """Returns the record of a step that has not been started."""
    return {
        "state": "planned", "key": "", "config": config, "given": given, "needs": None, "seconds": 0.0, "threads": None,
        "precision": None,
    }  # fmt: skip


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
    """Four settings that differ; first those that both have, as others may differ because of them (a method's settings)."""
    plain_new = json.loads(json.dumps(new, default=str))
    names = [name for name in {*old, *new} if old.get(name) != plain_new.get(name)]
    names.sort(key=lambda name: (old.get(name) is None or plain_new.get(name) is None, name))
    return "; ".join(f"{name}: {_short(old.get(name))} -> {_short(plain_new.get(name))}" for name in names[:4])


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
