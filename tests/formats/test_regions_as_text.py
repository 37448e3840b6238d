"""COCO, YOLO and LabelMe: what stands in their files, and files of other programs."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from advcam.data import ClassTable, SceneSettings, scene
from advcam.errors import DataError, ImageError
from advcam.formats import FORMATS, Losses, Masked, Names, Wishes
from advcam.formats.outlines import drawn, outlines

CLASSES = ClassTable((7, 2), ("dog", "cat"))
SIZE = (30, 40)


def ring():
    ids = np.zeros(SIZE, np.uint8)
    ids[2:12, 3:13] = 7
    ids[5:9, 6:10] = 0
    ids[20:23, 30:35] = 7
    ids[25, 1:20] = 2
    return ids


def convert(kind, tmp_path, ids, **wishes):
    losses, out = Losses(), tmp_path / f"out{FORMATS[kind].suffix}"
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    with FORMATS[kind].write(out, Wishes(Names(CLASSES), **wishes), losses) as add:
        add(Masked("a", tmp_path / "a.png", ids, scores={7: 0.25}))
    return out, losses


def only(kind, source, names=None):
    (drawn,) = [found.draw(SIZE) for found in FORMATS[kind].read(source, names or Names(CLASSES))]
    return drawn


def test_a_ring_and_another_part_are_one_region_of_coco_that_is_no_crowd(tmp_path):
    out, _ = convert("coco", tmp_path, ring())
    coco = json.loads(out.read_text())
    assert coco["categories"] == [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert coco["images"] == [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}]
    cat, dog = coco["annotations"]
    assert (dog["category_id"], dog["area"], dog["bbox"], dog["iscrowd"]) == (7, 100 - 16 + 15, [3, 2, 32, 21], 0)
    assert (cat["category_id"], cat["area"], cat["bbox"], cat["iscrowd"]) == (2, 19, [1, 25, 19, 1], 0)
    assert dog["segmentation"]["size"] == [30, 40]
    assert dog["score"] == 0.25
    assert "score" not in cat
    mask = pytest.importorskip("faster_coco_eval.core.mask")
    for region in (dog, cat):
        assert np.array_equal(mask.decode(region["segmentation"]) > 0, ring() == region["category_id"])


@pytest.mark.parametrize("seed", range(6))
def test_cocos_tools_draw_our_polygons_as_they_were(seed):
    """Holes, parts and single pixels too: a slit cancels where it is drawn there and back."""
    mask = pytest.importorskip("faster_coco_eval.core.mask")
    place = np.random.default_rng(seed).random((41, 37)) < (0.2 + 0.1 * seed)
    made = outlines(place)
    again = mask.decode(mask.merge(mask.frPyObjects([points.ravel().tolist() for points in made], *place.shape)))
    assert np.array_equal(again > 0, place)
    assert np.array_equal(drawn(made, place.shape), place)


def test_polygons_with_a_tolerance_have_fewer_points_and_say_what_changes(tmp_path):
    rows, columns = np.mgrid[:60, :80] + 0.5
    disc = (((rows - 30) / 25) ** 2 + ((columns - 40) / 33) ** 2 < 1).astype(np.uint8) * 7
    disc[25:32, 38:44] = 0
    points = {}
    for tolerance in (0.0, 0.5, 2.0):
        losses, out = Losses(), tmp_path / f"{tolerance}.json"
        with FORMATS["coco"].write(out, Wishes(Names(CLASSES), shapes="polygons", tolerance=tolerance), losses) as add:
            add(Masked("a", tmp_path / "a.png", disc))
        (region,) = json.loads(out.read_text())["annotations"]
        points[tolerance] = sum(map(len, region["segmentation"])) // 2
        (found,) = FORMATS["coco"].read(out, Names(CLASSES))
        changed = int((found.draw((60, 80)).ids != disc).sum())
        said = losses.changed
        assert losses.lines() == [
            f"{said} of 4800 pixels ({said / 4800:.2%}) change when faster-coco-eval draws the polygons again"
        ]
        assert abs(said - changed) <= 2, "COCO's tools round coordinates to a fifth of a pixel"
        assert (changed == 0) == (tolerance == 0)
        assert changed < 4 * tolerance * 200 + 1
    assert (points[0.0], points[0.5], points[2.0]) == (90, 50, 18)


@pytest.mark.parametrize(
    ("tolerance", "points", "centres", "with_the_outline"),
    [(0, 5723, 0.0, 1.2), (0.5, 2648, 0.2, 1.2), (1, 687, 0.5, 1.3), (2, 489, 1.2, 1.4)],
)
def test_what_the_documentation_says_that_polygons_cost(tolerance, points, centres, with_the_outline):
    """In percent of the regions' pixels; LabelMe draws with Pillow, which draws the outline too."""
    count = total = apart = apart_with = 0
    for at in range(20):
        mask = scene((5, at), SceneSettings(size=320)).mask
        for value in np.unique(mask)[1:]:
            place = mask == value
            made = outlines(place, tolerance)
            image = Image.new("L", place.shape[::-1])
            for one in made:
                ImageDraw.Draw(image).polygon([tuple(point) for point in one.tolist()], fill=1, outline=1)
            count += sum(map(len, made))
            total += int(place.sum())
            apart += int((drawn(made, place.shape) != place).sum())
            apart_with += int(((np.asarray(image) > 0) != place).sum())
    assert count == points
    assert (round(100 * apart / total, 1), round(100 * apart_with / total, 1)) == (centres, with_the_outline)


def test_yolo_says_what_it_is(tmp_path):
    out, losses = convert("yolo", tmp_path, ring())
    assert (out / "data.yaml").read_text() == "train: images/train\nval: images/train\nnames:\n  0: dog\n  1: cat\n"
    lines = (out / "labels" / "train" / "a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0", "0"], "a line for each part"
    numbers = np.asarray([float(word) for line in lines for word in line.split()[1:]])
    assert numbers.min() >= 0
    assert numbers.max() <= 1
    assert losses.changed == 0
    assert np.array_equal(only("yolo", out).ids, ring())


def write_yolo(folder, text, yaml="names: [dog, cat]\n", below="train/labels"):
    (folder / below).mkdir(parents=True)
    (folder / below / "a.txt").write_text(text)
    (folder / "data.yaml").write_text(yaml)
    return folder


@pytest.mark.parametrize("below", ["labels", "labels/train", "train/labels"])
def test_yolo_of_other_programs(below, tmp_path):
    text = "0 0 0 1 0 1 1 0 1\n\n1 0.25 0.5 0.5 0.5 0.5 1 0.25 1\n"
    (found,) = FORMATS["yolo"].read(write_yolo(tmp_path / "y", text, "names:\n  0: dog\n  1: cat\n", below), Names(CLASSES))
    assert "a" in found.names
    ids = found.draw(SIZE).ids
    assert (ids[15:, 10:20] == 2).all(), "the smaller one lies on top"
    assert (ids != 2).sum() == (ids == 7).sum() == 1200 - 150


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0 0.5 0.5 0.2 0.2\n", "a.txt:1: is a box, not a polygon: export the data set for segmentation"),
        ("0 0.5 0.5 0.2\n", "a.txt:1: expected x y of three points or more"),
        ("0 a b c d e f\n", "a.txt:1: expected x y of three points or more"),
        ("0 0 0 nan 0 1 1\n", "a.txt:1: expected three points x, y or more"),
        ("0 0 0 1e300 0 1 1\n", "a.txt:1: expected three points x, y or more"),
        ("0 2 2 3 2 3 3\n", "a.txt:1: covers no pixel of the image"),
    ],
)
def test_faults_of_yolo_are_said_and_the_rest_is_drawn(text, fault, tmp_path):
    drawn = only("yolo", write_yolo(tmp_path / "y", text + "1 0 0 1 0 1 1 0 1\n"))
    assert len(drawn.faults) == 1
    assert fault in drawn.faults[0]
    assert (drawn.ids == 2).all()


@pytest.mark.parametrize(
    ("text", "yaml", "message"),
    [
        ("5 0 0 1 0 1 1\n", "names: [dog, cat]", "a.txt:1: is of class 5, which data.yaml does not name"),
        ("0 0 0 1 0 1 1\n", "names: [bird]", "no class is called 'bird'; known: dog, cat"),
        ("0 0 0 1 0 1 1\n", "names: 5", "expected names: with a number and a name each"),
        ("0 0 0 1 0 1 1\n", "x: 5", "expected names: with a number and a name each"),
        ("0 0 0 1 0 1 1\n", "names: !!python/object/apply:os.system [id]", "expected names: with a number and a name each"),
        ("0 0 0 1 0 1 1\n", "names: " + "[" * 5000, "expected names: with a number and a name each"),
    ],
)
def test_a_yolo_data_set_whose_names_are_wrong_is_refused(text, yaml, message, tmp_path):
    with pytest.raises(DataError, match=message):
        only("yolo", write_yolo(tmp_path / "y", text, yaml))


def test_labelme_holds_polygons_or_masks(tmp_path):
    out, losses = convert("labelme", tmp_path, ring())
    held = json.loads((out / "a.json").read_text())
    assert (held["imagePath"], held["imageHeight"], held["imageWidth"], held["imageData"]) == ("../a.png", 30, 40, None)
    assert [(shape["label"], shape["shape_type"]) for shape in held["shapes"]] == [
        ("cat", "polygon"), ("dog", "polygon"), ("dog", "polygon"),
    ]  # fmt: skip
    assert losses.changed == 0
    assert np.array_equal(only("labelme", out).ids, ring())
    out, losses = convert("labelme", tmp_path, ring(), shapes="masks")
    cat, dog = json.loads((out / "a.json").read_text())["shapes"]
    assert (dog["shape_type"], dog["points"]) == ("mask", [[3, 2], [34, 22]]), "both corners belong to it"
    assert cat["points"] == [[1, 25], [19, 25]]
    with Image.open(io.BytesIO(base64.b64decode(dog["mask"]))) as image:
        assert image.size == (32, 21)
    assert losses.lines() == []
    assert np.array_equal(only("labelme", out).ids, ring())


def shape(kind, points, label="dog", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def write_labelme(folder, *shapes, **more):
    folder.mkdir(exist_ok=True)
    held = {"version": "5.0.1", "shapes": shapes, "imagePath": "..\\photos\\sub\\b.jpg", "imageData": "AAAA"}
    (folder / "x.json").write_text(json.dumps(held | {"imageHeight": 30, "imageWidth": 40} | more))
    return folder


def test_labelme_of_other_people(tmp_path):
    folder = write_labelme(
        tmp_path / "l",
        shape("rectangle", [[10, 20], [2, 5]]),
        shape("circle", [[30, 15], [30, 20]], "cat"),
        shape("polygon", [[0, 0], [4, 0], [4, 4], [0, 4]], "background"),
    )
    (found,) = FORMATS["labelme"].read(folder, Names(CLASSES))
    assert found.names == ("x", "../photos/sub/b.jpg", "photos/sub/b.jpg", "sub/b.jpg", "b.jpg")
    ids = found.draw(SIZE).ids
    assert (ids[5:20, 2:10] == 7).all()
    assert (ids == 7).sum() == 15 * 8
    assert abs((ids == 2).sum() - np.pi * 25) < 6
    assert ids[15, 34] == 2
    assert ids[15, 36] == 0


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (shape("linestrip", [[0, 0], [4, 4]]), "x.json: shape 1: is a linestrip of 2 points, which has no area"),
        (shape("polygon", [[0, 0], [4, 4]]), "shape 1: expected three points x, y or more"),
        (shape("polygon", [[0, 0], [1e12, 4], [3, 3]]), "shape 1: expected three points x, y or more"),
        (shape("rectangle", [[0, 0], [4, 4], [5, 5]]), "is a rectangle of 3 points"),
        (shape("circle", [[5, 5], [5, 5]]), "expected a centre and radii above 0"),
        (shape("mask", [[0, 0], [4, 4]]), "x.json: shape 1: cannot be read as a PNG"),
        (shape("mask", [[0, 0], [4, 4]], mask="%%"), "its mask is not base64"),
        (shape("mask", [[0, 0], [4e9, 4e9]], mask=""), "does not fit into the image"),
        (shape("mask", [[0.5, 0], [4, 4]], mask=""), "the corners of a mask are whole numbers"),
    ],
)
def test_faults_of_labelme_are_said_and_the_rest_is_drawn(made, fault, tmp_path):
    folder = write_labelme(tmp_path / "l", made, shape("rectangle", [[0, 0], [40, 30]], "cat"))
    drawn = only("labelme", folder)
    assert fault in drawn.faults[0]
    assert (drawn.ids == 2).all()


def test_labelme_files_that_are_of_another_image_or_damaged(tmp_path):
    with pytest.raises(ImageError, match=r"x.json: is 41x30 there, the image is 40x30"):
        only("labelme", write_labelme(tmp_path / "l", imageWidth=41))
    (tmp_path / "l" / "x.json").write_text('{"shapes": [{"points": 5}]}')
    with pytest.raises(ImageError, match=r"x.json: not a file of LabelMe's .*Expected array, got int - at "):
        only("labelme", tmp_path / "l")
    with pytest.raises(DataError, match="no class is called 'bird'; known: dog, cat"):
        only("labelme", write_labelme(tmp_path / "l", shape("rectangle", [[0, 0], [4, 4]], "bird")))


def write_coco(path, *regions, **image):
    about = {"id": 1, "file_name": "a.png", "height": 30, "width": 40} | image
    numbered = [{"id": at, "image_id": 1, "category_id": 3, **region} for at, region in enumerate(regions)]
    categories = [{"id": 3, "name": "cat"}, {"id": 4, "name": "bird"}]
    path.write_text(json.dumps({"images": [about], "annotations": numbered, "categories": categories}))
    return path


def test_coco_of_other_people(tmp_path):
    square = {"segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]], "iscrowd": 0}
    ids = only("coco", write_coco(tmp_path / "c.json", square)).ids
    assert (ids[:10, :10] == 2).all(), "by the name of the category, not by its id"
    assert (ids == 2).sum() == 100
    with pytest.raises(DataError, match="no class is called 'bird'; known: dog, cat"):
        only("coco", write_coco(tmp_path / "c.json", square | {"category_id": 4}))
    with pytest.raises(ImageError, match=r"c.json: a.png: is 50x30 there, the image is 40x30"):
        only("coco", write_coco(tmp_path / "c.json", square, width=50))
    found = only("coco", write_coco(tmp_path / "c.json", square, {"segmentation": [[1, 2]], "bbox": [20, 20, 5, 5]}))
    assert "annotation 1: a polygon is x, y of three points or more, only a box, whose pixels become 255" in found.faults[0]
    assert (found.ids[20:25, 20:25] == 255).all()
