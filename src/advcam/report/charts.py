"""Charts as inline SVG: axes with ticks and units, a tooltip on every mark, colours that follow the page's scheme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

Number = float | None
Points = Sequence[tuple[float, Number]]

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
LONGEST = 18
"""Characters of a name that are shown beside a chart; its tooltip has all."""
BAR, GAP, LINE, CELL = 9, 10, 14, 30
COLOURS, DASHES = 5, 4
"""Colours and kinds of dashes of curves, see style.css."""


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Args:
        title: what it shows.
        note: by which rule, or how to read it.
        svg: the drawing.
        header: of the table of its numbers.
        rows: of that table.
        legend: names of the series, in the order of their colours.
        ids: class ids of the series, where each is of a class that the page can single out.
    """

    title: str
    note: str
    svg: Markup
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    legend: Sequence[str] = ()
    ids: Sequence[int] = ()


@dataclass(frozen=True)
class Axis:
    """A range of values on a range of pixels.

    Args:
        low: the smallest value.
        high: the largest value.
        start: pixel of ``low``.
        end: pixel of ``high``.
        log: whether the scale is logarithmic; then both values are above 0.
        whole: whether only whole numbers are marked.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def __call__(self, value: float) -> float:
        """Returns the pixel of a value, one decimal."""
        low, high, at = (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        share = (at - low) / ((high - low) or 1)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Returns round values to mark."""
        if not self.log:
            return [tick for tick in ticks(self.low, self.high) if not self.whole or tick == round(tick)]
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)] or [self.low, self.high]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns at most ``most`` multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``.

    Example:
        >>> ticks(0, 1), ticks(1, 20)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [5.0, 10.0, 15.0, 20.0])
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) < most)
    return [round(at * step, 10) for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def up_to(value: float) -> float:
    """Returns the round value at which an axis ends that begins at 0 and shows ``value``.

    Example:
        >>> up_to(0.43), up_to(7.2)
        (0.5, 8.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return round(next(f * power for f in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if f * power >= value * (1 - 1e-9)), 10)


def lines(
    title: str, note: str, x: str, y: str, series: Mapping[str, Points],
    marks: Mapping[str, float] | None = None, percent: bool = False,
    told: Mapping[str, Points] | None = None, ids: Mapping[str, int] | None = None,
) -> Chart:  # fmt: skip
    """Returns curves over a number.

    Args:
        title: of the chart.
        note: how to read it.
        x: label of the horizontal axis, with the unit.
        y: label of the vertical axis, with the unit.
        series: the points of each curve, by name; points without a value are left out.
        marks: places on the horizontal axis to mark, by what they are.
        percent: whether values are shares, shown in percent.
        told: the points of each curve that have a tooltip and stand in the table; none: all.
        ids: the class id of each curve, if each is of a class.
    """
    known, named = _known(series), _known(told or series)
    xs = [a for points in known.values() for a, _ in points] or [0.0, 1.0]
    top = up_to(max([b for points in known.values() for _, b in points] or [1.0]))
    lowest = min([0.0, *(b for points in known.values() for _, b in points)])
    whole = all(place == round(place) for place in xs)
    across = Axis(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, WIDTH - RIGHT, whole=whole)
    up = Axis(lowest, top, HEIGHT - BOTTOM, TOP)
    svg = _frame(title, WIDTH, HEIGHT, above=LINE * len(marks or {}))
    _axes(svg, across, up, x, y, percent)
    _chosen(svg, across, marks or {})
    for at, (name, points) in enumerate(known.items()):
        path = " ".join(f"{'M' if not n else 'L'}{across(a)} {up(b)}" for n, (a, b) in enumerate(points))
        curve = _mark(svg, name) if ids else _add(svg, "g", {})
        if ids:
            curve.set("data-of", str(ids[name]))
        _add(curve, "path", {"d": path, "class": f"line {paint(at)}"})
        for a, b in named[name]:
            group = _mark(curve, f"{name}: {_value(b, percent)} at {a:g}")
            _add(group, "circle", {"cx": across(a), "cy": up(b), "r": 5, "class": f"dot {paint(at)}"})
    places = sorted({a for points in named.values() for a, _ in points})
    table = {name: dict(points) for name, points in named.items()}
    rows = [[f"{a:g}", *(_value(table[name].get(a), percent) for name in known)] for a in places]
    return Chart(title, note, _markup(svg), (x, *known), rows, tuple(known), [ids[name] for name in known] if ids else ())


def paint(at: int) -> str:
    """Returns the classes of a series' colour and dashes, which repeat after :data:`COLOURS` times :data:`DASHES`.

    Example:
        >>> paint(0), paint(7)
        ('s0 d0', 's2 d1')
    """
    return f"s{at % COLOURS} d{at // COLOURS % DASHES}"


def _known(series: Mapping[str, Points]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(a, b) for a, b in points if b is not None and math.isfinite(b)] for name, points in series.items()}


def bars(
    title: str, note: str, x: str, series: Mapping[str, Mapping[str, Number]],
    intervals: Mapping[tuple[str, str], tuple[float, float]] | None = None,
) -> Chart:  # fmt: skip
    """Returns horizontal bars from 0 to 100 %: a group for each name, in it a bar for each series.

    Args:
        title: of the chart.
        note: how to read it.
        x: label of the axis, with the unit.
        series: values in [0, 1] by name, by series; None is said to be none.
        intervals: ends of intervals, by series and name.
    """
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    each = BAR * len(series) + GAP
    height, left = TOP + each * len(names) + BOTTOM, _room(names)
    across = Axis(0, 1, left, WIDTH - RIGHT)
    svg = _frame(title, WIDTH, height)
    _across(svg, across, x, height, True)
    for row, name in enumerate(names):
        y = TOP + row * each + GAP / 2
        label = _add(svg, "text", {"x": left - 6, "y": y + (each - GAP) / 2 + 4, "text-anchor": "end"}, _short(name))
        _add(label, "title", {}, name)
        for at, (of, values) in enumerate(series.items()):
            ends = (intervals or {}).get((of, name))
            group = _mark(svg, f"{name}, {of}: {_value(values.get(name), True)}{_between(ends)}")
            top, value = y + at * BAR, values.get(name) or 0.0
            place = {"x": left, "y": top, "width": max(0.5, across(value) - left), "height": BAR - 1}
            _add(group, "rect", place | {"class": f"s{at}"})
            if ends:
                middle = top + (BAR - 1) / 2
                line = {"x1": across(ends[0]), "x2": across(ends[1]), "y1": middle, "y2": middle, "class": "interval"}
                _add(group, "line", line)
    rows = [
        [name, *(_value(v.get(name), True) + _between((intervals or {}).get((of, name))) for of, v in series.items())]
        for name in names
    ]
    return Chart(title, note, _markup(svg), ("", *series), rows, tuple(series))


def matrix(
    title: str, note: str, y: str, x: str, names: Sequence[str], values: Sequence[Sequence[float]], percent: bool = False
) -> Chart:
    """Returns a table of numbers, the larger the darker.

    Args:
        title: of the chart.
        note: how to read it.
        y: what the rows are.
        x: what the columns are.
        names: of rows and columns.
        values: by row and column.
        percent: whether they are shares, shown in percent.
    """
    left = max(110, _room(names))
    side = left + CELL * len(names) + RIGHT
    height = TOP + CELL * len(names) + max(40, _room(names))
    svg = _frame(title, side, height)
    most = max([v for row in values for v in row] or [1.0]) or 1.0
    for i, name in enumerate(names):
        middle = TOP + CELL * i + CELL / 2
        label = _add(svg, "text", {"x": left - 6, "y": middle + 4, "text-anchor": "end"}, _short(name))
        _add(label, "title", {}, name)
        column, bottom = left + CELL * i + CELL / 2, TOP + CELL * len(names) + 10
        turned = {"x": column, "y": bottom, "text-anchor": "end", "transform": f"rotate(-55 {column} {bottom})"}
        _add(_add(svg, "text", turned, _short(name)), "title", {}, name)
        for j, other in enumerate(names):
            value = values[i][j]
            shown = f"{100 * value:.0f}" if percent else f"{value:g}"
            group = _mark(svg, f"{y} {name}, {x} {other}: {_value(value, True) if percent else shown}")
            place = {"x": left + CELL * j, "y": TOP + CELL * i, "width": CELL - 1, "height": CELL - 1, "class": "cell"}
            _add(group, "rect", place | {"fill-opacity": round(0.04 + 0.46 * value / most, 3)})
            if value:
                _add(group, "text", {"x": left + CELL * j + CELL / 2, "y": middle + 4, "text-anchor": "middle"}, shown)
    corner = {"x": left - 6, "y": TOP + CELL * len(names) + 22, "text-anchor": "end", "class": "label"}
    _add(svg, "text", corner, f"{y} ↑ {x} →")
    rows = [[name, *(_value(v, True) if percent else f"{v:g}" for v in row)] for name, row in zip(names, values, strict=True)]
    return Chart(title, note, _markup(svg), (f"{y} \\ {x}", *names), rows)


def scatter(title: str, note: str, x: str, y: str, points: Sequence[tuple[float, float, str]], middle: Points = ()) -> Chart:
    """Returns points over a share of the image (logarithmic) and an IoU, both in percent.

    Args:
        title: of the chart.
        note: how to read it.
        x: label of the horizontal axis, with the unit.
        y: label of the vertical axis, with the unit.
        points: share above 0, IoU, and what it is.
        middle: a curve through them.
    """
    low = min((a for a, *_ in points), default=0.01)
    across = Axis(10.0 ** math.floor(math.log10(low)), 1.0, LEFT, WIDTH - RIGHT, log=True)
    up = Axis(0, 1, HEIGHT - BOTTOM, TOP)
    svg = _frame(title, WIDTH, HEIGHT)
    _axes(svg, across, up, x, y, True)
    for a, b, what in points:
        group = _mark(svg, f"{what}: {100 * a:.3g} % of the image, IoU {100 * b:.1f} %")
        _add(group, "circle", {"cx": across(a), "cy": up(b), "r": 3, "class": "point s0"})
    path = " ".join(f"{'M' if not n else 'L'}{across(a)} {up(b or 0)}" for n, (a, b) in enumerate(middle))
    if path:
        _add(svg, "path", {"d": path, "class": "line s1"})
    rows = [[_value(a, True), _value(b, True)] for a, b in middle]
    return Chart(title, note, _markup(svg), (x, f"{y}, median") if rows else (), rows)


def _frame(title: str, width: float, height: float, above: float = 0) -> ET.Element:
    box = f"0 {-above} {width} {height + above}"
    svg = ET.Element("svg", {"viewBox": box, "role": "img", "aria-label": title, "class": "chart"})
    svg.set("style", f"max-width: {round(1.15 * width)}px")
    return svg


def _axes(svg: ET.Element, across: Axis, up: Axis, x: str, y: str, percent: bool) -> None:
    _across(svg, across, x, HEIGHT, percent and across.log)
    for value in up.ticks():
        _add(svg, "line", {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": up(value), "y2": up(value), "class": "grid"})
        shown = f"{100 * value:g}" if percent else f"{value:g}"
        _add(svg, "text", {"x": LEFT - 6, "y": up(value) + 4, "text-anchor": "end"}, shown)
    _add(svg, "line", {"x1": LEFT, "x2": LEFT, "y1": TOP, "y2": HEIGHT - BOTTOM, "class": "axis"})
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = {"x": 12, "y": middle, "text-anchor": "middle", "transform": f"rotate(-90 12 {middle})", "class": "label"}
    _add(svg, "text", turned, y)


def _across(svg: ET.Element, across: Axis, x: str, height: float, percent: bool) -> None:
    """Draws the horizontal axis."""
    foot = height - BOTTOM
    for value in across.ticks():
        _add(svg, "line", {"x1": across(value), "x2": across(value), "y1": TOP, "y2": foot + 4, "class": "grid"})
        shown = f"{100 * value:g}" if percent else f"{value:g}"
        _add(svg, "text", {"x": across(value), "y": foot + 17, "text-anchor": "middle"}, shown)
    _add(svg, "line", {"x1": across.start, "x2": across.end, "y1": foot, "y2": foot, "class": "axis"})
    middle = (across.start + across.end) / 2
    _add(svg, "text", {"x": middle, "y": height - 8, "text-anchor": "middle", "class": "label"}, x)


def _chosen(svg: ET.Element, across: Axis, marks: Mapping[str, float]) -> None:
    """Marks places on the horizontal axis, with their names above the chart, that of the leftmost highest."""
    placed = [(name, place, TOP - 4 - LINE * at) for at, (name, place) in enumerate(sorted(marks.items(), key=lambda m: -m[1]))]
    for name, place, top in placed:
        group, where = _mark(svg, f"{name} {place:g}"), across(place)
        _add(group, "line", {"x1": where, "x2": where, "y1": top, "y2": HEIGHT - BOTTOM, "class": "chosen"})
    for name, place, top in placed:
        right = across(place) > 0.55 * WIDTH
        label = {"x": across(place) + (-4 if right else 4), "y": top, "text-anchor": "end" if right else "start"}
        _add(svg, "text", label | {"class": "name"}, f"{name} {place:g}")


def _mark(svg: ET.Element, tooltip: str) -> ET.Element:
    """Adds a group with a tooltip."""
    group = _add(svg, "g", {})
    _add(group, "title", {}, tooltip)
    return group


def _add(parent: ET.Element, tag: str, attributes: Mapping[str, Any], text: str | None = None) -> ET.Element:
    made = ET.SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})
    made.text = text
    return made


def _markup(svg: ET.Element) -> Markup:
    return Markup(ET.tostring(svg, encoding="unicode"))


def _room(names: Sequence[str]) -> float:
    """Returns the width of a column of names, pixels."""
    return 34 + 6.5 * min(LONGEST, max(map(len, names), default=0))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _between(ends: tuple[float, float] | None) -> str:
    return f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else ""


def _value(value: Number, percent: bool) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"
