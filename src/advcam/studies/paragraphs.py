"""The paragraphs of the studies: the sample, the numbers with their intervals, and what they show."""

from __future__ import annotations

from collections.abc import Sequence

from advcam.attribution import ClimbSettings

from .study import Row, percent, plain, verdict

CHOSEN = "Each figure is at the row's best background threshold, found with the ground truth of this sample; in brackets 95 %."


def iterations(rows: Sequence[Row], sample: str, steps: int) -> str:
    """Describes the peak, the end, and the effect of regularisation at the end."""
    said = []
    for name in dict.fromkeys(row["regularisation"] for row in rows):
        mine = [row for row in rows if row["regularisation"] == name]
        peak, last = max(mine, key=lambda row: row["mean_iou"]), mine[-1]
        text = (
            f"regularisation {name}: {percent(peak, 'mean_iou')} at T = {peak['steps']}, {percent(last, 'mean_iou')} at"
            f" T = {last['steps']} ({percent(last, 'since_peak', '+')} since the peak)"
        )
        if name != "none" and "to_none" in last:
            text += f", {percent(last, 'to_none', '+')} to none there, {verdict(last, 'to_none')}"
        said.append(text)
    plain = f"The plain map (T = 1) has mIoU {percent(rows[0], 'mean_iou')} % and noise {percent(rows[0], 'noise')} %"
    return f"{plain} on {sample}; the run's climb has T = {steps}. MIoU %: {'; '.join(said)}. {CHOSEN}"


SYMBOLS = {"restrain": "lambda", "tau": "tau", "step_size": "xi"}


def sweep(rows: Sequence[Row], name: str, base: ClimbSettings, sample: str) -> str:
    """Describes the range of mIoU, the best value, and which values differ from the climb's own."""
    own, lamda = getattr(base, name), f", lambda = {base.restrain:g}" if name == "tau" else ""
    best, worst = max(rows, key=lambda row: row["mean_iou"]), min(rows, key=lambda row: row["mean_iou"])
    others = [row for row in rows if row[name] != own]
    apart = "; ".join(f"{row[name]:g} {verdict(row)} ({percent(row, 'difference', '+')})" for row in others)
    mine = next(row for row in rows if row[name] == own)
    return (
        f"{SYMBOLS[name]} ({name}) on {sample}, T = {base.steps}{lamda}: mIoU {percent(mine, 'mean_iou')} % and noise"
        f" {percent(mine, 'noise')} % at {own:g}, the value varied; best {percent(best, 'mean_iou')} % at {best[name]:g}, worst"
        f" {percent(worst, 'mean_iou')} % at {worst[name]:g}. Difference of mIoU to {own:g}, points: {apart or 'none tried'}."
        f" {CHOSEN}"
    )


def pairs(rows: Sequence[Row], name: str, sample: str, steps: int) -> str:
    """Describes plain map, AdvCAM and gain of every row."""
    said = [
        f"{row[name]} {percent(row, 'plain_mean_iou')} -> {percent(row, 'mean_iou')}, gain {percent(row, 'gain', '+')}"
        f" ({verdict(row, 'gain')})"
        for row in rows
    ]
    return f"Plain map -> AdvCAM of {steps} steps on {sample}, mIoU %: {'; '.join(said)}. {CHOSEN}"


def growth(rows: Sequence[Row], t: int, sample: str, climbed: str) -> str:
    """Describes the amplification of the groups of cells at one step, and their difference."""
    at = {row["cells"]: row for row in rows if row["t"] == t}
    said = [f"{cells} {plain(row, 'amplification')}" for cells, row in at.items()]
    text = (
        f"After {t} steps on {sample} (one scale{climbed}), the mean over cells of CAM(x^t) / CAM(x^0), with 95 % interval:"
        f" {'; '.join(said)}. Non-discriminative less discriminative cells:"
        f" {_difference(at['non-discriminative'], 'discriminative')}."
    )
    if "body" in at:
        text += f" By ground truth, body less part: {_difference(at['body'], 'part')}."
    return text


def _difference(row: Row, other: str) -> str:
    more_or_less = (f"they grow more than {other} ones", f"they grow less than {other} ones")
    return f"{plain(row, 'difference', '+')}, {verdict(row, words=more_or_less)}"


def landscape(rows: Sequence[Row], sample: str, grid: int, reach: float) -> str:
    """Describes score, change and curvature around the three images, and the difference of climbed and attacked."""
    at = {row["around"]: row for row in rows}
    said = [
        f"{name}: score {plain(row, 'score')}, change {plain(row, 'change')}, curvature {plain(row, 'curvature')}, change of"
        f" the loss {plain(row, 'loss_change')}"
        for name, row in at.items()
    ]
    found = [
        f"{name} {plain(at['climbed'], key, '+')} ({verdict(at['climbed'], key, ('less flat', 'flatter'))})"
        for name, key in (
            ("change", "change_difference"),
            ("curvature", "curvature_difference"),
            ("change of the loss", "loss_change_difference"),
        )
    ]
    return (
        f"On a plane of {grid} x {grid} points that reaches {reach:g} steps of size 1 to either side, {sample}."
        f" {'; '.join(said)}. Climbed less attacked: {', '.join(found)}; in brackets 95 %."
    )
