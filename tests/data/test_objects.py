"""Image labels from the objects of YOLO's text files and of Hugging Face's metadata."""

import json
import time

import pytest
from test_archives import png, shown

from advcam.cli import main
from advcam.data import images_of, load, read_classes, read_labels, source_files
from advcam.errors import DataError

BOX, POLYGON = " 0.5 0.5 0.25 1", " .1 .1 .9 .1 0.5 9e-1"


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


YAML = "path: ../pets\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n  2: cow\n"
LAYOUTS = {
    "ultralytics": ("images/train/{}.jpg", "labels/train/{}.txt", "data.yaml", "images/train/{}"),
    "roboflow": ("train/images/{}.jpg", "train/labels/{}.txt", "data.yaml", "train/images/{}"),
    "flat": ("images/{}.jpg", "labels/{}.txt", "labels/classes.txt", "images/{}"),
    "beside": ("{}.jpg", "{}.txt", "classes.txt", "{}"),
    "deep": ("images/a/{}.jpg", "labels/a/{}.txt", "obj.names", "images/a/{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    image, text, listed, key = LAYOUTS[layout]
    lines = {"1": f"1{BOX}\n1{BOX}\n0{POLYGON}\n", "2": "", "3": f"2{POLYGON}"}
    files = {image.format(name): png(kind="JPEG") for name in "1234"} | {
        text.format(name): said for name, said in lines.items()
    }
    write(tmp_path, {**files, listed: YAML if listed.endswith("yaml") else "cat\ndog\ncow\n"})
    data = load(images_of(None, tmp_path), tmp_path)
    assert shown(data) == {key.format("1"): ["cat", "dog"], key.format("2"): [], key.format("3"): ["cow"]}
    assert dict(zip(data.classes.ids, data.classes.names, strict=True)) == {1: "cat", 2: "dog", 3: "cow"}
    assert data.form == "YOLO, 3 text files (3 classes)"
    assert data.unlabelled == (key.format("4"),)
    assert sorted(path.name for path in source_files(tmp_path)) == ["1.txt", "2.txt", "3.txt"]


@pytest.mark.parametrize("given", ["images", "images/train"])
def test_labels_and_images_in_folders_of_their_own(given, tmp_path):
    write(tmp_path, {"images/train/1.jpg": png(), "images/train/2.JPG": png(), "labels/train/1.txt": f"0{BOX}",
                     "labels/train/2.txt": f"1{BOX}", "data.yaml": "names: [cat, dog]"})  # fmt: skip
    for labels in (tmp_path, tmp_path / "labels", tmp_path / "labels" / "train"):
        data = load(tmp_path / given, labels)
        assert [*shown(data).values()] == [["cat"], ["dog"]]


def test_lines_that_cannot_be_used(tmp_path):
    lines = {
        "1": f"0{BOX}",
        "2": f"0{BOX}\n9{BOX}",
        "3": f"0{BOX}\n\n0 1 2",
        "4": "x 1 2 3 4",
        "5": b"\xff\xfe\x80",
        "6": "0 nan 1 1 1",
    }
    write(tmp_path, {f"labels/{name}.txt": said for name, said in lines.items()} | {"classes.txt": "cat\ndog"})
    found = read_labels(tmp_path)
    assert [row.name for row in found.rows] == ["images/1"]
    assert [reason.split("labels/")[1] for _, reason in found.unusable][:3] == [
        "2.txt:2: is of class 9, which the list of 2 classes does not name",
        "3.txt:3: expected a class and x y width height, or a class and a polygon, got 0 1 2",
        "4.txt:1: expected a class and x y width height, or a class and a polygon, got x 1 2 3 4",
    ]
    assert len(found.unusable) == 5


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("train: images\n", "expected names: with a number and a name each"),
        ("names: 7\n", "expected names"),
        ("names: [cat, cat]\n", "'cat' is empty or there twice"),
        ("names: {0: ''}\n", "'' is empty or there twice"),
        ("names: []\n", "there are none"),
        ("names: !!python/object/apply:os.getcwd []\n", "expected names"),
        ("[" * 5000, "expected names"),
    ],
)
def test_lists_of_classes_that_cannot_be_used(names, said, tmp_path):
    write(tmp_path, {"labels/1.txt": f"0{BOX}", "data.yaml": names})
    with pytest.raises(DataError, match=f"data.yaml: .*{said}"):
        read_labels(tmp_path)


def test_class_numbers_with_gaps_and_of_thousands(tmp_path):
    write(tmp_path, {"labels/1.txt": f"3{BOX}", "labels/2.txt": f"7{BOX}", "data.yaml": "names: {3: cat, 7: dog}"})
    found = read_labels(tmp_path)
    assert (found.classes.ids, found.classes.names) == ((4, 8), ("cat", "dog"))
    (tmp_path / "data.yaml").write_text(json.dumps({"names": [f"c{at}" for at in range(1000)]}))
    found = read_labels(tmp_path)
    assert (found.classes.ids, found.classes.names) == ((4, 8), ("c3", "c7"))


def test_a_long_line_takes_no_time(tmp_path):
    write(tmp_path, {"labels/1.txt": f"0{BOX}", "labels/2.txt": f"0{BOX} " + "9" * 200_000 + "x", "classes.txt": "cat"})
    start = time.process_time()
    assert len(read_labels(tmp_path).unusable) == 1
    assert time.process_time() - start < 5


def test_a_class_list_gives_the_ids(tmp_path):
    write(tmp_path, {"labels/1.txt": f"1{BOX}", "data.yaml": "names: [cat, dog]", "c.csv": "id,name\n7,dog\n9,cat\n"})
    assert read_labels(tmp_path, read_classes(tmp_path / "c.csv")).classes.ids == (7, 9)


def test_other_text_is_not_taken_for_labels(tmp_path):
    write(tmp_path, {"cat/1.png": png(), "dog/1.png": png(), "cat/1.txt": "a cat on a mat", "classes.txt": "cat\ndog"})
    assert read_labels(tmp_path).form.startswith("a folder for each class")


def test_data_check_says_what_it_read(tmp_path, capsys):
    write(
        tmp_path,
        {
            "images/1.jpg": png(),
            "images/2.jpg": png(1),
            "labels/1.txt": f"0{BOX}",
            "labels/2.txt": "0",
            "data.yaml": "names: [cat]",
        },
    )
    assert main(["data", "check", "--labels", str(tmp_path), "--out", str(tmp_path / "p.csv")]) == 1
    said = capsys.readouterr().out
    assert said.startswith(
        "labels read as: YOLO, 2 text files (1 classes)\n1 entries of the labels could not be used, the first: "
    )
    assert "2.txt:1: expected a class and x y width height" in said


# Hugging Face's metadata.jsonl.


@pytest.mark.parametrize(
    ("objects", "labels"),
    [
        ({"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "categories": ["cat", "cat"]}, ("cat",)),
        ({"bbox": [[1, 2, 3, 4]], "category": ["dog"]}, ("dog",)),
        ({"bbox": [[1, 2, 3, 4]], "id": [5], "category_id": [0]}, ("0",)),
        ([{"bbox": [1, 2, 3, 4], "category": "cat"}, {"bbox": [1, 2, 3, 4], "category": "dog"}], ("cat", "dog")),
        ({"bbox": [], "categories": []}, ()),
        ([], ()),
        (None, ()),
        ({}, ()),
    ],
)
def test_objects_of_metadata(objects, labels, tmp_path):
    lines = [{"file_name": "a.png", "objects": objects}, {"file_name": "b.png", "objects": {"categories": ["sheep"]}}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_labels(tmp_path / "metadata.jsonl")
    assert found.form.startswith("JSON lines, categories of objects")
    assert [(row.name, row.labels) for row in found.rows] == [("a.png", labels), ("b.png", ("sheep",))]


def test_categories_that_are_numbers_are_said(tmp_path):
    lines = [{"file_name": f"{at}.png", "objects": {"categories": [at % 2]}} for at in range(4)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_labels(tmp_path / "metadata.jsonl")
    assert found.classes.names == ("0", "1")
    assert "categories are numbers: their names are not in this file" in found.form


@pytest.mark.parametrize(
    "objects", [{"bbox": [[1, 2, 3, 4]]}, [{"bbox": [1, 2, 3, 4]}], {"categories": [{"name": 3}]}, {"categories": [None]}]
)
def test_objects_without_categories_are_left_out(objects, tmp_path):
    lines = [{"file_name": "a.png", "objects": objects}, {"file_name": "b.png", "objects": {"categories": ["sheep"]}}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_labels(tmp_path / "metadata.jsonl")
    assert [row.name for row in found.rows] == ["b.png"]
    assert f"{tmp_path / 'metadata.jsonl'}:1: expected" in found.unusable[0][1]


def test_a_column_of_labels_counts_before_objects(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps({"file_name": "a.png", "label": "cat", "objects": {"categories": ["dog"]}}))
    assert read_labels(tmp_path / "m.jsonl").rows[0].labels == ("cat",)
