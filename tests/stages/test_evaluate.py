"""`advcam evaluate`: where maps say that objects are."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F

from advcam.cli import main
from advcam.metrics import boundary_counts, boundary_iou, box_overlaps, mask_boxes, min_max
from advcam.stages.scores import intervals
from advcam.store import load_maps, load_mask

SIDES = ("plain", "advcam")


def entry(run):
    return json.loads((run / "metrics.json").read_text())["localisation"]


def rows(path):
    return [line.split(",") for line in path.read_text().split()[1:]]


def test_shares_and_thresholds(finished):
    found = entry(finished)
    assert found.keys() == {*SIDES, "split", "rule"}
    assert found["split"] == "eval.txt, 8 images"
    assert "chosen with the ground truth" in found["rule"]
    for side in SIDES:
        numbers = found[side]
        assert numbers["max_box_acc_v2"]["per_iou"].keys() == {"0.3", "0.5", "0.7"}
        bests = [numbers["max_box_acc"], *numbers["max_box_acc_v2"]["per_iou"].values(), numbers["top1"]]
        assert all(0 <= best["value"] <= 1 and 0 <= best["threshold"] < 1 for best in bests)
        assert numbers["max_box_acc_v2"]["per_iou"]["0.5"]["value"] >= numbers["max_box_acc"]["value"]
        assert numbers["top1"]["value"] <= numbers["top1"]["classification"] <= 1
        assert 0 < numbers["pxap"] < 1
    assert found["plain"]["top1"]["images"] == found["advcam"]["top1"]["images"]


def test_every_class_of_every_image_counts_once(finished, scenes):
    """MaxBoxAcc again, from the files."""
    folders = {"plain": finished / "2-climb" / "cam", "advcam": finished / "2-climb" / "maps"}
    names = (scenes / "eval.txt").read_text().split()
    single = [name for name, labels in rows(scenes / "labels.csv") if name in names and ";" not in labels]
    for side, folder in folders.items():
        hits, maps = torch.zeros(1000), 0
        for name in names:
            truth, stored = torch.tensor(load_mask(scenes / "masks" / f"{name}.png")), load_maps(folder / f"{name}.npz")
            for class_id, one in zip(stored.classes, stored.maps, strict=True):
                score_map = min_max(F.interpolate(one[None, None], size=stored.size, mode="bilinear")[0, 0])
                if (truth == class_id).any():
                    hits += box_overlaps(score_map, mask_boxes(truth == class_id))[0] >= 0.5
                    maps += 1
        found = entry(finished)[side]
        assert found["maps"] == maps
        assert found["max_box_acc"]["value"] == pytest.approx(float(hits.max()) / maps)
        assert found["top1"]["images"] == len(single)


def test_one_line_says_it(finished, scenes, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("localisation: ")]
    assert line.count("MaxBoxAcc") == line.count("PxAP") == line.count("top-1") == 2
    assert "chosen with the ground truth" in line


def test_without_the_images_there_is_no_top_1(finished, scenes, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    about = json.loads((run / "data.json").read_text())
    for item in about["eval"]:
        item["path"] = str(tmp_path / "gone.jpg")
    (run / "data.json").write_text(json.dumps(about))
    main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks")])
    assert "top-1 localisation is left out" in capsys.readouterr().err
    found, before = entry(run), entry(finished)
    for side in SIDES:
        assert found[side]["top1"] is None
        assert {**found[side], "top1": 0} == {**before[side], "top1": 0}


def test_the_interval_of_few_images():
    """Bootstrap over images: equal images leave nothing to chance, a good and a bad one everything; one image says nothing."""
    good, bad = torch.tensor([[10, 0], [0, 10]]), torch.tensor([[10, 0], [10, 0]])
    assert intervals([good] * 8) == ((1.0, 1.0), [(1.0, 1.0), (1.0, 1.0)])
    assert intervals([good, bad]) == ((0.25, 1.0), [(0.5, 1.0), (0.0, 1.0)])
    assert intervals([good]) == (None, [None, None])


def test_a_class_of_a_single_image_has_no_interval():
    """Without the image there is no IoU, and with it always the same: an interval would be of no width, and say nothing."""
    with_it, without = torch.tensor([[8, 0, 2], [0, 5, 5], [0, 0, 0]]), torch.tensor([[10, 0, 0], [0, 0, 0], [0, 0, 0]])
    mean, (background, single, found_once) = intervals([with_it, without, without])
    assert mean is not None
    assert background == pytest.approx((0.8, 1.0))
    assert (single, found_once) == (None, None)


def test_the_interval_of_a_class_that_nobody_has():
    counts = torch.tensor([[10, 0], [0, 0]])
    assert intervals([counts, counts]) == ((1.0, 1.0), [(1.0, 1.0), None])


def test_each_class_has_an_interval_around_its_iou_and_both_are_said(finished, scenes, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks")]) == 0
    said = capsys.readouterr().err
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("masks", "predictions"):
        for found in (metrics[name], metrics[name]["boundary"]):
            assert list(found["per_class_intervals"]) == list(found["per_class"])
            for label, ends in found["per_class_intervals"].items():
                assert ends is None or ends[0] <= found["per_class"][label] <= ends[1]
        value, (low, high) = (metrics[name][of]["background"] for of in ("per_class", "per_class_intervals"))
        line = next(
            line for line in said.splitlines() if line.startswith(f"{name}, IoU in % of each class, the lowest first: ")
        )
        assert f"background {100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in line


def test_contours_of_masks_and_predictions(finished, scenes):
    """The boundary IoU again, from the files; mean, interval and rule beside it."""
    metrics = json.loads((finished / "metrics.json").read_text())
    names = (scenes / "eval.txt").read_text().split()
    for entry_name, folder in (("masks", "3-refine/masks"), ("predictions", "4-segment/predictions")):
        found, counts = metrics[entry_name]["boundary"], 0
        for name in names:
            ours, truth = (torch.tensor(load_mask(at / f"{name}.png")) for at in (finished / folder, scenes / "masks"))
            counts = counts + boundary_counts(torch.where(ours == 255, 0, ours), truth, 6)
        expected = boundary_iou(counts)
        assert list(found["per_class"].values()) == [None if value != value else value for value in expected.tolist()]
        assert found["mean_iou"] == pytest.approx(float(expected.nanmean()))
        low, high = found["interval"]
        assert low <= found["mean_iou"] <= high
        assert "2 % of the image's diagonal" in found["rule"]
    assert "boundary" not in metrics["seed_advcam"]


def test_the_line_of_masks_says_the_boundary_iou(finished, scenes, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if ", boundary IoU " in line]
    assert [line.split(":")[0] for line in said] == ["masks", "predictions"]
