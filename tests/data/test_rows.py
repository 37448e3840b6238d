"""Images in the rows of tables: data sets saved by Hugging Face's ``datasets``, and Parquet files."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image
from test_archives import png, shown

from advcam.cli import main
from advcam.data import images_of, list_images, load, place, read_image, read_labels, rows
from advcam.errors import DataError, ImageError

datasets = pytest.importorskip("datasets", reason="makes the data sets")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
datasets.disable_progress_bars()

PETS = datasets.ClassLabel(names=["cat", "dog", "cow"])
OF_PETS = {1: "cat", 2: "dog", 3: "cow"}
BOXES = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))


def pictures(count=4):
    return [Image.new("RGB", (24, 20), (at, 255 - at, at)) for at in range(count)]


def made(columns, **features):
    count = len(next(iter(columns.values())))
    columns = {"image": pictures(count), **columns}
    kinds = datasets.Features({"image": datasets.Image(), **features})
    return datasets.Dataset.from_dict(columns, features=kinds)


def saved(data, folder, kind):
    """The data set as a folder of ``save_to_disk``, or as a Parquet file; and the name of a table below its folder."""
    if kind == "parquet":
        data.to_parquet(str(folder / "pets.parquet"))
        return folder / "pets.parquet"
    data.save_to_disk(str(folder / "pets"))
    return folder / "pets"


@pytest.fixture(params=["saved", "parquet"])
def kind(request):
    return request.param


@pytest.mark.parametrize(
    ("columns", "features", "labels", "classes", "column"),
    [
        ({"label": [0, 1, 1, 0]}, {"label": PETS}, [["cat"], ["dog"], ["dog"], ["cat"]], OF_PETS, "label"),
        ({"fine": [2, 1, 1, 0]}, {"fine": PETS}, [["cow"], ["dog"], ["dog"], ["cat"]], OF_PETS, "fine"),
        ({"tags": [[0, 1], [], [2], [2]]}, {"tags": datasets.Sequence(PETS)}, [["cat", "dog"], [], ["cow"], ["cow"]],
         OF_PETS, "tags"),
        ({"label": ["dog", "cat", "cat;dog", ""]}, {"label": datasets.Value("string")}, [["dog"], ["cat"], ["cat", "dog"], []],
         {1: "cat", 2: "dog"}, "label"),
        ({"labels": [["dog"], ["cat"], ["dog", "cat"], []]}, {"labels": datasets.Sequence(datasets.Value("string"))},
         [["dog"], ["cat"], ["cat", "dog"], []], {1: "cat", 2: "dog"}, "labels"),
        ({"objects": [{"bbox": [[0, 0, 1, 1]] * n, "category": c} for n, c in ((2, [0, 0]), (0, []), (1, [2]), (2, [1, 2]))]},
         {"objects": {"bbox": BOXES, "category": datasets.Sequence(PETS)}},
         [["cat"], [], ["cow"], ["dog", "cow"]], OF_PETS, "objects"),
        ({"objects": [[{"category": 1}], [], [{"category": 0}, {"category": 2}], [{"category": 1}]]},
         {"objects": datasets.List({"category": PETS})}, [["dog"], [], ["cat", "cow"], ["dog"]],
         OF_PETS, "objects"),
        ({"objects": [{"categories": [7]}, {"categories": []}, {"categories": [7, 9]}, {"categories": [9]}]},
         {"objects": {"categories": datasets.Sequence(datasets.Value("int64"))}}, [["7"], [], ["7", "9"], ["9"]],
         {1: "7", 2: "9"}, "objects"),
        ({"label": [0, 1, 2, 1]}, {"label": datasets.ClassLabel(names=["background", "cat", "dog"])},
         [[], ["cat"], ["dog"], ["cat"]], {1: "cat", 2: "dog"}, "label"),
    ],
)  # fmt: skip
def test_columns_of_labels(kind, columns, features, labels, classes, column, tmp_path):
    path = saved(made(columns, **features), tmp_path, kind)
    data = load(images_of(None, path), path)
    assert [shown(data)[str(at)] for at in range(4)] == labels
    assert dict(zip(data.classes.ids, data.classes.names, strict=True)) == classes
    assert data.form.startswith(f"Hugging Face data set, column {column} (")
    assert [item.read().getpixel((0, 0)) for item in data.items] == [(at, 255 - at, at) for at in range(4)]
    assert all(place(str(item.path)) == item.path for item in data.items)


def test_one_column_for_each_class(kind, tmp_path):
    flags = {"cat": [True, False, True, False], "dog": [0, 1, 1, 0]}
    path = saved(made(flags, cat=datasets.Value("bool"), dog=datasets.Value("int8")), tmp_path, kind)
    assert [row.labels for row in read_labels(path).rows] == [("cat",), ("dog",), ("cat", "dog"), ()]


def test_rows_whose_class_is_not_known_are_left_out(kind, tmp_path):
    data = load(path := saved(made({"label": [0, -1, 1, -1]}, label=PETS), tmp_path, kind), path)
    assert shown(data) == {"0": ["cat"], "2": ["dog"]}
    assert data.unlabelled == ("1", "3")
    assert data.form.endswith("2 rows without a label are left out")
    path = (
        saved(made({"label": [-1, -1]}, label=PETS), tmp_path / "none", kind) if (tmp_path / "none").mkdir() is None else None
    )
    with pytest.raises(DataError, match="no row has a label in the column 'label'"):
        read_labels(path)


def test_a_number_of_no_class(kind, tmp_path):
    table = {"image": [{"bytes": png(), "path": None}] * 2, "label": [1, 7]}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}
    parquet.write_table(
        pyarrow.table(table).replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "x.parquet"
    )
    found = read_labels(tmp_path / "x.parquet")
    assert [row.labels for row in found.rows] == [("dog",)]
    assert 'got [{"no class has the number": 7}]' in found.unusable[0][1]


def test_names_are_file_names_where_all_have_different_ones(tmp_path):
    for name in ("a.png", "b.JPG", "c.jpeg"):
        Image.new("RGB", (24, 20)).save(tmp_path / name)
    data = datasets.Dataset.from_dict({"image": [str(tmp_path / n) for n in ("a.png", "b.JPG", "c.jpeg")], "label": [0, 1, 0]})
    data = data.cast_column("image", datasets.Image()).cast_column("label", PETS)
    data.save_to_disk(str(tmp_path / "set"))
    assert {key: at.name for key, at in list_images(tmp_path / "set").items()} == {"a": "a.png", "b": "b.JPG", "c": "c.jpeg"}
    twice = datasets.concatenate_datasets([data, data])
    twice.save_to_disk(str(tmp_path / "twice"))
    assert list(list_images(tmp_path / "twice")) == ["0", "1", "2", "3", "4", "5"]


def test_numbers_have_one_length_and_the_suffix_of_the_first(tmp_path):
    rows = [{"bytes": png(at, kind="JPEG"), "path": None} for at in range(11)]
    parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "x.parquet")
    assert [at.name for at in list_images(tmp_path / "x.parquet").values()][::10] == ["00.jpg", "10.jpg"]


def test_splits_and_parts(tmp_path):
    part = made({"label": [0, 1]}, label=PETS)
    datasets.DatasetDict(train=part, test=part).save_to_disk(str(tmp_path / "both"))
    data = load(tmp_path / "both", tmp_path / "both")
    assert shown(data) == {"test/0": ["cat"], "test/1": ["dog"], "train/0": ["cat"], "train/1": ["dog"]}
    many = made({"label": [0, 1, 2, 0, 1, 2]}, label=PETS)
    many.save_to_disk(str(tmp_path / "many"), num_shards=3)
    assert list(shown(load(tmp_path / "many", tmp_path / "many"))) == ["0", "1", "2", "3", "4", "5"]
    assert [i.read().getpixel((0, 0))[0] for i in load(tmp_path / "many", tmp_path / "many").items] == [0, 1, 2, 3, 4, 5]
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for at in range(2):
        part.to_parquet(str(tmp_path / "hub" / "data" / f"train-{at:05}-of-00002.parquet"))
    assert list(shown(load(tmp_path / "hub", tmp_path / "hub")))[:2] == [
        "data/train-00000-of-00002.parquet/0", "data/train-00000-of-00002.parquet/1",
    ]  # fmt: skip


def test_labels_of_another_file(kind, tmp_path):
    path = saved(made({"caption": ["x"] * 4}, caption=datasets.Value("string")), tmp_path, kind)
    (tmp_path / "l.csv").write_text("image,labels\n0,cat\n2.png,dog\n")
    assert shown(load(path, tmp_path / "l.csv")) == {"0": ["cat"], "2": ["dog"]}
    with pytest.raises(DataError, match=r"has no column of labels; .* it has 'caption'\. Give a file of labels"):
        read_labels(path)


def test_masks_beside_images_are_not_taken_for_them(kind, tmp_path):
    columns = {"annotation": pictures(3)[::-1], "label": [0, 1, 0]}
    data = made(columns, annotation=datasets.Image(), label=PETS).select_columns(["annotation", "image", "label"])
    assert load(path := saved(data, tmp_path, kind), path).items[0].read().getpixel((0, 0)) == (0, 255, 0)


def test_plain_bytes_of_another_program(tmp_path):
    parquet.write_table(pyarrow.table({"jpg": [png(3), png(4)], "label": ["cat", "dog"]}), tmp_path / "x.parquet")
    data = load(tmp_path / "x.parquet", tmp_path / "x.parquet")
    assert shown(data) == {"0": ["cat"], "1": ["dog"]}
    assert data.items[1].read().getpixel((0, 0)) == (4, 251, 4)


def test_row_groups(tmp_path, monkeypatch):
    rows = [{"bytes": png(at), "path": None} for at in range(70)]
    parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "x.parquet", row_group_size=25)
    found = list_images(tmp_path / "x.parquet")
    order = np.random.default_rng(0).permutation(70)
    assert all(found[f"{at:02}"].read_bytes() == png(int(at)) for at in order)
    monkeypatch.setattr("advcam.data.rows.MAX_GROUP", 500)
    parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "y.parquet")
    with pytest.raises(OSError, match="have more than 500 bytes, and all are read for each of them"):
        place(f"{tmp_path}/y.parquet/03.png").read_bytes()


def test_row_groups_of_all_files_together_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "KEPT_BYTES", 3000)
    monkeypatch.setattr(rows, "_kept", kept := rows._Kept())
    noise = np.random.default_rng(0)
    for at in range(6):
        held = [{"bytes": noise.bytes(1000), "path": None}]
        parquet.write_table(pyarrow.table({"image": held}), tmp_path / f"{at}.parquet")
    found = list_images(tmp_path)
    for _ in range(2):
        for path in found.values():
            assert len(path.read_bytes()) == 1000
            assert kept.size() <= 3000
    assert 0 < len(kept.groups) < 6
    monkeypatch.setattr(rows, "KEPT_BYTES", 10)
    assert len(found["0.parquet/0"].read_bytes()) == 1000  # a larger one is read too
    assert len(kept.groups) == 1


@pytest.fixture
def few_open_files():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(0))  # the first number that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_open_files")
def test_more_tables_than_files_may_be_open(kind, tmp_path):
    for at in range(30):
        (tmp_path / "sets" / f"{at:02}").mkdir(parents=True)
        saved(made({"label": [at % 2]}, label=PETS), tmp_path / "sets" / f"{at:02}", kind)
    data = load(tmp_path / "sets", tmp_path / "sets")
    assert len(data.items) == 30
    assert sorted(shown(data).values())[14:16] == [["cat"], ["dog"]]
    assert all(item.read().size == (24, 20) for item in data.items)


def test_too_many_open_files_are_no_damage(tmp_path, monkeypatch):
    path = saved(made({"label": [0, 1]}, label=PETS), tmp_path, "parquet")

    def refuse(*_args, **_more):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(parquet, "ParquetFile", refuse)
    with pytest.raises(DataError, match=r"Too many open files\); more files are open than .* ulimit -n") as raised:
        list_images(path)
    assert "copy it again" not in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["a"], "label": ["b"]}, "no column holds images .* it has 'text', 'label'"),
        ({"image": [[1, 2, 3]], "label": ["b"]}, "no column holds images"),
    ],
)
def test_tables_without_images(columns, said, tmp_path):
    parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=said):
        list_images(tmp_path / "x.parquet")


def test_several_columns_of_classes(kind, tmp_path):
    path = saved(made({"fine": [0, 1], "coarse": [1, 0]}, fine=PETS, coarse=PETS), tmp_path, kind)
    with pytest.raises(DataError, match=r"several columns hold classes, 'fine', 'coarse'.*rename_column\('fine', 'label'\)"):
        read_labels(path)


def test_rows_without_an_image(tmp_path):
    rows = [{"bytes": png(), "path": None}, {"bytes": None, "path": "/etc/passwd"}, None, {"bytes": b"?", "path": None}]
    parquet.write_table(pyarrow.table({"image": rows, "label": ["a", "b", "b", "a"]}), tmp_path / "x.parquet")
    data = load(tmp_path / "x.parquet", tmp_path / "x.parquet")
    assert list(shown(data)) == ["0"]
    assert ["its row holds no image" in skip.reason for skip in data.skipped[:2]] == [True, True]
    with pytest.raises(ImageError, match="not an image"):
        read_image(list_images(tmp_path / "x.parquet")["3"])


def test_damaged_tables(kind, tmp_path):
    path = saved(made({"label": [0, 1]}, label=PETS), tmp_path, kind)
    file = path if kind == "parquet" else path / "data-00000-of-00001.arrow"
    data = file.read_bytes()
    for spoilt in (b"", b"hello", data[: len(data) // 2]):
        file.write_bytes(spoilt)
        (path / "state.json").touch() if kind == "saved" else None  # it is written anew with the data
        with pytest.raises(DataError, match=r"cannot be read as a table"):
            list_images(path)


def test_a_column_whose_name_is_not_utf_8(tmp_path):
    path = saved(made({"label": [0, 1]}, label=PETS), tmp_path, "saved")
    file = path / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes().replace(b"label", b"\xb9abel"))
    with pytest.raises(DataError, match="its labels cannot be read"):
        read_labels(path)


@pytest.mark.parametrize("name", ["../x.arrow", "/etc/passwd", ""])
def test_data_files_elsewhere(name, tmp_path):
    path = saved(made({"label": [0, 1]}, label=PETS), tmp_path, "saved")
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(DataError, match="names no data file beside it"):
        list_images(path)


def test_without_pyarrow(kind, tmp_path, monkeypatch):
    path = saved(made({"label": [0, 1]}, label=PETS), tmp_path, kind)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'advcam\[datasets\]'"):
        list_images(path)


def test_data_check_and_a_moved_data_set(kind, tmp_path, capsys):
    path = saved(made({"label": [0, 1, 2, 1]}, label=PETS), tmp_path, kind)
    assert main(["data", "check", "--labels", str(path), "--out", str(tmp_path / "p.csv")]) == 0
    assert capsys.readouterr().out.startswith(
        "labels read as: Hugging Face data set, column label (3 classes)\n4 images to train"
    )
