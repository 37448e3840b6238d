"""VOC and CVAT: masks as colours, objects beside them, and archives that people made."""

import io
import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from advcam.data import ClassTable
from advcam.errors import DataError, ImageError, SettingsError
from advcam.formats import FORMATS, Losses, Masked, Names, Wishes
from advcam.formats.colours import PALETTE, objects

CLASSES = ClassTable((7, 2), ("dog", "cat"))
SIZE = (20, 24)
DOG, CAT, UNKNOWN = (128, 128, 128), (0, 128, 0), (224, 224, 192)


def mask():
    ids = np.zeros(SIZE, np.uint8)
    ids[1:4, 1:5] = 7
    ids[10:12, 10:20] = 7
    ids[4:6, 1:5] = 2
    ids[19] = 255
    return ids


def convert(kind, tmp_path, ids=None, names=None, classes=CLASSES):
    out = tmp_path / f"out{FORMATS[kind].suffix}"
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    losses = Losses()
    with FORMATS[kind].write(out, Wishes(names or Names(classes)), losses) as add:
        add(Masked("a", tmp_path / "a.png", mask() if ids is None else ids))
    return out, losses


def only(kind, source, names=None, size=SIZE):
    (drawn,) = [found.draw(size) for found in FORMATS[kind].read(source, names or Names(CLASSES))]
    return drawn.ids


def colours(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def test_an_archive_for_cvat(tmp_path):
    out, losses = convert("cvat", tmp_path)
    with zipfile.ZipFile(out) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert set(held) == {
        "labelmap.txt", "SegmentationClass/a.png", "SegmentationObject/a.png", "ImageSets/Segmentation/default.txt",
    }  # fmt: skip
    assert held["ImageSets/Segmentation/default.txt"] == b"a\n"
    assert held["labelmap.txt"].decode().splitlines() == [
        "# label:color_rgb:parts:actions", "background:0,0,0::", "dog:128,128,128::", "cat:0,128,0::", "ignored:224,224,192::",
    ]  # fmt: skip
    classes, numbers = colours(held["SegmentationClass/a.png"]), colours(held["SegmentationObject/a.png"])
    assert (classes == PALETTE[mask()]).all()
    assert [tuple(numbers[at].tolist()) for at in ((4, 1), (1, 1), (10, 10))] == [(128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert not numbers[mask() == 0].any(), "the background is no object, of which CVAT would make an annotation"
    assert not numbers[mask() == 255].any()
    assert losses.unknown == 24
    assert "24 of 480 pixels (5.00%) are 255 (not known): background there" in losses.lines()[0]


def test_cvat_knows_what_is_not_known_where_a_label_stands_for_it(tmp_path):
    names = Names(CLASSES, "unsure")
    out, losses = convert("cvat", tmp_path, names=names)
    with zipfile.ZipFile(out) as archive:
        assert "unsure:224,224,192::" in archive.read("labelmap.txt").decode().splitlines()
        assert colours(archive.read("SegmentationObject/a.png"))[19].any(1).all()
    assert losses.lines() == []
    assert np.array_equal(only("cvat", out, names), mask())
    with pytest.raises(DataError, match=r"no class is called 'unsure'.*named with --not-known"):
        only("cvat", out)


def test_archives_are_the_same_byte_for_byte_when_made_again(tmp_path):
    assert convert("cvat", tmp_path)[0].read_bytes() == convert("cvat", tmp_path)[0].read_bytes()


def test_more_parts_than_colours_share_the_last_ones_within_a_class():
    ids = np.zeros((60, 80), np.uint8)
    ids[::2, ::2] = 7  # 1200 single pixels
    ids[1::10, 40] = 0
    ids[50:60, 70:80] = 2
    ids[3, 3] = 255
    numbers, classes = objects(ids, 254)
    assert set(classes.values()) == {7, 2}
    assert max(classes) <= 254
    assert not numbers[ids == 255].any()
    for number, value in classes.items():
        assert (ids[numbers == number] == value).all()
    assert ((numbers > 0) == np.isin(ids, [7, 2])).all()
    large = np.zeros((60, 80), np.uint8)
    large[:, 0::4] = 7
    numbers, classes = objects(large, 254)
    assert classes == dict.fromkeys(range(1, 21), 7), "few parts keep numbers of their own"


def test_254_classes_with_many_parts_each_still_have_numbers():
    ids = np.zeros((254, 8), np.uint8)
    ids[:, ::2] = np.arange(1, 255)[:, None]
    ids[:, 1::2] = 0
    numbers, classes = objects(ids, 254)
    assert sorted(classes.values()) == list(range(1, 255))
    for number, value in classes.items():
        assert (ids[numbers == number] == value).all()


def test_voc_has_boxes_from_one_and_both_ends_included(tmp_path):
    out, losses = convert("voc", tmp_path)
    root = ElementTree.parse(out / "Annotations" / "a.xml").getroot()
    assert (root.findtext("filename"), root.findtext("size/width"), root.findtext("size/height")) == ("a.png", "24", "20")
    boxes = [(o.findtext("name"), *(int(o.findtext(f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")))
             for o in root.findall("object")]  # fmt: skip
    assert boxes == [("cat", 2, 5, 5, 6), ("dog", 2, 2, 5, 4), ("dog", 11, 11, 20, 12)]
    assert losses.lines() == []
    lists = {path.name: path.read_text() for path in (out / "ImageSets" / "Segmentation").iterdir()}
    assert lists == {"train.txt": "a\n", "val.txt": "", "trainval.txt": "a\n"}
    with Image.open(out / "SegmentationObject" / "a.png") as image:
        assert set(np.unique(np.asarray(image)).tolist()) == {0, 1, 2, 3, 255}


@pytest.mark.parametrize("name", ["a:b", "#1", "a\nb", " a"])
@pytest.mark.parametrize("kind", ["cvat", "voc"])
def test_names_that_a_label_map_cannot_hold_are_refused_before_anything_is_written(name, kind, tmp_path):
    with pytest.raises(DataError, match="a label map cannot hold"):
        convert(kind, tmp_path, classes=ClassTable((7, 2), (name, "cat")))
    assert not list(tmp_path.glob("out*/*")) + list(tmp_path.glob("out.zip"))


def archive(tmp_path, labelmap="dog:1,2,3::\ncat:250,0,9::\nbackground:0,0,0::\n", image=None, below="task/", **more):
    path = tmp_path / "export.zip"
    stream = io.BytesIO()
    if image is None:
        colour = np.zeros((*SIZE, 3), np.uint8)
        colour[mask() == 7] = (1, 2, 3)
        colour[mask() == 2] = (250, 0, 9)
        image = Image.fromarray(colour)
    image.save(stream, "PNG")
    with zipfile.ZipFile(path, "w") as made:
        if labelmap is not None:
            made.writestr(f"{below}labelmap.txt", labelmap)
        made.writestr(f"{below}SegmentationClass/a.png", stream.getvalue())
        for name, data in more.items():
            made.writestr(name, data)
    return path


@pytest.mark.parametrize("kind", ["cvat", "voc"])
def test_an_export_has_colours_of_its_own(kind, tmp_path):
    expected = np.where(mask() == 255, 0, mask())
    assert np.array_equal(only(kind, archive(tmp_path)), expected)
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(archive(tmp_path, below="")).extractall(unpacked)
    assert np.array_equal(only(kind, unpacked), expected)


def test_windows_archives_have_backslashes(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as made, zipfile.ZipFile(archive(tmp_path, below="")) as given:
        for name in given.namelist():
            made.writestr(zipfile.ZipInfo(name.replace("/", "\\")), given.read(name))
            made.filelist[-1].filename = name.replace("/", "\\")
    assert (only("cvat", tmp_path / "w.zip") == 7).sum() == 32


def test_grey_masks_hold_places_in_the_label_map(tmp_path):
    ids = np.zeros(SIZE, np.uint8)
    ids[:5], ids[5:8], ids[8:] = 0, 1, 2
    found = only("cvat", archive(tmp_path, image=Image.fromarray(ids)))
    assert [found[at, 0] for at in (0, 5, 8)] == [7, 2, 0]


def test_voc_itself_has_no_label_map(tmp_path):
    ids = np.zeros(SIZE, np.uint8)
    ids[0], ids[1], ids[2] = 12, 8, 255  # dog, cat, border
    for mode in ("P", "L"):
        image = Image.fromarray(ids)
        if mode == "P":
            image.putpalette(PALETTE.ravel().tolist())
        found = only("voc", archive(tmp_path, labelmap=None, image=image))
        assert [found[at, 0] for at in range(4)] == [7, 2, 255, 0]


def test_a_label_called_ignored_is_not_known_unless_it_is_a_class(tmp_path):
    path = archive(tmp_path, labelmap="dog:1,2,3::\nignored:250,0,9::\nbackground:0,0,0::\n")
    assert (only("cvat", path) == 255).sum() == 8
    classes = ClassTable((7, 3), ("dog", "ignored"))
    assert (only("cvat", path, Names(classes)) == 3).sum() == 8


@pytest.mark.parametrize(
    ("labelmap", "error", "message"),
    [
        ("dog:1,2,3::\nbackground:0,0,0::\n", ImageError, r"a.png: holds the colour 250,0,9, which labelmap.txt does not name"),
        ("dog:1,2,3::\nbird:250,0,9::\nbackground:0,0,0::", DataError, "no class is called 'bird'; known: dog, cat"),
        ("dog:1,2\n", DataError, "labelmap.txt:1: expected name:red,green,blue:: , got 'dog:1,2'"),
        ("dog:1,2,300::\n", DataError, "labelmap.txt:1: expected name:red,green,blue::"),
        ("dog:1,2,3::\ncat:1,2,3::\n", DataError, "labelmap.txt:2: 'cat' has the colour of 'dog'; give it its own"),
        (b"\xff\xfe:", DataError, "labelmap.txt: not UTF-8"),
    ],
)
def test_label_maps_that_do_not_fit(labelmap, error, message, tmp_path):
    with pytest.raises(error, match=message):
        only("cvat", archive(tmp_path, labelmap=labelmap))


def test_a_mask_of_another_size_is_refused_before_it_is_unpacked(tmp_path):
    with pytest.raises(ImageError, match=r"a.png: is 24x20, its image 48x40"):
        only("cvat", archive(tmp_path), size=(40, 48))


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "SegmentationClass/../../evil.png", "..\\evil.png"])
def test_an_archive_that_leads_elsewhere_is_refused(name, tmp_path):
    with pytest.raises(DataError, match=r"export.zip: names .*, which leads out of the archive"):
        only("cvat", archive(tmp_path, **{name: b"x"}))
    assert not list(tmp_path.parent.rglob("evil.png"))


def test_what_unpacks_to_more_than_any_mask_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("labelmap.txt", "dog:1,2,3::\n")
        made.writestr("SegmentationClass/a.png", bytes(2**27))
    assert path.stat().st_size < 2**20
    with pytest.raises(ImageError, match=r"bomb.zip/SegmentationClass/a.png: unpacks to more than 1052416 bytes"):
        only("cvat", path)


def test_metadata_that_names_files_elsewhere_reads_none_of_them(tmp_path):
    secret = tmp_path / "secret.png"
    Image.fromarray(mask()).save(secret)
    out = tmp_path / "hf"
    out.mkdir()
    (out / "classes.csv").write_text("id,name\n7,dog\n2,cat\n")
    for name in ("../secret.png", str(secret)):
        (out / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "mask_file_name": name}) + "\n")
        with pytest.raises(ImageError, match="has no"):
            only("hf", out)


@pytest.mark.parametrize("kind", ["cvat", "voc", "fiftyone"])
def test_a_class_called_as_255_is_needs_another_label_for_255(kind, tmp_path):
    classes = ClassTable((7, 2), ("ignored", "cat"))
    with pytest.raises(SettingsError, match="a class is called 'ignored', which is what 255 is called here"):
        convert(kind, tmp_path, classes=classes)
    names = Names(classes, "unsure")
    assert np.array_equal(only(kind, convert(kind, tmp_path, names=names)[0], names), mask())


@pytest.mark.parametrize("label", ["dog", " cat ", "background", ""])
def test_a_label_for_255_is_neither_a_class_nor_the_background(label):
    with pytest.raises(SettingsError, match="is a class or the background; give a name of its own"):
        Names(CLASSES, label)


def test_a_label_map_has_a_background_already(tmp_path):
    with pytest.raises(DataError, match="class 'background': a label map has a background of its own; rename the class"):
        convert("cvat", tmp_path, classes=ClassTable((7, 2), ("background", "cat")))


@pytest.mark.parametrize("kind", ["cvat", "voc"])
def test_an_image_whose_line_would_be_a_comment_is_refused(kind, tmp_path):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "#1.png")
    with (
        pytest.raises(ImageError, match="a line that begins with '#' is a comment in a list"),
        FORMATS[kind].write(tmp_path / f"out{FORMATS[kind].suffix}", Wishes(Names(CLASSES)), Losses()) as add,
    ):
        add(Masked("#1", tmp_path / "#1.png", mask()))


def test_binary_masks_of_fiftyone_call_255_a_class(tmp_path):
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.where(mask() == 7, 255, 0).astype(np.uint8)).save(tmp_path / "labels" / "a.png")
    (tmp_path / "mask_targets.json").write_text('{"255": "dog"}')
    assert (only("fiftyone", tmp_path) == np.where(mask() == 7, 7, 0)).all()
    (tmp_path / "mask_targets.json").write_text('{"1": "dog"}')
    assert (only("fiftyone", tmp_path) == np.where(mask() == 7, 255, 0)).all()
    (tmp_path / "mask_targets.json").write_text('{"a": "dog"}')
    with pytest.raises(DataError, match="expected mask_targets.json with the name of each id"):
        only("fiftyone", tmp_path)


def test_grey_masks_hold_a_number_that_no_label_has(tmp_path):
    with pytest.raises(ImageError, match="holds the number 77, which labelmap.txt does not name"):
        only("voc", archive(tmp_path, labelmap=None, image=Image.fromarray(np.full(SIZE, 77, np.uint8))))
    with pytest.raises(ImageError, match="expected a palette or colour PNG, got one of mode I;16"):
        only("voc", archive(tmp_path, image=Image.fromarray(np.full(SIZE, 7, np.uint16))))
