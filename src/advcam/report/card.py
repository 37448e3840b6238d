"""The model card beside a network's weights: what it was made of, how good it was found, whose licences bind it."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from advcam.data import Dataset
from advcam.models.classifiers import licence
from advcam.store import RunFolder, read_json, write_text

MEASURED = {"segment": "predictions", "semi": "semi"}


def write_card(run: RunFolder, data: Dataset, step: str) -> None:
    """Writes ``README.md`` into the folder of a step that trained a network; numbers of an evaluation, where there was one."""
    folder, state = run.folder(step), run.state()
    made: dict[str, Any] = read_json(folder / "model.json")
    classifier = read_json(run.folder("classify") / "model.json")
    scored = run.root / "metrics.json"
    environment = Environment(loader=PackageLoader("advcam.report"), undefined=StrictUndefined, trim_blocks=True)
    card = environment.get_template("card.md.j2").render(
        step=step,
        folder=folder.name,
        made=made,
        state=state,
        settings=state["steps"][step]["settings"],
        seconds=state["steps"][step]["seconds"],
        train=len(data.train),
        training=read_json(folder / "metrics.json"),
        found=read_json(scored).get(MEASURED[step]) if scored.is_file() else None,
        weights=classifier["weights"],
        from_scratch=classifier["from_scratch"],
        licence=licence(made["backbone"]["name"]),
    )
    write_text(folder / "README.md", card)
