"""``advcam convert masks``: a run's masks for other tools, and what annotators made of them back."""

import csv
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.data import scene
from advcam.formats import FORMATS
from advcam.formats.label_studio import packed
from advcam.store import load_mask, save_mask


def convert(*words):
    return main(["convert", "masks", *map(str, words), "--quiet"])


def reasons(path):
    with path.open(newline="") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def listed(run, name):
    return [item["id"] for item in json.loads((run / "data.json").read_text())[name]]


@pytest.fixture
def plain(tmp_path):
    """A folder of images with a folder of masks, as `advcam predict` leaves it, and classes."""
    for at, name in enumerate(("a.jpg", "b.png", "sub/c d.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(at).image).resize((40, 30)).save(path)
        ids = np.zeros((30, 40), np.uint8)
        ids[at : 20 + at, 5:25], ids[5:9, 30:38] = 7, 2
        ids[25:] = 255
        save_mask(tmp_path / "masks" / f"{name.rpartition('.')[0]}.png", ids)
    (tmp_path / "classes.csv").write_text("id,name\n7,dog\n2,cat\n")
    return tmp_path


def words(folder, masks="masks"):
    return ["--masks", folder / masks, "--images", folder / "photos", "--classes", folder / "classes.csv"]


def same(one, other):
    paths = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    return bool(paths) and all(np.array_equal(load_mask(one / path), load_mask(other / path)) for path in paths)


@pytest.mark.parametrize("kind", ["voc", "cvat", "fiftyone", "hf"])
def test_masks_of_folders_there_and_back(kind, plain, capsys):
    out = plain / f"out{FORMATS[kind].suffix}"
    assert convert("--to", kind, "--out", out, *words(plain)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 masks, 2 classes"
    assert said[-1] == f"{kind}: {out}"
    assert convert("--from", kind, "--in", out, *words(plain, "back")) == 0
    assert capsys.readouterr().out.splitlines() == [f"3 masks read from {kind}", f"masks: {plain / 'back'}"]
    assert same(plain / "masks", plain / "back")
    with Image.open(plain / "back" / "sub" / "c d.png") as image:
        assert image.mode == "P"


@pytest.mark.parametrize("kind", ["coco", "yolo", "labelme"])
def test_formats_of_regions_keep_255_by_a_label(kind, plain, capsys):
    out = plain / f"out{FORMATS[kind].suffix}"
    assert convert("--to", kind, "--out", out, *words(plain)) == 0
    assert "600 of 3600 pixels (16.67%) are 255 (not known): background there" in capsys.readouterr().out
    assert convert("--to", kind, "--out", out, "--not-known", "unsure", *words(plain)) == 0
    assert "255" not in capsys.readouterr().out
    assert convert("--from", kind, "--in", out, "--not-known", "unsure", *words(plain, "back")) == 0
    assert same(plain / "masks", plain / "back")


def test_a_runs_masks_are_corrected_elsewhere_and_learnt_from(run, tmp_path, capsys):
    out = tmp_path / "for-cvat.zip"
    assert convert("--run", run, "--to", "cvat", "--out", out) == 0
    train, scored = listed(run, "train"), listed(run, "eval")
    corrected = [train[0], train[3], scored[0]]
    edited = tmp_path / "from-cvat.zip"
    with zipfile.ZipFile(out) as given, zipfile.ZipFile(edited, "w") as made:
        made.writestr("labelmap.txt", given.read("labelmap.txt"))
        for name in corrected:
            made.writestr(f"SegmentationClass/{name}.png", given.read(f"SegmentationClass/{name}.png"))
    capsys.readouterr()
    assert convert("--run", run, "--from", "cvat", "--in", edited) == 0
    said = capsys.readouterr().out.splitlines()
    assert sorted(path.stem for path in (run / "corrected" / "masks").iterdir()) == sorted(corrected)
    for name in corrected:
        assert np.array_equal(
            load_mask(run / "corrected" / "masks" / f"{name}.png"), load_mask(run / "3-refine" / "masks" / f"{name}.png")
        )
    assert (run / "corrected" / "list.txt").read_text().split() == [train[0], train[3]], "images for scoring teach nothing"
    command = f"advcam semi --run {run} --pixel-labels {run / 'corrected' / 'list.txt'} --masks {run / 'corrected' / 'masks'}"
    assert said == [
        "3 masks read from cvat", f"2 corrected images to train on: {command}", f"masks: {run / 'corrected' / 'masks'}",
    ]  # fmt: skip
    assert main([*command.split()[1:], "--mode", "labelled", "--epochs", "1", "--crop", "64", "--workers", "0", "--quiet"]) == 0
    assert (run / "5-semi" / "model.safetensors").is_file()


def test_later_corrections_come_on_top_of_earlier_ones(run, tmp_path):
    train = listed(run, "train")
    for names, value in (([train[0], train[1]], 1), ([train[1], train[2]], 2)):
        (tmp_path / "grey").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
            classes = json.loads((run / "data.json").read_text())["classes"]
            made.writestr("labelmap.txt", "background:0,0,0::\n" + "".join(f"{c['name']}:9,9,{c['id']}::\n" for c in classes))
            Image.new("RGB", (64, 64), (9, 9, value)).save(tmp_path / "one.png")
            for name in names:
                made.write(tmp_path / "one.png", f"SegmentationClass/{name}.png")
        assert convert("--run", run, "--from", "cvat", "--in", tmp_path / "x.zip") == 0
    held = {path.stem: load_mask(path)[0, 0] for path in (run / "corrected" / "masks").iterdir()}
    assert held == {train[0]: 1, train[1]: 2, train[2]: 2}
    assert (run / "corrected" / "list.txt").read_text().split() == [train[0], train[1], train[2]]
    assert convert("--run", run, "--of", "corrected", "--to", "coco", "--out", tmp_path / "c.json") == 0
    assert len(json.loads((tmp_path / "c.json").read_text())["images"]) == 3


def test_which_masks_of_a_run(run, tmp_path, capsys):
    assert convert("--run", run, "--of", "predictions", "--to", "fiftyone", "--out", tmp_path / "p", "--no-copy-images") == 0
    assert "16 of 24 images have no mask there" in capsys.readouterr().out
    for path in (tmp_path / "p" / "labels").iterdir():
        assert np.array_equal(load_mask(path), load_mask(run / "4-segment" / "predictions" / path.name))
    assert convert("--run", run, "--of", "semi", "--to", "coco", "--out", tmp_path / "s.json") == 2
    assert "5-semi/predictions/ID.png: there is no such mask of any of 24 images" in capsys.readouterr().err
    assert convert("--run", run, "--to", "hf", "--out", tmp_path / "hf", "--no-copy-images") == 0
    lines = {
        split: len((tmp_path / "hf" / split / "metadata.jsonl").read_text().splitlines()) for split in ("train", "validation")
    }
    assert lines == {"train": 16, "validation": 8}
    assert convert("--run", run, "--to", "coco", "--not-known", "unsure", "--out", tmp_path / "m.json") == 0
    regions = json.loads((tmp_path / "m.json").read_text())["annotations"]
    with (run / "3-refine" / "scores.csv").open() as file:
        lowest = min(float(row["score"]) for row in csv.DictReader(file) if float(row["score"]) > 0)
    assert min(region["score"] for region in regions if "score" in region) == lowest


def test_images_that_have_moved(run, scenes, tmp_path):
    shutil.copytree(scenes / "images", tmp_path / "elsewhere")
    assert convert("--run", run, "--images", tmp_path / "elsewhere", "--to", "hf", "--out", tmp_path / "hf") == 0
    assert len(list((tmp_path / "hf" / "validation" / "images").iterdir())) == 8


def test_masks_that_cannot_be_converted_are_listed_and_the_others_written(plain, capsys):
    (plain / "masks" / "a.png").write_bytes(b"no")
    save_mask(plain / "masks" / "b.png", np.full((30, 41), 7, np.uint8))
    for kind in ("coco", "voc"):
        out = plain / f"out{FORMATS[kind].suffix}"
        assert convert("--to", kind, "--out", out, *words(plain)) == 1
        where = plain / "out-skipped.csv" if kind == "coco" else out / "skipped.csv"
        assert capsys.readouterr().out.splitlines()[-1] == f"2 left out, listed with reasons in {where}"
        found = reasons(where)
        assert "a.png: cannot be read as a mask" in found["a"]
        assert "b.png: is 41x30, its image 40x30" in found["b"]
    assert [one["file_name"] for one in json.loads((plain / "out.json").read_text())["images"]] == ["sub/c d.png"]
    save_mask(plain / "masks" / "sub" / "c d.png", np.full((30, 40), 99, np.uint8))
    assert convert("--to", "coco", "--out", plain / "none.json", *words(plain)) == 2
    assert "none of 3 masks can be converted; the first: " in capsys.readouterr().err
    assert not (plain / "none.json").exists()
    assert convert("--to", "yolo", "--out", plain / "none", *words(plain)) == 2
    assert not [path for path in (plain / "none").rglob("*") if path.is_file() and path.name != ".advcam.json"]


def test_ids_of_no_class_and_masks_of_nothing_known(plain):
    save_mask(plain / "masks" / "a.png", np.full((30, 40), 99, np.uint8))
    save_mask(plain / "masks" / "b.png", np.full((30, 40), 255, np.uint8))
    assert convert("--to", "coco", "--out", plain / "c.json", *words(plain)) == 1
    found = reasons(plain / "c-skipped.csv")
    assert found["a"].endswith("a.png: holds 99, which is the id of no class")
    assert found["b"].endswith("no pixel of it is known, and the format has no such thing; --not-known NAME labels them")
    assert convert("--to", "voc", "--out", plain / "v", *words(plain)) == 1
    assert list(reasons(plain / "v" / "skipped.csv")) == ["a"], "VOC has 255"


def write_coco(path, *images, category="dog"):
    about = [{"id": at, "file_name": name, "height": 30, "width": 40} for at, name in enumerate(images)]
    regions = [
        {"id": at, "image_id": at, "category_id": 1, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
        for at in range(len(images))
    ]
    path.write_text(json.dumps({"images": about, "annotations": regions, "categories": [{"id": 1, "name": category}]}))
    return path


def test_images_are_matched_as_labels_are(plain, capsys):
    given = write_coco(plain / "c.json", "a.jpg", "sub/c d", "photos/b.png", "nowhere.png", "a")
    assert convert("--from", "coco", "--in", given, *words(plain, "back")) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"3 faults, listed with reasons in {plain / 'back' / 'skipped.csv'}"
    found = reasons(plain / "back" / "skipped.csv")
    assert "there is no such image in" in found["photos/b.png"]
    assert "did you mean 'b.png'? the names begin with 'photos/': remove that" in found["photos/b.png"]
    assert "there is no such image" in found["nowhere.png"]
    assert "'a' was there already" in found["a"]
    assert sorted(path.name for path in (plain / "back").rglob("*.png")) == ["a.png", "c d.png"]
    assert (load_mask(plain / "back" / "a.png") == 7).sum() == 100
    assert convert("--from", "coco", "--in", write_coco(plain / "c.json", "x.png"), *words(plain, "other")) == 2
    assert "c.json: holds no mask of any of 3 images; the first: " in capsys.readouterr().err
    assert not list((plain / "other").rglob("*.png"))


def test_a_label_that_is_no_class_stops_everything(run, tmp_path, capsys):
    train = listed(run, "train")
    save_mask(run / "corrected" / "masks" / f"{train[0]}.png", np.full((64, 64), 1, np.uint8))
    held = (run / "corrected" / "masks" / f"{train[0]}.png").read_bytes()
    tasks = [
        {
            "data": {"image": f"/data/upload/1/0123abcd-{name}.png"},
            "annotations": [{"result": [
                {"type": "brushlabels", "value": {"rle": list(packed(np.ones((64, 64), bool))), "brushlabels": [label]}}
            ]}],
        }
        for name, label in ((train[0], "ring"), (train[1], "rnig"))
    ]  # fmt: skip
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert convert("--run", run, "--from", "label-studio", "--in", tmp_path / "export.json") == 2
    said = capsys.readouterr().err
    assert "no class is called 'rnig'; did you mean ring or triangle? known: cross, dots, quarters, ring, triangle" in said
    assert [path.name for path in (run / "corrected").rglob("*") if path.is_file()] == [f"{train[0]}.png"]
    assert (run / "corrected" / "masks" / f"{train[0]}.png").read_bytes() == held, "nothing is half changed"
    tasks[1]["annotations"][0]["result"][0]["value"]["brushlabels"] = ["triangle"]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert convert("--run", run, "--from", "label-studio", "--in", tmp_path / "export.json") == 0
    ids = {c["name"]: c["id"] for c in json.loads((run / "data.json").read_text())["classes"]}
    assert (load_mask(run / "corrected" / "masks" / f"{train[1]}.png") == ids["triangle"]).all()


def test_label_studio_forgets_folders(plain, capsys):
    task = {"data": {"image": "/data/upload/7/deadbeef-c d.png"}, "annotations": [{"result": []}]}
    (plain / "e.json").write_text(json.dumps([task]))
    assert convert("--from", "label-studio", "--in", plain / "e.json", *words(plain, "back")) == 0
    assert not load_mask(plain / "back" / "sub" / "c d.png").any()
    shutil.copytree(plain / "photos" / "sub", plain / "photos" / "other")
    assert convert("--from", "label-studio", "--in", plain / "e.json", *words(plain, "back")) == 2
    assert "there is no such image" in capsys.readouterr().err, "which of the two it is, is not guessed"


def test_predictions_for_a_labelling_configuration(plain, capsys):
    (plain / "config.xml").write_text(
        '<View><Image name="photo" value="$url"/><BrushLabels name="what" toName="photo">'
        '<Label value="dog"/><Label value="cat"/></BrushLabels></View>'
    )
    more = ["--labelling-config", plain / "config.xml", "--address", "s3://mine/", "--model-version", "first"]
    assert convert("--to", "label-studio", "--out", plain / "t.json", *more, *words(plain)) == 0
    task = json.loads((plain / "t.json").read_text())[2]
    assert task["data"] == {"url": "s3://mine/sub/c d.png"}
    assert task["predictions"][0]["model_version"] == "first"
    assert {(r["from_name"], r["to_name"]) for r in task["predictions"][0]["result"]} == {("what", "photo")}
    assert convert("--to", "label-studio", "--out", plain / "t.json", "--not-known", "unsure", *more, *words(plain)) == 2
    assert "what has no <Label value='unsure'>; it has cat, dog" in capsys.readouterr().err


def test_maps_of_irn_become_masks_at_a_threshold(plain, capsys):
    high = np.zeros((2, 30, 40), np.float32)
    high[0, :10], high[1, 5:20] = 0.5, 0.4
    (plain / "maps" / "sub").mkdir(parents=True)
    np.save(plain / "maps" / "sub" / "c d.npy", {"keys": np.array([0, 1]), "high_res": high})
    assert convert("--from", "irn", "--in", plain / "maps", "--threshold", "0.3", *words(plain, "back")) == 0
    ids = load_mask(plain / "back" / "sub" / "c d.png")
    assert [ids[row, 0] for row in (0, 9, 10, 19, 20)] == [7, 7, 2, 2, 0]
    assert convert("--from", "irn", "--in", plain / "maps", *words(plain, "back")) == 2
    assert "--threshold goes with --from irn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--to", "coco", "--from", "coco"], "give either --to FORMAT --out PATH, or --from FORMAT --in PATH"),
        ([], "give either --to FORMAT --out PATH, or --from FORMAT --in PATH"),
        (["--to", "coco"], "--to FORMAT goes with --out PATH, and --from FORMAT with --in PATH"),
        (["--from", "coco", "--out", "x"], "--to FORMAT goes with --out PATH"),
        (["--to", "coco", "--out", "x.json"], "give --run RUN; or --masks DIR, --images DIR and --classes FILE"),
        (["--to", "coco", "--out", "x.json", "--run", "r", "--masks", "m"], "leave out --masks and --classes, or --run"),
        (["--to", "coco", "--out", "x.json", "--run", "nowhere"], "nowhere: not a run folder"),
        (["--to", "coco", "--out", "x.json", "--masks", "m", "--images", "p", "--classes", "c"], "there is no such class list"),
    ],
)
def test_options_that_do_not_go_together(given, message, capsys):
    assert convert(*given) == 2
    assert message in capsys.readouterr().err


def test_where_an_output_may_not_go(plain, run, capsys):
    assert convert("--to", "coco", "--out", plain / "x.zip", *words(plain)) == 2
    assert "coco is one file *.json" in capsys.readouterr().err
    assert convert("--to", "labelme", "--out", plain / "photos" / "labels", *words(plain)) == 2
    assert "--out is in the folder of images" in capsys.readouterr().err
    assert convert("--run", run, "--to", "coco", "--out", run / "data.json") == 2
    assert "exists and was not made by `advcam convert masks --to coco`; give another --out" in capsys.readouterr().err
    assert convert("--from", "coco", "--in", write_coco(plain / "c.json", "a.jpg"), *words(plain)) == 2
    assert f"{plain / 'masks'}: exists and was not made by" in capsys.readouterr().err, "masks of others are not written over"
    assert (load_mask(plain / "masks" / "a.png") == 2).any()


def test_a_run_whose_corrections_are_a_link_is_left_alone(run, plain, capsys):
    (run / "corrected").symlink_to(plain / "masks")
    assert convert("--run", run, "--from", "coco", "--in", write_coco(plain / "c.json", listed(run, "train")[0])) == 2
    assert "is a link to" in capsys.readouterr().err


def test_a_folder_of_masks_with_a_link_in_it_is_not_written_through(plain, capsys):
    assert convert("--from", "coco", "--in", write_coco(plain / "c.json", "a.jpg"), *words(plain, "back")) == 0
    (plain / "elsewhere").mkdir()
    (plain / "back" / "sub").symlink_to(plain / "elsewhere")
    assert convert("--from", "coco", "--in", write_coco(plain / "c.json", "sub/c d.png"), *words(plain, "back")) == 2
    assert "is a link to another folder, through which nothing is written; remove it" in capsys.readouterr().err
    assert not list((plain / "elsewhere").iterdir())


def test_stopped_while_reading_it_leaves_the_corrections_as_they_were(plain, monkeypatch):
    given = write_coco(plain / "c.json", "a.jpg", "b.png")
    assert convert("--from", "coco", "--in", given, *words(plain, "back")) == 0
    before = {path: path.read_bytes() for path in (plain / "back").rglob("*.png")}

    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("advcam.commands.convert_masks._move", stops)
    assert (
        convert("--from", "coco", "--in", write_coco(plain / "c.json", "a.jpg", category="cat"), *words(plain, "back")) == 130
    )
    assert {path: path.read_bytes() for path in (plain / "back").rglob("*.png")} == before


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["convert", "masks", "--help"])
    assert "example:\n  advcam convert masks --run runs/first --to coco --out masks.json" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "convert Write masks for other tools, and read them back." in said
    assert "data Check a data set, or convert it, before a long run." in said
