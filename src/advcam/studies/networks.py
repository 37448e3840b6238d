"""The study networks: the gain of the climb on several networks, with the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from advcam.errors import SettingsError
from advcam.stages.context import Context, classifier_record

from . import paragraphs
from .seeds import RULE
from .study import Outcome, Study, classifier_key
from .sweeps import climb_all


def networks(study: Study) -> Outcome:
    """Plain map, AdvCAM and gain of every run's network, on images of its own.

    Raises:
        SettingsError: the number of ground-truth folders differs from that of runs.
    """
    from . import figures

    contexts, masks, s = (study.context, *study.others), study.config.masks, study.config.climb
    if len(masks) != len(contexts):
        raise SettingsError(
            "advcam study networks needs --masks DIR once for each run, in the order of --run and --runs: got"
            f" {len(contexts)} runs and {len(masks)} folders of masks"
        )
    for context in contexts:
        classifier_key(context)
    done = [
        climb_all(study, context, folder, [({"network": name}, s)])
        for context, folder, name in zip(contexts, masks, _names(contexts), strict=True)
    ]
    rows = [climbed.beside_plain(0, s.steps) for climbed in done]
    samples, skipped = [climbed.sample for climbed in done], [skip for climbed in done for skip in climbed.skipped]
    text = paragraphs.pairs(rows, "network", "; ".join(dict.fromkeys(map(str, samples))), s.steps)
    about = {"runs": [str(context.run.root.resolve()) for context in contexts], "climb": asdict(s)}
    return Outcome(rows, text, partial(figures.pairs, rows, "network"), RULE, about, samples, skipped)


def _names(contexts: Sequence[Context]) -> list[str]:
    """Returns a name for each run's network: its backbone or the user's file, with the run's name if two are equal."""
    records = [classifier_record(context.run) for context in contexts]
    names = [str(record.own or record.backbone["name"]) for record in records]
    runs = [context.run.root.resolve().name for context in contexts]
    return [f"{name} ({run})" if names.count(name) > 1 else name for name, run in zip(names, runs, strict=True)]
