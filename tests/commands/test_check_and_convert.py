"""``advcam data``: a data set looked at, and converted."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import advcam.commands  # noqa: F401
from advcam.cli import main
from advcam.data import load
from advcam.pipeline import _digest
from advcam.store import digest, load_mask, save_mask
from layouts import COCO, write_coco, write_voc


def check(tmp_path, *words):
    return main(["data", "check", *map(str, words), "--out", str(tmp_path / "problems.csv"), "--quiet"])


def problems(tmp_path):
    with (tmp_path / "problems.csv").open(newline="") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def test_a_good_data_set(scenes, tmp_path, capsys):
    words = [part for name in ("images", "labels.csv", "classes.csv") for part in (f"--{name.split('.')[0]}", scenes / name)]
    words += ["--train-list", scenes / "train.txt", "--eval-list", scenes / "eval.txt", "--masks", scenes / "masks"]
    assert check(tmp_path, *words) == 0
    said = capsys.readouterr().out
    assert "16 images to train on, 8 to score on, 5 classes" in said
    assert "smallest 64x64, median 64x64, largest 64x64" in said
    assert "masks of 8 images: " in said
    assert said.rstrip().endswith("problems: 0")
    assert not (tmp_path / "problems.csv").exists()


def test_what_is_wrong_is_listed(tmp_path, capsys):
    root = write_voc(tmp_path)
    lists, masks, images = root / "ImageSets" / "Segmentation", root / "SegmentationClass", root / "JPEGImages"
    first, second, third = (lists / "val.txt").read_text().split()
    Image.new("RGB", (64, 64), "#010203").save(masks / f"{first}.png")
    save_mask(masks / f"{second}.png", np.zeros((32, 64), np.uint8))
    save_mask(masks / f"{third}.png", np.full((64, 64), 77, np.uint8))
    shutil.copy(images / "2007_000000.jpg", images / f"{third}.jpg")
    (images / "2007_000001.jpg").write_bytes(b"")
    (lists / "val.txt").write_text(f"{first}\n{second}\n{third}\nnowhere\n")
    words = ["--labels", root, "--train-list", lists / "train.txt", "--eval-list", lists / "val.txt", "--masks", masks]
    assert check(tmp_path, *words) == 1
    found = problems(tmp_path)
    assert "an RGB mask with 1 colours that are none of VOC (#010203)" in found[first]
    assert f"{second}.png: is 64x32, its image 64x64" in found[second]
    assert f"{third}.png: holds ids of no class: 77; they count as background" in (tmp_path / "problems.csv").read_text()
    assert "holds no pixel of" in found[third]  # its other doubt
    assert "the file is empty" in found["2007_000001"]
    assert "val.txt:4: there is no such image" in found["nowhere"]
    assert "for scoring, but the same file as 2007_000000, which is trained on" in (tmp_path / "problems.csv").read_text()
    assert capsys.readouterr().out.rstrip().endswith(f" problems, listed with reasons in {tmp_path / 'problems.csv'}")


def test_what_no_run_could_start_with(tmp_path, capsys):
    root = write_voc(tmp_path)
    lists = root / "ImageSets" / "Segmentation"
    assert check(tmp_path, "--labels", root, "--train-list", lists / "train.txt", "--eval-list", lists / "trainaug.txt") == 2
    assert "is in the training list too (6 are in both)" in capsys.readouterr().err
    assert check(tmp_path, "--labels", root, "--masks", tmp_path / "nowhere") == 2
    assert "there is no such folder of ground-truth masks; check --masks" in capsys.readouterr().err
    (tmp_path / "masks").mkdir()
    assert check(tmp_path, "--labels", root, "--masks", tmp_path / "masks") == 2
    assert "no ground-truth mask for any of 9 images" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text("image,labels\na,cat\n")
    assert check(tmp_path, "--labels", tmp_path / "labels.csv") == 2
    assert "does not say where its images are; give --images DIR too" in capsys.readouterr().err


def convert(labels, out):
    return main(["data", "convert", "--labels", str(labels), "--out", str(out), "--quiet"])


def test_coco_becomes_our_files(tmp_path, capsys):
    coco, out = write_coco(tmp_path), tmp_path / "out"
    assert convert(coco, out) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"9 images, 5 classes; masks: {out / 'masks'}"
    truth = sorted((tmp_path / "truth").rglob("*.png"))
    assert len(truth) == 9
    for path in truth:
        made = out / "masks" / path.relative_to(tmp_path / "truth")
        assert (load_mask(made) == load_mask(path)).all()
        with Image.open(made) as mask:
            assert mask.mode == "P"
    ours = load(coco, out / "labels.csv", out / "classes.csv", out / "train2014.txt", out / "val2014.txt")
    theirs = load(coco, coco, None, out / "train2014.txt", out / "val2014.txt")
    assert (ours.classes, ours.train, ours.eval) == (theirs.classes, theirs.train, theirs.eval)
    assert list(zip(ours.classes.ids, ours.classes.names, strict=True)) == list(COCO.values())
    assert check(tmp_path, "--labels", coco, "--eval-list", out / "val2014.txt", "--masks", out / "masks") in (0, 1)
    assert "ground-truth masks" not in capsys.readouterr().out


def test_one_annotation_file_by_itself(tmp_path):
    coco, out = write_coco(tmp_path), tmp_path / "out"
    assert convert(coco / "annotations" / "instances_val2014.json", out) == 0
    assert len(list((out / "masks").glob("COCO_val2014_*.png"))) == 3
    assert (out / "val2014.txt").read_text().startswith("COCO_val2014_")


def test_voc_becomes_our_files(tmp_path):
    root, out = write_voc(tmp_path), tmp_path / "out"
    assert convert(root, out) == 0
    ours = load(root / "JPEGImages", out / "labels.csv", out / "classes.csv", out / "train.txt", out / "val.txt")
    assert (len(ours.classes), len(ours.train), len(ours.eval)) == (20, 6, 3)
    assert not (out / "masks").exists()


def test_voc_without_masks_is_not_said_to_have_some(tmp_path, capsys):
    root = write_voc(tmp_path)
    assert convert(root, tmp_path / "with") == 0
    assert capsys.readouterr().out.startswith(f"9 images, 20 classes; masks: {root / 'SegmentationClass'} as it is\n")
    shutil.rmtree(root / "SegmentationClass")
    assert convert(root, tmp_path / "without") == 0
    assert capsys.readouterr().out.startswith(
        f"9 images, 20 classes; masks: none ({root / 'SegmentationClass'} is not there)\n"
    )


def test_what_labels_were_read_as_and_what_of_them_was_not(tmp_path, scenes, capsys):
    (tmp_path / "table.csv").write_bytes(
        "image;Käfer;ring\nscene-00000;1;\nscene-00001;0;1\nscene-00002;0;maybe\nnowhere;1;1\n".encode("cp1252")
    )
    assert check(tmp_path, "--images", scenes / "images", "--labels", tmp_path / "table.csv") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "labels read as: CSV, separated by semicolons, one column per class (2 classes), Windows-1252 (as in 'Käfer'; if that"
        " is garbled, save the file as UTF-8)"
    )
    assert said[1] == "1 (image, class) pairs are not known and are left out"
    assert said[2] == (
        f"2 entries of the labels could not be used, the first: {tmp_path / 'table.csv'}:4: column 'ring': expected 1, 0 or"
        ' blank, got "maybe"'
    )
    found = problems(tmp_path)
    assert found["scene-00002"].startswith(f"{tmp_path / 'table.csv'}:4: ")
    assert found["nowhere"].startswith(f"{tmp_path / 'table.csv'}:5: there is no such image in ")


def test_a_region_that_cannot_be_drawn_is_listed(tmp_path):
    coco, out = write_coco(tmp_path), tmp_path / "out"
    file = coco / "annotations" / "instances_val2014.json"
    kept = json.loads(file.read_text())
    kept["annotations"][0]["segmentation"] = [[1, 2]]
    file.write_text(json.dumps(kept))
    assert convert(coco, out) == 1
    with (out / "skipped.csv").open(newline="") as listed:
        (row,) = csv.DictReader(listed)
    assert "annotation 0: a polygon is x, y of three points or more and no box: what no other" in row["reason"]
    assert len(list((out / "masks").rglob("*.png"))) == 9


def test_what_cannot_be_converted(tmp_path, capsys):
    (tmp_path / "labels.json").write_text('{"a": ["cat"]}')
    assert convert(tmp_path / "labels.json", tmp_path / "out") == 2
    assert "expected a COCO annotation file with images, annotations and categories" in capsys.readouterr().err
    assert convert(tmp_path / "nowhere", tmp_path / "out") == 2
    assert "or COCO's instances_*.json; there is no such file or folder" in capsys.readouterr().err
    coco = write_coco(tmp_path)
    assert convert(coco, tmp_path) == 2
    assert "exists and was not made by `advcam data convert`; give another --out" in capsys.readouterr().err


def test_stopped_it_goes_on_and_other_files_are_refused(tmp_path, capsys, monkeypatch):
    coco, out = write_coco(tmp_path), tmp_path / "out"
    drawn = []

    def stopped(path, ids):
        if len(drawn) == 4:
            raise KeyboardInterrupt
        drawn.append(path)
        save_mask(path, ids)

    monkeypatch.setattr(sys.modules["advcam.commands.convert"], "save_mask", stopped)
    assert convert(coco, out) == 130
    assert not (out / "labels.csv").exists(), "what is not finished does not look so"
    before = {path: path.stat().st_mtime_ns for path in drawn}
    monkeypatch.undo()
    assert convert(coco, out) == 0
    assert {path: path.stat().st_mtime_ns for path in drawn} == before
    assert len(list((out / "masks").rglob("*.png"))) == 9
    file = coco / "annotations" / "instances_val2014.json"
    file.write_text(file.read_text() + " ")
    assert convert(coco, out) == 2
    assert "was converted from files other than" in capsys.readouterr().err


def test_what_a_file_holds_is_known_as_it_was(tmp_path):
    """Runs that were started before annotation files were read in parts go on."""
    (tmp_path / "labels.csv").write_bytes(bytes(range(256)) * 9000)
    assert _digest(tmp_path / "labels.csv") == digest((tmp_path / "labels.csv").read_bytes().hex())


@pytest.mark.parametrize("verb", ["check", "convert"])
def test_help_has_an_example(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["data", verb, "--help"])
    assert f"example:\n  advcam data {verb} " in capsys.readouterr().out
