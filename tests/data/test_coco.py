"""COCO annotation files as they are, and their regions as pixels."""

import json

import numpy as np
import pytest

from advcam.data import coco_files, draw, images_of, load, read_coco
from advcam.data.regions import region, runs
from advcam.errors import DataError
from advcam.store import load_mask
from layouts import COCO, boxes, runs_of, text_of, write_coco


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path)


@pytest.fixture
def file(coco):
    return coco / "annotations" / "instances_train2014.json"


def change(file, **parts):
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


def test_a_file_is_recognised_by_what_it_holds(coco, file):
    data = load(coco / "train2014", file.rename(coco / "any.json"))
    assert list(zip(data.classes.ids, data.classes.names, strict=True)) == list(COCO.values())
    assert len(data.train) == 6


def test_a_folder_with_its_splits(coco, tmp_path):
    assert images_of(None, coco) == coco
    (tmp_path / "val.txt").write_text("".join(f"val2014/{path.name}\n" for path in (coco / "val2014").iterdir()))
    data = load(coco, coco, eval_list=tmp_path / "val.txt")
    assert (len(data.train), len(data.eval)) == (6, 3)
    assert data.eval[0].id.startswith("val2014/COCO_val2014_")


def test_crowds_count_and_an_image_without_regions_shows_nothing(file, coco):
    kept = json.loads(file.read_text())
    crowd = next(a for a in kept["annotations"] if a["iscrowd"])
    change(file, annotations=[crowd])
    data = load(coco / "train2014", file)
    assert [len(item.labels) for item in data.train] == [int(at == crowd["image_id"]) for at in range(6)]


def test_masks_are_those_that_were_written(coco, tmp_path):
    for path in coco_files(coco):
        for image in read_coco(path, coco).images:
            assert (draw(image).ids == load_mask(tmp_path / "truth" / image.name.replace(".jpg", ".png"))).all()


def test_the_smaller_region_lies_on_top(file):
    square = [[0, 0, 10, 0, 10, 10, 0, 10]]
    large, small = ({"id": i, "image_id": 0, "segmentation": s, "area": a, "category_id": c}
                    for i, s, a, c in ((1, [[0, 0, 64, 0, 64, 64, 0, 64]], 4096, 1), (2, square, 100, 17)))  # fmt: skip
    for order in ([large, small], [small, large]):
        change(file, annotations=order)
        mask = draw(read_coco(file).images[0]).ids
        assert (mask[:10, :10] == 17).all()
        assert mask[10, 10] == 1


@pytest.mark.parametrize("how", [boxes, runs_of, text_of])
def test_regions_there_and_back(how):
    rng = np.random.default_rng(0)
    for height, width in ((7, 5), (64, 48), (1, 40)):
        place = rng.random((height, width)) < 0.5
        assert (region(how(place), place.shape)[0] == place).all()


# Strings, sizes and areas as pycocotools 2.0 gives them for random polygons; its decoder and ours agreed on all of 300.
@pytest.mark.parametrize(
    ("size", "text", "area"),
    [
        ((308, 51), "RS41Z95K5K5K5K6K4K5K5K5K5K5K5K5K56J7I8H7I7I7I7I7I7IPT4", 867),
        ((53, 20), "`42b12O0O01N2O^10TM0Q30kL0c10b:", 22),
        ((176, 32), "Xg01[54K6J5L4K61N5K4M4K5K5L0ON2N3M2N201N100O2O02N2O2JZ?", 276),
        ((309, 31), "UR16o8b0^Oa0^Oc0^Ob0]Oc0H83L01J_O`0hNY1gNfi4", 748),
    ],
)
def test_strings_of_another_program(size, text, area):
    assert region({"size": list(size), "counts": text}, size)[0].sum() == area
    assert sum(runs(text)) == size[0] * size[1]


def test_a_polygon_holds_the_pixels_whose_centres_it_holds():
    place, faults = region([[1.4, 1, 3.6, 1, 3.6, 3.4, 1.4, 3.4]], (5, 6))
    assert not faults
    assert np.argwhere(place).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    outside, _ = region([[-5, -5, 20, -5, 20, 20, -5, 20]], (5, 6))
    assert outside.all()
    two, _ = region([[0, 0, 1, 0, 1, 1, 0, 1], [3, 0, 4, 0, 4, 1, 3, 1]], (1, 5))
    assert two.tolist() == [[True, False, False, True, False]]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "has no region$"),
        (None, "has no region$"),
        ([[]], "has no region$"),
        ({"counts": None, "size": [5, 6]}, "expected run lengths under counts and size, got {'counts': None"),
        ("text", r"expected polygons or run lengths, got 'text'"),
        ([[0, 0, 4, "a", 4, 4]], "a polygon is numbers, got 'a'"),
        ([[0, 0, 4, {}, 4, 4]], "a polygon is numbers, got {}"),
        ([[0, 0, 4, float("nan"), 4, 4]], "a polygon is numbers, got nan"),
        ([[0, 0, 4, 1e300, 4, 4]], r"a polygon is numbers, got 1e\+300"),
        ([[1, 1, 3, 1, 2, 1]], "a polygon without area, or outside the image"),
        ([[90, 90, 95, 90, 95, 95]], "a polygon without area, or outside the image"),
        ({"size": [5, 6], "counts": [10, None, 20]}, "run lengths are whole numbers, got"),
        ({"size": [5, 6], "counts": [10.5, 19.5]}, "run lengths are whole numbers, got"),
        ({"size": [5, 6], "counts": [-10, 40]}, "run lengths are 0 to 30, got -10"),
        ({"size": [5, 6], "counts": [2**62] * 4 + [30]}, "run lengths are whole numbers|must add up"),
        ({"size": [5, 6], "counts": "o" * 100_000}, "a run length larger than any image"),
        ({"size": None, "counts": [30]}, r"expected run lengths of \(height, width\) \(5, 6\), got None"),
        ([[1, 2, 3, 4]], "a polygon is x, y of three points or more"),
        ({"size": [4, 5], "counts": [1]}, r"expected run lengths of \(height, width\) \(5, 6\), got \[4, 5\]"),
        ({"size": [5, 6], "counts": [10, 10]}, "must add up to 5 x 6 pixels, got 20"),
        ({"size": [5, 6], "counts": "a b"}, "' ' is no character of COCO's run lengths"),
        ({"size": [5, 6], "counts": "P"}, "the string of run lengths is truncated"),
    ],
)
def test_regions_that_cannot_be_drawn(segmentation, message):
    with pytest.raises(DataError, match=message):
        region(segmentation, (5, 6))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"categories": []}, "expected a list of objects under 'categories', got an empty list"),
        ({"categories": None}, "expected a list of objects under 'categories', got nothing"),
        ({"categories": [{"id": 1}]}, "entry 1 of categories has no 'name'; got the keys id"),
        ({"images": [{"id": 0}]}, "entry 1 of images has no 'file_name'"),
        (
            {"images": [{"id": 0, "file_name": "../up.jpg"}], "annotations": [{"id": 0, "image_id": 0, "category_id": 1}]},
            "image 0 has the file_name '../up.jpg'",
        ),
        (
            {"annotations": [{"id": 7, "image_id": 99, "category_id": 1}]},
            "annotation 7 is of image 99, which the file",
        ),
        (
            {"annotations": [{"id": 7, "image_id": 0, "category_id": 3}]},
            "annotation 7 is of category 3, which the file",
        ),
    ],
)
def test_files_that_cannot_be_used(coco, file, parts, message):
    change(file, **parts)
    with pytest.raises(DataError, match=f"instances_train2014.json: {message}"):
        load(coco / "train2014", file)


@pytest.mark.parametrize(
    ("categories", "used", "classes"),
    [
        ([(0, "cat"), (1, "dog")], {0, 1}, {1: "cat", 2: "dog"}),
        ([(0, "pets"), (1, "cat"), (7, "dog")], {1, 7}, {1: "cat", 7: "dog"}),  # Roboflow's first category has no region
        ([(5, "cat"), (300, "dog"), (900, "cow")], {300}, {1: "cat", 2: "dog", 3: "cow"}),
    ],
)
def test_categories_whose_ids_do_not_fit_into_masks_are_numbered(coco, file, categories, used, classes):
    listed = [{"id": number, "name": name} for number, name in categories]
    change(file, categories=listed, annotations=[{"id": n, "image_id": n % 6, "category_id": n} for n in used])
    data = load(coco / "train2014", file)
    assert dict(zip(data.classes.ids, data.classes.names, strict=True)) == classes
    told = "categories have ids outside of 1 to 254, so classes are numbered from 1" in data.form
    assert told == (not used <= set(classes))
    assert not told or f"{categories[0][0]} cat is 1" in data.form


def test_more_categories_than_masks_have_ids(coco, file):
    """As LVIS has: those with regions count, if they are not too many."""
    categories = [{"id": n, "name": f"c{n}"} for n in range(1203)]
    change(file, categories=categories, annotations=[{"id": n, "image_id": n % 6, "category_id": n} for n in (0, 7, 1202)])
    assert load(coco / "train2014", file).classes.names == ("c0", "c7", "c1202")
    change(file, annotations=[{"id": n, "image_id": n % 6, "category_id": n} for n in range(255)])
    with pytest.raises(DataError, match="255 categories have regions; 8-bit masks hold at most 254 classes"):
        load(coco / "train2014", file)


def test_ids_of_ones_own_where_masks_cannot_hold_the_file_s(coco, file, tmp_path):
    change(file, categories=[{"id": 300, "name": "x"}], annotations=[{"id": 7, "image_id": 0, "category_id": 300}])
    (tmp_path / "classes.csv").write_text("id,name\n3,x\n")
    assert load(coco / "train2014", file, tmp_path / "classes.csv").classes.ids == (3,)


def test_an_image_that_is_not_there(coco, file):
    next((coco / "train2014").glob("*0002.jpg")).unlink()
    skips = [skip for skip in load(coco / "train2014", file).skipped if "class:" not in skip.reason]
    assert [skip.image for skip in skips] == ["COCO_train2014_000000000002.jpg"]
    assert "there is no such image" in skips[0].reason


def test_broken_json_and_files_that_disagree(coco, file):
    with pytest.raises(DataError, match="give --images DIR too"):
        images_of(None, file)
    change(coco / "annotations" / "instances_val2014.json", categories=[{"id": n, "name": f"c{n}"} for n in range(1, 91)])
    with pytest.raises(DataError, match="instances_val2014.json: its categories are not those of the first file"):
        load(coco, coco)
    file.write_text(file.read_text()[:-5] + "\n")
    with pytest.raises(DataError, match=r"instances_train2014.json:\d: not valid JSON"):
        load(coco / "train2014", file)
