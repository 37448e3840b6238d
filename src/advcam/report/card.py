"""The model card beside a network's weights: its data, scores and licences."""

from __future__ import annotations

import html
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from advcam.data import Dataset
from advcam.models.classifiers import licence
from advcam.stages.context import classifier_record, redo
from advcam.store import RunFolder, read_json, write_text
from advcam.store.records import Metrics, NetworkRecord, TrainingMetrics

_SIGNS = re.compile(r"[\\`*\[\]|#~!]|(?<!\w)_|_(?!\w)")


def text(value: object) -> str:
    r"""Escapes text so that Markdown shows it literally, without HTML.

    Example:
        >>> text("<b>cat</b> in my_dog")
        '&lt;b&gt;cat&lt;/b&gt; in my_dog'
    """
    return _SIGNS.sub(r"\\\g<0>", html.escape(" ".join(str(value).split()), quote=False))


def code(value: object) -> str:
    """Replaces backticks, so that a text fits between backticks."""
    return " ".join(str(value).replace("`", "'").split())


MEASURED = {"segment": "predictions", "semi": "semi"}


def write_card(run: RunFolder, data: Dataset, step: str) -> None:
    """Writes ``README.md`` into the folder of a step that trained a segmentation network, with its scores if there are any."""
    if step not in MEASURED or not run.done(step):
        return
    folder, state = run.folder(step), run.state()
    run.see_no_links(folder)
    made = read_json(folder / "model.json", NetworkRecord, redo(run, step))
    classifier = classifier_record(run)
    scored = run.root / "metrics.json"
    measured = dict(read_json(scored, Metrics, "`advcam evaluate` writes it again")) if scored.is_file() else {}
    environment = Environment(loader=PackageLoader("advcam.report"), undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"text": text, "code": code}
    card = environment.get_template("card.md.j2").render(
        step=step,
        folder=folder.name,
        made=made,
        state=state,
        masks=run.config("refine") if run.begun("refine") else None,
        settings=run.config(step),
        seconds=state["steps"][step]["seconds"],
        train=len(data.train),
        training=read_json(folder / "metrics.json", TrainingMetrics, redo(run, step)),
        found=measured.get(MEASURED[step]),
        weights=classifier.weights,
        from_scratch=classifier.from_scratch,
        licence=licence(made.backbone["name"]),
    )
    write_text(folder / "README.md", card)
