"""Ground truth that lies: binary_masks_0_255 and mask_ids_shifted of ../shared/cases, and others of their kind."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.store import load_mask, save_mask
from conftest import SEGMENT, arguments


def spoiled(scenes, folder, change, names=None):
    """The ground truth of the scenes for scoring, each mask changed by a function of (ids, class ids of its labels)."""
    with (scenes / "classes.csv").open() as file:
        ids = {row["name"]: int(row["id"]) for row in csv.DictReader(file)}
    with (scenes / "labels.csv").open() as file:
        labels = {row["image"]: [ids[name] for name in row["labels"].split(";")] for row in csv.DictReader(file)}
    for name in (scenes / "eval.txt").read_text().split():
        mask = load_mask(scenes / "masks" / f"{name}.png").copy()
        save_mask(folder / f"{name}.png", change(mask, labels[name]) if names is None or name in names else mask)
    return folder


def to_255(mask, named):
    return np.where(mask > 0, 255, 0)


def shifted(mask, named):
    return np.where((mask > 0) & (mask < 255), mask + 10, mask)


def empty(mask, named):
    return np.zeros_like(mask)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (to_255, ["they hold only 0 and 255. Is 255 the object? Then replace it by the class's id, of 1 "]),
        (shifted, ["they hold 0, 11, 12, ", ", the run's classes are 1 ", "--classes FILE (CSV id,name)"]),
        (lambda mask, named: to_255(shifted(mask, named), named) // 2, ["they hold 0, 127, the run's classes"]),
        (empty, ["they hold 0, the run's classes", "Are these the masks of these images?"]),
        (lambda mask, named: np.full_like(mask, 255), ["they hold 255, the run's classes"]),
    ],
    ids=["0 and 255", "shifted", "0 and 127", "empty", "255 alone"],
)
def test_truth_that_shows_no_class_of_any_image_is_refused(run, scenes, tmp_path, change, said, capsys):
    masks = spoiled(scenes, tmp_path / "masks", change)
    before = (run / "metrics.json").read_bytes()
    for verb in (["evaluate"], ["study", "iterations", "--longest", "1", "--resamples", "20"]):
        assert main([*verb, "--run", str(run), "--masks", str(masks), "--quiet"]) == 2
        told = capsys.readouterr().err
        assert f"{masks}: no mask of 8 labelled images holds a pixel of a class that its image's labels name" in told
        assert all(words in told for words in said), told
    assert (run / "metrics.json").read_bytes() == before  # no number without a word, and none is lost
    files = [part for name in ("images", "labels.csv", "classes.csv") for part in (f"--{name.split('.')[0]}", scenes / name)]
    words = ["data", "check", *files, "--eval-list", scenes / "eval.txt", "--masks", masks, "--out", tmp_path / "p.csv"]
    assert main([*map(str, words)]) == 1
    wanted = set((scenes / "eval.txt").read_text().split())
    with (tmp_path / "p.csv").open() as file:
        assert wanted <= {row["image"] for row in csv.DictReader(file)}  # each mask counts as a problem


def test_the_remedies_work(run, scenes, tmp_path, capsys):
    """What the refusals say: the class's id in place of 255; a run whose class list has the ids of the masks."""
    masks = spoiled(scenes, tmp_path / "ids", lambda mask, named: np.where(to_255(mask, named) == 255, named[0], 0))
    assert main(["evaluate", "--run", str(run), "--masks", str(masks), "--quiet"]) == 0
    with (scenes / "classes.csv").open() as file:
        rows = [{"id": int(row["id"]) + 10, "name": row["name"]} for row in csv.DictReader(file)]
    data = shutil.copytree(scenes, tmp_path / "data")
    with (data / "classes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "name"])
        writer.writeheader()
        writer.writerows(rows)
    words = arguments(data, tmp_path / "second")
    words[words.index("--epochs") + 1] = "1"
    assert SEGMENT[0] in words
    assert main(words) == 0
    moved = spoiled(scenes, tmp_path / "shifted", shifted)
    capsys.readouterr()
    assert main(["evaluate", "--run", str(tmp_path / "second"), "--masks", str(moved), "--quiet"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (to_255, "ignored", "2 of 8 ground-truth masks hold 255, which is ignored, and no pixel of a class"),
        (shifted, "unknown", "2 of 8 ground-truth masks hold ids of no class, which count as background"),
        (empty, "absent", "2 of 8 ground-truth masks hold no pixel of a class that the image's labels name"),
        (
            lambda m, named: np.where(m > 0, next(i for i in range(1, 6) if i not in named), 0),
            "unnamed",
            "hold a class that the image's labels do not name",
        ),
    ],
    ids=["ignored", "unknown", "absent", "unnamed"],
)
def test_a_part_of_it_is_scored_with_a_warning_of_each_and_of_all(run, scenes, tmp_path, change, kind, words, capsys):
    two = sorted((scenes / "eval.txt").read_text().split())[:2]
    masks = spoiled(scenes, tmp_path / "masks", change, two)
    assert main(["evaluate", "--run", str(run), "--masks", str(masks), "--quiet"]) == 0
    told = capsys.readouterr().err
    assert f"advcam: warning: {masks}: " in told
    assert words in told
    assert f"the first: {two[0]}" in told
    with (run / "doubts-evaluate.csv").open() as file:
        assert {row["image"] for row in csv.DictReader(file)} == set(two)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["ground_truth"][kind] == 2
    assert metrics["ground_truth"]["masks"] == 8
    assert "The ground truth is doubtful" in (run / "report.html").read_text()
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert not (run / "doubts-evaluate.csv").exists()
    assert "doubtful" not in (run / "report.html").read_text()


def test_an_image_of_none_of_the_classes_may_be_all_background(scenes, tmp_path, capsys):
    """Negatives are no doubt; a class in the mask of one is."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    for name, colour in (("with", "red"), ("without", "blue")):
        Image.new("RGB", (32, 24), colour).save(data / "images" / f"{name}.png")
    (data / "labels.csv").write_text("image,labels\nwith,defect\nwithout,\n")
    defect = np.zeros((24, 32), np.uint8)
    defect[:5] = 1
    save_mask(data / "masks" / "with.png", defect)
    save_mask(data / "masks" / "without.png", np.zeros_like(defect))
    words = ["data", "check", "--images", data / "images", "--labels", data / "labels.csv", "--masks", data / "masks"]
    assert main([*map(str, words), "--out", str(tmp_path / "p.csv")]) == 0
    save_mask(data / "masks" / "without.png", defect)
    assert main([*map(str, words), "--out", str(tmp_path / "p.csv")]) == 1
    assert "holds 'defect', which its labels do not name" in (tmp_path / "p.csv").read_text()
