"""Synthetic scenes that a classifier learns in a minute and on which its maps behave as on photographs.

Every object is a body with a small part. The part is black and white and identifies the class; the body has a class texture
that is faint on most objects, strong on a few, and sometimes another class's. So a classifier learns mainly the part, and its
plain map covers the part. Backgrounds are patches of the same and of other faint textures, so that nothing is trivially
separable. The pixels of the part lie at the ends of the range and those of the body do not, so a climb can still change the
body.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from advcam.errors import SettingsError

NAMES = ("cross", "dots", "quarters", "ring", "triangle")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """One image with its ground truth.

    Args:
        image: uint8 [n, n, 3].
        mask: uint8 [n, n], class id 1 to 5 of the object, 0 background.
        part: uint8 [n, n], the same for the parts only.
        instances: uint8 [n, n], number 1, 2 of the object, 0 background.
        labels: class ids, ascending.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    part: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class SceneSettings:
    """The look of scenes; lengths are shares of the side, contrasts of the pixel range.

    Args:
        size: side of the image, pixels.
        faint: contrast of a texture, lowest and highest, in backgrounds and on most bodies.
        strong: the same on the other bodies.
        strong_share: share of the bodies that are strong.
        own_texture: probability that a body carries its class's texture rather than any.
        hidden: share of the objects whose part cannot be seen; their bodies are strong.
        radius: half the length of a body, lowest and highest.
        part: diameter of a part.
        other: share of background patches whose texture belongs to no class.
        same: share of the second objects that are of the first one's class.
    """

    size: int = 128
    faint: tuple[float, float] = (0.01, 0.035)
    strong: tuple[float, float] = (0.07, 0.1)
    strong_share: float = 0.2
    own_texture: float = 0.8
    hidden: float = 0.1
    radius: tuple[float, float] = (0.24, 0.34)
    part: float = 0.14
    other: float = 0.5
    same: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 32:
            raise SettingsError(f"a scene needs at least 32 pixels a side, got {self.size}")


DEFAULT = SceneSettings()


def scene(seed: int | tuple[int, ...], s: SceneSettings = DEFAULT) -> Scene:
    """A scene of 1 or 2 objects, of different classes unless ``same`` says otherwise; the same for the same seed.

    Example:
        >>> made = scene(0)
        >>> made.image.shape, set(np.unique(made.mask)) - {0} == set(made.labels)
        ((128, 128, 3), True)
    """
    rng = np.random.default_rng(seed)
    n = s.size
    image = _background(rng, s)
    mask, part, instances = (np.zeros((n, n), np.uint8) for _ in range(3))
    centres: list[tuple[float, float]] = []
    wanted = rng.permutation(5)[: 1 + (rng.random() < 0.4)]
    if len(wanted) == 2 and s.same and rng.random() < s.same:
        wanted[1] = wanted[0]
    for kind in wanted.tolist():
        centre = _free_place(rng, centres, s)
        if centre is None:
            continue
        centres.append(centre)
        shown = _draw_object(rng, kind, centre, image, mask, part, s)
        instances[shown] = len(centres)
    labels = tuple(sorted(set(np.unique(mask).tolist()) - {0}))
    return Scene((np.clip(image, 0, 1) * 255).astype(np.uint8), mask, part, instances, labels)


def write_dataset(
    folder: Path,
    train: int,
    score: int,
    seed: int = 0,
    s: SceneSettings = DEFAULT,
    track: Callable[[Iterable[int], int, str], Iterable[int]] = lambda items, _total, _what: items,
) -> None:
    """Writes scenes as a data set: images/, masks/, parts/, instances/, labels.csv, classes.csv, train.txt and eval.txt.

    Args:
        folder: created if missing; existing files are overwritten.
        train: scenes in train.txt.
        score: scenes in eval.txt.
        seed: of the scenes.
        s: their look.
        track: shows progress.
    """
    for name in ("images", "masks", "parts", "instances"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str]] = []
    for at in track(range(train + score), train + score, "make scenes"):
        made, name = scene((seed, at), s), f"scene-{at:05d}"
        Image.fromarray(made.image).save(folder / "images" / f"{name}.png")
        Image.fromarray(made.mask).save(folder / "masks" / f"{name}.png")
        Image.fromarray(made.part).save(folder / "parts" / f"{name}.png")
        Image.fromarray(made.instances).save(folder / "instances" / f"{name}.png")
        rows.append((name, ";".join(NAMES[label - 1] for label in made.labels)))
    (folder / "labels.csv").write_text(_csv(("image", "labels"), rows), encoding="utf-8")
    (folder / "classes.csv").write_text(_csv(("id", "name"), list(enumerate(NAMES, 1))), encoding="utf-8")
    for name, part in (("train", rows[:train]), ("eval", rows[train:])):
        (folder / f"{name}.txt").write_text("".join(f"{row[0]}\n" for row in part), encoding="utf-8")


def _csv(header: tuple[str, str], rows: list[tuple[Any, Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _smooth(rng: Generator, n: int, cells: int) -> Floats:
    """A smooth random field in about [0, 1], of so many cells a side."""
    field = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.asarray(field.resize((n, n), Image.Resampling.BICUBIC))


def _grid(n: int) -> tuple[Floats, Floats]:
    y, x = np.mgrid[:n, :n].astype(np.float32)
    return y, x


def _texture(rng: Generator, kind: int, contrast: tuple[float, float], n: int) -> Floats:
    """Waves in a random colour, mirror-symmetric. Kinds 0 to 4 are the classes'; 5 to 9 are wider and no class's.

    Stripes upright, level, or aslant to either side; checks upright or aslant.
    """
    y, x = _grid(n)
    period = (10 if kind < 5 else 18) * n / 128
    slope = (0, np.pi / 2, rng.choice((-1, 1)) * np.pi / 4, 0, np.pi / 4)[kind % 5] + rng.normal(0, 0.1)
    bend = 6 * n / 128 * (_smooth(rng, n, 4) - 0.5)
    along, across = x * np.cos(slope) + y * np.sin(slope) + bend, -x * np.sin(slope) + y * np.cos(slope) + bend
    wave = np.sin(along * 2 * np.pi / period + rng.uniform(0, 2 * np.pi))
    if kind % 5 > 2:
        wave = wave * np.sin(across * 2 * np.pi / period + rng.uniform(0, 2 * np.pi)) * 1.4
    colour, tint = rng.uniform(0.35, 0.65, 3), 1 + rng.normal(0, 0.2, 3)
    shade = 0.06 * (_smooth(rng, n, 8) - 0.5)
    stripes: Floats = (colour + wave[..., None] * rng.uniform(*contrast) * tint + shade[..., None]).astype(np.float32)
    return stripes


def _background(rng: Generator, s: SceneSettings) -> Floats:
    def patch() -> Floats:
        kind = int(rng.integers(5)) + 5 * int(rng.random() < s.other)
        return _texture(rng, kind, s.faint, s.size)

    image = patch()
    for _ in range(4):
        share = np.clip((_smooth(rng, s.size, 5) - 0.55) * 12, 0, 1)[..., None]
        image = image * (1 - share) + patch() * share
    return image


def _free_place(rng: Generator, taken: list[tuple[float, float]], s: SceneSettings) -> tuple[float, float] | None:
    """A centre not too close to the others, or None after twenty tries."""
    apart = 1.6 * s.radius[0] * s.size
    for _ in range(20):
        x, y = rng.uniform(0.22 * s.size, 0.78 * s.size, 2)
        if all(np.hypot(x - a, y - b) > apart for a, b in taken):
            return float(x), float(y)
    return None


def _draw_object(
    rng: Generator, kind: int, centre: tuple[float, float], image: Floats,
    mask: NDArray[np.uint8], part: NDArray[np.uint8], s: SceneSettings,
) -> NDArray[np.bool_]:  # fmt: skip
    """Draws a body and its part into the image and its ground truth; returns its pixels."""
    n = s.size
    y, x = _grid(n)
    length, turn = rng.uniform(*s.radius) * n, rng.uniform(0, 2 * np.pi)
    width = length * rng.uniform(0.5, 0.75)
    along = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
    across = -(x - centre[0]) * np.sin(turn) + (y - centre[1]) * np.cos(turn)
    distance = np.hypot(along / length, across / width) + 0.25 * (_smooth(rng, n, 6) - 0.5)  # 1 at the outline
    hidden = rng.random() < s.hidden
    own = kind if rng.random() < s.own_texture else int(rng.integers(5))
    contrast = s.strong if hidden or rng.random() < s.strong_share else s.faint
    body = _texture(rng, own, contrast, n) * (1 - 0.3 * np.clip(distance, 0, 1) ** 4)[..., None]
    cover = np.clip((1 - distance) * length / 1.5, 0, 1)[..., None]
    image[:] = image * (1 - cover) + body * cover
    place: NDArray[np.bool_] = distance < 1
    mask[place], part[place] = kind + 1, 0
    if hidden:
        return place
    glyph, disc = _glyph(kind, round(s.part * n * rng.uniform(0.85, 1.15)), rng.uniform(-180, 180))
    corner = (
        int(centre[0] + np.cos(turn) * length * 0.6 - disc.width / 2),
        int(centre[1] + np.sin(turn) * length * 0.6 - disc.height / 2),
    )
    shown, drawn = Image.new("L", (n, n)), Image.new("L", (n, n))
    shown.paste(disc, corner)
    drawn.paste(glyph, corner)
    share = (np.asarray(shown, np.float32) / 255)[..., None]
    image[:] = image * (1 - share) + (np.asarray(drawn, np.float32) / 255)[..., None] * share
    on_part = share[..., 0] > 0.5
    mask[on_part] = part[on_part] = kind + 1
    return place | on_part


def _glyph(kind: int, side: int, degrees: float) -> tuple[Image.Image, Image.Image]:
    """A class's part, white on black, and the disc it lies on."""
    n = 4 * side
    glyph, disc = Image.new("L", (n, n)), Image.new("L", (n, n))
    ImageDraw.Draw(disc).ellipse((0, 0, n - 1, n - 1), fill=255)
    draw = ImageDraw.Draw(glyph)

    def at(*shares: float) -> tuple[float, ...]:
        return tuple(share * n for share in shares)

    if NAMES[kind] == "cross":
        draw.rectangle(at(0.4, 0.15, 0.6, 0.85), fill=255)
        draw.rectangle(at(0.15, 0.4, 0.85, 0.6), fill=255)
    elif NAMES[kind] == "dots":
        for x, y in ((0.25, 0.5), (0.5, 0.5), (0.75, 0.5), (0.5, 0.25), (0.5, 0.75)):
            draw.ellipse(at(x - 0.09, y - 0.09, x + 0.09, y + 0.09), fill=255)
    elif NAMES[kind] == "quarters":
        draw.rectangle(at(0.2, 0.2, 0.5, 0.5), fill=255)
        draw.rectangle(at(0.5, 0.5, 0.8, 0.8), fill=255)
    elif NAMES[kind] == "ring":
        draw.ellipse(at(0.2, 0.2, 0.8, 0.8), fill=255)
        draw.ellipse(at(0.38, 0.38, 0.62, 0.62), fill=0)
    else:
        draw.polygon([at(0.5, 0.15), at(0.82, 0.72), at(0.18, 0.72)], fill=255)
    size, bilinear = (side, side), Image.Resampling.BILINEAR
    return glyph.rotate(degrees, resample=bilinear).resize(size, bilinear), disc.resize(size, bilinear)
