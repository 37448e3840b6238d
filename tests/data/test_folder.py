"""Folder and labels file as a data set: what is read, what is refused, what is left out and listed."""

import json
import os
import unicodedata

import pytest
from PIL import Image

from advcam.data import hard_classes, load
from advcam.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "sub/c.png", "d.png"):
        Image.new("RGB", (24, 20), "red").save(tmp_path / "images" / name)
    return tmp_path


def write(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read(folder, text, **lists):
    return load(folder / "images", write(folder, text), **lists)


ALL = "image,labels\na.png,cat\nb,dog;cat\nsub/c,\nd.png,dog\n"


def test_names_with_and_without_suffix_and_empty_labels(folder):
    data = read(folder, ALL)
    assert (data.classes.ids, data.classes.names) == ((1, 2), ("cat", "dog"))
    assert {item.id: item.labels for item in data.items} == {"a": (0,), "b": (0, 1), "sub/c": (), "d": (1,)}
    assert data.items[0].size == (20, 24)
    assert not data.skipped
    assert data.train == data.items


def test_json(folder):
    path = write(folder, json.dumps({"a.png": ["cat"], "b": ["dog", "cat"], "d": [7], "sub/c": []}), "labels.json")
    data = load(folder / "images", path)
    assert data.classes.names == ("7", "cat", "dog")


def test_class_list_gives_ids_and_a_label_may_be_an_id(folder):
    classes = write(folder, "id,name\n8,cat\n12,dog\n13,horse\n", "classes.csv")
    data = read(folder, ALL.replace("d.png,dog", "d.png,12"), classes=classes)
    assert (data.classes.ids, data.classes.names) == ((8, 12, 13), ("cat", "dog", "horse"))  # a classifier may have all
    assert [(s.image, s.reason) for s in data.skipped] == [("horse", "class: no image to train on has it")]


def test_lists(folder):
    train, scored = write(folder, "a\nb.jpg\n", "train.txt"), write(folder, "d\n\nnowhere\n", "eval.txt")
    data = read(folder, ALL, train_list=train, eval_list=scored)
    assert [i.id for i in data.train] == ["a", "b"]
    assert [i.id for i in data.eval] == ["d"]
    assert data.skipped[0].image == "nowhere"
    assert data.skipped[0].reason.endswith(f"eval.txt:3: there is no such image in {folder / 'images'}")
    assert [i.id for i in read(folder, ALL, eval_list=scored).train] == ["a", "b", "sub/c"]


def test_a_list_for_scoring_that_overlaps_training(folder):
    train, scored = write(folder, "a\nb\n", "train.txt"), write(folder, "b\n", "eval.txt")
    with pytest.raises(DataError, match="'b' is in the training list too"):
        read(folder, ALL, train_list=train, eval_list=scored)


def test_image_without_label_and_label_without_image(folder):
    data = read(folder, "image,labels\na,cat\nghost,cat\nb,dog\nsub/c,cat\n")
    assert [s.image for s in data.skipped] == ["ghost"]
    assert "labels.csv:3: there is no such image" in data.skipped[0].reason
    assert data.unlabelled == ("d",)  # no fault: labels may cover a part of a folder


def test_hidden_files_and_folders_are_passed_over(folder):
    (folder / "images" / ".thumbnails").mkdir()
    for name in ("._a.png", ".thumbnails/a.png"):
        Image.new("RGB", (24, 20)).save(folder / "images" / name)
    assert not read(folder, ALL).skipped


def test_broken_images_are_listed(folder):
    (folder / "images" / "a.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(folder / "images" / "d.png")
    data = read(folder, ALL)
    assert [item.id for item in data.items] == ["b", "sub/c"]
    assert {s.image for s in data.skipped} == {"a", "d"}


def test_a_name_that_is_not_utf8(folder):
    path = os.path.join(os.fsencode(folder / "images"), b"caf\xe9.png")
    Image.new("RGB", (24, 20)).save(folder / "images" / "cafe.png")
    os.rename(folder / "images" / "cafe.png", path)
    with pytest.raises(DataError, match=r"caf\\udce9.png': its name is not UTF-8; rename the file"):
        read(folder, ALL)


def test_names_beyond_ascii_composed_or_not(folder):
    Image.new("RGB", (24, 20)).save(folder / "images" / (unicodedata.normalize("NFD", "bär") + ".png"))
    data = read(folder, ALL + unicodedata.normalize("NFC", "bär") + ",cat\n")
    assert "bär" in {item.id for item in data.items}
    assert not data.skipped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv: the labels file is empty"),
        ("image,labels\n", "names no image"),
        ("image,kind\na,cat\n", r"labels.csv:1: expected the columns image,labels; there is no column 'labels', but 'kind'"),
        ("photo,kind\na,cat\n", "no column 'image', but 'photo', 'kind'"),
        ("image,labels\na,cat,dog\n", r"labels.csv:2: expected 2 cells, got 3; labels are separated by ';'"),
        ("image,labels\na,cat;dog\nb,dog\na,dog\n", r"labels.csv:4: image 'a' was already given at .*labels.csv:2"),
        ("image,labels\na,cat\nb,dog\na,\n", r"labels.csv:4: image 'a' was already given at .*labels.csv:2"),
        ("image,labels\na,cat\na.png,dog\n", r"labels.csv:3: 'a.png' is the same image as at"),
        ("image,labels\n,cat\n", r"labels.csv:2: the image name is empty"),
        ("image,labels\nghost,cat\n", "none of its 1 images is in"),
        ("image,labels\na,\nb,\n", "no image has a label"),
        ('image,labels\n"a,cat\n', "not valid CSV"),
    ],
)
def test_labels_that_cannot_be_used(folder, text, message):
    with pytest.raises(DataError, match=message):
        read(folder, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"cat": "much"}}', "expected the columns image,labels; there is no column 'labels', but 'cat'"),
        ('{"a": [true]}', r"labels.json \(image 'a'\): expected a list of names or ids, got \[true\]"),
        ('{"a": 1.5}', "expected a list of names or ids, got 1.5"),
        ('{"a": [["cat"]]}', "expected a list of names or ids"),
        ('{"a": ["cat"],\n "b" }', r"labels.json:2: not valid JSON"),
        ('[["a", "cat"]]', "expected a JSON object"),
        ('{"a": ["cat"], "a": ["dog"]}', "was already given"),
    ],
)
def test_json_that_cannot_be_used(folder, text, message):
    with pytest.raises(DataError, match=message):
        load(folder / "images", write(folder, text, "labels.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\n8,cat\n", r"labels.csv:3: no class is called 'dog'; .*known: cat"),
        ("id,name\n8,cat\n8,dog\n", "classes.csv:3: id 8 or name 'dog' is empty or a duplicate"),
        ("id,name\n255,cat\n", "classes.csv:2: id 255 is out of range; 1 to 254"),
        ("id,name\ncat,8\n", "classes.csv:2: an id is a whole number, got 'cat'"),
        ("id,name\n", "names no class"),
    ],
)
def test_class_lists_that_cannot_be_used(folder, text, message):
    with pytest.raises(DataError, match=message):
        read(folder, ALL, classes=write(folder, text, "classes.csv"))


@pytest.mark.parametrize("text", [b"a,cat\nb,d\x81\n", "a,käfer\nb,hündin\nsub/c,d".encode() + b"\xff\n"])
def test_neither_utf8_nor_windows(folder, text):
    """The second is damaged UTF-8: as Windows-1252 it would be garbled."""
    (folder / "labels.csv").write_bytes(b"image,labels\n" + text)
    with pytest.raises(DataError, match=r"labels.csv:[34]: not UTF-8; save the labels file as UTF-8"):
        load(folder / "images", folder / "labels.csv")


def test_missing_folders_and_files(folder, tmp_path):
    labels = write(folder, ALL)
    with pytest.raises(DataError, match="there is no such folder of images; check --images"):
        load(tmp_path / "nowhere", labels)
    with pytest.raises(DataError, match="there is no such labels file"):
        load(folder / "images", tmp_path / "nowhere.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no image in it; known suffixes: .avif, .bmp"):
        load(tmp_path / "empty", labels)


def test_two_files_of_one_name(folder):
    Image.new("RGB", (24, 20)).save(folder / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"a.png: a.jpg has the same name without suffix"):
        read(folder, ALL)


def test_nothing_left_to_train_on(folder):
    for path in (folder / "images").rglob("*.*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable image to train on has a label .*the file is empty"):
        read(folder, ALL)


def test_classes_that_are_hard_to_learn(tmp_path):
    """Few images, never alone, or none at all: said before hours are spent, and not an error."""
    for at in range(8):
        Image.new("RGB", (40, 40), "red").save(tmp_path / f"{at}.png")
    rows = "".join(f"{at},{'cat;dog' if at < 6 else 'cow'}\n" for at in range(8))
    (tmp_path / "l.csv").write_text("image,labels\n" + rows)
    (tmp_path / "c.csv").write_text("id,name\n1,cat\n2,dog\n3,cow\n4,horse\n")
    assert hard_classes(load(tmp_path, tmp_path / "l.csv", tmp_path / "c.csv")) == [
        "few images to train on show some classes, whose maps may be poor: cow 2",
        "the same images show 'cat' and 'dog', so that their maps cannot differ",
        "no image to train on shows horse",
    ]
