"""Whatever another tool's file holds, a reader gives masks or raises an error of ours, in bounded memory and time.

``ATTACK_EXAMPLES=20000`` makes a long hunt of it.
"""

import base64
import io
import json
import os
import shutil
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_round_trips import CLASSES, annotated, entries, write

from advcam.data import Drawn
from advcam.errors import AdvcamError
from advcam.formats import FORMATS, Names

EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "250"))
SIZE = (40, 53)
MOST_BYTES = 2**28

TOKENS = [
    b"", b"\0", b"\xff", b"\xef\xbb\xbf", b'"', b"'", b",", b":", b"\n", b"{", b"[" * 3000, b"]", b"}", b"null", b"true",
    b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 5000, b"4294967295", b"..", b"../../x", b"/etc/passwd", b"<!DOCTYPE x>",
    b"\\ud800", b"\\u0000", b"\x80\x04", b"PK\x03\x04", b"PK\x01\x02", b"IHDR" + b"\xff" * 8, b"1.5", b"&a *a",
    b"!!python/name:os.system ", b"x" * 300, b"cos\nsystem\n", b"\xff\xff\xff\x7f",
]  # fmt: skip


def hunt(strategy, act, examples=EXAMPLES):
    """Calls a function with examples of a strategy, the same in each run."""
    quiet = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )

    @quiet
    @given(strategy)
    def run(value):
        act(value)

    run()


@st.composite
def spoilt(draw, good):
    """Bytes of a good file with a few pieces cut, doubled, overwritten or replaced."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from([0, 1, 2, 4, 8, 32, 1000])))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.just(bytes(data[at:end]) * 2)))
        data[at:end] = piece
    return bytes(data)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.just([[1, 2], [3, 4]]), st.just([10**9] * 9), st.just("../../x"),
)  # fmt: skip


@st.composite
def changed(draw, good):
    """A JSON value with one part, at any depth, replaced or left out."""
    if not isinstance(good, (dict, list)) or not good or draw(st.integers(0, 5)) == 0:
        return draw(VALUES)
    keys = list(good) if isinstance(good, dict) else range(len(good))
    at = draw(st.sampled_from(list(keys)))
    made = dict(good) if isinstance(good, dict) else list(good)
    if draw(st.integers(0, 4)) == 0:
        del made[at]
    else:
        made[at] = draw(changed(made[at]))
    return made


def tried(kind, source):
    """Reads and draws all masks; anything but an error of ours fails."""
    threshold = {"threshold": 0.3} if FORMATS[kind].maps else {}
    drawn = list[Drawn]()
    try:
        for found in FORMATS[kind].read(source, Names(CLASSES), **threshold):
            try:
                made = found.draw(SIZE)
            except AdvcamError:
                continue
            assert made.ids is None or (made.ids.shape == SIZE and made.ids.dtype == np.uint8)
            assert made.ids is None or {*np.unique(made.ids).tolist()} <= {0, 255, *CLASSES.ids}
            drawn.append(made)
    except AdvcamError:
        pass
    return drawn


def good(kind, folder):
    """A good output of a format, with nothing but what is read."""
    if kind == "irn":
        np.save(folder / "plain.npy", {"keys": np.array([0, 2]), "cam": np.ones((2, 10, 14), np.float32)})
        return folder / "plain.npy"
    out, _ = write(kind, folder, made=list(entries(folder))[:1])
    if kind == "label-studio":
        annotated(out)
    if out.is_dir():
        for name in ("images", "data", "JPEGImages", "train/images", "Annotations", "ImageSets", "SegmentationObject"):
            shutil.rmtree(out / name, ignore_errors=True)
    return out


@pytest.mark.parametrize("kind", FORMATS)
def test_spoilt_files(kind, tmp_path):
    out = good(kind, tmp_path)
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    assert len(tried(kind, out)) == 1, "as it was written, it is read"
    for path in files:
        data = path.read_bytes()

        def act(bad, path=path):
            path.write_bytes(bad)
            tried(kind, out)

        hunt(spoilt(data), act, max(20, EXAMPLES // len(files)))
        path.write_bytes(data)


@pytest.mark.parametrize("kind", ["coco", "labelme", "label-studio"])
def test_json_of_another_structure(kind, tmp_path):
    out = good(kind, tmp_path)
    path = out if out.is_file() else next(out.glob("*.json"))
    value = json.loads(path.read_text())

    def act(other):
        path.write_text(json.dumps(other))
        tried(kind, out)

    hunt(changed(value), act)


def test_archives_whose_members_are_spoilt(tmp_path):
    out = good("cvat", tmp_path)
    with zipfile.ZipFile(out) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}

    def act(spoilt_one):
        name, data = spoilt_one
        with zipfile.ZipFile(out, "w") as archive:
            for other, content in held.items():
                archive.writestr(other, data if other == name else content)
        tried("cvat", out)
        tried("voc", out)

    names = ("labelmap.txt", "SegmentationClass/plain.png")
    hunt(st.one_of([st.tuples(st.just(name), spoilt(held[name])) for name in names]), act)


def coco(size, *regions):
    images = [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}]
    numbered = [{"id": at, "image_id": 1, "category_id": 7, "segmentation": region} for at, region in enumerate(regions)]
    return json.dumps({"images": images, "annotations": numbered, "categories": [{"id": 7, "name": "dog"}]}).encode()


def labelme(shape, size=SIZE):
    return json.dumps({"shapes": [shape], "imageHeight": size[0], "imageWidth": size[1]}).encode()


def studio(value, kind="brush", size=SIZE):
    result = {"type": f"{kind}labels", "original_height": size[0], "original_width": size[1], "value": value}
    return json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [result]}]}]).encode()


def huge_png(side=100_000):
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = side.to_bytes(4, "big") * 2
    return bytes(data)


MILLION = [[(at * 7) % 53, (at * 3) % 40] for at in range(300_000)]
FAR = [[1e9, 1e9], [-1e9, 5], [3, 1e9]]
CLAIMS = {
    "run lengths of an absurd image": ("coco", coco((10**5, 10**5), {"size": [10**5, 10**5], "counts": [10**10]})),
    "run lengths beyond the image": ("coco", coco(SIZE, {"size": list(SIZE), "counts": [2**62, 2**62]})),
    "many empty run lengths": ("coco", coco(SIZE, {"size": list(SIZE), "counts": [0] * 10**6 + [2120]})),
    "a string of run lengths that goes on": ("coco", coco(SIZE, {"size": list(SIZE), "counts": "o" * 10**6})),
    "a polygon of many points": ("coco", coco(SIZE, [[value for point in MILLION for value in point]])),
    "a polygon of many points in LabelMe": ("labelme", labelme({"label": "dog", "points": MILLION})),
    "a polygon of many points in YOLO": ("yolo", b"0 " + b"0.5 0.25 " * 300_000),
    "a LabelMe image of absurd size": ("labelme", labelme({"label": "dog", "points": FAR}, (10**9, 10**9))),
    "a LabelMe mask of absurd size": (
        "labelme",
        labelme({
            "label": "dog", "shape_type": "mask", "points": [[0, 0], [52, 39]], "mask": base64.b64encode(huge_png()).decode(),
        }),
    ),
    "a brush of absurd length": ("label-studio", studio({"rle": [255] * 64, "brushlabels": ["dog"]})),
    "a brush of an absurd image": ("label-studio", studio({"rle": [255] * 64, "brushlabels": ["dog"]}, size=(10**6, 10**6))),
    "a polygon far away": ("label-studio", studio({"points": FAR, "polygonlabels": ["dog"]}, "polygon")),
}  # fmt: skip


@pytest.mark.parametrize("what", CLAIMS)
def test_absurd_claims_take_neither_memory_nor_time(what, tmp_path):
    kind, data = CLAIMS[what]
    source = tmp_path / "x.json"
    if kind == "yolo":
        source = tmp_path / "y"
        (source / "labels").mkdir(parents=True)
        (source / "data.yaml").write_text("names: [dog]\n")
        (source / "labels" / "a.txt").write_bytes(data)
    else:
        source.write_bytes(data)
    _bounded(kind, source)


@pytest.mark.parametrize("kind", ["voc", "fiftyone", "hf"])
def test_a_png_that_claims_an_absurd_size(kind, tmp_path):
    out = good(kind, tmp_path)
    (png,) = out.rglob("plain.png")
    png.write_bytes(huge_png())
    assert _bounded(kind, out) == []


def test_yaml_that_names_itself_over_and_over(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0 0 1 0 1 1\n")
    bomb = "a: &a [x, x]\n" + "".join(
        f"{c}: &{c} [*{p}, *{p}, *{p}, *{p}]\n" for p, c in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    (tmp_path / "data.yaml").write_text(f"{bomb}names: *k\n")
    _bounded("yolo", tmp_path)


def _bounded(kind, source):
    start = time.process_time()
    tracemalloc.start()
    try:
        drawn = tried(kind, source)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 30
    return drawn
