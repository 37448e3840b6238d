"""Which reader takes what: folders of labels, files of any name."""

import inspect
import re

import pytest
from PIL import Image

from advcam.cli import main
from advcam.data import images_of, load, read_labels, source_files
from advcam.data.sources import FORMS
from advcam.errors import DataError
from advcam.pipeline import _content

XML = "<annotation><object><name>{}</name></object></annotation>"


def images(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20)).save(root / name)


def shown(data):
    return {item.id: [data.classes.names[at] for at in item.labels] for item in data.items}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"), {"cat/1": ["cat"], "cat/2": ["cat"], "dog/1": ["dog"]}),
        (("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg"),
         {"train/cat/1": ["cat"], "train/dog/1": ["dog"], "val/cat/2": ["cat"]}),
        (("cat/old/1.jpg", "dog/1.jpg", "none/1.jpg"), {"cat/old/1": ["cat"], "dog/1": ["dog"], "none/1": []}),
        (("data/n01440764/x.JPEG", "data/n01443537/y.JPEG"),
         {"data/n01440764/x": ["n01440764"], "data/n01443537/y": ["n01443537"]}),
    ],
)  # fmt: skip
def test_a_folder_for_each_class(tmp_path, names, classes):
    images(tmp_path, *names)
    data = load(images_of(None, tmp_path), tmp_path)
    assert shown(data) == classes
    assert data.form.startswith("a folder for each class (2 classes)")


def test_images_beside_the_folders_are_not_labelled_and_a_moved_one_changes_the_labels(tmp_path):
    images(tmp_path, "cat/1.jpg", "dog/1.jpg", "x.jpg", ".thumbs/2.jpg")
    assert load(tmp_path, tmp_path).unlabelled == ("x",)
    assert source_files(tmp_path) == []
    before = _content(tmp_path)
    assert before == _content(tmp_path)
    (tmp_path / "cat" / "1.jpg").rename(tmp_path / "dog" / "2.jpg")
    assert _content(tmp_path) != before


def test_a_run_on_class_folders(tmp_path, capsys):
    images(tmp_path / "photos", "cat/1.jpg", "dog/1.jpg", "cat/2.jpg")
    words = ["data", "check", "--labels", tmp_path / "photos", "--out", tmp_path / "p.csv"]
    assert main([*map(str, words)]) == 0
    assert capsys.readouterr().out.startswith("labels read as: a folder for each class (2 classes)\n3 images to train on")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("images/1.jpg", "masks/1.jpg"), "nor a folder of images for each class"),
        (("train2017/1.jpg", "val2017/1.jpg", "boxes/all.json"), "It holds boxes/all.json; give one of these as --labels"),
        (("train2017/1.jpg", "labels.csv", "annotations.xml"), "It holds annotations.xml, labels.csv; give one of these"),
        ((".thumbs/1.jpg", "a/.1.jpg", ".x/l.csv"), "nor a folder of images for each class"),
        (("cat/1.jpg", "cat/2.jpg"), "nor a folder of images for each class"),
    ],
)
def test_folders_that_are_no_labels(tmp_path, names, said):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(DataError, match="neither Annotations") as error:
        read_labels(tmp_path)
    assert said in str(error.value)
    assert "It holds" in str(error.value) or "It holds" not in said


def test_xml_beside_the_images(tmp_path):
    """As Roboflow and LabelImg write it."""
    images(tmp_path, "train/a.jpg", "train/b.png", "val/c.jpg")
    for name, label in (("train/a", "cat"), ("train/b", "dog"), ("val/c", "cat")):
        (tmp_path / f"{name}.xml").write_text(XML.format(label))
    data = load(images_of(None, tmp_path), tmp_path)
    assert shown(data) == {"train/a": ["cat"], "train/b": ["dog"], "val/c": ["cat"]}
    assert data.form == "XML of PASCAL VOC, 3 files (20 classes)"
    assert [path.name for path in source_files(tmp_path)] == ["a.xml", "b.xml", "c.xml"]


def test_a_folder_of_xml_alone_and_a_single_file(tmp_path):
    images(tmp_path / "photos", "a.jpg", "b.jpg")
    (tmp_path / "xml").mkdir()
    for name, label in (("a", "wren"), ("b", "robin")):
        (tmp_path / "xml" / f"{name}.xml").write_text(XML.format(label))
    assert shown(load(tmp_path / "photos", tmp_path / "xml")) == {"a": ["wren"], "b": ["robin"]}
    data = load(tmp_path / "photos", tmp_path / "xml" / "b.xml")
    assert (shown(data), data.form) == ({"b": ["robin"]}, "one XML file of PASCAL VOC (1 classes)")


def test_voc_in_small_letters(tmp_path):
    images(tmp_path, "images/a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text(XML.format("mask"))
    assert images_of(None, tmp_path) == tmp_path / "images"
    assert shown(load(images_of(None, tmp_path), tmp_path)) == {"a": ["mask"]}


@pytest.mark.parametrize("name", ["labels", "labels.txt", "labels.tsv", "labels.json", "labels.xml"])
def test_content_counts_and_not_the_name(tmp_path, name):
    """Except that .json says that JSON was meant."""
    images(tmp_path / "photos", "a.jpg")
    for text in (
        "image,labels\na,cat\n",
        '{"a": ["cat"]}',
        '<annotations><image name="a"><tag label="cat"/></image></annotations>',
    ):
        (tmp_path / name).write_text(text)
        if name == "labels.json" and text.startswith("image"):
            with pytest.raises(DataError, match=r"labels.json:1: not valid JSON"):
                read_labels(tmp_path / name)
        else:
            assert shown(load(tmp_path / "photos", tmp_path / name)) == {"a": ["cat"]}


def test_the_table_of_forms_is_in_words():
    for words, read in FORMS:
        assert re.match(r"a folder|XML|JSON|a table", words)
        assert len(inspect.signature(read).parameters) == 2
