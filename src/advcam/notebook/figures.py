"""Figures that show themselves in a notebook: images with captions, and charts. No script, no request, every word escaped."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from advcam.errors import InputError
from advcam.expect import describe
from advcam.store import write_bytes

if TYPE_CHECKING:
    from advcam.report.charts import Chart

GAP, LINE = 6, 16  # pixels
COLOURS = ("#1f77c9", "#d9580d", "#15803d", "#9333ea", "#a16207")
ABREAST, FITTING = 4, 14  # names in a line of a legend, and their letters
DASHES = ("", "7 3", "2 3", "9 3 2 3")
PAGE = '<!doctype html><meta charset="utf-8"><title>advcam</title>{}\n'
STYLE = (
    """\
.advcam .chart { max-width: 560px; width: 100%; height: auto }
.advcam text { font: 12px sans-serif; fill: GREY }
.advcam .axis, .advcam .chosen { stroke: GREY } .advcam .chosen { stroke-dasharray: 4 3 }
.advcam .grid { stroke: GREY; stroke-opacity: .3 }
.advcam .line { fill: none; stroke-width: 2 }
.advcam .dot { opacity: 0 } .advcam g:hover > .dot { opacity: 1 }
""".replace("GREY", "#808080")
    + "".join(
        f".advcam .s{at} {{ stroke: {colour} }} .advcam .dot.s{at} {{ fill: {colour} }}\n" for at, colour in enumerate(COLOURS)
    )
    + "".join(f".advcam .d{at} {{ stroke-dasharray: {dash} }}\n" for at, dash in enumerate(DASHES) if dash)
)


@dataclass(frozen=True)
class Pictures:
    """Rows of images, each with a caption.

    Args:
        rows: caption and image of each place.
        note: a sentence below them.
        legend: names of colours ``#rrggbb``, below them.
    """

    rows: Sequence[Sequence[tuple[str, Image.Image]]]
    note: str = ""
    legend: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        return "; ".join(" | ".join(caption for caption, _ in row) for row in self.rows) or self.note

    def _repr_html_(self) -> str:
        return str(Markup('<div class="advcam">{}</div>').format(self._body()))

    def _body(self) -> Markup:
        place = Markup(
            '<figure style="margin: 0 6px 6px 0; display: inline-block; vertical-align: top"><img width="{}" height="{}"'
            ' alt="{}" src="data:image/jpeg;base64,{}"><figcaption style="max-width: {}px; font-size: 12px; overflow-wrap:'
            ' anywhere">{}</figcaption></figure>'
        )
        row = Markup('<div style="line-height: 1.3">{}</div>')
        rows = [
            row.format(
                Markup("").join(
                    place.format(image.width, image.height, caption, _jpeg(image), image.width, caption)
                    for caption, image in parts
                )
            )
            for parts in self.rows
        ]
        swatch = Markup('<span style="white-space: nowrap; margin-right: 12px"><span style="color: {}">■</span> {}</span> ')
        words = [swatch.format(colour, name) for name, colour in (self.legend or {}).items()]
        note = Markup("<div>{}</div>").format(self.note) if self.note else ""
        return Markup("").join([*rows, Markup("<div>{}</div>").format(Markup("").join(words)) if words else "", note])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the images into one file: ``.png`` (captions as far as its font goes), or ``.html``.

        Args:
            path: of the file.

        Raises:
            InputError: another suffix, or nothing to write.
            StoreError: the file cannot be written.
        """
        if not any(self.rows):
            raise InputError(f"nothing to write to {path}: {self.note or 'there is no image'}")
        _write(path, {".png": self._png, ".html": lambda: PAGE.format(self._repr_html_()).encode()})

    def _png(self) -> bytes:
        font = ImageFont.load_default(LINE - 4)
        widths = [sum(image.width + GAP for _, image in row) for row in self.rows]
        heights = [max((image.height for _, image in row), default=0) + LINE + GAP for row in self.rows]
        below = [(colour, name) for name, colour in (self.legend or {}).items()]
        sheet = Image.new("RGB", (max(widths) - GAP, sum(heights) + LINE * len(below)), "white")
        draw, top = ImageDraw.Draw(sheet), 0
        for row, height in zip(self.rows, heights, strict=True):
            left = 0
            for caption, image in row:
                sheet.paste(image, (left, top + LINE))
                draw.text((left, top), _fitting(caption, image.width, font), "black", font)
                left += image.width + GAP
            top += height
        for at, (colour, name) in enumerate(below):
            draw.rectangle((0, top + LINE * at + 3, 9, top + LINE * at + 12), colour)
            draw.text((14, top + LINE * at), _fitting(name, sheet.width - 14, font), "black", font)
        stream = io.BytesIO()
        sheet.save(stream, "PNG")
        return stream.getvalue()


@dataclass(frozen=True)
class Curves:
    """A chart with its note.

    Args:
        chart: as the report draws it.
    """

    chart: Chart

    def __repr__(self) -> str:
        return f"{self.chart.title}. {self.chart.note}"

    def _repr_html_(self) -> str:
        name = Markup(
            '<span style="margin-right: 12px"><svg width="24" height="8"><path class="{}" d="M0 5H24"/></svg> {}</span> '
        )
        key = Markup("").join(name.format(line, words) for line, words in self._named())
        whole = Markup('<div class="advcam"><style>{}</style><b>{}</b><div>{}</div>{}<div>{}</div></div>')
        return str(whole.format(Markup(STYLE), self.chart.title, key, self.chart.svg, self.chart.note))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the chart: ``.svg`` or ``.html``.

        Args:
            path: of the file.

        Raises:
            InputError: another suffix.
            StoreError: the file cannot be written.
        """
        _write(path, {".svg": self._svg, ".html": lambda: PAGE.format(self._repr_html_()).encode()})

    def _svg(self) -> bytes:
        start, rest = str(self.chart.svg).split(">", 1)
        start = start.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace('"chart"', '"chart advcam"', 1)
        low, width, height = map(float, re.findall(r'viewBox="0 (\S+) (\S+) (\S+)"', start)[0])
        room = LINE * -(-len(self.chart.legend) // ABREAST)
        start = re.sub('viewBox="[^"]*"', f'viewBox="0 {low - room:g} {width:g} {height + room:g}"', start)
        word = Markup('<path class="{}" d="M{} {}h20"/><text x="{}" y="{}">{}</text>')
        key = Markup("")
        for at, (line, name) in enumerate(self._named()):
            left, foot = 8 + at % ABREAST * width // ABREAST, low - room + LINE * (at // ABREAST + 1) - 4
            key += word.format(
                line, left, foot - 4, left + 24, foot, name if len(name) <= FITTING else f"{name[: FITTING - 1]}…"
            )
        return f"{start}><style>{STYLE}</style>{key}{rest}".encode()

    def _named(self) -> list[tuple[str, str]]:
        """How each series is drawn, and its name."""
        from advcam.report.charts import paint

        return [(f"line {paint(at)}", name) for at, name in enumerate(self.chart.legend)]


def _write(path: str | os.PathLike[str], forms: Mapping[str, object]) -> None:
    try:
        file = Path(path)
    except TypeError:
        raise InputError(f"path {describe(path)}: expected the name of a file that ends in {' or '.join(forms)}") from None
    make = forms.get(file.suffix.lower())
    if not callable(make):
        raise InputError(f"{file}: expected a name that ends in {' or '.join(forms)}, which says what is written")
    write_bytes(file, make())


def _jpeg(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()


def _fitting(words: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Returns the beginning of a caption that fits into a width."""
    words = " ".join(words.split())
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "...") > width:
        words = words[:-1]
    return words + "..."
