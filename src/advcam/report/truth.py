"""The ground truth that the page shows, remembered in ``report/truth.json`` so that a run that has moved finds it again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TypedDict

from advcam.data import Dataset
from advcam.errors import DataError, StoreError
from advcam.limits import IGNORE
from advcam.stages.truth import Truth, corrected_mask, truth_of
from advcam.store import RunFolder, mask_file, read_json, write_json

from .config import ReportConfig
from .home import homes, without_home


class TruthRecord(TypedDict):
    """``report/truth.json``; paths are relative to the run's folder, begin with ``~``, or are absolute."""

    masks: str
    mask_colours: str | None


def truth_shown(run: RunFolder, data: Dataset, config: ReportConfig, wrong: list[str]) -> Truth | None:
    """Returns the ground truth that was given now, and remembers it, or else that of the last time.

    Args:
        run: the run folder.
        data: the data set.
        config: what was given.
        wrong: takes a line if the ground truth of the last time is no longer there.

    Raises:
        DataError: there is no such folder, or no such file of colours.
    """
    kept = run.root / "report" / "truth.json"
    if config.masks:
        if not config.masks.is_dir():
            raise DataError(f"{config.masks}: there is no such folder of ground-truth masks; check --masks")
        truth = truth_of(config.masks, config.mask_colours)
        run.see_no_links(kept.parent)
        colours = _kept(config.mask_colours, run.root) if config.mask_colours else None
        write_json(kept, {"masks": _kept(config.masks, run.root), "mask_colours": colours})
        return _knowing(run, truth, data)
    if not kept.is_file():
        return None
    known = read_json(kept, TruthRecord, "`advcam report --masks DIR` writes it again")
    masks, colours = _found(known["masks"], run.root), known["mask_colours"]
    with contextlib.suppress(OSError, ValueError, DataError):
        if masks.is_dir():
            return _knowing(run, truth_of(masks, _found(colours, run.root) if colours else None), data)
    wrong.append(f"{masks}: the ground truth shown before is no longer there; --masks DIR says where it is")
    return None


def _kept(path: Path, root: Path) -> str:
    """A path as it is remembered: relative if it lies in the run or at most two folders above, which are moved together."""
    path, root = path.resolve(), root.resolve()
    for above in (root, *root.parents[:2]):
        if path.is_relative_to(above) and str(above) not in (*homes(), above.anchor):
            return Path(os.path.relpath(path, root)).as_posix()
    return without_home(str(path))


def _found(kept: str, root: Path) -> Path:
    """The path that was remembered."""
    with contextlib.suppress(RuntimeError):  # no home folder
        return Path(os.path.normpath(root.resolve() / Path(kept).expanduser()))
    return Path(kept)


def _knowing(run: RunFolder, truth: Truth, data: Dataset) -> Truth:
    """Returns the truth with 255 as the object, if there is one class and all masks hold 0 and 255 alone.

    In the masks that a person corrected in the run, 255 is what nobody knows.
    """
    if len(data.classes) > 1 or truth.folder.resolve() == corrected_mask(run, "").parent.resolve():
        return truth
    held = set[int]()
    for item in data.items:
        with contextlib.suppress(StoreError):
            held |= {*truth(item).ravel().tolist()} if mask_file(truth.folder, item.id).is_file() else set()
        if held - {0, IGNORE}:
            break
    return truth.knowing(held, data.classes)
