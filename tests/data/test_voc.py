"""PASCAL VOC folders as they are."""

import pytest

from advcam.data import images_of, load
from advcam.data.voc import NAMES
from advcam.errors import DataError
from layouts import write_voc


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path)


def test_objects_are_labels_and_the_difficult_ones_count(voc):
    data = load(voc / "JPEGImages", voc)
    assert (data.classes.ids, data.classes.names) == (tuple(range(1, 21)), NAMES)
    assert len(data.train) == 9
    assert all(item.labels and max(item.labels) < 5 for item in data.items)
    assert "<difficult>1</difficult>" in (voc / "Annotations" / f"{data.items[1].id}.xml").read_text()
    assert all("no image to train on has it" in skip.reason for skip in data.skipped)


def test_the_folder_around_it_and_its_lists(voc):
    lists = voc / "ImageSets" / "Segmentation"
    assert images_of(None, voc.parent) == images_of(voc, voc / "any.csv") == voc / "JPEGImages"
    data = load(images_of(None, voc.parent), voc.parent, train_list=lists / "trainaug.txt", eval_list=lists / "val.txt")
    assert (len(data.train), len(data.eval)) == (6, 3)


def test_names_of_ones_own_are_numbered_in_sorted_order(voc):
    for path in (voc / "Annotations").iterdir():
        path.write_text(path.read_text().replace("bird", "wren"))
    assert load(voc / "JPEGImages", voc).classes.names == ("aeroplane", "bicycle", "boat", "bottle", "wren")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>\n<object>\n</annotation>", r"2007_000002.xml:3: not valid XML \(mismatched tag"),
        ("", r"2007_000002.xml:1: not valid XML"),
        ("<html></html>", r"expected VOC's <annotation>, got <html>"),
        ("<annotation><object/></annotation>", r"2007_000002.xml: object 1 of 1 has no <name>"),
    ],
)
def test_xml_that_cannot_be_used(voc, text, message):
    (voc / "Annotations" / "2007_000002.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        load(voc / "JPEGImages", voc)


def test_missing_images_and_folders(voc, tmp_path):
    (voc / "JPEGImages" / "2007_000002.jpg").unlink()
    assert "2007_000002.xml: there is no such image" in load(voc / "JPEGImages", voc).skipped[0].reason
    for path in (voc / "JPEGImages").iterdir():
        path.unlink()
    (voc / "JPEGImages").rmdir()
    with pytest.raises(DataError, match=r"JPEGImages: there is no such folder of images"):
        load(images_of(None, voc), voc)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"it has neither Annotations/\*.xml nor annotations/instances_\*.json"):
        load(voc, tmp_path / "empty")


def test_two_years_in_one_folder(voc, tmp_path):
    (tmp_path / "VOC2007" / "Annotations").mkdir(parents=True)
    (tmp_path / "VOC2007" / "Annotations" / "1.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match="holds VOC2007, VOC2012; name one of these folders itself"):
        load(tmp_path, tmp_path)
