"""Labels from Label Studio and CVAT, as they are exported."""

import json

import pytest
from PIL import Image

from advcam.data import load
from advcam.data.tools import addresses
from advcam.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20)).save(tmp_path / "images" / name)
    return tmp_path


def read(folder, text, name):
    (folder / name).write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return load(folder / "images", folder / name)


def shown(data):
    names = data.classes.names
    return {i.id: (",".join(names[at] for at in i.labels), ",".join(names[at] for at in i.unknown)) for i in data.items}


def task(image, *results, **more):
    """A task of Label Studio's, with an annotation for each result: the classes of its choices, or of its boxes."""
    made = [{"was_cancelled": False, "result": [part], **more} for part in results]
    return {"id": 1, "data": {"image": image}, "annotations": made, "predictions": [{"result": [choices("ghost")]}]}


def choices(*names):
    return {"type": "choices", "from_name": "what", "to_name": "image", "value": {"choices": list(names)}}


def boxes(name):
    return {"type": "rectanglelabels", "from_name": "box", "value": {"x": 1, "y": 2, "width": 3, "rectanglelabels": [name]}}


ADDRESSES = [
    "/data/upload/1/0a1b2c3d-a.jpg",
    "/data/local-files/?d=photos/a.jpg",
    "https://host.example/photos/a.jpg?token=1&x=/b.jpg",
    "s3://bucket/folder/a.jpg",
    "a.jpg",
    "photos/a.jpg",
    "upload\\1\\a.jpg",
    "/data/local-files/?d=my%20photos%2Fa.jpg",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_of_images(folder, address):
    data = read(
        folder, [task(address, choices("cat")), task(address.replace("a.jpg", "b.jpg"), choices("dog"))], "project.json"
    )
    assert shown(data) == {"a": ("cat", ""), "b": ("dog", "")}
    assert data.form == "Label Studio, JSON (2 classes)"


def test_the_longest_end_of_an_address_counts():
    assert addresses("/x/sub/0a1b2c3d-c.jpg") == ["x/sub/0a1b2c3d-c.jpg", "x/sub/c.jpg", "sub/0a1b2c3d-c.jpg", "sub/c.jpg",
                                                  "0a1b2c3d-c.jpg", "c.jpg"]  # fmt: skip
    assert addresses("/") == ["/"]
    assert len(addresses("/a" * 1000)) == 12


def test_images_in_folders_and_files_that_kept_their_prefix(folder):
    Image.new("RGB", (24, 20)).save(folder / "images" / "0a1b2c3d-a.jpg")
    tasks = [task("/data/upload/1/0a1b2c3d-a.jpg", choices("cat")), task("/data/local-files/?d=x/sub/c.jpg", choices("dog"))]
    assert shown(read(folder, tasks, "project.json")) == {"0a1b2c3d-a": ("cat", ""), "sub/c": ("dog", "")}


def test_answers_of_all_kinds_and_tasks_that_nobody_finished(folder):
    old = {"data": {"img": "a.jpg"}, "completions": [{"result": [choices("cat", "dog"), boxes("cow"), {"type": "rating"}]}]}
    cancelled = task("sub/c.jpg", choices("dog"), was_cancelled=True)
    data = read(folder, [old, task("b.jpg", {"value": {"taxonomy": [["pets", "dog"], ["cow"]]}}), cancelled], "project.json")
    assert shown(data) == {"a": ("cat,cow,dog", ""), "b": ("cow,dog", "")}
    assert data.form == "Label Studio, JSON (3 classes); 1 tasks without an annotation are left out"
    assert data.unlabelled == ("sub/c",)
    empty = task("b.jpg", {"type": "choices", "value": {"choices": []}})
    assert shown(read(folder, [old, empty], "p.json"))["b"] == ("", "")  # looked at, and none of the classes


def test_a_class_on_which_annotators_differ_is_not_known(folder):
    data = read(folder, [task("a.jpg", choices("cat", "dog"), choices("dog")), task("b.jpg", choices("cat"))], "p.json")
    assert shown(data) == {"a": ("dog", "cat"), "b": ("cat", "")}
    assert "annotations differ on 1 images, and classes that not all name are not known" in data.form


CSV = (
    "annotation_id,annotator,{},created_at,id,image,lead_time,updated_at\n"
    '1,1,"{{""choices"":[""cat"",""dog""]}}",2024,1,/data/upload/1/0a1b2c3d-a.jpg,3.1,2024\n'
    "2,1,dog,2024,2,/data/upload/1/11223344-b.jpg,2.0,2024\n"
)


@pytest.mark.parametrize("question", ["choice", "pets", "labels"])
def test_csv_and_json_min(folder, question):
    data = read(folder, CSV.format(question), "ls.csv")
    assert (shown(data), data.form) == ({"a": ("cat,dog", ""), "b": ("dog", "")}, "Label Studio, CSV (2 classes)")
    tasks = [
        {
            "id": 1,
            "annotator": 1,
            "lead_time": 2,
            "image": "/data/upload/1/0a1b2c3d-a.jpg",
            question: {"choices": ["cat", "dog"]},
        },
        {"id": 2, "annotator": 1, "lead_time": 2, "image": "/data/upload/1/11223344-b.jpg", question: "dog"},
        {"id": 2, "annotator": 1, "lead_time": 2, "image": "sub/c.jpg", question: [{"x": 1, "rectanglelabels": ["cat"]}]},
    ]
    data = read(folder, tasks, "ls.json")
    assert shown(data) == {"a": ("cat,dog", ""), "b": ("dog", ""), "sub/c": ("cat", "")}
    assert data.form == "Label Studio, JSON-MIN (2 classes)"


def test_two_columns_that_may_be_the_answers_are_asked_about(folder):
    text = "annotation_id,annotator,pets,place,image\n1,1,dog,yard,a.jpg\n"
    with pytest.raises(DataError, match="ls.csv:1: looks like an export of Label Studio.*Rename them 'image' and 'choice'"):
        read(folder, text, "ls.csv")
    assert shown(read(folder, text.replace("pets", "choice"), "ls.csv")) == {"a": ("dog", "")}  # the remedy


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([{"data": {"image": "a.jpg"}, "annotations": []}], "none of its 1 tasks has an annotation"),
        ([{"data": {"text": "x"}, "annotations": [{"result": []}]}], r"\(task 1\): expected the name of an image, got null"),
        ([{"data": 1, "annotations": []}], r"\(task 1\): expected a task with data and annotations"),
        ([task("a.jpg", choices({"x": 1}))], "expected names of classes"),
    ],
)
def test_tasks_that_cannot_be_used(folder, tasks, said):
    with pytest.raises(DataError, match=f"p.json.*{said}"):
        read(folder, tasks, "p.json")


def cvat(*images):
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{"".join(images)}</annotations>'


def test_cvat(folder):
    data = read(
        folder,
        cvat(
            '<image id="0" name="a.jpg"><tag label="cat" source="manual"/><tag label="dog"><attribute name="x"/></tag></image>',
            '<image id="1" name="sub/c.jpg"><box label="dog" xtl="1"/><mask label="cow"/><polygon label="dog"/></image>',
            '<image id="2" name="b.jpg" width="24" height="20"></image>',
        ),
        "annotations.xml",
    )
    assert shown(data) == {"a": ("cat,dog", ""), "b": ("", ""), "sub/c": ("cow,dog", "")}
    assert data.form == "CVAT for images (3 classes)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (cvat('<track id="0" label="cat"/>'), "names no image; this is CVAT's XML for videos; export 'CVAT for images'"),
        (cvat(), "names no image; expected CVAT's <image> in it"),
        (cvat('<image id="0"/>'), "image 1 of 1 has no name"),
        (cvat('<image name="a.jpg"/>', '<image name="a.jpg"/>'), "image 'a.jpg' was already given"),
        ("<labels/>", r"expected XML of CVAT \(<annotations>\) or PASCAL VOC \(<annotation>\), got <labels>"),
        ("<annotations>", "l.xml:1: not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "has a document type"),
    ],
)
def test_xml_that_cannot_be_used(folder, text, said):
    with pytest.raises(DataError, match=said):
        read(folder, text, "l.xml")


def test_images_without_a_name_are_listed(folder):
    data = read(folder, cvat('<image name="a.jpg"><tag label="cat"/></image>', "<image/>"), "l.xml")
    assert data.skipped[0].reason.endswith("l.xml: image 2 of 2 has no name")
