"""The figures of the studies; the only module that imports matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advcam.store import atomic_write

from .study import Row

SIZE, DPI = (9.0, 3.6), 110


def save(path: Path, draw: Callable[[Figure], None]) -> None:
    """Draws a figure and writes it as PNG by an atomic write."""
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def iterations(rows: Sequence[Row], figure: Figure) -> None:
    """Draws mIoU and noise against T, a line with its interval for each regularisation."""
    for axes, name, title in _two(figure):
        for kind in dict.fromkeys(row["regularisation"] for row in rows):
            mine = [row for row in rows if row["regularisation"] == kind]
            _band(axes, [row["steps"] for row in mine], mine, name, kind)
        axes.set(xlabel="T, maps summed", ylabel=title)
        axes.legend(title="regularisation", fontsize="small")


def sweep(rows: Sequence[Row], name: str, own: float, figure: Figure) -> None:
    """Draws mIoU and noise against a setting, with the plain map as a horizontal and the run's value as a vertical line."""
    for axes, key, title in _two(figure):
        _band(axes, [row[name] for row in rows], rows, key, f"T = {rows[0]['steps']}")
        if key == "mean_iou":
            axes.axhline(100 * (rows[0]["mean_iou"] - rows[0]["gain"]), color="grey", linestyle="--", label="plain map")
        axes.axvline(own, color="grey", linewidth=0.8, label="the run's")
        axes.set(xlabel=name, ylabel=title)
        axes.legend(fontsize="small")


def pairs(rows: Sequence[Row], name: str, figure: Figure) -> None:
    """Draws mIoU and noise of plain map and AdvCAM side by side."""
    at = np.arange(len(rows))
    for axes, key, title in _two(figure):
        for shift, prefix, label in ((-0.18, "plain_", "plain map"), (0.18, "", "AdvCAM")):
            values, ends = _ends(rows, prefix + key)
            axes.bar(at + shift, values, 0.36, yerr=ends, capsize=2, label=label)
        axes.set_xticks(at, [str(row[name]) for row in rows], rotation=20)
        axes.set(ylabel=title)
        axes.legend(fontsize="small")


def growth(rows: Sequence[Row], figure: Figure) -> None:
    """Draws the amplification of each group of cells against the step."""
    left, right = figure.subplots(1, 2)
    for axes, name, title in ((left, "amplification", "mean of CAM(x^t) / CAM(x^0)"), (right, "total", "ratio of the sums")):
        for cells in dict.fromkeys(row["cells"] for row in rows):
            mine = [row for row in rows if row["cells"] == cells]
            _band(axes, [row["t"] for row in mine], mine, name, cells, unit=1)
        axes.set(xlabel="t, steps climbed", ylabel=title)
        axes.legend(fontsize="small")


def landscape(mean: NDArray[Any], reach: float, names: Sequence[str], figure: Figure) -> None:
    """Draws the mean surfaces, each minus its centre, on one colour scale."""
    highest = float(np.abs(mean).max()) or 1.0
    levels, place = np.linspace(-highest, highest, 25), np.linspace(-reach, reach, mean.shape[-1])
    panels = figure.subplots(1, len(names), sharex=True, sharey=True)
    for axes, name, surface in zip(panels, names, mean, strict=True):
        drawn = axes.contourf(place, place, surface, levels=levels, cmap="RdBu_r")
        axes.contour(place, place, surface, levels=levels, colors="black", linewidths=0.3)
        axes.set(title=name, xlabel="random direction")
    panels[0].set(ylabel="gradient direction")
    figure.colorbar(drawn, ax=list(panels), label="y - y(centre)")


def _two(figure: Figure) -> list[tuple[Axes, str, str]]:
    left, right = figure.subplots(1, 2)
    return [(left, "mean_iou", "mIoU, %"), (right, "noise", "noise, %")]


def _ends(rows: Sequence[Row], name: str, unit: float = 100) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns values (times ``unit``), and how far their intervals reach down and up."""
    value, low, high = (unit * np.array([row[key] for row in rows]) for key in (name, f"{name}_low", f"{name}_high"))
    return value, np.clip([value - low, high - value], 0, None)


def _band(axes: Axes, x: Sequence[float], rows: Sequence[Row], name: str, label: str, unit: float = 100) -> None:
    value, (down, up) = _ends(rows, name, unit)
    (line,) = axes.plot(x, value, marker="o", markersize=3, label=label)
    axes.fill_between(x, value - down, value + up, color=line.get_color(), alpha=0.15, linewidth=0)
