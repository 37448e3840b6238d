"""The studies of seed quality against one setting of the climb: iterations, restrain, tau, step-size, base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from advcam.attribution import METHODS, ClimbSettings
from advcam.data import Skip
from advcam.errors import SettingsError
from advcam.metrics import resampled
from advcam.stages.context import Context

from . import paragraphs
from .cache import Setting
from .climbs import Climber
from .sample import Sample, draw
from .seeds import RULE, Score, measure
from .study import Outcome, Row, Study, identity

REGULAR = {"suppress": 1.0, "restrain": 1.0}
"""Weights of the two terms if the run's own climb leaves them out."""

RESTRAIN = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
TAUS = (0.1, 0.3, 0.5, 0.7, 0.9)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Climbed:
    """Scores of every setting at T = 1 to its last step, all on the same resamples."""

    columns: list[Row]
    scores: list[list[Score]]
    sample: Sample
    skipped: list[Skip]

    def row(self, at: int, t: int, **against: Score) -> Row:
        """Returns the row of a setting at T = t; ``gain`` is the difference to its own plain map."""
        counted = {"steps": t, "images": len(self.sample.items)}
        return self.columns[at] | counted | self.scores[at][t - 1].row(gain=self.scores[at][0], **against)

    def beside_plain(self, at: int, t: int) -> Row:
        """Returns the row of a setting at T = t, with the scores of its plain map: ``plain_mean_iou``, ``plain_noise``."""
        plain = {f"plain_{name}": value for name, value in self.row(at, 1).items() if name.startswith(("mean_iou", "noise"))}
        return self.row(at, t) | plain

    def outcome(
        self, rows: list[Row], text: str, draw: Any, about: dict[str, Any], curves: Sequence[Row] = (), rule: str = RULE
    ) -> Outcome:
        """Returns the results of a study of these climbs."""
        return Outcome(rows, text, draw, rule, about, [self.sample], self.skipped, list(curves))


def climb_all(study: Study, context: Context, masks: Path, settings: Sequence[tuple[Row, ClimbSettings]]) -> Climbed:
    """Climbs the sample of a run with each setting, and scores the maps at every T."""
    climber, outputs = Climber(context), len(context.data.classes) + 1
    asked = [
        Setting(columns, identity(context, "seeds", s, masks=masks), partial(measure, climber, s, masks))
        for columns, s in settings
    ]
    wanted = draw(context, masks, study.config.sample, study.config.list)
    sample, parts, skipped = study.collect(asked, wanted)
    weights = resampled(len(sample.items), study.config.resamples, sample.seed)
    turns = [(at, t) for at, (_, s) in enumerate(settings) for t in range(1, s.steps + 1)]
    scores: list[list[Score]] = [[] for _ in settings]
    for at, t in context.reporter.track(turns, len(turns), "resample"):
        scores[at].append(Score.of(sample.items, parts[at], t, outputs, weights))
    return Climbed([dict(columns) for columns, _ in settings], scores, sample, skipped)


def regularised(s: ClimbSettings) -> ClimbSettings:
    """Returns the settings with both terms: their own weights, or those of :data:`REGULAR` for a term left out."""
    terms: dict[str, Any] = {name: getattr(s, name) or weight for name, weight in REGULAR.items()}
    return replace(s, **terms)


def iterations(study: Study) -> Outcome:
    """Seed quality against T, with and without each term of the regularisation."""
    from . import figures

    base, both = study.config.climb, regularised(study.config.climb)
    longest = study.config.longest or 2 * base.steps
    terms = {
        "none": (0.0, 0.0),
        "suppress": (both.suppress, 0.0),
        "restrain": (0.0, both.restrain),
        "both": (both.suppress, both.restrain),
    }
    names = study.config.names(tuple(terms))
    settings: list[tuple[Row, ClimbSettings]] = []
    for name in names:
        columns: dict[str, Any] = dict(zip(("suppress", "restrain"), terms[name], strict=True))
        settings.append(({"regularisation": name, **columns}, replace(base, steps=longest, **columns)))
    done = climb_all(study, study.context, study.masks(), settings)
    own = [at for at, name in enumerate(names) if terms[name] == (base.suppress, base.restrain)]
    at_base = {"difference": done.scores[own[0]][base.steps - 1]} if own and base.steps <= longest else {}
    rows = []
    for at in range(len(names)):
        peak = max(range(longest), key=lambda t: float(done.scores[at][t].mean_iou[0]))
        for t in range(1, longest + 1):
            against = at_base | {"since_peak": done.scores[at][peak]}
            if "none" in names:
                against["to_none"] = done.scores[names.index("none")][t - 1]
            rows.append(done.row(at, t, **against))
    about = {"longest": longest, "regularisation": list(names), "base": asdict(base)}
    text = paragraphs.iterations(rows, str(done.sample), base.steps)
    rule = (
        f"{RULE}; since_peak: less that of the T that is best for the same setting on this sample; to_none: less that without"
    )
    return done.outcome(rows, text, partial(figures.iterations, rows), about, rule=f"{rule} either term, at the same T")


def restrain(study: Study) -> Outcome:
    """Seed quality against lambda."""
    return _sweep(study, study.config.climb, "restrain", RESTRAIN)


def tau(study: Study) -> Outcome:
    """Seed quality against tau, with the penalty on: with lambda 1 if the run's climb has none."""
    base = study.config.climb
    if not base.restrain:
        base = replace(base, restrain=REGULAR["restrain"])
        study.context.reporter.say(f"tau belongs to the penalty, which the climb leaves out: uses restrain={base.restrain:g}")
    return _sweep(study, base, "tau", TAUS)


def step_size(study: Study) -> Outcome:
    """Seed quality against xi."""
    base = study.config.climb
    return _sweep(study, base, "step_size", tuple(factor * base.step_size for factor in FACTORS))


def _sweep(study: Study, base: ClimbSettings, name: str, defaults: tuple[float, ...]) -> Outcome:
    from . import figures

    own = getattr(base, name)
    values = tuple(sorted({*study.config.numbers(defaults), own}))
    longest = max(base.steps, study.config.longest or 0)
    done = climb_all(
        study,
        study.context,
        study.masks(),
        [({name: value}, replace(base, steps=longest, **{name: value})) for value in values],
    )
    at_base = [scores[base.steps - 1] for scores in done.scores][values.index(own)]
    rows = [done.row(at, base.steps, difference=at_base) for at in range(len(values))]
    curves = [done.row(at, t, difference=at_base) for at in range(len(values)) for t in range(1, longest + 1)]
    about = {"swept": name, "values": list(values), "longest": longest, "base": asdict(base)}
    text = paragraphs.sweep(rows, name, base, str(done.sample))
    return done.outcome(rows, text, partial(figures.sweep, rows, name, own), about, curves)


def base(study: Study) -> Outcome:
    """Every base method, as the plain map and with the climb."""
    from . import figures

    own, names = study.config.climb, study.config.names(tuple(METHODS))
    if own.weights == "gradient":
        raise SettingsError(
            "weights='gradient' (preset official) work only with the method cam: give --preset default to study base methods"
        )
    done = climb_all(study, study.context, study.masks(), [({"method": name}, replace(own, method=name)) for name in names])
    rows = [done.beside_plain(at, own.steps) for at in range(len(names))]
    curves = [done.row(at, t) for at in range(len(names)) for t in range(1, own.steps + 1)]
    text = paragraphs.pairs(rows, "method", str(done.sample), own.steps)
    about = {"methods": list(names), "base": asdict(own)}
    return done.outcome(rows, text, partial(figures.pairs, rows, "method"), about, curves)
