"""Figure of the page on speed: quality against seconds an image, and which settings nothing beats.

    python docs/figures/frontier.py

Reads ``benchmarks/frontier.json``, which ``make bench-frontier`` writes. Writes ``frontier.png`` beside this file.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAMES = {
    "photos": "photographs of animals",
    "objects": "11 other things",
    "mobilenet": "MobileNetV2",
    "efficientnet": "EfficientNet-Lite0",
}
KINDS = {
    "plain": ("#7f8c8d", "plain map"),
    "steps of .01": ("#d35400", "climb of pixels, steps of 1 %"),
    "default": ("#2471a3", "climb of pixels, steps of 2 %"),
    "multiscale": ("#7d3c98", "preset multiscale"),
    "fast": ("#16a085", "climb of features, later maps x 3"),
    "features": ("#b7950b", "climb of features"),
    "published": ("#c0392b", "published method"),
}
SAID = {
    "plain": ("plain map", -7, 3, "right"),
    "default, T = 4": ("default", 10, -16, "left"),
    "fast, T = 2": ("fast", -7, 0, "right"),
    "multiscale, T = 4": ("multiscale", 0, 7, "center"),
    "features, T = 4": ("features", 8, -4, "left"),
    "published loop, four scales": ("published loop,\nfour scales", -8, 8, "center"),
    "published loop, one scale": ("published loop,\none scale", 0, 8, "center"),
    "official, one scale": ("official", 0, -12, "center"),
}
"""What is written beside a point, how many points to the right of it and above, and how it is aligned."""


def beaten_by_none(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points of which none is both cheaper and better."""
    best: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (p["seconds"], -p["mean_iou"][0])):
        if not best or point["mean_iou"][0] > best[-1]["mean_iou"][0]:
            best.append(point)
    return best


def draw(axes: Any, points: list[dict[str, Any]]) -> None:
    """All settings of one network on one data set; the line joins those that nothing beats."""
    line = beaten_by_none(points)
    axes.plot([p["seconds"] for p in line], [p["mean_iou"][0] for p in line], color="#2c3e50", linewidth=1, zorder=1)
    for p in points:
        kind = next((kind for kind in KINDS if p["setting"].startswith(kind)), "published")
        colour, mark = KINDS[kind][0], "s" if kind == "published" else "o"
        axes.plot(p["seconds"], p["mean_iou"][0], mark, color=colour, markersize=5)
        if p["setting"] in SAID:
            words, right, up, side = SAID[p["setting"]]
            axes.annotate(words, (p["seconds"], p["mean_iou"][0]), (right, up), textcoords="offset points", ha=side, fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.margins(0.08, 0.14)
    axes.grid(alpha=0.25, which="both")


def main(numbers: Path) -> None:
    """Draws a panel for each network and data set."""
    kept = [p for p in json.loads(numbers.read_text())["points"] if p["half"] == "last" and p["precision"] == "float32"]
    shown = [p for p in kept if p["seconds"] is not None]
    rows, columns = (list(dict.fromkeys(p[key] for p in shown)) for key in ("data", "network"))
    size = (5.6 * len(columns), 3.9 * len(rows) + 0.4)
    figure, panels = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, sharex=True)
    for row, data in enumerate(rows):
        for column, network in enumerate(columns):
            axes = panels[row][column]
            draw(axes, [p for p in shown if (p["data"], p["network"]) == (data, network)])
            axes.set_title(f"{NAMES.get(data, data)}, {NAMES.get(network, network)}", fontsize=10)
            axes.set_ylabel("mIoU at the best threshold, %", fontsize=9)
            if row == len(rows) - 1:
                axes.set_xlabel("seconds an image, one core without bfloat16", fontsize=9)
    marks = [plt.Line2D([], [], marker="o", linestyle="", color=colour, label=said) for colour, said in KINDS.values()]
    figure.legend(handles=marks, loc="lower center", ncols=4 if len(columns) > 1 else 2, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.075 if len(columns) > 1 else 0.18, 1, 1))
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "benchmarks" / "frontier.json")
