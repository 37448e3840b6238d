"""Every way from maps to masks, as people use it: ``advcam refine`` on a run of small scenes."""

import csv
import importlib
import json
import shutil

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from advcam.cli import main
from advcam.data import SceneSettings, write_dataset
from advcam.refinement import argmax_mask
from advcam.stages.refine.single import Found
from advcam.stages.refine.step import lacking
from advcam.store import StoredMaps, load_maps, load_mask, save_maps
from conftest import NETWORK

SMALL = ["epochs=1", "crop=96", "batch=8", "scales=1,1"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two objects of one class in a third of the scenes, which are the ones for instance masks."""
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(folder, 16, 8, 0, SceneSettings(size=64, same=1.0))
    return folder


def data(scenes):
    files = (
        ("images", "images"),
        ("labels", "labels.csv"),
        ("classes", "classes.csv"),
        ("train-list", "train.txt"),
        ("eval-list", "eval.txt"),
    )
    return [part for name, file in files for part in (f"--{name}", str(scenes / file))]


@pytest.fixture(scope="module")
def climbed(scenes, tmp_path_factory):
    """A run up to its maps."""
    run = tmp_path_factory.mktemp("runs") / "climbed"
    assert main(["classify", "--run", str(run), *data(scenes), *NETWORK]) == 0
    assert main(["climb", "--run", str(run), "--steps", "3", "--quiet"]) == 0
    return run


@pytest.fixture(scope="module")
def mapped(climbed, scenes, tmp_path_factory):
    """The same run with better maps than two epochs teach: the truth, blurred, so that there is something to refine."""
    run = shutil.copytree(climbed, tmp_path_factory.mktemp("runs") / "mapped")
    for path in (run / "2-climb" / "maps").iterdir():
        truth, stored = torch.from_numpy(load_mask(scenes / "masks" / f"{path.stem}.png").copy()), load_maps(path)
        exact = torch.stack([truth == c for c in stored.classes]).float()
        blurred = F.avg_pool2d(exact[:, None], 25, 1, 12, count_include_pad=False)
        maps = F.interpolate(blurred, size=stored.maps.shape[1:], mode="bilinear")[:, 0]
        save_maps(path, StoredMaps(stored.classes, maps / maps.amax((1, 2), keepdim=True), stored.size))
    return run


@pytest.fixture
def run(mapped, tmp_path):
    return shutil.copytree(mapped, tmp_path / "run")


def refine(run, *words):
    return main(["refine", "--run", str(run), "--quiet", "--workers", "0", *words])


def options(*entries):
    return [word for entry in entries for word in ("--refine-option", entry)]


def masks(run):
    return {path.stem: load_mask(path) for path in (run / "3-refine" / "masks").iterdir()}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["affinity", "threshold", "pamr", "crf", "psa", "irn"])
def test_every_way_makes_masks_of_the_image_s_classes(run, scenes, method, capsys):
    learnt = method in ("psa", "irn")
    assert refine(run, "--method", method, *(options(*SMALL, "log2_steps=1", "radius=2") if learnt else [])) == 0
    assert capsys.readouterr().out.strip() == f"refine: {run / '3-refine'}"
    made, several = masks(run), 0
    assert made.keys() == {path.stem for path in (scenes / "images").iterdir()}
    for name, ids in made.items():
        stored = load_maps(run / "2-climb" / "maps" / f"{name}.npz")
        assert ids.shape == (64, 64)
        assert set(np.unique(ids)) <= {0, 255, *stored.classes}
        several += len(np.unique(ids)) > 1
    assert several > len(made) / 2
    with Image.open(run / "3-refine" / "masks" / f"{name}.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[3:6] == [128, 0, 0]
    settings = json.loads((run / "run.json").read_text())["steps"]["refine"]["config"]
    assert settings["method"] == method
    assert (run / "3-refine" / "model.safetensors").is_file() == learnt
    assert len(list((run / "3-refine").glob("confident/*.png"))) == (16 if learnt else 0)
    if learnt:
        assert settings["epochs"] == 1
        assert len(json.loads((run / "3-refine" / "metrics.json").read_text())["history"]) == 1


def test_ways_differ_and_follow_their_settings(run):
    found = {}
    for name, words in {
        "threshold": ["--method", "threshold", "--threshold", "0.3"],
        "higher": ["--method", "threshold", "--threshold", "0.6"],
        "crf": ["--method", "crf"],
        "weak": ["--method", "crf", *options("bilateral=3,3,0.1", "gaussian=1,0.1", "threshold=0.3")],
        "plain": ["--method", "threshold", "--maps", "plain"],
    }.items():
        assert refine(run, "--redo", *words) == 0
        found[name] = masks(run)

    def size(name):
        return sum(int((ids > 0).sum()) for ids in found[name].values())

    assert size("higher") < size("threshold")
    assert not equal(found["threshold"], found["plain"])
    assert not equal(found["crf"], found["threshold"])
    assert equal(found["weak"], found["threshold"])  # a CRF without force changes nothing


def run_on(folder, pixels):
    """A run on eight copies of an image, all of class ``thing``, whose maps rise from 0.2 at the left to 1 at the right."""
    images, masks = folder / "images", folder / "truth"
    images.mkdir()
    masks.mkdir()
    for at in range(8):
        Image.fromarray(pixels).save(images / f"{at}.png")
        Image.fromarray((pixels[..., 0] > 128).astype(np.uint8)).save(masks / f"{at}.png")
    (folder / "labels.csv").write_text("image,labels\n" + "".join(f"{at},thing\n" for at in range(8)))
    run = folder / "run"
    assert main(["classify", "--run", str(run), "--images", str(images), "--labels", str(folder / "labels.csv"), *NETWORK]) == 0
    assert main(["climb", "--run", str(run), "--steps", "1", "--quiet"]) == 0
    for path in (run / "2-climb" / "maps").iterdir():
        save_maps(path, StoredMaps((1,), torch.linspace(0.2, 1, 16).expand(1, 16, 16), (64, 64)))
    return run


def test_the_background_threshold_is_chosen_from_images_and_maps(tmp_path, capsys):
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255  # where the maps are 0.6
    run = run_on(tmp_path, halves)
    assert refine(run, "--method", "threshold") == 0
    chosen = json.loads((run / "3-refine" / "threshold.json").read_text())
    assert 0.57 <= chosen["threshold"] <= 0.63
    assert chosen["maps"] == 8
    assert "without ground truth" in chosen["rule"]
    for ids in masks(run).values():
        assert not ids[:, :30].any()
        assert ids[:, 34:].all()
    assert main(["evaluate", "--run", str(run), "--masks", str(tmp_path / "truth"), "--quiet"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"background threshold {chosen['threshold']:.2f}, chosen without ground truth" in metrics["masks"]["rule"]
    seeds = metrics["seed_advcam"]
    at = seeds["curve"]["threshold"].index(seeds["without_truth"]["threshold"])
    assert seeds["without_truth"]["threshold"] == pytest.approx(chosen["threshold"])
    assert seeds["without_truth"]["mean_iou"] == seeds["curve"]["mean_iou"][at] > 0.9
    assert "without_truth" not in metrics["seed_plain"]  # the masks are of the other maps


def test_one_class_and_many_images_without_it(scenes, tmp_path):
    """From labels to scored masks: what an image's labels do not show is in no mask of it, and counts in average precision."""
    rows = dict(line.split(",") for line in (scenes / "labels.csv").read_text().split()[1:])
    wanted = rows[(scenes / "eval.txt").read_text().split()[0]].split(";")[0]
    shown = {name for name, labels in rows.items() if wanted in labels.split(";")}
    kept = "".join(f"{name},{wanted if name in shown else ''}\n" for name in rows)
    (tmp_path / "labels.csv").write_text(f"image,labels\n{kept}")
    number = next(line for line in (scenes / "classes.csv").read_text().split()[1:] if line.endswith(f",{wanted}"))
    (tmp_path / "classes.csv").write_text(f"id,name\n{number}\n")
    run = tmp_path / "run"
    files = data(scenes)
    for flag, name in (("--labels", "labels.csv"), ("--classes", "classes.csv")):
        files[files.index(flag) + 1] = str(tmp_path / name)
    assert main(["classify", "--run", str(run), *files, *NETWORK]) == 0
    assert main(["climb", "--run", str(run), "--steps", "2", "--quiet"]) == 0
    assert refine(run, "--method", "threshold") == 0
    for name, ids in masks(run).items():
        assert set(np.unique(ids)) <= ({0, 255, int(number.split(",")[0])} if name in shown else {0})
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) in (0, 1)
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < metrics["average_precision"]["mean"] <= 1
    assert list(metrics["masks"]["per_class"]) == ["background", wanted]


def test_a_given_threshold_is_not_chosen(run):
    assert refine(run, "--method", "threshold", "--threshold", "0.4") == 0
    assert not (run / "3-refine" / "threshold.json").exists()


def test_images_of_one_colour_are_cut_at_three_tenths_and_nothing_walks(tmp_path):
    run = run_on(tmp_path, np.full((64, 64, 3), 90, np.uint8))
    assert refine(run, "--method", "threshold") == 0
    assert json.loads((run / "3-refine" / "threshold.json").read_text())["threshold"] == 0.3
    cut = masks(run)
    assert refine(run, "--redo", "--method", "affinity", *options("then=none")) == 0
    assert json.loads((run / "3-refine" / "threshold.json").read_text())["walked"] == pytest.approx(0.3, abs=0.06)
    for name, ids in masks(run).items():  # cells of the ramp are 0.05 apart
        assert (ids != cut[name]).mean() < 0.07


def test_affinity_fills_objects_that_maps_mark_in_part(scenes, mapped, tmp_path):
    """Maps of the left half of every object: the walk finds some of the right half too."""
    run = shutil.copytree(mapped, tmp_path / "run")
    for path in (run / "2-climb" / "maps").iterdir():
        stored = load_maps(path)
        half = torch.stack(
            [one * (torch.arange(one.shape[1]) < (one > 0.5).nonzero()[:, 1].float().mean()) for one in stored.maps]
        )
        save_maps(path, StoredMaps(stored.classes, half / half.amax((1, 2), keepdim=True).clamp_min(1e-6), stored.size))
    score = {}
    for name, words in {
        "threshold": ["--method", "threshold", "--threshold", "0.3"],
        "affinity": ["--method", "affinity", *options("then=none")],
    }.items():
        assert refine(run, "--redo", *words) == 0
        assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) in (0, 1)
        score[name] = json.loads((run / "metrics.json").read_text())["masks"]["mean_iou"]
    assert score["affinity"] > score["threshold"]
    chosen = json.loads((run / "3-refine" / "threshold.json").read_text())
    assert 0 < chosen["walked"] < 1
    assert "in the refined maps" in chosen["rule"]
    rule = json.loads((run / "metrics.json").read_text())["masks"]["rule"]
    assert f"background threshold {chosen['walked']:.2f}" in rule


def test_settings_of_affinity_change_the_masks(run):
    found = {}
    for name, entries in {
        "pamr": [], "none": ["then=none"], "crf": ["then=crf"], "near": ["then=none", "reach=0.02"],
        "still": ["then=none", "restart=1"],
    }.items():  # fmt: skip
        assert refine(run, "--redo", "--method", "affinity", "--threshold", "0.4", *options(*entries)) == 0
        found[name] = masks(run)
    assert refine(run, "--redo", "--method", "threshold", "--threshold", "0.4") == 0
    assert equal(found["still"], masks(run))  # a walk that never leaves is a threshold
    others = list(found)
    assert not any(equal(found[a], found[b]) for a in others for b in others if a < b)


def test_features_of_another_network(run, tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("resnet18", num_classes=7).state_dict(), weights)
    words = ["--method", "affinity", *options("then=none", "features=resnet18", f"features_weights={weights}")]
    assert refine(run, *words) == 0
    first = masks(run)
    assert weights.rename(tmp_path / "renamed.safetensors")
    words[-1] = f"features_weights={tmp_path / 'renamed.safetensors'}"
    assert refine(run, *words) == 0  # the same weights by another name: done already
    assert refine(run, "--redo", "--method", "affinity", *options("then=none")) == 0
    assert not equal(masks(run), first)
    capsys.readouterr()
    for entries, said in {
        ("features=resnet81",): "timm has no network 'resnet81'",
        ("features=resnet18", "features_weights=nowhere.pt"): "nowhere.pt: there is no such file of weights",
        ("features=mobilenetv2_050", f"features_weights={tmp_path / 'renamed.safetensors'}"): "lacks",
        ("features_weights=nowhere.pt",): "give features=NAME too",
        ("then=psa",): "psa",
        ("temperature=0",): "temperature",
    }.items():
        assert refine(run, "--redo", "--method", "affinity", *options(*entries)) == 2
        assert said in capsys.readouterr().err


def test_a_damaged_threshold_says_how_to_make_it_again(run, capsys):
    assert refine(run, "--method", "threshold") == 0
    (run / "3-refine" / "threshold.json").write_text('{"threshold": 7}')
    next((run / "3-refine" / "masks").iterdir()).unlink()
    assert refine(run, "--method", "threshold") == 2
    assert "--redo" in capsys.readouterr().err


def test_what_is_decided_by_little_is_255(run):
    assert refine(run, "--method", "threshold") == 0
    sure = masks(run)
    assert refine(run, "--redo", "--method", "threshold", "--margin", "0.1") == 0
    open_ = masks(run)
    assert all((open_[name][open_[name] != 255] == sure[name][open_[name] != 255]).all() for name in sure)
    share = np.mean([(ids == 255).mean() for ids in open_.values()])
    assert 0.02 < share < 0.9


def test_learning_goes_on_where_it_was_stopped(run):
    """A mask that is there is not made again, nor is the network trained again; what is missing comes out the same."""
    words = ["--method", "irn", *options(*SMALL)]
    assert refine(run, *words) == 0
    whole, folder = masks(run), run / "3-refine"
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    state = json.loads((run / "run.json").read_text())
    state["steps"]["refine"]["state"] = "running"
    (run / "run.json").write_text(json.dumps(state))
    for name in list(whole)[::2]:
        (folder / "masks" / f"{name}.png").unlink()
    assert refine(run, *words) == 0
    assert equal(masks(run), whole)
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(("where", "after"), [("save_mask", 5), ("write_json", 1)])
def test_killed_while_it_learns_it_ends_with_the_same(run, monkeypatch, where, after):
    """Stopped among the confident labels, or with the training done and its weights not written yet."""
    words, learnt = ["--method", "psa", *options(*SMALL)], "advcam.stages.refine.learnt"
    straight = shutil.copytree(run, run.parent / "straight")
    assert refine(straight, *words) == 0
    written, write = [], getattr(importlib.import_module(learnt), where)

    def until(*args):
        written.append(1)
        if len(written) == after:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(f"{learnt}.{where}", until)
    assert refine(run, *words) == 130
    monkeypatch.undo()
    assert refine(run, *words) == 0
    assert equal(masks(run), masks(straight))
    weights = [(folder / "3-refine" / "model.safetensors").read_bytes() for folder in (run, straight)]
    assert weights[0] == weights[1]


def test_the_run_s_own_way_is_remembered(run, capsys):
    """What was given with a method holds for the method, until another is typed."""
    words = ["--method", "threshold", "--threshold", "0.5", "--margin", "0.05"]
    assert refine(run, *words) == 0
    first = masks(run)
    assert refine(run, "--redo") == 0
    assert equal(masks(run), first)
    assert refine(run, "--redo", "--method", "crf", *options("iterations=2")) == 0
    settings = json.loads((run / "run.json").read_text())["steps"]["refine"]["config"]
    assert (settings["method"], settings["threshold"], settings["iterations"], settings["margin"]) == ("crf", None, 2, 0.05)


def test_a_network_of_the_user_s_own(climbed, scenes, tmp_path):
    """The networks of IRN and PSA then stand on the backbone, not on the user's classifier."""
    own = tmp_path / "mine.py"
    own.write_text("import timm\ndef build():\n    return timm.create_model('test_resnet', num_classes=5, output_stride=8)\n")
    run = tmp_path / "run"
    assert main(["classify", "--run", str(run), *data(scenes), *NETWORK, "--classifier", f"{own}:build"]) == 0
    assert main(["climb", "--run", str(run), "--steps", "1", "--quiet"]) == 0
    for path in (run / "2-climb" / "maps").iterdir():
        shutil.copy(climbed / "2-climb" / "maps" / path.name, path)
    assert refine(run, "--method", "psa", *options(*SMALL, "foreground=1", "background=40")) == 0
    assert len(masks(run)) == 24


def test_images_of_any_size(scenes, tmp_path):
    """Small, long and large ones, and class ids up to 254: every way, with objects."""
    images = tmp_path / "images"
    images.mkdir()
    sizes = [(16, 16), (96, 24), (17, 50), (700, 60), (64, 64), (65, 63)]
    for at, size in enumerate(sizes):
        Image.open(scenes / "images" / f"scene-{at:05d}.png").resize(size).save(images / f"{at}.png")
    (tmp_path / "labels.csv").write_text("image,labels\n" + "".join(f"{at},{'a;b' if at % 2 else 'b'}\n" for at in range(6)))
    (tmp_path / "classes.csv").write_text("id,name\n200,a\n254,b\n")
    run, files = tmp_path / "run", ("labels", "classes")
    given = [word for name in files for word in (f"--{name}", str(tmp_path / f"{name}.csv"))]
    assert main(["classify", "--run", str(run), "--images", str(images), *given, *NETWORK]) == 0
    assert main(["climb", "--run", str(run), "--steps", "1", "--no-keep-maps", "--quiet"]) == 0
    for words in (["crf"], ["irn", *options(*SMALL, "instances=True", "foreground=0.3", "background=0.29")]):
        assert refine(run, "--redo", "--method", *words) == 0
        for at, (width, height) in enumerate(sizes):
            ids = load_mask(run / "3-refine" / "masks" / f"{at}.png")
            assert ids.shape == (height, width)
            assert set(np.unique(ids)) <= {0, 200, 254, 255}


def test_objects_are_found_listed_and_scored(run, scenes, capsys):
    assert refine(run, "--method", "irn", *options(*SMALL, "instances=True")) == 0
    found = 0
    for path in (run / "3-refine" / "instances").glob("*.png"):
        numbers, listed = load_mask(path), json.loads(path.with_suffix(".json").read_text())
        assert set(np.unique(numbers)) - {0} == {one["id"] for one in listed}
        assert all(0 <= one["score"] <= 1 for one in listed)
        assert {one["class"] for one in listed} <= set(load_maps(run / "2-climb" / "maps" / f"{path.stem}.npz").classes)
        found += len(listed)
    assert found >= 12
    words = ["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--instances", str(scenes / "instances")]
    assert main([*words, "--quiet"]) == 0
    entry = json.loads((run / "metrics.json").read_text())["instances"]
    assert entry["split"] == "eval.txt, 8 images"
    assert 0 <= entry["average_precision"]["0.5"]["mean"] <= entry["average_precision"]["0.25"]["mean"] <= 1
    assert "Objects, average precision" in (run / "report.html").read_text()

    truth = run.parent / "truth"
    shutil.copytree(scenes / "instances", truth)
    for path in (run / "3-refine" / "instances").glob("*.png"):  # what is there, as if it had been found: everything is right
        shutil.copy(scenes / "instances" / path.name, path)
        numbers, ids = load_mask(path), load_mask(scenes / "masks" / path.name)
        listed = [{"id": int(n), "class": int(ids[numbers == n][0]), "score": 0.5} for n in np.unique(numbers) if n]
        path.with_suffix(".json").write_text(json.dumps(listed))
    scored = (scenes / "eval.txt").read_text().split()
    with Image.open(truth / f"{scored[0]}.png") as numbers:
        numbers.point(lambda n: 255 if n else 0).save(truth / f"{scored[0]}.png")  # a region that does not count
    (truth / f"{scored[1]}.png").write_bytes(b"nothing")
    again = [*words[:-1], str(truth), "--quiet"]
    assert main(again) == 1
    metrics = json.loads((run / "metrics.json").read_text())
    assert all(found["mean"] == 1 for found in metrics["instances"]["average_precision"].values())
    assert metrics["instances"]["split"] == "eval.txt, 7 images"
    assert metrics["masks"]["split"] == "eval.txt, 8 images"  # they need no truth of objects
    assert refine(run, "--redo", "--method", "threshold") == 0
    assert main([*words, "--quiet"]) == 2
    assert "has no objects to score" in capsys.readouterr().err


def test_masks_without_keeping_the_maps(scenes, climbed, tmp_path):
    """Streaming: no map is written, and the masks are the same; also where a network learns from the maps."""
    words = ["--method", "irn", *options(*SMALL, "foreground=0.3", "background=0.2")]
    kept = shutil.copytree(climbed, tmp_path / "kept")
    assert refine(kept, *words) == 0
    streamed = shutil.copytree(climbed, tmp_path / "streamed")
    assert main(["climb", "--run", str(streamed), "--redo", "--no-keep-maps", "--steps", "3", "--quiet"]) == 0
    assert not list(streamed.rglob("*.npz"))
    assert refine(streamed, *words) == 0
    assert not list(streamed.rglob("*.npz"))
    assert equal(masks(streamed), masks(kept))
    assert main(["evaluate", "--run", str(streamed), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    metrics = json.loads((streamed / "metrics.json").read_text())
    assert metrics.keys() == {"masks", "confidence", "average_precision", "ground_truth"}
    assert "Best by mIoU of the mask" in (streamed / "report.html").read_text()


def test_a_class_found_nowhere_is_not_background(run, capsys):
    """A map of zeros would be a mask of zeros: it becomes 255, and the image is listed."""
    path = sorted((run / "2-climb" / "maps").iterdir())[3]
    stored = load_maps(path)
    save_maps(path, StoredMaps(stored.classes, stored.maps * 0, stored.size))
    assert main(["refine", "--run", str(run), "--method", "threshold"]) == 0
    assert set(np.unique(masks(run)[path.stem])) == {255}
    with (run / "3-refine" / "empty.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [path.stem]
    with (run / "3-refine" / "lacking.csv").open() as file:
        why = {row["image"]: row["reason"] for row in csv.DictReader(file)}[path.stem]
    assert why.count("its map is empty, so the classifier sees nothing of it in this image") == len(stored.classes)
    assert "masks lack a class of their labels, listed with the reason" in capsys.readouterr().err


def test_why_a_class_has_no_pixel():
    cat = torch.tensor([[0.9, 0.8], [0.2, 0.0]])
    names = {1: "cat", 2: "dog"}

    def of(dog: torch.Tensor, threshold: float = 0.3) -> str:
        found = Found(torch.stack([cat, dog]), (1, 2), threshold)
        return lacking(argmax_mask(found.maps, found.ids, threshold).numpy(), found, names)

    assert of(1 - cat) == ""
    assert of(cat * 0) == "dog: its map is empty, so the classifier sees nothing of it in this image"
    assert of(cat / 4) == "dog: its refined map reaches 0.22, not the background threshold 0.30"
    assert of(cat / 2) == "dog: the refined map of cat is higher where its own is high"
    marginals = torch.stack([torch.full((2, 2), 0.5), cat * 0 + 0.4, cat * 0 + 0.1])
    found = Found(marginals, (0, 1, 2), -1.0)
    why = "the refined map of the background is higher where its own is high"
    assert lacking(np.zeros((2, 2), np.uint8), found, names) == f"cat: {why}; dog: {why}"


def test_with_a_margin_it_is_still_background_where_that_is_sure(run):
    """An image whose class is found by little keeps its background."""
    path = sorted((run / "2-climb" / "maps").iterdir())[3]
    stored = load_maps(path)
    save_maps(path, StoredMaps(stored.classes, stored.maps.clamp(max=0.35), stored.size))
    assert refine(run, "--method", "threshold", "--threshold", "0.3", "--margin", "0.1") == 0
    assert set(np.unique(masks(run)[path.stem])) == {0, 255}
    assert not (run / "3-refine" / "empty.csv").exists()


def test_a_mistake_in_redo_costs_nothing(run, capsys):
    assert refine(run, "--method", "threshold") == 0
    record = json.loads((run / "1-classify" / "model.json").read_text())
    record["backbone"]["name"] = "test_vit"
    (run / "1-classify" / "model.json").write_text(json.dumps(record))
    assert refine(run, "--redo", "--method", "irn") == 2
    assert "choose another --backbone" in capsys.readouterr().err
    assert len(masks(run)) == 24


@pytest.mark.parametrize("words", [("--method", "affinity"), ("--method", "crf")])
def test_a_classifier_that_is_gone_is_missed_before_masks_are_deleted(run, words, capsys):
    assert refine(run, "--method", "threshold", "--threshold", "0.3") == 0
    (run / "1-classify" / "model.safetensors").unlink()
    made = sorted(path.name for path in (run / "3-refine" / "masks").iterdir())
    assert refine(run, "--redo", *words) == 2, "it chooses the threshold by the classifier's features"
    assert "model.safetensors" in capsys.readouterr().err
    assert sorted(path.name for path in (run / "3-refine" / "masks").iterdir()) == made
    assert refine(run, "--redo", "--method", "crf", "--threshold", "0.3") == 0, "a threshold that is given needs none"


def test_another_method_without_redo_is_refused_by_its_name(run, capsys):
    assert refine(run, "--method", "pamr") == 0
    assert refine(run, "--method", "crf") == 2
    assert 'was made with other settings (method: "pamr" -> "crf"; ' in capsys.readouterr().err


def test_other_settings_where_there_was_nothing_to_learn(run, capsys):
    """The remedy that the error names is taken as it stands."""
    assert refine(run, "--method", "irn", *options(*SMALL, "foreground=1.0", "background=0.0")) == 2
    assert "there is nothing to learn; check the maps, or try --refine-option" in capsys.readouterr().err
    assert refine(run, "--method", "irn", *options(*SMALL)) == 0


def test_masks_of_one_value_are_warned_of(run, capsys):
    for path in (run / "2-climb" / "maps").iterdir():
        stored = load_maps(path)
        save_maps(path, StoredMaps(stored.classes, stored.maps * 0, stored.size))
    assert refine(run, "--method", "threshold") == 0
    assert "all masks hold only 255" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "crf", *options("iteration=3")], "there is no setting 'iteration'; did you mean iterations"),
        (["--method", "crf", *options("bilateral=3")], "bilateral is three numbers; got 3"),
        (["--method", "irn", *options("epochs=0")], "epochs must be from 1 to 1000000; got 0"),
        (["--method", "irn", *options("foreground=0.1")], "irn: expected background <= foreground; got 0.15 and 0.1"),
        (["--method", "irn", *options("radius=1")], "radius must be from 2 to 100; got 1"),
        (["--method", "psa", *options("log2_steps=30")], "log2_steps must be from 0 to 20; got 30"),
        (["--method", "irn", *options("epochs=2.0")], "epochs is a whole number; got 2.0"),
        (["--method", "irn", *options("instances=1")], "instances is True or False; got 1"),
        (["--method", "crf", *options("certainty=0.4")], "certainty must be from 0.501 to 0.999; got 0.4"),
        (["--method", "crf", *options("gaussian=0,3")], "crf: the kernels' standard deviations are above 0"),
        (
            ["--method", "irn", *options("crop=64")],
            "a crop of 64 pixels holds no pair of cells in every direction; it must be at",
        ),
        (["--method", "irn", *options("beta")], "--refine-option takes KEY=VALUE, got 'beta'"),
        (["--method", "pamr", "--threshold", "3"], "threshold must be at least 0 and below 1; got 3"),
        (["--margin", "-1"], "margin must be at least 0 and below 1; got -1"),
    ],
)
def test_one_clear_line_and_status_2(run, words, message, capsys):
    assert refine(run, *words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_maps_of_another_image(run, capsys):
    second = sorted((run / "2-climb" / "maps").iterdir())[1]
    save_maps(second, StoredMaps((1, 2, 3, 4, 5), torch.ones(5, 18, 20), (70, 80)))
    assert refine(run, "--method", "threshold") == 2
    assert "are not the maps of this image: expected classes" in capsys.readouterr().err
