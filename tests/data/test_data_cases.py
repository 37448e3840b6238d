"""The inputs of ../shared/cases about images and labels, made anew, each with the right value; and others of their kinds."""

import csv
import json
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.data import ReadingConfig, load, read_classes, read_image, read_with_doubt
from advcam.errors import AdvcamError
from advcam.store import load_mask, save_mask

SQUARE = [[8, 8, 32, 8, 32, 24, 8, 24]]  # 384 pixels
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (64, 48), "red").save(tmp_path / "images" / name)
    return tmp_path / "images"


def annotation(number, image, category, segmentation=None, **more):
    made = {"id": number, "image_id": image, "category_id": category, "bbox": [8, 8, 24, 16], "area": 384, "iscrowd": 0}
    return made | {"segmentation": SQUARE if segmentation is None else segmentation} | more


def coco(folder, annotations, categories=CATEGORIES, names=("a.jpg", "b.jpg", "c.jpg"), file="instances.json"):
    entries = [{"id": at, "file_name": name, "width": 64, "height": 48} for at, name in enumerate(names, 1)]
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return folder / file


USUAL = [annotation(1, 1, 1), annotation(2, 2, 2), annotation(3, 3, 1)]


def check(labels, folder, *more):
    words = ["data", "check", "--labels", labels, "--images", folder / "images", "--out", folder / "problems.csv", *more]
    return main([*map(str, words), "--quiet"])


def convert(labels, out, *more):
    return main(["data", "convert", "--labels", str(labels), "--out", str(out), "--quiet", *map(str, more)])


def pixels(out, name, value):
    return int((load_mask(out / "masks" / f"{name}.png") == value).sum())


def reasons(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [f"{row['image']}: {row['reason']}" for row in csv.DictReader(file)]


def labels(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# CSV


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\ufeffimage;labels\r\na.jpg;cat,dog\r\nb.jpg;dog\r\nc.jpg;cat\r\n", "utf-8"),
        ("image\tlabels\na.jpg\tcat;dog\nb.jpg\tdog\nc.jpg\tcat\n", "utf-8"),
        ("\ufeffimage\tlabels\na.jpg\tcat,dog\nb.jpg\tdog\nc.jpg\tcat\n", "utf-16-le"),
        ("image;labels\na.jpg;cat|dog\nb.jpg;dog\nc.jpg;cat\n", "utf-8"),
        ('image,labels\n"a.jpg","cat;dog"\nb.jpg,dog\nc.jpg,cat\n', "utf-8"),
        ("id;image;labels\n1;a.jpg;cat, dog\n2;b.jpg;dog\n3;c.jpg;cat\n", "utf-8"),
    ],
    ids=["excel_de", "tabs", "utf-16", "bar", "quoted", "third column"],
)
def test_csv_excel_german(images, text, encoding, capsys):
    path = labels(images.parent / "labels.csv", text, encoding)
    assert check(path, images.parent) == 0
    assert "   1 cat       2       0" in capsys.readouterr().out
    assert {item.id: item.labels for item in load(images, path).items} == {"a": (0, 1), "b": (1,), "c": (0,)}


def test_a_class_list_of_such_a_spreadsheet(images):
    path = labels(images.parent / "classes.csv", "\ufeffid;name\r\n7;cat\r\n9;dog, large\r\n")
    assert (read_classes(path).ids, read_classes(path).names) == ((7, 9), ("cat", "dog, large"))


@pytest.mark.parametrize("cell", ['"cat,dog"', "cat|dog", "cat dog", "cat / dog"])
def test_csv_labels_with_other_separators(images, cell, capsys):
    path = labels(images.parent / "labels.csv", f"image,labels\na.jpg,{cell}\nb.jpg,dog\nc.jpg,cat\n")
    assert check(path, images.parent) == 1
    (reason,) = reasons(images.parent / "problems.csv")
    assert f"class {cell.strip(chr(34))!r} consists of names of other classes; labels are separated by ';'" in reason
    assert check(labels(path, path.read_text().replace(cell, "cat;dog")), images.parent) == 0  # the remedy


def test_a_name_of_two_words_is_no_doubt(images):
    assert check(labels(images.parent / "labels.csv", "image,labels\na,hot dog\nb,dog\nc,cat\n"), images.parent) == 0


def test_with_a_class_list_too(images, capsys):
    path = labels(images.parent / "labels.csv", 'image,labels\na.jpg,"cat,dog"\n')
    classes = labels(images.parent / "classes.csv", "id,name\n1,cat\n2,dog\n")
    assert check(path, images.parent, "--classes", classes) == 2
    assert "no class is called 'cat,dog'; labels are separated by ';'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("head", "encoding"),
    [("sep=;\r\n", "utf-8"), ("\n  \r\n", "utf-8"), ("\ufeffsep=;\r\n\r\n", "utf-8"), ("\ufeff", "utf-32-le")],
    ids=["sep", "blank lines", "mark and sep", "utf-32"],
)
def test_what_spreadsheets_write_before_the_header(images, head, encoding, capsys):
    text = head + "image;labels\r\na.jpg;cat,dog\r\nb.jpg;dog\r\n"
    path = labels(images.parent / "labels.csv", text, encoding)
    assert {item.id: item.labels for item in load(images, path).items} == {"a": (0, 1), "b": (1,)}
    assert check(labels(path, text + "c.jpg;ant;bee\r\n", encoding), images.parent) == 1
    lines = head.count("\n") + 4
    said = f"labels.csv:{lines}: expected 2 cells, got 3; labels are separated by ','"
    assert said in reasons(images.parent / "problems.csv")[0]
    assert f"1 entries of the labels could not be used, the first: {path.parent}/{said}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.csv", "image,labels," + "x" * 140_000 + "\na,cat,1\n", "l.csv:1: not valid CSV (field larger"),
        ("l.csv", "image,labels,labels\na,cat,dog\n", "l.csv:1: there are 2 columns 'labels'; keep one"),
        ("l.csv", "sep=;\n", "there is no column 'image'"),
        ("l.json", '{"a": [' + "1" * 5000 + "]}", "l.json: holds a number of thousands of digits"),
        ("l.json", '{"a": ["c\\ud800t"]}', "the name 'c\\ud800t' is not valid Unicode; rename it"),
        ("l.json", '{"\\ud800": ["cat"]}', "the name '\\ud800' is not valid Unicode; rename it"),
    ],
)
def test_labels_that_no_one_can_read(images, name, text, said, capsys):
    assert check(labels(images.parent / name, text), images.parent) == 2
    told = capsys.readouterr().err
    assert said in told, told
    assert "unexpected" not in told


def test_names_of_many_digits_are_names(images):
    path = labels(images.parent / "labels.csv", f"image,labels\na,{'1' * 5000}\nb,2\n")
    assert load(images, path).classes.names == ("1" * 5000, "2")


def test_names_that_a_list_or_coco_gives_are_no_doubt(images, tmp_path):
    """A class "cat dog" beside cat and dog is meant where something else than labels says so: no remedy would help there."""
    path = labels(tmp_path / "labels.csv", "image,labels\na,cat dog\nb,dog\nc,cat\n")
    assert check(path, tmp_path) == 1
    assert check(path, tmp_path, "--classes", labels(tmp_path / "c.csv", "id,name\n1,cat\n2,dog\n3,cat dog\n")) == 0
    file = coco(tmp_path, [*USUAL, annotation(4, 1, 3)], [*CATEGORIES, {"id": 3, "name": "cat dog"}])
    assert check(file, tmp_path) == 0


# Names


def test_names_with_folder(images, capsys):
    path = images.parent / "labels.csv"
    assert check(labels(path, "image,labels\n./a.jpg,cat\n././b.jpg,dog\n./c,cat\n"), images.parent) == 0
    for name, begin in (
        ("images/a.jpg", "images/"),
        ("images\\a.jpg", "images\\"),
        (f"{images}/a.jpg", f"{images}/"),
        ("C:\\data\\images\\a.jpg", "C:\\data\\images\\"),
    ):
        assert check(labels(path, f"image,labels\n{name},cat\n"), images.parent) == 2
        told = capsys.readouterr().err
        assert f"did you mean 'a.jpg'? the names begin with {begin!r}" in told, told
        assert check(labels(path, f"image,labels\n{name},cat\nb.jpg,dog\nc.jpg,cat\n"), images.parent) == 1
        assert any("did you mean 'a.jpg'?" in reason for reason in reasons(images.parent / "problems.csv"))
        assert check(labels(path, f"image,labels\n{name.replace(begin, '')},cat\n"), images.parent) == 0  # the remedy


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train\\\\d.jpg", "did you mean 'train/d.jpg'? write / between folders"),
        (".\\\\train\\\\d.jpg", "did you mean 'train/d.jpg'? write / between folders"),
        (
            "D:\\\\x\\\\train\\\\d.jpg",
            "did you mean 'train/d.jpg'? the names begin with 'D:\\\\\\\\x\\\\\\\\': remove that, and write /",
        ),
        ("../images/train/d.jpg", "did you mean 'train/d.jpg'? the names begin with '../images/': remove that"),
        ("d.jpg", "did you mean 'train/d.jpg'?"),
        ("a.png", "did you mean 'a.jpg'?"),
        ("A.JPG", "did you mean 'a.jpg'?"),
        ("x", "x.psd: suffix .psd is not read; known: .avif"),
        ("x.jpg", "x.psd: suffix .psd is not read; known: .avif"),
        ("y" * 300 + ".psd", "there is no such image in"),
        ("z/" * 3000 + "a.psd", "there is no such image in"),
    ],
)
def test_names_that_are_nearly_those_of_images(images, tmp_path, name, said, capsys):
    (images / "train").mkdir()
    Image.new("RGB", (64, 48)).save(images / "train" / "d.jpg")
    (images / "x.psd").write_bytes(b"some bytes")
    name = name.replace("\\\\", "\\")
    path = labels(tmp_path / "labels.csv", f"image,labels\n{name},cat\nb.jpg,dog\nc.jpg,cat\n")
    assert check(path, tmp_path) == 1
    (reason,) = reasons(tmp_path / "problems.csv")
    assert said.replace("\\\\", "\\") in reason, reason
    if "did you mean" in reason:
        meant = reason.split("did you mean '")[1].split("'")[0]
        assert check(labels(path, f"image,labels\n{meant},cat\n"), tmp_path) == 0  # the remedy


def test_names_with_strokes_too_many_are_the_image(images):
    (images / "train").mkdir()
    Image.new("RGB", (64, 48)).save(images / "train" / "d.jpg")
    path = labels(images.parent / "labels.csv", "image,labels\ntrain//d.jpg,cat\n.//a.jpg,dog\n./train/./../b.jpg,cat\n")
    data = load(images, path)
    assert [item.id for item in data.items] == ["a", "train/d"]
    assert "did you mean 'b.jpg'?" in data.skipped[0].reason


def test_a_folder_of_files_that_are_not_read_says_which(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.PSD").write_bytes(b"some bytes")
    assert check(labels(tmp_path / "labels.csv", "image,labels\na,cat\n"), tmp_path) == 2
    assert "no image in it, but other files: 1 of suffix .psd; known suffixes: .avif" in capsys.readouterr().err


def voc(folder, second=b"<annotation><object><name>dog</name></object></annotation>"):
    root = folder / "VOC"
    for name in ("JPEGImages", "Annotations", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for name in "ab":
        Image.new("RGB", (40, 32)).save(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations" / "a.xml").write_bytes(b"<annotation><object><name>cat</name></object></annotation>")
    (root / "Annotations" / "b.xml").write_bytes(second)
    return root


@pytest.mark.parametrize(
    "text",
    [
        b"/JPEGImages/a.jpg /SegmentationClassAug/a.png\n/JPEGImages/b.jpg /SegmentationClassAug/b.png\n",
        b"a  1\nb -1\n",
        "\ufeffa\nb\n".encode("utf-16-le"),
        b"JPEGImages/a.jpg\n\n./b.jpg\n",
    ],
    ids=["train_aug", "Main", "utf-16", "folder"],
)
def test_voc_list_train_aug(tmp_path, text):
    root = voc(tmp_path)
    path = root / "ImageSets" / "Segmentation" / "list.txt"
    path.write_bytes(text)
    assert main(["data", "check", "--labels", str(root), "--train-list", str(path), "--out", str(tmp_path / "p.csv")]) == 0
    assert [item.id for item in load(root / "JPEGImages", root, train_list=path).train] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,masks/a.png\nb.jpg,masks/b.png\n",
        "a.jpg;1\nb.jpg;-1\n",
        "images/a labels/a\nimages/b labels/b.png\n",
        "a a\nb b\n",
        "a.jpg\tm/a.png\tx/a.npy\nb.jpg 7\n",
    ],
)
def test_columns_of_other_lists(images, tmp_path, text):
    path = labels(tmp_path / "labels.csv", "image,labels\na,cat\nb,dog\nc,cat\n")
    data = load(images, path, train_list=labels(tmp_path / "list.txt", text))
    assert ([item.id for item in data.train], data.skipped) == (["a", "b"], ())


def test_a_name_with_blanks_is_not_taken_for_columns(images, tmp_path):
    Image.new("RGB", (64, 48)).save(images / "b c.jpg")
    path = labels(tmp_path / "labels.csv", "image,labels\na,cat\nb c,dog\n")
    (tmp_path / "list.txt").write_text("b c\na b.jpg\na 7.jpg\na\n")
    data = load(images, path, train_list=tmp_path / "list.txt")
    assert [item.id for item in data.train] == ["a", "b c"]
    assert [skip.image for skip in data.skipped] == ["a b.jpg", "a 7.jpg"]


def test_a_list_of_nothing_says_what_it_read_and_what_is_expected(tmp_path, capsys):
    root = voc(tmp_path)
    (tmp_path / "list.txt").write_text("nowhere.jpg 1\n")
    assert main(["data", "check", "--labels", str(root), "--train-list", str(tmp_path / "list.txt")]) == 2
    told = capsys.readouterr().err
    assert "none of its images can be used, e.g. 'nowhere.jpg 1'" in told
    assert "expected names such as 'a', one a line" in told


def test_voc_gb2312(tmp_path, capsys):
    head = '<?xml version="1.0" encoding="{}"?>'
    body = "<annotation><object><name>狗</name></object></annotation>"
    for name in ("gb2312", "GBK", "big5", "shift_jis", "utf-16"):
        root = voc(tmp_path / name, (head.format(name) + body).encode(name))
        assert load(root / "JPEGImages", root).classes.names == ("cat", "狗")
    for name, said in (("klingon", "encoding klingon is not known; save it as UTF-8"),
                       ("big5", "encoding big5, but byte 34 is invalid in it; save it as UTF-8")):  # fmt: skip
        root = voc(tmp_path / f"bad {name}", (head.format(name) + "<annotation>").encode() + b"\xff\xff</annotation>")
        assert main(["data", "check", "--labels", str(root), "--out", str(tmp_path / "p.csv")]) == 2
        told = capsys.readouterr().err
        assert "b.xml: encoding" in told
        assert said.split(", but")[0] in told
        assert "save it as UTF-8" in told
    root = voc(tmp_path / "entities", b'<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    assert main(["data", "check", "--labels", str(root)]) == 2
    assert "b.xml: has a document type" in capsys.readouterr().err


BODY = "<annotation><object><name>{}</name></object></annotation>"


@pytest.mark.parametrize(
    ("declared", "encoding", "name"),
    [
        ("gb2312", "gb18030", "\u9555"),  # not in GB 2312 itself
        ("shift_jis", "cp932", "\u2460"),
        ("euc-kr", "cp949", "\ub625"),
        ("x-sjis", "shift_jis", "\u72ac"),
        ("gb2312", "utf-8-sig", "\u72d7"),  # the mark is right, the declaration was left as it was
        ("utf-16", "utf-16", "\u72d7"),
        ("utf-16le", "utf-16-le", "\u72d7"),
        ("utf-16be", "utf-16-be", "\u72d7"),
        ("utf-32", "utf-32", "\u72d7"),
        ("koi8-r", "koi8-r", "\u043a\u043e\u0442"),
    ],
)
def test_encodings_of_xml(tmp_path, declared, encoding, name):
    root = voc(tmp_path, f'<?xml version="1.0" encoding="{declared}"?>{BODY.format(name)}'.encode(encoding))
    assert load(root / "JPEGImages", root).classes.names == ("cat", name)


@pytest.mark.parametrize("declared", ["GB 2312", "rot13", "zlib", "undefined", "k" * 500, "\0"])
def test_encodings_that_are_none(tmp_path, declared, capsys):
    root = voc(tmp_path, f'<?xml version="1.0" encoding="{declared}"?>{BODY.format("dog")}'.encode())
    assert main(["data", "check", "--labels", str(root), "--out", str(tmp_path / "p.csv")]) == 2
    told = capsys.readouterr().err
    assert "b.xml: encoding " in told
    assert "is not known; save it as UTF-8" in told
    (root / "Annotations" / "b.xml").write_text(BODY.format("dog"), encoding="utf-8")  # the remedy
    assert load(root / "JPEGImages", root).items[1].labels


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"])
def test_no_encoding_hides_entities(tmp_path, encoding, capsys):
    """A document type could hold entities of entities, whose text no memory holds."""
    entities = '<!DOCTYPE a [<!ENTITY b "lol"><!ENTITY c "&b;&b;&b;&b;">]>' + BODY.format("&c;")
    data = f'<?xml version="1.0" encoding="{encoding}"?>{entities}'.encode(encoding)
    if encoding == "utf-7":  # whose own codec leaves these as they are
        data = data.replace(b"<!", b"+ADwAIQ-").replace(b"+ADwAIQ-xml", b"<?xml")
    root = voc(tmp_path, data)
    assert main(["data", "check", "--labels", str(root), "--out", str(tmp_path / "p.csv")]) == 2
    assert "b.xml: has a document type" in capsys.readouterr().err


def test_a_line_of_xml_keeps_its_number(tmp_path, capsys):
    root = voc(tmp_path, b'<?xml version="1.0"\n encoding="gbk"?>\n<annotation>\n<object>\n</annotation>')
    assert main(["data", "check", "--labels", str(root)]) == 2
    assert "b.xml:5: not valid XML" in capsys.readouterr().err


# Exports of other tools

STUDIO = (
    "annotation_id,annotator,choice,created_at,id,image,lead_time,updated_at\n"
    '1,1,"{""choices"":[""cat"",""dog""]}",2024,1,/data/upload/1/0a1b2c3d-a.jpg,3.1,2024\n'
    "2,1,dog,2024,2,/data/upload/1/11223344-b.jpg,2.0,2024\n"
)
TAGS = '<image id="0" name="a.jpg"><tag label="cat"/></image><image id="1" name="b.jpg"><tag label="dog"/></image>'


@pytest.mark.parametrize(
    ("name", "text", "form", "right"),
    [
        ("onehot.csv", "image,cat,dog\na.jpg,1,1\nb.jpg,0,1\n", "CSV, one column per class (2 classes)",
         {"a": (0, 1), "b": (1,)}),
        ("ls.csv", STUDIO, "Label Studio, CSV (2 classes)", {"a": (0, 1), "b": (1,)}),
        ("ls_min.json", '[{"id": 1, "image": "/data/upload/1/0a1b2c3d-a.jpg", "choice": {"choices": ["cat", "dog"]}},'
         ' {"id": 2, "image": "/data/upload/1/11223344-b.jpg", "choice": "dog"}]', "Label Studio, JSON-MIN (2 classes)",
         {"a": (0, 1), "b": (1,)}),
        ("cvat.xml", f"<annotations><version>1.1</version>{TAGS}</annotations>", "CVAT for images (2 classes)",
         {"a": (0,), "b": (1,)}),
        ("longform.csv", "image,labels\na.jpg,cat\na.jpg,dog\nb.jpg,dog\n", "CSV, one row per label (2 classes)",
         {"a": (0, 1), "b": (1,)}),
        ("jsonl.jsonl", '{"file_name":"a.jpg","label":"cat"}\n{"file_name":"b.jpg","label":"dog"}\n',
         "JSON lines, columns file_name and label (2 classes)", {"a": (0,), "b": (1,)}),
    ],
)  # fmt: skip
def test_label_exports(images, name, text, form, right, capsys):
    path = labels(images.parent / name, text)
    assert {item.id: item.labels for item in load(images, path).items} == right
    assert check(path, images.parent) == 0
    assert capsys.readouterr().out.startswith(f"labels read as: {form}\n2 images to train on")


# COCO


@pytest.mark.parametrize("area", [{}, {"area": 0}, {"area": None}, {"area": "x"}, {"area": float("inf")}])
def test_coco_area_missing(images, tmp_path, area):
    small, large = [[10, 10, 20, 10, 20, 20, 10, 20]], [[0, 0, 40, 0, 40, 40, 0, 40]]
    regions = [annotation(1, 1, 2, small), annotation(2, 1, 1, large), *USUAL[1:]]
    for made in regions[:2]:
        del made["area"]
        made |= area
    assert convert(coco(tmp_path, regions), tmp_path / "out") == 0
    assert (pixels(tmp_path / "out", "a", 2), pixels(tmp_path / "out", "a", 1)) == (100, 1500)


def test_an_area_that_no_image_has_is_none(images, tmp_path):
    small, large = [[10, 10, 20, 10, 20, 20, 10, 20]], [[0, 0, 40, 0, 40, 40, 0, 40]]
    regions = [annotation(1, 1, 2, small, area=1e12), annotation(2, 1, 1, large, area=1600), *USUAL[1:]]
    assert convert(coco(tmp_path, regions), tmp_path / "out") == 0
    assert (pixels(tmp_path / "out", "a", 2), pixels(tmp_path / "out", "a", 1)) == (100, 1500)


def test_categories_are_matched_by_name_not_by_an_id_of_the_class_list(images, tmp_path, capsys):
    """A category "1" is not the class with the id 1."""
    file = coco(tmp_path, USUAL, [{"id": 1, "name": "1"}, {"id": 2, "name": "dog"}])
    classes = labels(tmp_path / "classes.csv", "id,name\n1,cat\n2,dog\n")
    for call in (
        lambda: convert(file, tmp_path / "out", "--classes", classes),
        lambda: check(file, tmp_path, "--classes", classes),
    ):
        assert call() == 2
        assert "no class is called '1'; known: cat, dog" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    labels(classes, "id,name\n7,1\n8,dog\n")  # the remedy
    assert convert(file, tmp_path / "out", "--classes", classes) == 0
    assert (pixels(tmp_path / "out", "a", 7), pixels(tmp_path / "out", "b", 8)) == (384, 384)


def test_coco_category_id_0(images, tmp_path, capsys):
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    file = coco(tmp_path, [annotation(1, 1, 0), annotation(2, 2, 1), annotation(3, 3, 0)], categories)
    classes = labels(tmp_path / "classes.csv", "id,name\n1,cat\n2,dog\n")
    assert convert(file, tmp_path / "own") == 0
    assert "classes are numbered from 1 (0 cat is 1, 1 dog is 2; --classes FILE gives others)" in capsys.readouterr().out
    assert (pixels(tmp_path / "own", "a", 1), pixels(tmp_path / "own", "b", 2)) == (384, 384)
    assert check(file, tmp_path, "--masks", tmp_path / "own" / "masks") == 0
    assert convert(file, tmp_path / "out", "--classes", classes) == 0
    assert (pixels(tmp_path / "out", "a", 1), pixels(tmp_path / "out", "b", 2)) == (384, 384)
    assert check(file, tmp_path, "--classes", classes, "--masks", tmp_path / "out" / "masks") == 0
    short = labels(tmp_path / "short.csv", "id,name\n1,cat\n")
    assert convert(file, tmp_path / "less", "--classes", short) == 2
    assert "no class is called 'dog'; known: cat" in capsys.readouterr().err


NO_REGIONS = [
    {"counts": None, "size": [48, 64]},
    {"counts": "", "size": [48, 64]},
    {"counts": [1, 2], "size": [48, 64]},
    {"counts": [2**62] * 4 + [4096], "size": [48, 64]},
    {"counts": [1e300, 2], "size": [48, 64]},
    {"counts": "o" * 5000, "size": [48, 64]},
    {"counts": [3072], "size": [480, 640]},
    {"counts": [3072], "size": [48, 64]},
    {"counts": [3072], "size": "48x64"},
    [[8, 8, "a", 8, 32, 24]],
    [[8, 8, {}, 8, 32, 24]],
    [[8, 8, None, 8, 32, 24]],
    [[8, 8, 1e308, 8, 32, 24]],
    [[5, 5, 9, 5]],
    [[5, 5, 9, 5, 7, 5]],
    [8, 8, 32, 8, 32, 24],
    [[]],
    [],
    "polygon",
    7,
]


@pytest.mark.parametrize("segmentation", NO_REGIONS, ids=lambda value: str(value)[:40])
def test_coco_counts_null_and_other_regions_that_are_none(images, tmp_path, segmentation):
    """Its box is 255, the rest of the image and all other images are drawn, and it is named."""
    bad = annotation(2, 1, 2, segmentation, bbox=[40, 30, 10, 10])
    assert convert(coco(tmp_path, [annotation(1, 1, 1), bad, *USUAL[1:]]), tmp_path / "out") == 1
    assert (pixels(tmp_path / "out", "a", 1), pixels(tmp_path / "out", "a", 255)) == (384, 100)
    assert pixels(tmp_path / "out", "a", 0) == 64 * 48 - 484
    assert (pixels(tmp_path / "out", "b", 2), pixels(tmp_path / "out", "c", 1)) == (384, 384)
    (reason,) = reasons(tmp_path / "out" / "skipped.csv")
    assert "a.jpg: annotation 2: " in reason
    assert "only a box, whose pixels become 255" in reason
    assert check(tmp_path / "out" / "labels.csv", tmp_path, "--classes", tmp_path / "out" / "classes.csv") == 0


@pytest.mark.parametrize("box", [None, [], [1, 2], [8, 8, 0, 0], [8, 8, -3, 4], ["a", 8, 3, 4], [900, 900, 5, 5], 3])
def test_without_a_box_nobody_knows_the_rest_of_the_image(images, tmp_path, box):
    bad = annotation(2, 1, 2, [], bbox=box)
    assert convert(coco(tmp_path, [annotation(1, 1, 1), bad, annotation(3, 2, 2, [], bbox=box)]), tmp_path / "out") == 1
    assert (pixels(tmp_path / "out", "a", 1), pixels(tmp_path / "out", "a", 255)) == (384, 64 * 48 - 384)
    assert not (tmp_path / "out" / "masks" / "b.png").exists()  # nothing of it is known
    found = reasons(tmp_path / "out" / "skipped.csv")
    assert any("annotation 2: has no region and no box: what no other region covers becomes 255" in reason for reason in found)
    assert any("b.jpg: no pixel is known, so it has no mask" in reason for reason in found)


def test_coco_empty_segmentation(images, tmp_path):
    regions = [annotation(1, 1, 1), annotation(2, 1, 2, [], bbox=[30, 20, 20, 20]), USUAL[1], annotation(4, 3, 1, [[]])]
    assert convert(coco(tmp_path, regions), tmp_path / "out") == 1
    assert pixels(tmp_path / "out", "a", 1) == 384  # a drawn region is known, a box over it or not
    assert pixels(tmp_path / "out", "a", 255) == 400 - 2 * 4
    assert pixels(tmp_path / "out", "c", 255) == 384
    assert any("annotation 2: has no region, only a box" in reason for reason in reasons(tmp_path / "out" / "skipped.csv"))


def test_coco_stray_point(images, tmp_path):
    regions = [annotation(1, 1, 1, [*SQUARE, [32.0, 24.0]]), USUAL[1], annotation(3, 3, 1, [[5, 5, 9, 5]])]
    assert convert(coco(tmp_path, regions), tmp_path / "out") == 1
    assert (pixels(tmp_path / "out", "a", 1), pixels(tmp_path / "out", "a", 255)) == (384, 0)
    found = reasons(tmp_path / "out" / "skipped.csv")
    assert any("a.jpg: annotation 1: polygon 2 of 2 is left out: a polygon is x, y of three points or more" in r for r in found)
    assert pixels(tmp_path / "out", "c", 255) == 384


@pytest.mark.parametrize("change", [float, str, lambda number: f" {number} "], ids=["float", "string", "blanks"])
def test_coco_float_and_string_ids(images, tmp_path, change, capsys):
    file = coco(tmp_path, USUAL)
    kept = json.loads(file.read_text())
    for entry in [*kept["images"], *kept["categories"]]:
        entry["id"] = change(entry["id"])
    for entry in kept["annotations"]:
        entry |= {"image_id": change(entry["image_id"]), "category_id": change(entry["category_id"])}
    file.write_text(json.dumps(kept))
    assert check(file, tmp_path) == 0
    assert "   2 dog       1       0" in capsys.readouterr().out
    assert convert(file, tmp_path / "out") == 0
    assert pixels(tmp_path / "out", "b", 2) == 384


@pytest.mark.parametrize("change", [int, str], ids=["numbers", "text"])
def test_ids_of_many_digits_are_not_rounded(images, tmp_path, change):
    """As time stamps and hashes are: two that differ by one are two."""
    first = 2**63 - 3
    file = coco(tmp_path, [annotation(1, first, 1), annotation(2, first + 1, 2), annotation(3, first + 2, 1)])
    kept = json.loads(file.read_text())
    for at, entry in enumerate(kept["images"]):
        entry["id"] = change(first + at)
    file.write_text(json.dumps(kept))
    assert convert(file, tmp_path / "out") == 0
    assert [pixels(tmp_path / "out", name, value) for name, value in (("a", 1), ("b", 2), ("c", 1))] == [384] * 3


def test_whatever_an_annotation_is_called_it_is_named(images, tmp_path):
    for at, name in enumerate(("\ud800", "x\ny", "x" * 5000, [1], None)):
        out = tmp_path / f"out{at}"
        assert convert(coco(tmp_path, [annotation(name, 1, 1, []), *USUAL[1:]]), out) == 1
        (reason,) = reasons(out / "skipped.csv")
        assert f"annotation {name!r:.50}" in reason
        assert len(reason) < 400


def test_images_that_show_nothing(images, tmp_path):
    """A split of images without an object is no fault; one alone has nothing to train on."""
    out = tmp_path / "out"
    assert convert(coco(tmp_path, []), out) == 0
    assert [pixels(out, name, 0) for name in "abc"] == [64 * 48] * 3
    assert check(coco(tmp_path, []), tmp_path) == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.5, "entry 1 of categories has the id 1.5; expected a whole number"),
        (True, "entry 1 of categories has the id True; expected a whole number"),
        (-1, "entry 1 of categories has the id -1; expected a whole number from 0"),
        (-2.0, "entry 1 of categories has the id -2.0; expected a whole number from 0"),
        ("-1", "entry 1 of categories has the id '-1'; ids of categories must be numbers"),
        (float("inf"), "entry 1 of categories has the id inf"),
        ("cat", "entry 1 of categories has the id 'cat'; ids of categories must be numbers"),
        (None, "entry 1 of categories has no 'id'; got the keys id, name"),
        ([1], "entry 1 of categories has the id [1]; expected a whole number"),
        (float("nan"), "entry 1 of categories has the id nan"),
    ],
)
def test_ids_that_are_none(images, tmp_path, value, said, capsys):
    assert check(coco(tmp_path, USUAL, [{"id": value, "name": "cat"}, *CATEGORIES]), tmp_path) == 2
    assert said in capsys.readouterr().err


def test_coco_same_category_id(images, tmp_path, capsys):
    categories = [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "bird"}]
    file = coco(tmp_path, USUAL, categories)
    for call in (lambda: check(file, tmp_path), lambda: convert(file, tmp_path / "out")):
        assert call() == 2
        assert "two categories have the id 1: 'cat' and 'dog'" in capsys.readouterr().err
    coco(tmp_path, USUAL, [*CATEGORIES, CATEGORIES[0]])  # the same entry again says nothing else
    assert check(file, tmp_path) == 0
    coco(tmp_path, [*USUAL, annotation(4, 1, 3)], [*CATEGORIES, {"id": 3, "name": "cat"}])
    assert check(file, tmp_path) == 2
    assert "two categories are called 'cat', 1 and 3; rename one" in capsys.readouterr().err
    coco(tmp_path, USUAL, [*CATEGORIES, {"id": 3, "name": "cat"}])  # that no region has
    assert check(file, tmp_path) == 0


def test_one_image_id_for_two_files(images, tmp_path, capsys):
    file = coco(tmp_path, USUAL)
    kept = json.loads(file.read_text())
    kept["images"][1]["id"] = 1
    file.write_text(json.dumps(kept))
    assert check(file, tmp_path) == 2
    assert "two images have the id 1: 'a.jpg' and 'b.jpg'" in capsys.readouterr().err


def test_coco_same_file_twice(images, tmp_path, capsys):
    other = annotation(4, 4, 2, [[40, 20, 50, 20, 50, 30, 40, 30]], area=100)
    file, out = coco(tmp_path, [*USUAL, other], names=("a.jpg", "b.jpg", "c.jpg", "./a.jpg")), tmp_path / "out"
    assert check(file, tmp_path) == 0
    assert convert(file, out) == 0
    assert (pixels(out, "a", 1), pixels(out, "a", 2)) == (384, 100)
    assert (out / "labels.csv").read_text().splitlines() == ["image,labels", "a.jpg,cat;dog", "b.jpg,dog", "c.jpg,cat"]
    kept = json.loads(file.read_text())
    kept["images"][3]["width"] = 640
    file.write_text(json.dumps(kept))
    assert check(file, tmp_path) == 2
    assert "'a.jpg' is image 1 of (height, width) (48, 64) and image 4 of (48, 640)" in capsys.readouterr().err
    del kept["images"][0]["width"]  # what one does not say the other does
    kept["images"][3]["width"] = 64
    file.write_text(json.dumps(kept))
    assert convert(file, tmp_path / "again") == 0
    assert (pixels(tmp_path / "again", "a", 1), pixels(tmp_path / "again", "a", 2)) == (384, 100)
    kept["images"] += [kept["images"][1], kept["images"][1] | {"height": 480}]  # the same entry again, and one that differs
    file.write_text(json.dumps(kept))
    assert check(file, tmp_path) == 2
    assert "'b.jpg' is image 2 of (height, width) (48, 64) and image 2 of (480, 64)" in capsys.readouterr().err


def test_coco_roboflow_folder(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / "rf" / split).mkdir(parents=True)
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            Image.new("RGB", (64, 48)).save(tmp_path / "rf" / split / name)
        coco(tmp_path / "rf", USUAL, [{"id": 0, "name": "pets"}, *CATEGORIES], file=f"{split}/_annotations.coco.json")
    assert main(["data", "check", "--labels", str(tmp_path / "rf"), "--out", str(tmp_path / "p.csv")]) == 0
    out = tmp_path / "out"
    assert convert(tmp_path / "rf", out) == 0
    data = load(tmp_path / "rf", tmp_path / "rf", train_list=out / "train.txt", eval_list=out / "valid.txt")
    assert ([i.id for i in data.train], len(data.eval)) == (["train/a", "train/b", "train/c"], 3)
    assert pixels(out, "valid/b", 2) == 384
    alone = tmp_path / "rf" / "train"
    assert main(["data", "check", "--labels", str(alone), "--out", str(tmp_path / "p.csv")]) == 0


def test_coco_semicolon_in_name(images, tmp_path):
    categories = [{"id": 1, "name": "cat; tabby"}, {"id": 2, "name": "dog"}]
    out = tmp_path / "out"
    assert convert(coco(tmp_path, USUAL, categories), out) == 0
    assert check(out / "labels.csv", tmp_path, "--classes", out / "classes.csv", "--masks", out / "masks") == 0
    assert [item.labels for item in load(images, out / "labels.csv", out / "classes.csv").items] == [(0,), (1,), (0,)]


LETTERS = [
    "a",
    "B",
    "7",
    "0",
    ";",
    ",",
    "|",
    '"',
    "'",
    " ",
    "\t",
    "\n",
    "\r",
    "é",
    "狗",
    "?",
    "[",
    "]",
    "#",
    "\\",
    "/",
    "-",
    "=",
    "\u2028",
    "\x0b",
]


@pytest.mark.parametrize("seed", range(40))
def test_what_convert_writes_can_be_read_back(tmp_path, seed, capsys):
    """Random nasty names: what was written says the same as the source, or the names are refused and nothing is written."""
    draw = random.Random(seed)

    def name():
        return "".join(draw.choice(LETTERS) for _ in range(draw.randint(1, 6)))

    categories = [{"id": at, "name": name()} for at in range(1, 4)]
    stems = [name().replace("/", "_").replace("\\", "_") + f"{at}" for at in range(3)]
    regions = [annotation(at, draw.randint(1, 3), draw.randint(1, 3)) for at in range(1, 5)]
    file, out = coco(tmp_path, regions, categories, [f"{stem}.png" for stem in stems]), tmp_path / "out"
    (tmp_path / "images").mkdir()
    for stem in stems:
        Image.new("RGB", (64, 48)).save(tmp_path / "images" / f"{stem.strip()}.png")
    status = convert(file, out)
    if status == 2:
        assert not out.exists() or not any(out.iterdir())
        assert "unexpected" not in capsys.readouterr().err
        return
    assert status == 0
    ours = load(tmp_path / "images", out / "labels.csv", out / "classes.csv", out / "instances.txt")
    theirs = load(tmp_path / "images", file)
    assert {i.id: i.labels for i in ours.items} == {i.id: i.labels for i in theirs.items}
    assert ours.classes == theirs.classes


def test_most_of_these_names_survive(tmp_path):
    """So that the test above tests something: semicolon, quote, comma, number and blank are no reason to refuse."""
    for at, name in enumerate(("a;b", 'a"b', "a,b", "7", "a b", "狗")):
        folder = tmp_path / str(at)
        folder.mkdir()
        assert convert(coco(folder, USUAL, [{"id": 1, "name": name}, {"id": 2, "name": "dog"}]), folder / "out") == 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.png/b.jpg", "a.jpg"), "the mask of 'a.jpg' would be a folder of the mask of 'a.png/b.jpg'"),
        (("a.jpg", "a.png"), "'a.jpg' and 'a.png' would have the same mask"),
        (("x" * 238 + ".jpg", "a.jpg"), "the name is too long for a file"),
        (("\ufeffa.jpg", "b.jpg"), "cannot be a line of a list"),
        ((".", "a.jpg"), "image 1 has the file_name '.'; expected a name below the folder of images"),
        (("a\0.jpg", "b.jpg"), "is not a valid file name; rename it"),
    ],
)
def test_names_of_images_that_cannot_be_written_are_refused_before(tmp_path, names, said, capsys):
    file = coco(tmp_path, [annotation(1, 1, 1), annotation(2, 2, 2)], names=names)
    assert convert(file, tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert convert(coco(tmp_path, USUAL, names=("x" * 236 + ".jpg", "b.jpg", "c.jpg")), tmp_path / "out") == 0


def test_names_that_are_other_classes_ids_are_named(tmp_path, capsys):
    file = coco(tmp_path, USUAL, [{"id": 1, "name": "2"}, {"id": 2, "name": "a;1"}])
    assert convert(file, tmp_path / "out") == 2
    assert "of the classes '2', 'a;1', rename those that contain ';' or are the id of another" in capsys.readouterr().err
    assert (
        convert(coco(tmp_path, USUAL, [{"id": 1, "name": "2"}, {"id": 2, "name": "a 1"}]), tmp_path / "out") == 0
    )  # the remedy


# Image files


def grey(path, values):
    Image.fromarray(values).save(path)


def test_images_12_bit(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    ramp = np.linspace(0, 3776, 64 * 48).reshape(48, 64)
    for name in "abc":
        grey(tmp_path / "images" / f"{name}.png", ramp.astype(np.uint16))
    path = labels(tmp_path / "labels.csv", "image,labels\na,cat\nb,dog\nc,cat\n")
    assert check(path, tmp_path, "--range", "dtype") == 1
    found = reasons(tmp_path / "problems.csv")
    assert len(found) == 3
    assert "16-bit image whose largest value is 3776: read as 14 of 255, nearly black; --range LOW,HIGH" in found[0]
    assert check(path, tmp_path) == 0
    item = load(tmp_path / "images", path, reading=ReadingConfig().reading).train[0]
    low, high = item.reading.window
    assert 0 <= low < 10 < 3765 < high <= 3776
    assert item.read().getextrema()[0] == (0, 255)
    for name in "abc":
        grey(tmp_path / "images" / f"{name}.png", (ramp * 17).astype(np.uint16))
    assert check(path, tmp_path) == 0  # the remedy


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((48, 64), 200, np.int32), "32-bit image whose largest value is 200: read as 0 of 255, nearly black"),
        (np.full((48, 64), 16000, np.uint16), "16-bit image whose largest value is 16000: read as 62 of 255; --range LOW"),
        (
            np.full((48, 64), 70_000, np.int32),
            "32-bit image with values from 70000 to 70000: values outside 0 to 65535 are clipped",
        ),
        (np.full((48, 64), -5, np.int32), "with values from -5 to -5: values outside 0 to 65535 are clipped"),
    ],
)
def test_other_ranges(tmp_path, values, said):
    (tmp_path / "images").mkdir()
    grey(tmp_path / "images" / "a.tif", values)
    path = labels(tmp_path / "labels.csv", "image,labels\na,cat\n")
    assert check(path, tmp_path, "--range", "dtype") == 1
    assert said in reasons(tmp_path / "problems.csv")[0]


def test_16_bits_of_their_whole_range_are_no_doubt(tmp_path):
    (tmp_path / "images").mkdir()
    grey(tmp_path / "images" / "a.png", np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16))
    assert check(labels(tmp_path / "labels.csv", "image,labels\na,cat\n"), tmp_path) == 0
    assert read_image(tmp_path / "images" / "a.png").getextrema()[0] == (0, 255)


def png16(path, values):
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_dark_colour_of_16_bits_is_said_whatever_is_behind_it(tmp_path, channels):
    """White behind a transparent image does not make it bright."""
    png16(tmp_path / "a.png", np.full((48, 64, channels), 3000))
    assert "16-bit image" in (said := read_with_doubt(tmp_path / "a.png")[1])
    assert "read as 11 of 255, nearly black" in said
    png16(tmp_path / "a.png", np.full((48, 64, channels), 60_000))
    assert read_with_doubt(tmp_path / "a.png")[1] is None


@pytest.mark.parametrize(("kind", "channels"), [("P5", 1), ("P6", 3)])
@pytest.mark.parametrize(("most", "dark"), [(65535, True), (4095, False)])
def test_netpbm_of_16_bits(tmp_path, kind, channels, most, dark):
    """It says its own range: 3000 of 4095 is bright, of 65535 it is nearly black."""
    pixels = np.full((48, 64, channels), 3000).astype(">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(f"{kind} 64 48 {most}\n".encode() + pixels)
    image, said = read_with_doubt(tmp_path / "a.ppm")
    assert (said is not None) == dark == (image.getextrema()[0][1] < 20)
    assert not dark or said.startswith("16-bit image")


def test_images_avif_jfif(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    names = ["a.avif", "b.jfif", "c.jpg", "d.JPE", "e.pgm", "f.tga", "g.WebP", "h.jp2", "i.dib"]
    for name in names:
        form = {"jfif": "JPEG", "jpe": "JPEG", "jpg": "JPEG", "pgm": "PPM", "jp2": "JPEG2000"}
        suffix = name.split(".")[1].lower()
        Image.new("L" if suffix == "pgm" else "RGB", (64, 48), 90).save(tmp_path / "images" / name, form.get(suffix, suffix))
    rows = "".join(f"{name},{'cat' if at else 'dog'}\n" for at, name in enumerate(names))
    path = labels(tmp_path / "labels.csv", f"image,labels\n{rows}")
    assert check(path, tmp_path) == 0
    (tmp_path / "images" / "x.psd").write_bytes(b"some bytes")
    assert check(labels(path, path.read_text() + "x.psd,cat\n"), tmp_path) == 1
    assert "x.psd: suffix .psd is not read; known: .avif, " in reasons(tmp_path / "problems.csv")[0]


def test_predict_says_what_it_passes_over_and_what_is_dark(trained, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    grey(tmp_path / "images" / "a.png", np.full((48, 64), 3000, np.uint16))
    (tmp_path / "images" / "b.psd").write_bytes(b"some bytes")
    (tmp_path / "images" / "notes.txt").write_text("of no account")
    words = ["predict", "--model", trained, "--images", tmp_path / "images", "--out", tmp_path / "out"]
    assert main([*map(str, words)]) == 0
    told = capsys.readouterr().err
    assert "1 files of suffix .psd are skipped" in told
    assert ".txt" not in told
    assert "a.png: 16-bit image whose largest value is 3000: read as 11 of 255" in told


def test_no_image_starts_another_program(tmp_path, monkeypatch):
    """PostScript under an image's name is refused without ghostscript being asked."""
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\nshowpage\n")
    started = []
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: started.append(a))
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
    with pytest.raises(AdvcamError, match="not an image that Pillow can read"):
        read_image(tmp_path / "x.png")
    assert not started


def test_labels_may_cover_a_part_of_a_folder(images, tmp_path, capsys):
    """Exit status 0: the others are no part of the data set, and are counted."""
    path = labels(tmp_path / "labels.csv", "image,labels\na,cat\n")
    assert check(path, tmp_path) == 0
    assert "2 images in the folder have no label and are not part of the data set" in capsys.readouterr().out
    assert not (tmp_path / "problems.csv").exists()
    assert check(labels(path, path.read_text() + "ghost,cat\n"), tmp_path) == 1


def test_random_annotation_files_end_in_words_of_ours(images, tmp_path, capsys):
    """Whatever stands in place of a number: done, done in part, or refused on a line; never something unexpected."""
    draw = random.Random(7)
    odd = [None, "", "x", -1, 0, 1.5, 2**70, 1e400, float("nan"), [], {}, [1], True, "7", "\ud800", {"a": 1}]
    for at in range(150):
        file = coco(tmp_path, [*USUAL, annotation(9, 1, 2, {"counts": [10, 10, 3052], "size": [48, 64]})])
        kept = json.loads(file.read_text())
        part = draw.choice([*kept["annotations"], *kept["images"], *kept["categories"]])
        part[draw.choice(list(part))] = draw.choice(odd)
        file.write_text(json.dumps(kept))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert convert(file, tmp_path / f"out{at}") in (0, 1, 2)
            assert check(file, tmp_path) in (0, 1, 2)
        assert "unexpected" not in capsys.readouterr().err
    save_mask(tmp_path / "last.png", np.zeros((4, 4), np.uint8))
