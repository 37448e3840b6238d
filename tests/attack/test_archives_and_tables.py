"""Whatever an archive, a table, or text beside images holds, it is read or refused with an error of ours, within memory.

Nothing is written. ``ATTACK_EXAMPLES=20000`` makes a long hunt of it.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from hypothesis import strategies as st
from PIL import Image
from test_label_readers import look
from test_readers import EXAMPLES, hunt, ours, spoilt

from advcam.data import images_of, list_images, look_at, place

STREAM = io.BytesIO()
Image.effect_noise((24, 20), 60).convert("RGB").save(STREAM, "PNG")
PNG = STREAM.getvalue()
FILES = {
    "in/a.png": PNG, "in/b/a.PNG": PNG, "in/a.cls": b"cat", "in/b/a.cls": b"1", "in/a.json": b'{"label": ["cat"]}',
    "in/c.png": PNG[:90], "in/c.txt": b"dog;cat", "in/l.csv": b"image,labels\na,cat\n",
}  # fmt: skip


def packed(kind, files=FILES, **how):
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", **how) as file:
            for name, data in files.items():
                file.writestr(name, data)
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode="w", **how) as file:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


LONG = {f"in/{'ä' * 130}/{'b' * 120}.png": PNG, **FILES}
GOOD = {
    "stored.zip": packed("zip"),
    "deflated.zip": packed("zip", compression=zipfile.ZIP_DEFLATED),
    "bzip2.zip": packed("zip", compression=zipfile.ZIP_BZIP2),
    "lzma.zip": packed("zip", compression=zipfile.ZIP_LZMA),
    "ustar.tar": packed("tar", format=tarfile.USTAR_FORMAT),
    "gnu.tar": packed("tar", LONG, format=tarfile.GNU_FORMAT),
    "pax.tar": packed("tar", LONG, format=tarfile.PAX_FORMAT),
}


def everything_below(folder):
    return sorted((path.relative_to(folder).as_posix(), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def take(path):
    """Lists an archive, reads what it holds, and its labels."""
    before = everything_below(path.parent)
    found = ours(list_images, images_of(path, path)) if ours(images_of, path, path) else None
    for key, at in (found or {}).items():
        assert not {"", ".", ".."} & {*key.split("/")}
        assert not key.startswith("/")
        assert str(at).startswith(str(path))
        assert place(str(at)) == at
        ours(look_at, at)
    look(path)
    assert everything_below(path.parent) == before


@pytest.mark.parametrize("name", GOOD)
def test_archives(name, tmp_path):
    path, good = tmp_path / name, GOOD[name]
    path.write_bytes(good)
    assert len(list_images(path)) >= 3
    # most of an archive is images: its own words are hit more often
    heads = st.sampled_from(list(range(0, len(good), 512)) if name.endswith("tar") else [good.index(b"PK\x01\x02")])

    @st.composite
    def spoilt_words(draw):
        at, data = draw(heads), bytearray(good)
        for _ in range(draw(st.integers(1, 3))):
            where = at + draw(st.integers(0, 511 if name.endswith("tar") else len(good) - at - 1))
            if where < len(data):
                data[where] = draw(st.integers(0, 255))
        return bytes(data)

    @hunt(st.one_of(spoilt(good), spoilt_words(), st.binary(max_size=600)))
    def run(data):
        path.write_bytes(data)
        take(path)

    run()


NAMES = st.sampled_from(
    ["../a.png", "/a.png", "a.png", "./a.png", "a/../b.png", "a\\..\\b.png", "C:\\a.png", "a\0.png", "..", ".", "", "a//b.png",
     "a/", ".a/b.png", "\ud800.png", "ü.png", "u\u0308.png", "a.png/b.png", "x" * 300 + ".png", "a\n.png"]
)  # fmt: skip


@hunt(
    st.dictionaries(st.one_of(NAMES, st.text(max_size=8).map(lambda name: f"{name}.png")), st.just(PNG), max_size=4),
    2 * EXAMPLES,
)
def test_names_of_anything(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("given")
    for kind in ("zip", "tar"):
        try:
            data = packed(kind, files)
        except (UnicodeError, ValueError, IndexError, tarfile.TarError):  # no such archive can be made
            continue
        (folder / f"p.{kind}").write_bytes(data)
        take(folder / f"p.{kind}")


BESIDE = st.sampled_from(["a.cls", "a.json", "a.txt", "b.cls", "b.json", "b.txt"])
KEYS = st.sampled_from(["label", "cls", "objects", "categories", "x"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=5,
)
WORDS = st.one_of(st.binary(max_size=20), JSON.map(lambda value: json.dumps(value).encode()))


@hunt(st.dictionaries(BESIDE, WORDS, min_size=1, max_size=5), 2 * EXAMPLES)
def test_labels_beside_images(tmp_path_factory, files):
    path = tmp_path_factory.mktemp("given") / "p.tar"
    path.write_bytes(packed("tar", {"a.png": PNG, "b.png": PNG, **files}))
    take(path)


YAML = b"names:\n  0: cat\n  1: dog\n"
YOLO = b"0 0.5 0.5 0.1 0.1\n1 .1 .1 .2 .2 .3 .1\n"


@hunt(
    st.tuples(st.one_of(spoilt(YAML), st.just(YAML)), st.one_of(spoilt(YOLO), st.binary(max_size=30)), spoilt(YOLO)),
    2 * EXAMPLES,
)
def test_text_of_yolo(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("given")
    for name, data in zip(("data.yaml", "labels/a.txt", "labels/b.txt"), files, strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    look(folder)


# Tables are read by a library in C++, so that damage may end the process: another one reads them.

SPOILER = """
import contextlib, os, random, sys
from pathlib import Path
from advcam.data import list_images, load, look_at
from advcam.errors import AdvcamError, DataError
for root in map(Path, sys.argv[2:]):
    file = next(root.glob("*.arrow")) if root.is_dir() else root
    good = file.read_bytes()
    for seed in range(int(sys.argv[1])):
        dice, data = random.Random(seed), bytearray(good)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(max(0, len(data) - 2000) if seed % 2 else 0, len(data))
            if dice.random() < .3:
                data[at : at + dice.choice([1, 4, 8, 64])] = dice.choice([b"", b"\\xff" * 8, b"\\0" * 8, data[at : at + 8] * 2])
            else:
                data[at] = dice.randrange(256)
        file.write_bytes(data)
        if root.is_dir():
            os.utime(root / "state.json", ns=(seed, seed))
        print(root, seed, flush=True)
        with contextlib.suppress(DataError):
            for at in list_images(root).values():
                with contextlib.suppress(AdvcamError):
                    look_at(at)
        with contextlib.suppress(DataError):
            load(root, root)
"""


def test_tables(tmp_path):
    datasets = pytest.importorskip("datasets", reason="makes the data sets")
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    images = [Image.new("RGB", (24, 20), (at, 0, 0)) for at in range(5)]
    made = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1, -1]}, features=features)
    made.save_to_disk(str(tmp_path / "set"))
    made.to_parquet(str(tmp_path / "set.parquet"))
    words = [sys.executable, "-c", SPOILER, str(EXAMPLES), str(tmp_path / "set"), str(tmp_path / "set.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, (done.returncode, done.stdout.split()[-2:], done.stderr[-3000:])
