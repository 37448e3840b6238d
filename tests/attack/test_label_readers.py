"""Whatever a source of labels holds, its reader gives rows or raises a DataError, within bounded time and memory.

``ATTACK_EXAMPLES=20000`` makes a long hunt of it.
"""

import json
import time

import pytest
from hypothesis import strategies as st
from test_readers import CSV, EXAMPLES, LABELS, XML, changed, hunt, ours, spoilt

from advcam.data import class_indices, read_labels
from advcam.data.labels import unknown_indices
from advcam.errors import AdvcamError, DataError

TASKS = [
    {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [
        {"was_cancelled": False, "result": [{"type": "choices", "value": {"choices": ["cat", "dog"]}}]},
        {"result": [{"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["cat"]}}]}]},
    {"id": 2, "data": {"img": "b.jpg"}, "completions": [{"result": [{"value": {"taxonomy": [["pets", "dog"]]}}]}]},
]  # fmt: skip
MIN = [
    {"id": 1, "image": "/data/local-files/?d=a.jpg", "choice": {"choices": ["cat"]}, "annotator": 1, "lead_time": 2.5},
    {"id": 2, "image": "b.jpg", "choice": "dog", "annotator": 1, "lead_time": None},
]
RECORDS = [{"file_name": "a.jpg", "label": "cat"}, {"file_name": "b.jpg", "labels": ["dog", "?cat"]}]
FLAGS = [{"image": "a.jpg", "cat": 1, "dog": None}, {"image": "b.jpg", "cat": False, "dog": -1}]
COCO = {
    "images": [{"id": 0, "file_name": "a.png"}, {"id": 7, "file_name": "b/c.png", "height": 32, "width": 32}],
    "categories": [{"id": 0, "name": "cat"}, {"id": 400, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 0, "category_id": 0}, {"id": 4, "image_id": 7, "category_id": 400, "bbox": [1, 2]}],
}  # fmt: skip
VALUES = {
    "mapping.json": LABELS | {"d.png": {"cat": 1, "dog": None}},
    "tasks.json": TASKS,
    "min.json": MIN,
    "records.json": RECORDS,
    "flags.json": FLAGS,
    "instances.json": COCO,
}
BYTES = {
    "labels.csv": CSV,
    "windows.csv": "\ufeffimage;labels\r\nbär.jpg;Käfer,?Öl\r\nb.jpg;Öl\r\n".encode("cp1252", "ignore"),
    "bars.csv": b"sep=|\rimage|labels\ra|cat;dog\rb|?\r",
    "headless.csv": b"a.jpg\tcat;dog\nb.jpg\t['dog', 'cow']\n",
    "flags.csv": b"id,image,cat,dog,note\n0,a.jpg,1,,x\n1,b.jpg,0,-1,\n2,c.jpg,?,yes,\n",
    "ticks.csv": b"image,cat,dog\na.jpg,x,\nb.jpg,,x\n",
    "long.csv": b"Filename,Label,confidence\na.jpg,cat,1\na.jpg,dog,1\nb.jpg,none,1\n",
    "boxes.csv": b"filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,9,cat,1,1,3,3\na.jpg,9,9,dog,1,1,3,3\n",
    "studio.csv": b'annotation_id,annotator,choice,id,image\n1,1,"{""choices"":[""cat""]}",1,/0a1b2c3d-a.jpg\n2,1,dog,2,b\n',
    "cvat.xml": b"<annotations><image id='0' name='a.jpg'><tag label='cat'/><box label='dog'/></image><image/></annotations>",
    "voc.xml": XML,
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)).encode(),
} | {name: json.dumps(value).encode() for name, value in VALUES.items()}  # fmt: skip


def rows_or_none(path):
    """What the reader gives, None where it raised a DataError; no other error of ours will do."""
    try:
        return read_labels(path)
    except DataError:
        return None
    except AdvcamError as error:
        raise RuntimeError("another error") from error


def look(path):
    """Reads labels; what they give can be used, written and told."""
    found = ours(rows_or_none, path)
    if found is None:
        return
    assert found.rows
    for row in found.rows:
        present, unknown = class_indices(row, found.classes), unknown_indices(row, found.classes)
        assert not {*present} & {*unknown}
        assert {*present, *unknown} <= {*range(len(found.classes))}
        assert row.name.strip()
    told = [
        found.form,
        *(text for pair in (*found.unusable, *found.doubts) for text in pair),
        *(row.where for row in found.rows),
    ]
    named = [name for row in found.rows for name in (row.name, *row.labels, *row.unknown, *row.others)]
    assert all(text.encode() is not None for text in [*told, *named, *found.classes.names])  # they go into files
    assert all(reason.startswith(str(path)) for _, reason in found.unusable)
    assert 1 <= len(found.classes) <= 254
    assert len({row.name for row in found.rows}) == len(found.rows)


@pytest.mark.parametrize("name", BYTES)
def test_labels_of_every_form(name, tmp_path):
    good, path = BYTES[name], tmp_path / name
    path.write_bytes(good)
    assert read_labels(path).rows
    wide = spoilt(good.decode("utf-8", "ignore").encode("utf-16"))
    values = changed(VALUES[name]).map(lambda value: json.dumps(value).encode()) if name in VALUES else spoilt(good)

    @hunt(st.one_of(spoilt(good), values, wide), 2 * EXAMPLES)
    def run(data):
        path.write_bytes(data)
        look(path)

    run()


NAMES = st.sampled_from(
    ["cat/1.jpg", "dog/2.jpg", "train/cat/3.jpg", "x.xml", "cat/1.xml", "Annotations/1.xml", "annotations/1.xml",
     "VOC1/Annotations/1.xml", "VOC2/Annotations/a.xml", "annotations/instances_x.json", "_annotations.coco.json",
     "train/_annotations.coco.json", "l.csv", ".a/b.jpg"]
)  # fmt: skip


@hunt(st.dictionaries(NAMES, st.one_of(spoilt(XML), spoilt(json.dumps(COCO).encode()), st.just(XML)), max_size=6))
def test_folders_of_anything(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("given")
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    look(folder)


N = 2**16
LARGE = {
    "one cell.csv": lambda: b"image,labels\n" + b"a" * 2 * N + b",cat\n",
    "quotes.csv": lambda: b'image,labels\na,"' + b'""' * 2 * N,
    "blanks before.csv": lambda: b" " * 4 * N + b"image,labels\na,cat\n",
    "lines before.csv": lambda: b" \n" * 4 * N + b"image,labels\na,cat\n",
    "columns.csv": lambda: b"image" + b",x" * N + b"\na" + b",1" * N + b"\n",
    "rows of nothing.csv": lambda: b"image,labels\n" + b",\n" * N,
    "many labels.csv": lambda: b"image,labels\n" + b"".join(b"%d,c%d\n" % (n, n) for n in range(N)),
    "one image.csv": lambda: b"image,labels\n" + b"".join(b"a,c%d\n" % (n % 254) for n in range(N)),
    "flags.csv": lambda: b"image,a,b,c,d\n" + b"".join(b"%d,1,0,,x\n" % n for n in range(N // 4)),
    "keys.json": lambda: json.dumps([{"image": f"{n}", f"k{n}": 1} for n in range(N // 8)]).encode(),
    "names.json": lambda: json.dumps({f"{n}": ["cat" * 1000] for n in range(N // 256)}).encode(),
    "deep.json": lambda: b'{"a":' * N,
    "deep.xml": lambda: b"<annotations>" + b"<image name='a'>" * N + b"</image>" * N + b"</annotations>",
    "wide.xml": lambda: b"<annotations>" + b"<image name='a'/>" * N + b"</annotations>",
    "attributes.xml": lambda: b"<annotations " + b" ".join(b"a%d='1'" % n for n in range(N // 4)) + b"/>",
    "encoding.xml": lambda: b"<?xml " + b'encoding="' * N,
    "slashes.json": lambda: json.dumps([{"image": "/a" * N, "choice": "cat"}]).encode(),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_file_of_megabytes_takes_seconds(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(LARGE[name]())
    start = time.process_time()
    rows_or_none(path)
    assert time.process_time() - start < 10
