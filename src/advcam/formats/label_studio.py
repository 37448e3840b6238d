"""Label Studio: masks as predictions of a brush, and what annotators made of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict
from urllib.parse import quote

import msgspec
import numpy as np
from msgspec import Meta, Raw

from advcam.data import Drawn
from advcam.data.text import read_xml
from advcam.data.tools import addresses
from advcam.errors import DataError, ImageError, SettingsError
from advcam.limits import MAX_PATH_BYTES
from advcam.store import read_json

from .drawing import RegionError, ellipse, polygon, same_size
from .files import replaced, sign
from .masks import Add, Found, Ids, Losses, Masked, Names, Place, Size, Wishes, places

LENGTHS = (3, 4, 8, 16)
"""Bits of the four kinds of run lengths that are written, as Label Studio's own."""
KINDS = ("brush", "polygon", "rectangle", "ellipse")


class Value(TypedDict, total=False):
    """What a region is; shares are in percent of the image's width and height."""

    format: str
    rle: list[Annotated[int, Meta(ge=0, le=255)]]
    points: list[tuple[float, float]]
    x: float
    y: float
    width: float
    height: float
    radiusX: float
    radiusY: float
    rotation: float
    labels: list[str]
    brushlabels: list[str]
    polygonlabels: list[str]
    rectanglelabels: list[str]
    ellipselabels: list[str]


class Result(TypedDict):
    """A region, or something else that was said of the image."""

    type: str
    value: NotRequired[Raw]
    original_width: NotRequired[int | None]
    original_height: NotRequired[int | None]


class Annotation(TypedDict):
    """What one person made of a task."""

    result: list[Result]
    was_cancelled: NotRequired[bool | None]
    ground_truth: NotRequired[bool | None]


class Task(TypedDict):
    """A task: an image, and what was made of it."""

    data: dict[str, Raw]
    annotations: NotRequired[list[Annotation] | None]


@contextmanager
def write(out: Path, wishes: Wishes, losses: Losses) -> Iterator[Add]:
    """Writes tasks to import: each has a prediction with a brush region for each class."""
    before = "[\n"

    def add(masked: Masked) -> None:
        nonlocal before
        task = {
            "meta": {"made_by": sign("--to label-studio")}, "data": {wishes.variable: _address(wishes.address, masked.file)},
            "predictions": [prediction(masked, wishes, losses)],
        }  # fmt: skip
        file.write(before + json.dumps(task, ensure_ascii=False))
        before = ",\n"

    with replaced(out, "--to label-studio") as temporary, temporary.open("w", encoding="utf-8") as file:
        yield add
        file.write("\n]\n" if before.startswith(",") else "[]\n")


def prediction(masked: Masked, wishes: Wishes, losses: Losses) -> dict[str, Any]:
    """A mask as Label Studio's prediction: a brush region for each class, and the lowest score of a class as its score."""
    height, width = masked.ids.shape
    result = [
        {
            "id": hashlib.sha256(f"{masked.id}\0{number}".encode()).hexdigest()[:10], "type": "brushlabels",
            "from_name": wishes.from_name, "to_name": wishes.to_name, "original_width": width,
            "original_height": height, "image_rotation": 0,
            "value": {"format": "rle", "rle": list(packed(place)), "brushlabels": [name]},
        }
        for number, name, place in places(masked, wishes.names.written(), losses)
    ]  # fmt: skip
    score = {"score": min(masked.scores.values())} if masked.scores else {}
    return {"model_version": wishes.model_version, **score, "result": result}


def _address(start: str, name: str) -> str:
    """The address of an image; names of the web are quoted, those of a store such as ``s3://`` are not."""
    return start + (quote(name) if "?" in start or start.startswith(("http:", "https:", "/")) else name)


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads an export in "JSON"; tasks that nobody has annotated are passed over. Later regions lie on top.

    Raises:
        DataError: another file.
    """
    if source.is_dir():
        raise DataError(f'{source}: expected the file that Label Studio exports as "JSON", got a folder')
    for task in read_json(source, list[Task], 'export "JSON" (not JSON-MIN) again', "not an export of Label Studio's"):
        done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
        chosen = [one for one in done if one.get("ground_truth")]
        if done:
            found = _names(task["data"])
            where = f"{source}: {found[0] if found else 'a task without an image'}"
            yield Found(found, _drawer(chosen if len(chosen) == 1 else done, names, where), loose=True)


def configured(path: Path, wishes: Wishes, named: Iterable[str], data: bytes | None = None) -> Wishes:
    """Takes the names of brush, image and variable from a labelling configuration; ``data`` is its text, if already read.

    Raises:
        DataError: no XML, or no ``BrushLabels``.
        SettingsError: several of them and none was named, or a class is no label of it.
    """
    root = read_xml(path, data)
    brushes = {brush.get("name", ""): brush for brush in root.iter("BrushLabels")}
    if not brushes:
        raise DataError(f"{path}: has no <BrushLabels>, which masks need; add it to the labelling configuration")
    name = wishes.from_name if wishes.from_name in brushes else next(iter(brushes))
    if len(brushes) > 1 and wishes.from_name not in brushes:
        raise SettingsError(f"{path}: has the brushes {', '.join(brushes)}; choose one with --from-name")
    labels = {label.get("value", "") for label in brushes[name].iter("Label")}
    if lacking := [one for one in named if one not in labels]:
        raise SettingsError(f"{path}: {name} has no <Label value={lacking[0]!r}>; it has {', '.join(sorted(labels)) or 'none'}")
    shown = brushes[name].get("toName", "image")
    image = next((one for one in root.iter() if one.get("name") == shown), None)
    variable = (image.get("value", "") if image is not None else "").removeprefix("$") or wishes.variable
    return replace(wishes, from_name=name, to_name=shown, variable=variable)


def packed(place: Place) -> bytes:
    """A region as Label Studio's run lengths of RGBA pixels: rle-pack of @thi.ng, 255 inside in all four channels.

    Source: label_studio_sdk.converter.brush, whose ``mask2rle`` gives the same bytes.
    """
    flat = place.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    starts, stops = [0, *ends.tolist()], [*ends.tolist(), flat.size]
    bits = [f"{4 * flat.size:032b}{7:05b}", *(f"{length - 1:04b}" for length in LENGTHS)]
    for start, stop in zip(starts, stops, strict=True):
        left, value = 4 * (stop - start), f"{255 * int(flat[start]):08b}"
        while left:
            count = min(left, 1 << LENGTHS[-1])
            kind = next(at for at, length in enumerate(LENGTHS) if count <= 1 << length)
            bits.append(f"1{kind:02b}{count - 1:0{LENGTHS[kind]}b}{value}")
            left -= count
    text = "".join(bits)
    text += "0" * (8 - len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def unpacked(data: bytes, values: int) -> Ids:
    """The values that :func:`packed`, or Label Studio, has packed.

    Args:
        data: the run lengths.
        values: how many there must be; checked before they are made.

    Raises:
        RegionError: another number of values, or data that end too early.
    """
    at = 0

    def take(bits: int) -> int:
        nonlocal at
        if at + bits > 8 * len(data):
            raise RegionError("its run lengths end too early")
        found = int.from_bytes(data[at >> 3 : (at + bits + 7) >> 3], "big") >> (-(at + bits) & 7)
        at += bits
        return found & ((1 << bits) - 1)

    count, word = take(32), take(5) + 1
    if count != values or word != 8:
        raise RegionError(f"its run lengths are of {count} values of {word} bits; expected {values} of 8")
    lengths = [take(4) + 1 for _ in range(4)]
    made, done = np.zeros(count, dtype=np.uint8), 0
    while done < count:
        same = take(1)
        end = done + 1 + take(lengths[take(2)])
        if end > count:
            raise RegionError("its run lengths are longer than the image")
        if same:
            made[done:end] = take(8)
        else:
            bits = np.unpackbits(np.frombuffer(data[at >> 3 : (at >> 3) + end - done + 1], dtype=np.uint8))
            bits = bits[at & 7 :][: 8 * (end - done)]
            if bits.size < 8 * (end - done):
                raise RegionError("its run lengths end too early")
            made[done:end] = np.packbits(bits)
            at += 8 * (end - done)
        done = end
    return made


def _names(data: dict[str, Raw]) -> tuple[str, ...]:
    """What a task's data may call the image: the end of an address, without what an upload puts in front."""
    found = list[str]()
    for raw in data.values():
        with contextlib.suppress(ValueError):  # not a text
            found += addresses(msgspec.json.decode(raw, type=str)[:MAX_PATH_BYTES])
    return tuple(dict.fromkeys(found))


def _drawer(done: Sequence[Annotation], names: Names, where: str) -> Any:
    def drawer(size: Size) -> Drawn:
        if len(done) > 1:
            raise ImageError(f"{where}: has {len(done)} annotations; keep one, or mark one as ground truth")
        ids, faults = np.zeros(size, dtype=np.uint8), list[str]()
        for at, result in enumerate(done[0]["result"], 1):
            kind, place_of = result["type"].removesuffix("labels"), f"{where}: region {at}"
            if kind not in KINDS:
                if kind.startswith(("keypoint", "vector")):
                    faults.append(f"{place_of}: is a {kind}, which has no area")
                continue
            try:
                value = msgspec.json.decode(result.get("value", Raw(b"{}")), type=Value)
                labels: list[str] = value.get(f"{kind}labels") or value.get("labels") or []  # type: ignore[assignment]
                if len(labels) != 1:
                    raise RegionError(f"{place_of}: has {len(labels)} labels, expected one")
                number = names.id_of(labels[0], place_of)
                same_size((result.get("original_height") or size[0], result.get("original_width") or size[1]), size, place_of)
                ids[_place(kind, value, size, place_of)] = number
            except RegionError as fault:
                faults.append(str(fault))
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                faults.append(f"{place_of}: cannot be read ({error})".replace("`", ""))
        return Drawn(ids, tuple(faults))

    return drawer


def _place(kind: str, value: Value, size: Size, where: str) -> Place:
    if kind == "brush":
        try:
            alpha = unpacked(bytes(value.get("rle", [])), 4 * size[0] * size[1])[3::4].reshape(size)
        except RegionError as fault:
            raise RegionError(f"{where}: {fault}") from None
        if not alpha.any():
            raise RegionError(f"{where}: covers no pixel of the image")
        place: Place = alpha > alpha.max() // 2  # a stroke is fainter along its edge
        return place
    across, down = size[1] / 100, size[0] / 100
    if kind == "polygon":
        return polygon([(x * across, y * down) for x, y in value.get("points", [])], size, where)
    x, y, turned = value.get("x", 0.0) * across, value.get("y", 0.0) * down, np.deg2rad(value.get("rotation", 0.0))
    if kind == "ellipse":
        if turned:
            raise RegionError(f"{where}: is an ellipse that is turned, which is not drawn here; make it a polygon or a brush")
        return ellipse(x, y, value.get("radiusX", 0.0) * across, value.get("radiusY", 0.0) * down, size, where)
    wide, high = value.get("width", 0.0) * across, value.get("height", 0.0) * down
    corners = np.asarray([(0, 0), (wide, 0), (wide, high), (0, high)])
    turn = np.asarray([(np.cos(turned), np.sin(turned)), (-np.sin(turned), np.cos(turned))])
    return polygon(corners @ turn + (x, y), size, where)
