"""Labels in tables, as people have them: CSV of any kind, JSON, JSON lines."""

import json

import pytest
from PIL import Image

from advcam.data import hard_classes, load, read_as, read_labels
from advcam.data.columns import told
from advcam.data.tables import state
from advcam.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (24, 20)).save(tmp_path / "images" / name)
    return tmp_path


def read(folder, text, name="labels.csv", classes=None):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    if classes:
        (folder / "classes.csv").write_text(classes)
    return load(folder / "images", folder / name, folder / "classes.csv" if classes else None)


def shown(data):
    """The names of what each image shows, and may show."""
    names = data.classes.names
    return {i.id: (",".join(names[at] for at in i.labels), ",".join(names[at] for at in i.unknown)) for i in data.items}


KNOWN = {"a": ("cat,dog", ""), "b": ("dog", ""), "c": ("", "")}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("image,labels\na,cat;dog\nb,dog\nc,\n", "CSV, columns image and labels (2 classes)"),
        ("image;labels\na;cat,dog\nb;dog\nc;\n", "CSV, separated by semicolons, columns image and labels (2 classes)"),
        ("image\tlabels\na\tcat|dog\nb\tdog\nc\t\n", "CSV, separated by tabs, columns image and labels (2 classes)"),
        ("image|labels\na|cat;dog\nb|dog\nc|\n", "CSV, separated by |, columns image and labels (2 classes)"),
        ("\ufeffimage,labels\r\na,cat;dog\r\nb,dog\r\nc,\r\n", "CSV, columns image and labels (2 classes)"),
        ("image,labels\ra,cat;dog\rb,dog\rc,\r", "CSV, columns image and labels (2 classes)"),
        (' image , labels ,,\n a , cat ; dog ,,\n"b",dog,,\nc,,,\n', "CSV, columns image and labels (2 classes)"),
        ('note,image,labels\n"two\nlines",a,cat;dog\n,b,dog\n,c,\n', "CSV, columns image and labels (2 classes)"),
        ("sep=;\r\nimage;labels\r\na;cat,dog\r\nb;dog\r\nc;\r\n", "CSV, separated by semicolons, columns image and labels"),
        ("a.jpg,cat;dog\nb.jpg,dog\nc.jpg,\n", "CSV, without a header, columns image and labels (2 classes)"),
        ("a.jpg;cat,dog\nb.jpg;dog\nc.jpg;\n", "CSV, without a header, separated by semicolons"),
        ("image,labels\na,\"['cat', 'dog']\"\nb,\"[\"\"dog\"\"]\"\nc,[]\n", "CSV, columns image and labels (2 classes)"),
        ("image,cat,dog\na,1,1\nb,0,1\nc,0,0\n", "CSV, one column per class (2 classes)"),
        ("image;cat;dog\na;True;true\nb;false;TRUE\nc;False;False\n", "separated by semicolons, one column per class"),
        ("photo,cat,dog\na.jpg,yes,y\nb.jpg,no,YES\nc.jpg,n,No\n", "CSV, one column per class (2 classes)"),
        ("id,image,width,cat,dog\n0,a,640,1.0,1.0\n1,b,640,0.0,1.0\n2,c,64,0.0,0.0\n",
         "(2 classes); columns that are no class: 'id', 'width'"),
        ("image,cat,dog\na,x,x\nb, ,X\nc,,\n", "CSV, one column per class (2 classes); a blank means no, as no cell does"),
        ("image,cat,dog,background\na,1,1,0\nb,0,1,0\nc,0,0,1\n", "(2 classes); columns that are no class: 'background'"),
    ],
)  # fmt: skip
def test_csv_of_every_kind(folder, text, form):
    data = read(folder, text)
    assert (shown(data), data.skipped, data.doubts) == (KNOWN, (), ())
    assert form in data.form


@pytest.mark.parametrize(
    "image",
    [
        "image",
        "images",
        "img",
        "Filename",
        "FILE",
        "path",
        "image_id",
        "Image ID",
        "ImageID",
        "name",
        "file_name",
        "Image-Path",
    ],
)
@pytest.mark.parametrize(
    "labels", ["labels", "label", "Label", "class", "CLASSES", "tag", "tags", "category", "categories", "Class Name"]
)
def test_headers(folder, image, labels):
    data = read(folder, f"{image},{labels}\na,cat;dog\nb,dog\nc,\n")
    assert shown(data) == KNOWN
    assert data.form == f"CSV, columns {image} and {labels} (2 classes)"


def test_one_row_per_label(folder):
    data = read(folder, "image,label\na,cat\nb,dog\na,dog\na,cat\nc,\n")
    assert (shown(data), data.form) == (KNOWN, "CSV, one row per label (2 classes)")
    assert data.items[0].labels == (0, 1)
    assert shown(read(folder, "image,label\na,cat\na,?dog\nb,dog\n"))["a"] == ("cat", "dog")
    with pytest.raises(DataError, match=r"labels.csv:3: image 'a' was already given at .*:2"):
        read(folder, "image,label\na,cat\na,dog\nb,dog;cat\n")  # is the first row of a, or the second, a correction?
    assert shown(read(folder, "image,label\na,cat;dog\na,dog;cat\n")) == {"a": ("cat,dog", "")}  # the same row again


@pytest.mark.parametrize(
    "header",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax",
        "image_id,w,h,label,x1,y1,x2,y2",
        "ImageID,a,b,LabelName,XMin,YMin,c,d",
    ],
)
def test_one_row_per_box(folder, header):
    rows = (
        "a.jpg,24,20,cat,1,1,9,9\na.jpg,24,20,dog,2,2,9,9\na.jpg,24,20,dog,3,3,9,9\nb.jpg,24,20,dog,1,1,9,9\nc.jpg,24,20,,,,,\n"
    )
    data = read(folder, f"{header}\n{rows}")
    assert (shown(data), data.form) == (KNOWN, "CSV, one row per box (2 classes)")


def test_truncated_and_difficult_are_no_classes(folder):
    data = read(folder, "filename,class,xmin,truncated,difficult\na.jpg,cat,3,0,1\nb.jpg,dog,4,1,0\n")
    assert data.classes.names == ("cat", "dog")


# Three states


@pytest.mark.parametrize("word", ["", " ", "?", "-1", "-1.0", "nan", "NA", "n/a", "null"])
def test_a_cell_that_says_not_known(folder, word):
    data = read(folder, f"image,cat,dog\na,1,{word}\nb,{word},0\nc,0,1\n")
    assert shown(data) == {"a": ("cat", "dog"), "b": ("", "cat"), "c": ("dog", "")}
    assert read_as(data)[1] == "2 (image, class) pairs are not known and are left out"


def test_not_known_in_a_cell_of_labels(folder):
    data = read(folder, "image,labels\na,dog;?cat\nb,?;dog\nc,cow\n")
    assert shown(data) == {"a": ("dog", "cat"), "b": ("dog", "cat,cow"), "c": ("cow", "")}
    assert read_as(data)[1].startswith("3 (image, class) pairs")
    assert read(folder, "image,labels\na,dog;?7\nb,7\n", classes="id,name\n7,cat\n9,dog\n").items[0].unknown == (0,)
    with pytest.raises(DataError, match=r"labels.csv:2: no class is called 'cet'; did you mean cat"):
        read(folder, "image,labels\na,dog;?cet\n", classes="id,name\n7,cat\n9,dog\n")
    assert shown(read(folder, "image,labels\na,cat;?cat\nb,dog\n"))["a"] == ("cat", "")  # somebody has seen it


def test_a_class_that_is_never_known_to_be_absent_is_said(folder):
    data = read(folder, "image,cat,dog\na,1,\nb,1,0\nc,-1,1\n")
    assert "every image to train on shows cat or may show it: write 0 where it is absent" in hard_classes(data)
    assert not any("may show it" in line for line in hard_classes(read(folder, "image,cat,dog\na,1,0\nb,1,1\nc,1,\n")))


def test_a_class_that_has_no_column_is_not_known(folder):
    data = read(folder, "image,cat,is_train,dog\na,1,1,0\nb,0,0,1\n", classes="id,name\n3,cat\n4,dog\n5,cow\n")
    assert shown(data) == {"a": ("cat", "cow"), "b": ("dog", "cow")}
    assert data.skipped[-1].reason == "class: no image to train on has it"
    assert "columns that are no class: 'is_train'" in data.form
    by_id = read(folder, "image,3,4\na,1,0\nb,0,1\n", classes="id,name\n3,cat\n4,dog\n")
    assert shown(by_id) == {"a": ("cat", ""), "b": ("dog", "")}


def test_columns_of_which_none_is_a_class(folder):
    with pytest.raises(
        DataError, match=r"labels.csv:1: none of the columns of yes and no \('cet', 'dgo'\) is in the class list"
    ):
        read(folder, "image,cet,dgo\na,1,0\nb,0,1\n", classes="id,name\n3,cat\n4,dog\n")
    with pytest.raises(DataError, match=r"none of the columns of yes and no \('background'\) is a class"):
        read(folder, "image,background\na,1\nb,0\n")


def test_state_and_told():
    assert [state(cell) for cell in ("1", "X", True, 1.0, "no", 0, False, -1, float("nan"), None, "2", 7, [1], {})] == [
        1, 1, 1, 1, 0, 0, 0, -1, -1, -1, None, None, None, None,
    ]  # fmt: skip
    assert told(" dog ; ?cat;;dog", ";") == (("dog",), ("cat",))
    assert told("?", ";") == ((), ("?",))
    assert told(["a;b", 7, 8.0], ";") == (("a;b", "7", "8"), ())
    for cell in (None, True, 1.5, {}, [[]], [None]):
        with pytest.raises(DataError, match="expected a list of names or ids"):
            told(cell, ";")


# Background


@pytest.mark.parametrize("word", ["background", "Background", "_BACKGROUND_", "none"])
def test_the_sole_label_background_is_no_class(folder, word):
    data = read(folder, f"image,labels\na,cat\nb,dog\nc,{word}\n")
    assert (data.classes.names, shown(data)["c"]) == (("cat", "dog"), ("", ""))
    assert "1 images with the only label background or none show none of the classes" in data.form
    data = read(folder, f"image,labels\na,cat\nb,dog\nc,{word}\n", classes=f"id,name\n1,cat\n2,dog\n3,{word}\n")
    assert shown(data)["c"] == (word, "")
    data = read(folder, f"image,labels\na,cat\nb,dog\nc,{word}\n", classes="id,name\n0,background\n1,cat\n2,dog\n")
    assert shown(data)["c"] == ("", "")


@pytest.mark.parametrize("word", ["normal", "negative", "no", "empty", "null"])
def test_other_words_are_classes(folder, word):
    assert word in read(folder, f"image,labels\na,cat\nb,dog\nc,{word}\n").classes.names


def test_background_beside_other_labels_is_a_class_and_said(folder):
    data = read(folder, "image,labels\na,cat;background\nb,dog\n")
    assert data.classes.names == ("background", "cat", "dog")
    assert data.doubts[0].reason == "class 'background' is a class, as it stands beside other labels of an image"


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("yes", "no"), ("True", "False")])
def test_classes_yes_and_no_are_doubted(folder, yes, no):
    data = read(folder, f"image,label\na,{no}\nb,{yes}\n")
    assert "if that means no and yes, call the column 'label' by its class" in data.doubts[0].reason
    assert shown(read(folder, "image,defect\na,0\nb,1\n")) == {"a": ("", ""), "b": ("defect", "")}  # the remedy


# Rows that cannot be used


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("image,labels\na,cat\nb,dog,cat\n", 3, "expected 2 cells, got 3; labels are separated by ';'"),
        ("image;labels\na;cat\n\nb\n", 4, "expected 2 cells, got 1; labels are separated by ','"),
        ("image,labels\na,cat\n,dog\n", 3, "the image name is empty"),
        ('note,image,labels\n"x\ny",a,cat\n"x\ny",b\n', 5, "expected 3 cells, got 2"),
        ("image,cat,dog\na,1,0\nb,1,l\nc,0,1\n", 3, "column 'dog': expected 1, 0 or blank, got \"l\""),
        ("image,labels\na,cat\nd,cat\n", 3, "there is no such image in"),
    ],
)
def test_rows_that_cannot_be_used_are_listed_with_their_line(folder, text, line, reason):
    data = read(folder, text)
    (skip,) = (skip for skip in data.skipped if "class:" not in skip.reason)
    assert skip.reason.startswith(f"{folder / 'labels.csv'}:{line}: {reason}")
    assert "a" in {item.id for item in data.items}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,image,labels\na,b,cat\n", "there are 2 columns 'image'; keep one"),
        ("Image,image,labels\na,b,cat\n", "there are 2 columns 'Image'; keep one"),
        ("image,cat,cat\na,1,0\n", "there are 2 columns 'cat'; keep one"),
        ("image,labels\na\nb\n", r"labels.csv:2: expected 2 cells, got 1"),
        ("image,score\na,0.7\nb,0.1\n", "there is no column 'labels', but 'score'"),
        ("image,label,confidence\na,cat,1\na,dog,0\n", "the column 'confidence' says 0 in some rows"),
        ("a.jpg,b.jpg\n", "labels.csv:1: looks like a file without a header; write image,labels in the line before"),
        ("a.jpg,cat,dog\n", "looks like a file without a header"),
        ("a,cat\nb,dog\n", "there is no column 'image', but 'a', 'cat'"),
        ("image," + ",".join(f"c{n}" for n in range(300)) + "\na" + ",1" * 300 + "\n", "300 columns of yes and no"),
        ('image,labels\na,"cat\nb,dog\n', "not valid CSV"),
    ],
)
def test_tables_that_cannot_be_used(folder, text, message):
    with pytest.raises(DataError, match=message):
        read(folder, text)


# JSON


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ({"a": ["cat", "dog"], "b.jpg": ["dog"], "c": []}, "JSON, columns image and labels"),
        ({"a": "cat;dog", "b": "dog", "c": ""}, "JSON, columns image and labels"),
        ({"a": {"cat": 1, "dog": True}, "b": {"cat": 0, "dog": 1}, "c": {"cat": False, "dog": 0}}, "one column per class"),
        ({"a": {"labels": ["cat", "dog"], "width": 3}, "b": {"labels": ["dog"]}, "c": {"labels": []}}, "JSON, columns"),
        ([{"image": "a", "labels": ["cat", "dog"]}, {"image": "b", "labels": "dog"}, {"image": "c", "labels": []}], "JSON"),
        ([{"file_name": "a.jpg", "label": "cat"}, {"file_name": "a.jpg", "label": "dog"},
                    {"file_name": "b.jpg", "label": "dog"}, {"file_name": "c.jpg", "label": ""}], "JSON, one row per label"),
        ([{"image": "a", "cat": 1, "dog": 1}, {"image": "b", "cat": 0, "dog": 1}, {"image": "c", "cat": 0, "dog": 0}],
         "JSON, one column per class (2 classes)"),
    ],
)  # fmt: skip
def test_json_of_every_kind(folder, value, form):
    data = read(folder, json.dumps(value), "l.json")
    assert (shown(data), data.skipped) == (KNOWN, ())
    assert form in data.form


def test_three_states_in_json(folder):
    assert shown(read(folder, '{"a": ["dog", "?cat"], "b": ["cat"]}', "l.json"))["a"] == ("dog", "cat")
    text = '[{"image": "a", "cat": null, "dog": 1}, {"image": "b", "cat": 1, "dog": NaN}, {"image": "c", "cat": 0, "dog": 0}]'
    assert shown(read(folder, text, "l.json")) == {"a": ("dog", "cat"), "b": ("cat", "dog"), "c": ("", "")}


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.json", "labels.txt"])
def test_json_lines(folder, name):
    lines = ['{"file_name": "a.jpg", "labels": ["cat", "dog"]}', "", '{"file_name": "b.jpg", "labels": "dog"}', "{oh}", "[1]"]
    data = read(folder, "\n".join(lines), name)
    assert shown(data) == {"a": KNOWN["a"], "b": KNOWN["b"]}
    assert data.form == "JSON lines, columns file_name and labels (2 classes)"
    assert [skip.reason.split(str(folder))[1].split(" (")[0] for skip in data.skipped] == [
        f"/{name}:4: not valid JSON",
        f"/{name}:5: expected an object with an image and its labels, got [1]",
    ]


def test_json_lines_of_one_line_are_no_image_called_file_name(folder):
    assert shown(read(folder, '{"file_name": "a.jpg", "label": "cat"}', "metadata.jsonl")) == {"a": ("cat", "")}


def test_a_table_says_what_it_was_read_as_and_what_of_it_was_not(folder):
    (folder / "l.csv").write_text("image,labels\na,cat\nb,dog,cat\n")
    found = read_labels(folder / "l.csv")
    assert [row.name for row in found.rows] == ["a"]
    assert found.classes.names == ("cat",)
    assert found.form == "CSV, columns image and labels (1 classes)"
    assert found.unusable == (("b", f"{folder / 'l.csv'}:3: expected 2 cells, got 3; labels are separated by ';'"),)
