"""Ground truth that lies: binary_masks_0_255 and mask_ids_shifted of ../shared/cases, and others of their kind."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.store import load_mask, save_mask
from conftest import CLIMB, NETWORK, SEGMENT, arguments


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


def test_masks_of_0_and_255_of_the_only_class(scenes, tmp_path, capsys):
    """255 is the object there, which is said; evaluate, data check and semi read it alike."""
    data, masks = tmp_path / "data", tmp_path / "masks"
    masks.mkdir()
    for path in (scenes / "masks").iterdir():
        ids = load_mask(path)
        Image.fromarray(np.where((ids > 0) & (ids < 255), np.uint8(255), np.uint8(0))).save(masks / path.name)
    names = [path.stem for path in sorted(masks.iterdir())]
    data.mkdir()
    (data / "labels.csv").write_text("image,labels\n" + "".join(f"{name},shape\n" for name in names))
    (data / "few.txt").write_text("\n".join(names[:4]))
    words = ["--images", str(scenes / "images"), "--labels", str(data / "labels.csv")]
    run = tmp_path / "run"
    assert main(["run", *words, "--eval-list", str(scenes / "eval.txt"), "--out", str(run), *NETWORK, *SEGMENT, *CLIMB]) == 0
    said = "masks of 0 and 255 alone; 255 is read as shape, the only class"
    assert main(["evaluate", "--run", str(run), "--masks", str(masks)]) == 0
    assert said in capsys.readouterr().err
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < metrics["seed_advcam"]["per_class"]["shape"] < 1
    assert main(["data", "check", *words, "--masks", str(masks), "--out", str(tmp_path / "p.csv")]) == 0
    assert said in capsys.readouterr().err
    train = [name for name in names if name not in (scenes / "eval.txt").read_text().split()]
    (data / "few.txt").write_text("\n".join(train[:4]))
    few = ["--pixel-labels", str(data / "few.txt"), "--masks", str(masks), "--mode", "labelled"]
    assert main(["semi", "--run", str(run), *few, "--epochs", "1", "--crop", "64", "--batch", "4", "--quiet"]) == 0


def test_truth_in_colours_scores_as_truth_in_ids(run, scenes, tmp_path):
    for path in (scenes / "masks").iterdir():
        save_mask(tmp_path / path.name, load_mask(path))
        Image.open(tmp_path / path.name).convert("RGB").save(tmp_path / path.name)
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    ids = (run / "metrics.json").read_bytes()
    assert main(["evaluate", "--run", str(run), "--masks", str(tmp_path), "--quiet"]) == 0
    assert (run / "metrics.json").read_bytes() == ids


def test_truth_in_colours_of_one_s_own(run, scenes, tmp_path, capsys):
    few = tmp_path / "few.txt"
    few.write_text("\n".join((scenes / "train.txt").read_text().split()[:4]))
    table = np.random.default_rng(0).permutation(np.arange(1, 256))[:6].astype(np.uint8)
    table[0] = 0
    masks, colours = tmp_path / "masks", tmp_path / "colours.csv"
    masks.mkdir()
    for path in (scenes / "masks").iterdir():
        ids = load_mask(path)
        rgb = np.stack([np.append(table, [0] * 249 + [7])[ids]] * 2 + [np.zeros_like(ids)], 2).astype(np.uint8)
        Image.fromarray(rgb).save(masks / path.name)
    rows = "".join(f"{number},{table[number]} {table[number]} 0\n" for number in range(1, 6)) + "255,#070700\n"
    colours.write_text("id,colour\n" + rows)
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    ids = (run / "metrics.json").read_bytes()
    words = ["--masks", str(masks), "--mask-colours", str(colours)]
    assert main(["evaluate", "--run", str(run), *words, "--quiet"]) == 0
    assert (run / "metrics.json").read_bytes() == ids
    semi = ["semi", "--run", str(run), "--pixel-labels", str(few), "--epochs", "1", "--crop", "64", "--batch", "4", "--quiet"]
    assert main([*semi, *words]) == 0
    capsys.readouterr()
    for rows, said in (
        ("id,name\n1,cat\n", "expected the columns id,colour"),
        ("id,colour\n1,reddish\n", "colours.csv:2: expected a colour such as #ff8000 or 255 128 0, got 'reddish'"),
        ("id,colour\n1,#ff0000\n2,255 0 0\n", "colours.csv:3: the colour 255 0 0 has id 1 already"),
        ("id,colour\n999,#ff0000\n", "an id is a whole number from 0 to 255, got '999'"),
    ):
        colours.write_text(rows)
        assert main(["evaluate", "--run", str(run), *words, "--quiet"]) == 2
        assert said in capsys.readouterr().err
