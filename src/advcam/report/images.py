"""Panels of a result as one image: the image, its maps as heat maps, its masks in colour, and a legend of the colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from advcam.data import ClassTable, Item
from advcam.store import RunFolder, load_maps, load_mask
from advcam.store.masks import voc_palette

PANELS = ("image", "plain map", "AdvCAM", "mask", "prediction")
LINE, SWATCH = 16, 9  # of the legend, pixels
_PALETTE = np.array(voc_palette(), dtype=np.uint8).reshape(256, 3)


def panels(run: RunFolder, item: Item, side: int) -> list[Image.Image | None]:
    """Returns the :data:`PANELS` of one image, with long side ``side``; None for those that do not exist."""
    image = item.read().convert("RGB")
    factor = side / max(image.size)
    image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    return [
        image,
        *(_heat(run.maps(item.id, plain=plain), image) for plain in (True, False)),
        *(_colours(path, image) for path in (run.mask(item.id), run.prediction(item.id))),
    ]


def grid(rows: Sequence[Sequence[Image.Image | None]], gap: int = 4) -> Image.Image:
    """Joins rows of panels into one image on white."""
    width = max(sum(p.width + gap for p in row if p) for row in rows)
    heights = [max(p.height for p in row if p) + gap for row in rows]
    sheet = Image.new("RGB", (width - gap, sum(heights) - gap), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for panel in row:
            if panel:
                sheet.paste(panel, (left, top))
                left += panel.width + gap
        top += height
    return sheet


def sheet(rows: Sequence[Sequence[Image.Image | None]], classes: ClassTable) -> Image.Image:
    """Joins rows of panels, with what each column is above them and the colours of the classes below."""
    panelled = grid(rows)
    font = ImageFont.load_default(LINE - 4)
    columns = max(rows, key=lambda row: sum(panel.width for panel in row if panel))
    entries = [(name, tuple(_PALETTE[number])) for number, name in zip(classes.ids, classes.names, strict=True)]
    places, height = _flowed([font.getlength(name) for name, _ in entries], panelled.width)
    whole = Image.new("RGB", (panelled.width, LINE + panelled.height + height), "white")
    whole.paste(panelled, (0, LINE))
    draw, left = ImageDraw.Draw(whole), 0
    for title, panel in zip(PANELS, columns, strict=True):
        if panel:
            draw.text((left, 0), title, "black", font)
            left += panel.width + 4
    for (name, colour), (x, y) in zip(entries, places, strict=True):
        top = LINE + panelled.height + y + 4
        draw.rectangle((x, top, x + SWATCH, top + SWATCH), colour)
        draw.text((x + SWATCH + 4, top - 3), name, "black", font)
    return whole


def _flowed(widths: Sequence[float], most: int) -> tuple[list[tuple[int, int]], int]:
    """Returns where each entry of a legend goes, in lines of at most ``most`` pixels, and the height of all."""
    places, x, y = list[tuple[int, int]](), 0, 0
    for width in widths:
        whole = SWATCH + 4 + round(width) + 12
        if x and x + whole > most:
            x, y = 0, y + LINE
        places.append((x, y))
        x += whole
    return places, y + LINE + 4


def _heat(path: Path, image: Image.Image) -> Image.Image | None:
    """Draws the maximum of a file's maps over the image."""
    if not path.is_file():
        return None
    maps = load_maps(path).maps.numpy()
    return heat(maps.max(0) if len(maps) else np.zeros(maps.shape[1:], np.float32), image)


def heat(values: NDArray[np.float32], image: Image.Image) -> Image.Image:
    """Draws a map in [0, 1] over a darkened image: black, red, yellow, white."""
    value = np.asarray(Image.fromarray(values).resize(image.size, Image.Resampling.BILINEAR))[..., None]
    colours = np.clip(3 * value - np.arange(3), 0, 1) * 255
    return _blend(np.asarray(image.convert("L"))[..., None] * np.ones(3), colours, 0.25 + 0.6 * value)


def _colours(path: Path, image: Image.Image) -> Image.Image | None:
    if not path.is_file():
        return None
    return coloured(load_mask(path), image)


def coloured(ids: NDArray[np.uint8], image: Image.Image) -> Image.Image:
    """Draws a mask over an image, in the colours of its classes."""
    small = np.asarray(Image.fromarray(ids).resize(image.size, Image.Resampling.NEAREST))
    return _blend(np.asarray(image), _PALETTE[small], np.where(small > 0, 0.65, 0.0)[..., None])


def _blend(under: NDArray[Any], over: NDArray[Any], share: NDArray[Any]) -> Image.Image:
    return Image.fromarray((under * (1 - share) + over * share).astype(np.uint8))
