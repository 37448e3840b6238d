"""Whatever a file holds, what reads it gives something or raises an error of ours, within bounded memory.

``ATTACK_EXAMPLES=20000`` makes a long hunt of it.
"""

import io
import json
import os
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_tensors

from advcam.cells import as_read, as_text
from advcam.cli import recipes
from advcam.data import (
    class_indices,
    coco_files,
    csv_rows,
    draw,
    look_at,
    read_classes,
    read_coco,
    read_image,
    read_source,
    voc_root,
)
from advcam.data.images import pixels_of
from advcam.errors import AdvcamError
from advcam.models.weights import load_state
from advcam.options import key_values, overlay
from advcam.stages.maps import ClimbConfig
from advcam.stages.table import STEPS
from advcam.store import StoredMaps, load_maps, load_mask, made_of, read_json, save_maps, save_mask
from advcam.store.records import (
    ClassifierRecord,
    ClassifyMetrics,
    DataRecord,
    Metrics,
    NetworkRecord,
    RunRecord,
    StudyRecord,
    TrainingMetrics,
    is_below,
)

EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "60"))
MOST_BYTES = 600 * 2**20

TOKENS = [
    b"",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b'"',
    b"'",
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r\n",
    b"{",
    b"[" * 3000,
    b"]",
    b"}",
    b":",
    b"null",
    b"true",
    b"NaN",
    b"Infinity",
    b"-1",
    b"1e999",
    b"9" * 5000,
    b"..",
    b"/",
    b"../../x",
    b"<!DOCTYPE x>",
    b"&x;",
    b"\\ud800",
    b"\\u0000",
    b"=1+1",
    b"\x80\x04",
    b"PK\x03\x04",
    b"%!PS",
    b"1.5",
    b"x" * 300,
]


@st.composite
def spoilt(draw, good):
    """Bytes of a good file with a few pieces cut, doubled, overwritten or replaced."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from([0, 1, 2, 4, 8, 32, 1000])))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.just(bytes(data[at:end]) * 2)))
        data[at:end] = piece
    return bytes(data)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from(["", "..", "/", "\ud800", "cat", "1", "a.png", 2**62, 10**400, -1, 0, 255, 1e308]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)


def places(value, where=()):
    yield where
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield from places(item, (*where, key))


@st.composite
def changed(draw, good):
    """JSON of a good file in which a few places hold something else."""
    made = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(list(places(made))))
        new = draw(VALUES)
        if not where:
            return new
        at = made
        for key in where[:-1]:
            at = at[key]
        at[where[-1]] = new
    return made


def hunt(strategy, examples=EXAMPLES):
    """A test over many examples, the same in every run."""
    return lambda test: settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )(given(strategy)(test))


def ours(call, *args):
    """What a call gives, None where it raised an error of ours; numpy's and Python's memory is bounded."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = call(*args)
    except AdvcamError:
        found = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MOST_BYTES
    return found


CSV = 'image,labels\na.png,cat;dog\n"b, c.png","1;2"\n\'=x.png,\n猫.png,ring\n'.encode()
CLASSES = b"id,name\n1,cat\n2,dog\n200,ring\n"


@hunt(st.one_of(spoilt(CSV), spoilt(CSV.decode().encode("utf-16")), st.binary(max_size=200)))
def test_csv_of_labels(tmp_path, data):
    (tmp_path / "labels.csv").write_bytes(data)
    found = ours(read_source, tmp_path / "labels.csv")
    assert found is None or all(row.name and isinstance(class_indices(row, found[1]), tuple) for row in found[0])


@hunt(st.one_of(spoilt(CLASSES), st.binary(max_size=200)))
def test_class_lists(tmp_path, data):
    (tmp_path / "classes.csv").write_bytes(data)
    found = ours(read_classes, tmp_path / "classes.csv")
    assert found is None or all(1 <= number < 255 and name for number, name in zip(found.ids, found.names, strict=True))


@hunt(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=5))
def test_any_text_is_read_back_from_a_cell(cells):
    assert [(as_read(as_text(a)), as_read(as_text(b))) for a, b in cells] == cells
    assert all(as_text(cell)[:1] not in ("=", "@", "\t", "\r") for pair in cells for cell in pair)


LABELS = {"a.png": ["cat", "dog"], "b.png": [1], "c.png": []}


@hunt(st.one_of(spoilt(json.dumps(LABELS).encode()), changed(LABELS).map(lambda v: json.dumps(v).encode())))
def test_json_of_labels(tmp_path, data):
    (tmp_path / "labels.json").write_bytes(data)
    ours(read_source, tmp_path / "labels.json")


COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": 64, "width": 48},
        {"id": 7, "file_name": "b/c.png", "height": 32, "width": 32},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 90, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 30, 1, 30, 40]]},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 90,
            "iscrowd": 1,
            "segmentation": {"size": [64, 48], "counts": [100, 20, 2952]},
        },
        {"id": 3, "image_id": 7, "category_id": 90, "iscrowd": 1, "segmentation": {"size": [32, 32], "counts": "Q12P1N"}},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [1, 2, 8, 9]},
    ],
}


@hunt(st.one_of(spoilt(json.dumps(COCO).encode()), changed(COCO).map(lambda v: json.dumps(v).encode())))
def test_coco_and_the_masks_of_its_regions(tmp_path, data):
    path = tmp_path / "instances_train.json"
    path.write_bytes(data)
    ours(read_source, path)
    file = ours(read_coco, path, None)
    for image in file.images if file else ():
        drawn = ours(draw, image, {number: 1 + at % 254 for at, number in enumerate(file.names)})
        assert drawn is None or drawn.ids is None or drawn.ids.shape == image.size


XML = (
    b"<?xml version='1.0' encoding='UTF-8'?>\n<annotation><filename>a.jpg</filename><size><width>9</width></size>"
    b"<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object><object><name>dog</name></object></annotation>"
)


@hunt(
    st.one_of(
        spoilt(XML),
        spoilt(XML.decode().encode("utf-16")),
        st.sampled_from(["x-none", "utf-7", "idna", "", "\0"]).map(lambda name: XML.replace(b"UTF-8", name.encode())),
    )
)
def test_voc(tmp_path, data):
    (tmp_path / "Annotations").mkdir(exist_ok=True)
    (tmp_path / "Annotations" / "a.xml").write_bytes(data)
    assert voc_root(tmp_path) == tmp_path
    ours(read_source, tmp_path)
    assert coco_files(tmp_path) == []


def encoded(kind, mode="RGB", **options):
    stream = io.BytesIO()
    Image.effect_noise((24, 20), 60).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


IMAGES = {
    "png": encoded("PNG"),
    "palette": encoded("PNG", "P"),
    "jpg": encoded("JPEG"),
    "cmyk": encoded("JPEG", "CMYK"),
    "tif": encoded("TIFF"),
    "lzw": encoded("TIFF", compression="tiff_lzw"),
    "bits": encoded("TIFF", "I"),
    "gif": encoded("GIF", "P"),
    "bmp": encoded("BMP"),
    "ppm": encoded("PPM"),
    "tga": encoded("TGA"),
    "webp": encoded("WEBP"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_every_format(kind, tmp_path):
    path = tmp_path / "x.png"

    @hunt(spoilt(IMAGES[kind]), max(20, EXAMPLES // 4))
    def run(data):
        path.write_bytes(data)
        seen = ours(look_at, path)
        image = ours(read_image, path, seen.content if seen else None)
        assert (image is None) == (seen is None)
        assert image is None or (image.mode == "RGB" and image.size[::-1] == seen.size)
        assert pixels_of(path) >= 0

    run()


def mask_file(tmp_path):
    save_mask(tmp_path / "good.png", np.arange(600, dtype=np.uint8).reshape(20, 30), "0" * 32)
    return (tmp_path / "good.png").read_bytes()


def test_masks(tmp_path):
    good, path = mask_file(tmp_path), tmp_path / "m.png"

    @hunt(spoilt(good))
    def run(data):
        path.write_bytes(data)
        ids = ours(load_mask, path)
        assert ids is None or (ids.ndim == 2 and ids.dtype == np.uint8)
        assert isinstance(made_of(path), (str, type(None)))

    run()


def test_maps(tmp_path):
    save_maps(tmp_path / "good.npz", StoredMaps((1, 7), torch.rand(2, 5, 6), (20, 24)))
    good, path = (tmp_path / "good.npz").read_bytes(), tmp_path / "m.npz"

    @hunt(spoilt(good))
    def run(data):
        path.write_bytes(data)
        found = ours(load_maps, path)
        assert found is None or (found.maps.ndim == 3 and len(found.maps) == len(found.classes))

    run()


def stored(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


STATE = {"conv.weight": torch.ones(2, 3, 1, 1), "fc.weight": torch.ones(4, 2), "fc.bias": torch.zeros(4)}
WEIGHTS = {
    "safetensors": save_tensors(STATE),
    "pt": stored(STATE),
    "nested": stored({"epoch": 3, "state_dict": STATE, "args": {"lr": 0.1}}),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights(kind, tmp_path):
    path = tmp_path / "w"

    @hunt(spoilt(WEIGHTS[kind]))
    def run(data):
        path.write_bytes(data)
        found = ours(load_state, path)
        assert found is None or all(value.layout is torch.strided and not value.is_meta for value in found.values())

    run()


RECORDS = {
    "run.json": RunRecord,
    "data.json": DataRecord,
    "metrics.json": Metrics,
    "1-classify/model.json": ClassifierRecord,
    "1-classify/metrics.json": ClassifyMetrics,
    "4-segment/model.json": NetworkRecord,
    "4-segment/metrics.json": TrainingMetrics,
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_a_run(name, finished, tmp_path):
    good, path = (finished / name).read_bytes(), tmp_path / "x.json"
    assert read_json(finished / name, RECORDS[name])

    @hunt(st.one_of(spoilt(good), changed(json.loads(good)).map(lambda v: json.dumps(v).encode())))
    def run(data):
        path.write_bytes(data)
        ours(read_json, path, RECORDS[name])
        ours(read_json, path, StudyRecord)

    run()


@hunt(
    changed({"steps": 3, "scales": [1.0, 1.5], "tau": 0.5, "method": "cam", "keep": True, "penalty": "sum", "bounds": [0, 1]})
)
def test_settings_of_a_recorded_climb(record):
    ours(ClimbConfig.from_record, record)


TOML = b"""about = "mine"

[segment]
like = "deeplab-v2"
lr = 1e-3
scales = [0.5, 1.5]

[climb]
preset = "fast"
steps = 3

[refine]
method = "crf"
margin = 0.1
"""


@hunt(st.one_of(spoilt(TOML), spoilt(TOML.replace(b"1e-3", b"inf")), spoilt(TOML.replace(b'"fast"', b"[1]"))))
def test_recipes(tmp_path, data):
    path = tmp_path / "mine.toml"
    path.write_bytes(data)
    for name, step in STEPS.items():
        ours(lambda name=name, step=step: overlay(step.config, recipes.recipe(str(path), name)))


OPTION = st.tuples(st.sampled_from(["steps", "lr", "scales", "x"]), VALUES).map(lambda pair: f"{pair[0]}={pair[1]!r}")
NESTED = st.sampled_from(["a=" + "(" * 2000, "a=" + "-" * 5000 + "1", "a=" + "[" * 90 + "]" * 90])


@hunt(st.lists(st.one_of(st.text(max_size=30), OPTION, NESTED), max_size=3))
def test_options_of_a_command(entries):
    found = ours(key_values, entries, "--climb-option")
    assert found is None or all(isinstance(key, str) for key in found)


@hunt(st.text(max_size=12))
def test_an_id_below_a_folder_stays_there(name):
    if is_below(name):
        assert os.path.normpath(f"/a/b/{name}").startswith("/a/b/")
        assert os.path.normpath(f"/a/b/{name}") != "/a/b/"


def test_rows_of_a_csv_that_is_a_million_characters_long(tmp_path):
    text = "image,labels\n" + f"{'a' * 500_000},{'b;' * 250_000}\n"
    (tmp_path / "x.csv").write_text(text)
    ours(csv_rows, tmp_path / "x.csv")


def test_weights_that_unpack_to_gigabytes_are_refused_before(tmp_path):
    good, path = stored({"w": torch.zeros(1000)}), tmp_path / "bomb.pt"
    with zipfile.ZipFile(io.BytesIO(good)) as held, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in held.infolist():
            archive.writestr(entry.filename, bytes(2**28) if "/data/" in entry.filename else held.read(entry))
    assert path.stat().st_size < 2**20
    with pytest.raises(AdvcamError, match="damaged"):
        load_state(path)
