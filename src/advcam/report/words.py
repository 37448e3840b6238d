"""The page in words: what was made, how good it is and by which rule, and what to type next."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from advcam.data import Dataset
from advcam.stages.table import STEPS
from advcam.store import RunFolder
from advcam.store.records import ClassifyMetrics

from .home import command

LOW = 0.7
"""Average precision of the classifier below which labels help more than settings."""


def percent(share: float | None) -> str:
    """Returns a share in percent, with one decimal."""
    return "\N{EN DASH}" if share is None else f"{100 * share:.1f}"


def summary(
    run: RunFolder, data: Dataset, metrics: Mapping[str, Any], classify: ClassifyMetrics | None, counts: Mapping[str, int]
) -> list[str]:
    """Returns what was made and how good it is, a sentence each."""
    return [
        _data(run, data), _steps(run), *_scores(metrics), *_classifier(classify), *_doubtful(counts),
    ]  # fmt: skip


def _data(run: RunFolder, data: Dataset) -> str:
    given = bool(run.config("classify").get("classifier"))
    purpose = "to make masks of (the classifier was given)" if given else "to train on"
    classes = f"{len(data.classes)} class{'es' if len(data.classes) > 1 else ''}"
    left = f" {len(data.skipped)} things were left out, listed in skipped.csv." if data.skipped else ""
    return f"{len(data.train)} images {purpose} and {len(data.eval)} for scoring only, of {classes}.{left}"


def _steps(run: RunFolder) -> str:
    """Says what each step has made."""
    made = {
        "classify": "a classifier",
        "climb": "maps",
        "refine": "masks",
        "segment": "a segmentation network and its predictions",
        "semi": "a network learnt from a few masks made by hand, and its predictions",
    }
    done = [made.get(step, step) for step in run.order if run.done(step)]
    half = [step for step in run.order if run.begun(step) and not run.done(step)]
    left = [step for step in run.order if not run.begun(step) and not STEPS[step].optional]
    said = f"There {'is' if len(done) == 1 else 'are'} {_listed(done)}." if done else "No step is done."
    said += f" Half done: {_listed(half)}." if half else ""
    return said + (f" Not begun: {_listed(left)}." if left else "")


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    said = []
    for name, words in (("masks", "masks"), ("predictions", "predictions"), ("semi", "semi-supervised predictions")):
        if found := metrics.get(name):
            said.append(f"The {words} reach mIoU {_number(found)} with noise {percent(found['noise'])} % ({_rule(found)}).")
    seed = metrics.get("seed_advcam") or metrics.get("seed_plain")
    if not said and seed:
        said.append(f"The maps, cut at a threshold, reach mIoU {_number(seed)} ({_rule(seed)}).")
    return said or ["Not scored: no ground truth was given, so no number here says how good the masks are."]


def _number(found: Mapping[str, Any]) -> str:
    ends = found.get("interval")
    between = f" (95 % interval over images: {percent(ends[0])} to {percent(ends[1])})" if ends else ""
    return f"{percent(found['mean_iou'])} %{between}"


def _rule(found: Mapping[str, Any]) -> str:
    """Returns the images and the rule of a score, without the formulas that the table has."""
    return f"{found['split']}; {found['rule'].split(': ')[0]}"


def _classifier(classify: ClassifyMetrics | None) -> list[str]:
    mean = classify["average_precision"]["mean"] if classify else None
    if mean is None or mean >= LOW:
        return []
    return [
        f"The classifier's average precision is {mean:.2f}: below about {LOW} better or more labels help more than any"
        " setting of the later steps."
    ]


def _doubtful(counts: Mapping[str, int]) -> list[str]:
    words = {
        "lacking": "masks lack a class of their labels",
        "empty": "masks hold no class at all",
        "wrong": "images or files of theirs are missing or damaged",
    }
    said = [f"{counts[state]} {what}" for state, what in words.items() if counts.get(state)]
    return [f"Worth a look: {_listed(said)}."] if said else []


def next_commands(run: RunFolder, measured: Container[str], counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Returns the three commands that a person would type now, each with what it does."""
    root, model = (command([str(path.resolve())]) for path in (run.root, run.folder("segment")))
    left = next((step for step in run.order if not STEPS[step].optional and not run.done(step)), None)
    scored = "masks" in measured or "seed_advcam" in measured
    masks, maps = run.done("refine"), run.done("climb")
    found = [
        (left, f"goes on with {left}", f"advcam {left} --run {root}"),
        (maps and not scored, "scores with masks made by hand of some images", f"advcam evaluate --run {root} --masks DIR"),
        (scored and not counts["truth"], "shows the ground truth too", f"advcam report --run {root} --masks DIR"),
        (masks, "lets you correct masks, the least certain first", f"advcam explore --run {root}"),
        (masks, "writes the masks for another tool", f"advcam convert masks --run {root} --to coco --out masks.json"),
        (run.done("segment"), "makes masks of other images", f"advcam predict --model {model} --images DIR --out DIR"),
        (maps and not counts["grown"], "shows here how maps grow over the climb", f"advcam report --run {root} --grow 8"),
        (masks, "makes larger or smaller masks", f"advcam refine --run {root} --redo --threshold 0.5"),
    ]
    return [(what, command) for wanted, what, command in found if wanted][:3]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
