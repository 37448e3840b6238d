"""Label Studio: its run lengths, tasks to import, and exports of what people made of them."""

import json

import numpy as np
import pytest

from advcam.data import ClassTable
from advcam.errors import DataError, ImageError, SettingsError
from advcam.formats import FORMATS, Losses, Masked, Names, Wishes
from advcam.formats.drawing import RegionError
from advcam.formats.label_studio import configured, packed, unpacked

CLASSES = ClassTable((7, 2), ("dog", "cat"))
SIZE = (30, 40)

SMALL = np.asarray([[1, 1, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 1, 0, 0]], dtype=bool)
LARGE = np.zeros((300, 400), dtype=bool)
LARGE[100:250] = True
# What label_studio_sdk 2.1.2 gives for these masks (`converter.brush.mask2rle`); its `decode_rle` gives them back.
OF_SDK = [
    (SMALL, [0, 0, 0, 60, 57, 27, 252, 255, 243, 128, 95, 255, 140, 2, 127, 248, 192, 35, 255, 156, 0]),
    (LARGE, [0, 7, 83, 0, 57, 27, 255, 255, 255, 0, 255, 255, 224, 29, 195, 252, 3, 255, 255, 255, 255, 255, 255, 255, 255,
             255, 255, 234, 95, 255, 255, 255, 248, 7, 56, 127, 0, 0]),
]  # fmt: skip
# Values that are not the same, as its page writes them along the edge of a stroke, and how the SDK reads them.
FAINT = [0, 0, 0, 12, 57, 27, 248, 128, 1, 89, 31, 224, 241, 3, 147, 255, 255, 0, 1]
FAINT_VALUES = [0, 10, 200, 255, 7, 7, 7, 7, 255, 255, 0, 1]


@pytest.mark.parametrize(("place", "run_lengths"), OF_SDK)
def test_run_lengths_are_those_of_label_studios_own_package(place, run_lengths):
    assert list(packed(place)) == run_lengths
    assert np.array_equal(unpacked(bytes(run_lengths), 4 * place.size)[3::4].reshape(place.shape) > 0, place)


def test_values_that_differ_are_read_as_the_package_reads_them():
    assert unpacked(bytes(FAINT), 12).tolist() == FAINT_VALUES


def test_the_package_itself_where_it_is_installed():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    for seed in range(20):
        place = np.random.default_rng(seed).random((17, 23)) < 0.4
        assert list(packed(place)) == brush.mask2rle(place.astype(np.uint8) * 255)
        assert (brush.decode_rle(packed(place)).reshape(17, 23, 4)[..., 3] > 0).tolist() == place.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_there_and_back(seed):
    rng = np.random.default_rng(seed)
    for size in ((1, 1), (7, 5), (300, 401)):
        place = rng.random(size) < rng.choice([0.001, 0.5, 0.999])
        assert np.array_equal(unpacked(packed(place), 4 * place.size)[3::4].reshape(size) > 0, place)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "end too early"),
        (bytes(10), "are of 0 values of 1 bits; expected 4800 of 8"),
        (b"\xff" * 40, "are of 4294967295 values"),
        (packed(np.ones(SIZE, bool))[:-2], "end too early"),
        (packed(np.ones((30, 41), bool)), "are of 4920 values of 8 bits; expected 4800"),
        (bytes([0, 0, 18, 192, 57, 27, 255, 255, 255, 255, 255, 0, 0]), "longer than the image"),
        (bytes([0, 0, 18, 192, 57, 27, 0]), "end too early"),
    ],
)
def test_run_lengths_that_cannot_be_read(data, message):
    with pytest.raises(RegionError, match=message):
        unpacked(data, 4 * 30 * 40)


def mask():
    ids = np.zeros(SIZE, np.uint8)
    ids[2:12, 3:13] = 7
    ids[5:9, 6:10] = 0
    ids[20:30, 30:40] = 2
    return ids


def write(tmp_path, wishes=None, scores=None, name="sub/a b.png"):
    out = tmp_path / "tasks.json"
    with FORMATS["label-studio"].write(out, wishes or Wishes(Names(CLASSES)), Losses()) as add:
        add(Masked(name.rpartition(".")[0], tmp_path / name, mask(), scores=scores or {}))
    return json.loads(out.read_text())


def test_a_task_to_import(tmp_path):
    (task,) = write(tmp_path)
    assert task["data"] == {"image": "/data/local-files/?d=sub/a%20b.png"}
    (prediction,) = task["predictions"]
    assert set(prediction) == {"model_version", "result"}, "no score where none is known"
    cat, dog = prediction["result"]
    assert cat["value"]["brushlabels"] == ["cat"]
    assert dog["value"]["format"] == "rle"
    assert (dog["type"], dog["from_name"], dog["to_name"]) == ("brushlabels", "tag", "image")
    assert (dog["original_width"], dog["original_height"], dog["image_rotation"]) == (40, 30, 0)
    assert cat["id"] != dog["id"]
    assert np.array_equal(unpacked(bytes(dog["value"]["rle"]), 4800)[3::4].reshape(SIZE) == 255, mask() == 7)


def test_names_score_and_address_are_those_that_were_asked_for(tmp_path):
    wishes = Wishes(
        Names(CLASSES), from_name="brush", to_name="picture", variable="url", address="s3://bucket/", model_version="run 3"
    )
    (task,) = write(tmp_path, wishes, {7: 0.75, 2: 0.9})
    assert task["data"] == {"url": "s3://bucket/sub/a b.png"}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("run 3", 0.75)
    assert {(result["from_name"], result["to_name"]) for result in prediction["result"]} == {("brush", "picture")}


CONFIGURATION = """<View>
  <!-- mine -->
  <Image name="photo" value="$address" zoom="true"/>
  <BrushLabels name="what" toName="photo"><Label value="dog"/><Label value="cat" background="#f00"/></BrushLabels>
  {more}
</View>"""


def test_names_come_from_the_labelling_configuration(tmp_path):
    path = tmp_path / "config.xml"
    path.write_text(CONFIGURATION.format(more=""))
    wishes = configured(path, Wishes(Names(CLASSES)), CLASSES.names)
    assert (wishes.from_name, wishes.to_name, wishes.variable) == ("what", "photo", "address")
    with pytest.raises(SettingsError, match=r"what has no <Label value='bird'>; it has cat, dog"):
        configured(path, Wishes(Names(CLASSES)), ("bird",))
    path.write_text(CONFIGURATION.format(more='<BrushLabels name="other" toName="photo"><Label value="dog"/></BrushLabels>'))
    with pytest.raises(SettingsError, match=r"has the brushes what, other; choose one with --from-name"):
        configured(path, Wishes(Names(CLASSES)), ())
    assert configured(path, Wishes(Names(CLASSES), from_name="other"), ("dog",)).from_name == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<View/>", "has no <BrushLabels>"),
        ("nothing", "not valid XML"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><View/>", "has a document type"),
    ],
)
def test_what_is_no_labelling_configuration(text, message, tmp_path):
    (tmp_path / "c.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        configured(tmp_path / "c.xml", Wishes(Names(CLASSES)), ())


def export(tmp_path, *annotations, data=None):
    path = tmp_path / "export.json"
    task = {"id": 1, "data": data or {"image": "/data/upload/3/0a1b2c3d-a.png", "n": 5}, "annotations": list(annotations)}
    path.write_text(json.dumps([task, {"id": 2, "data": {"image": "x"}, "annotations": [], "predictions": []}]))
    return path


def region(kind, labels=("dog",), size=SIZE, **value):
    return {
        "id": "x", "type": f"{kind}labels", "from_name": "tag", "to_name": "image", "original_width": size[1],
        "original_height": size[0], "image_rotation": 0, "value": {f"{kind}labels": list(labels), **value},
    }  # fmt: skip


def only(path):
    (found,) = FORMATS["label-studio"].read(path, Names(CLASSES))
    return found


def brush(place, **more):
    return region("brush", format="rle", rle=list(packed(place)), **more)


def test_what_a_person_made_of_it(tmp_path):
    whole = np.ones(SIZE, bool)
    results = [
        brush(whole),
        region("rectangle", ["cat"], x=25, y=0, width=50, height=50, rotation=0),
        region("polygon", ["background"], points=[[0, 0], [25, 0], [25, 50], [0, 50]], closed=True),
        region("ellipse", ["cat"], x=50, y=75, radiusX=10, radiusY=20, rotation=0),
        {"id": "c", "type": "choices", "from_name": "q", "to_name": "image", "value": {"choices": ["nice"]}},
    ]
    found = only(export(tmp_path, {"id": 5, "result": results}))
    assert found.loose
    assert found.names[0] == "data/upload/3/0a1b2c3d-a.png"
    assert found.names[-2:] == ("0a1b2c3d-a.png", "a.png")
    drawn = found.draw(SIZE)
    expected = np.full(SIZE, 7, np.uint8)
    expected[:15, 10:30] = 2
    expected[:15, :10] = 0
    rows, columns = np.mgrid[:30, :40] + 0.5
    expected[((columns - 20) / 4) ** 2 + ((rows - 22.5) / 6) ** 2 <= 1] = 2
    assert not drawn.faults
    assert np.array_equal(drawn.ids, expected)


def test_a_rectangle_that_is_turned_is_drawn_turned(tmp_path):
    turned = region("rectangle", x=50, y=0, width=25, height=20, rotation=90)  # about its first corner, clockwise
    ids = only(export(tmp_path, {"result": [turned]})).draw(SIZE).ids
    assert np.argwhere(ids == 7).min(0).tolist() == [0, 14]
    assert np.argwhere(ids == 7).max(0).tolist() == [9, 19]


def test_the_faint_edge_of_a_stroke_belongs_to_it_from_half_on(tmp_path):
    alpha = np.zeros(SIZE, np.uint8)
    alpha[5, 5:10] = [20, 90, 180, 91, 10]
    bits = f"{4800:032b}{7:05b}0010001101111111" + "".join(f"000000{v:08b}" for v in np.repeat(alpha.ravel(), 4))
    data = int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big")
    ids = only(export(tmp_path, {"result": [region("brush", format="rle", rle=list(data))]})).draw(SIZE).ids
    assert np.flatnonzero(ids[5]).tolist() == [7, 8]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"image": "/data/local-files/?d=photos/sub/a%20b.png"}, "sub/a b.png"),
        ({"picture": "https://host/x/sub/a%20b.png?token=1"}, "sub/a b.png"),
        ({"image": "s3://bucket/sub/a b.png"}, "sub/a b.png"),
    ],
)
def test_an_image_is_found_at_the_end_of_its_address(data, name, tmp_path):
    assert name in only(export(tmp_path, {"result": []}, data=data)).names


def test_only_one_annotation_counts(tmp_path):
    first, second = ({"result": [brush(np.ones(SIZE, bool), labels=[one])]} for one in ("dog", "cat"))
    with pytest.raises(ImageError, match="has 2 annotations; keep one, or mark one as ground truth"):
        only(export(tmp_path, first, second)).draw(SIZE)
    assert (only(export(tmp_path, first, second | {"ground_truth": True})).draw(SIZE).ids == 2).all()
    assert (only(export(tmp_path, first | {"was_cancelled": True}, second)).draw(SIZE).ids == 2).all()
    assert not only(export(tmp_path, {"result": []})).draw(SIZE).ids.any(), "somebody says that there is nothing"


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (region("brush", format="rle", rle=[1, 2, 3]), "region 1: its run lengths end too early"),
        (region("brush", format="rle", rle=[1, 2, 300]), "region 1: cannot be read"),
        (region("brush", format="rle", rle=list(packed(np.zeros(SIZE, bool)))), "covers no pixel"),
        (region("brush", []), "has 0 labels, expected one"),
        (region("polygon", ["dog", "cat"], points=[]), "has 2 labels, expected one"),
        (region("polygon", points=[[0, 0], [1, 1]]), "expected three points"),
        (region("polygon", points="no"), "cannot be read"),
        (region("ellipse", x=50, y=50, radiusX=5, radiusY=3, rotation=20), "is an ellipse that is turned"),
        (region("rectangle", x=50, y=50, width=0, height=0), "covers no pixel"),
        (region("keypoint", x=50, y=50), "is a keypoint, which has no area"),
    ],
)
def test_faults_are_said_and_the_rest_is_drawn(result, fault, tmp_path):
    drawn = only(export(tmp_path, {"result": [result, brush(np.ones(SIZE, bool), labels=["cat"])]})).draw(SIZE)
    assert len(drawn.faults) == 1
    assert fault in drawn.faults[0]
    assert (drawn.ids == 2).all()


def test_what_is_wrong_with_all_of_it(tmp_path):
    with pytest.raises(ImageError, match="is 50x30 there, the image is 40x30"):
        only(export(tmp_path, {"result": [brush(np.ones((30, 50), bool), size=(30, 50))]})).draw(SIZE)
    with pytest.raises(DataError, match="no class is called 'bird'; known: dog, cat"):
        only(export(tmp_path, {"result": [brush(np.ones(SIZE, bool), labels=["bird"])]})).draw(SIZE)
    (tmp_path / "min.json").write_text('[{"image": "a.png", "tag": []}]')
    with pytest.raises(Exception, match=r'not an export of Label Studio.*export "JSON" \(not JSON-MIN\) again'):
        list(FORMATS["label-studio"].read(tmp_path / "min.json", Names(CLASSES)))
