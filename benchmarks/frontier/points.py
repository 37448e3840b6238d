"""Points of quality and time, which of them nothing beats, and the tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from advcam.metrics import interval, resampled
from advcam.studies.cache import Part

from ..quality.measure import RESAMPLES, Score

Times = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """One setting with one network on one data set; scores in percent.

    Args:
        network: name of the classifier.
        data: name of the data set.
        half: ``first``, on which settings are chosen, or ``last``.
        setting: its name.
        precision: of its maps.
        count: images scored.
        mean_iou: at the best threshold, and the ends of its 95 % interval.
        over_default: paired difference from preset default of the same precision, and its ends; None for that itself.
        threshold: the best one.
        chosen: threshold chosen without ground truth; None where it was not asked for.
        mean_iou_chosen: at that threshold.
        noise: share of background among the pixels found, at the best threshold.
        seconds: median of one core's seconds an image.
        times: median of how many times faster than the published loop at four scales on the same image.
    """

    network: str
    data: str
    half: str
    setting: str
    precision: str
    count: int
    mean_iou: tuple[float, float, float]
    over_default: tuple[float, float, float] | None
    threshold: float
    chosen: float | None
    mean_iou_chosen: float | None
    noise: float
    seconds: float | None = None
    times: float | None = None


DEFAULT = "default, T = 4"


def points(where: Mapping[str, str], parts: Mapping[str, Sequence[Part]], times: Times) -> list[Point]:
    """Points of one network on one half of one data set.

    Args:
        where: ``network``, ``data``, ``half`` and ``precision``.
        parts: for each setting, the counts of each image.
        times: seconds of each, and how many times faster than the published loop, where they were timed.
    """
    weights = resampled(len(parts[DEFAULT]), RESAMPLES)
    scores = {name: (Score.of(list(of), 1, weights, free(of)), free(of)) for name, of in parts.items()}
    reference = scores[DEFAULT][0].mean_iou
    found = []
    for name, (score, chosen) in scores.items():
        found.append(
            Point(
                **where,
                setting=name,
                count=len(parts[name]),
                mean_iou=percent(score.mean_iou),
                over_default=None if name == DEFAULT else percent(score.mean_iou - reference),
                threshold=round(float(score.threshold[0]), 2),
                chosen=chosen,
                mean_iou_chosen=round(100 * float(score.at_chosen[0]), 1),
                noise=round(100 * float(score.noise[0]), 1),
                **speed(name, times),
            )
        )
    return found


def free(parts: Sequence[Part]) -> float:
    """The threshold chosen without ground truth: the mean over maps."""
    return round(statistics.fmean(float(best) for part in parts for best in part["separating"]), 2)


def percent(values: Tensor) -> tuple[float, float, float]:
    """The sample's value in percent, and the ends of the 95 % interval."""
    low, high = interval(values)
    first, least, most = (round(100 * float(v), 1) for v in (values[0], low, high))
    return first, least, most


def medians(seconds: Mapping[str, Sequence[float]], loop: str) -> Times:
    """Of every side, its median seconds, and the median over rounds of the published loop's seconds over its own."""
    return {
        name: (statistics.median(own), statistics.median(t / o for o, t in zip(own, seconds[loop], strict=True)))
        for name, own in seconds.items()
    }


def speed(name: str, times: Times) -> dict[str, float | None]:
    """The fields ``seconds`` and ``times`` of a side; None where it was not timed."""
    seconds, faster = times.get(name, (None, None))
    return {
        "seconds": None if seconds is None else round(seconds, 3),
        "times": None if faster is None else round(faster, 1),
    }


def frontier(found: Sequence[Point]) -> list[Point]:
    """Those that none beats: no other one is as good and cheaper, or better at the same cost; cheapest first."""
    best: list[Point] = []
    for point in sorted((p for p in found if p.seconds is not None), key=lambda p: (p.seconds, -p.mean_iou[0])):
        if not best or point.mean_iou[0] > best[-1].mean_iou[0]:
            best.append(point)
    return best


def within(found: Sequence[Point], most: float = 1.0) -> list[tuple[str, float, float, float]]:
    """The settings whose mean distance below ``default`` is at most so many points, cheapest first.

    Args:
        found: points of several networks and data sets, of one half and precision, timed.
        most: points below ``default``.

    Returns:
        Name, mean seconds relative to ``default``, mean difference, and the smallest difference.
    """
    pairs = {(p.network, p.data): p for p in found if p.setting == DEFAULT}
    rows = []
    for name in dict.fromkeys(p.setting for p in found):
        mine = {(p.network, p.data): p for p in found if p.setting == name and p.seconds is not None}
        if set(mine) != set(pairs):
            continue
        less = [mine[pair].mean_iou[0] - pairs[pair].mean_iou[0] for pair in pairs]
        cost = statistics.fmean(float(mine[pair].seconds or 0) / float(pairs[pair].seconds or 1) for pair in pairs)
        if statistics.fmean(less) >= -most - 1e-9:
            rows.append((name, round(cost, 2), round(statistics.fmean(less), 1), round(min(less), 1)))
    return sorted(rows, key=lambda row: row[1])


def table(found: Sequence[Point]) -> str:
    """One row a setting, one column for each network and data set; on the frontier in bold."""
    pairs = list(dict.fromkeys((p.data, p.network) for p in found))
    bold = {(p.data, p.network, p.setting) for data, network in pairs
            for p in frontier([p for p in found if (p.data, p.network) == (data, network)])}  # fmt: skip
    rows = []
    for name in dict.fromkeys(p.setting for p in found):
        mine = {(p.data, p.network): p for p in found if p.setting == name}
        rows.append((name, *(cell(mine.get(pair), (*pair, name) in bold) for pair in pairs)))
    return of_table(("maps", *(f"{data}, {network}" for data, network in pairs)), rows)


def of_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def cell(point: Point | None, bold: bool) -> str:
    """Scores at the best threshold and at that chosen without ground truth; seconds; times faster than the published loop."""
    if point is None:
        return ""
    mark = "**" if bold else ""
    free = "" if point.mean_iou_chosen is None else f" / {point.mean_iou_chosen:.1f}"
    cost = "" if point.seconds is None else f"; {point.seconds:.2f} s"
    cost += "" if point.times is None else f", {point.times:.0f}x" if point.times >= 10 else f", {point.times:.1f}x"
    return f"{mark}{point.mean_iou[0]:.1f}{mark}{free}{cost}"


def plain(point: Point) -> dict[str, Any]:
    """The point as JSON."""
    return asdict(point)


def loaded(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Points from JSON."""
    pairs = ("mean_iou", "over_default")
    return [Point(**{k: tuple(v) if k in pairs and v is not None else v for k, v in row.items()}) for row in rows]
