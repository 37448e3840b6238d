"""What was corrected is used: ``advcam semi``, ``refine --corrected`` and ``evaluate --corrected``."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from advcam.cli import main
from advcam.metrics import confusion, mean_iou
from advcam.refinement import argmax_mask
from advcam.store import StoredMaps, load_maps, load_mask, save_maps, save_mask, write_csv

SEMI = ["--epochs", "1", "--crop", "64", "--batch", "4", "--workers", "0", "--lr", "3e-3"]
COLUMNS = ("time", "who", "image", "action", "order", "seconds", "pixels", "labels")


@pytest.fixture(scope="module")
def mapped(finished, scenes, tmp_path_factory):
    """A finished run whose maps are the truth, blurred, so that there is something to threshold."""
    run = shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "mapped")
    for path in (run / "2-climb" / "maps").iterdir():
        truth, stored = torch.from_numpy(load_mask(scenes / "masks" / f"{path.stem}.png").copy()), load_maps(path)
        exact = torch.stack([truth == c for c in stored.classes]).float()
        blurred = F.avg_pool2d(exact[:, None], 25, 1, 12, count_include_pad=False)
        maps = F.interpolate(blurred, size=stored.maps.shape[1:], mode="bilinear")[:, 0]
        save_maps(path, StoredMaps(stored.classes, maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-6), stored.size))
    return run


@pytest.fixture
def run(mapped, tmp_path):
    return shutil.copytree(mapped, tmp_path / "run")


def names(run, part="train"):
    return [item["id"] for item in json.loads((run / "data.json").read_text())[part]]


def look_at(run, scenes, images, order="random", action="fix"):
    """As the explorer leaves it: the truth as corrected mask, or 255 throughout, and a line in the log for each."""
    log, rows = run / "corrected" / "log.csv", []
    if log.is_file():
        rows = [line.split(",") for line in log.read_text().splitlines()[1:]]
    for name in images:
        truth = load_mask(scenes / "masks" / f"{name}.png")
        save_mask(run / "corrected" / "masks" / f"{name}.png", np.full_like(truth, 255) if action == "reject" else truth)
        rows.append(("2026-01-01T00:00:00Z", "ann", name, action, order, "5.0", "9", ""))
    write_csv(log, COLUMNS, rows)


def semi(run, *words):
    return main(["semi", "--run", str(run), *SEMI, *words])


def metrics(run, step="5-semi"):
    return json.loads((run / step / "metrics.json").read_text())


# semi


def test_semi_learns_from_them_as_from_a_list(run, scenes, tmp_path, capsys):
    listed = shutil.copytree(run, tmp_path / "listed")
    few, scored = names(run)[:5], names(run, "eval")[0]
    look_at(run, scenes, [*few, scored])
    assert semi(run) == 0
    assert "semi: learns from 5 corrected masks" in capsys.readouterr().err
    assert (metrics(run)["labelled"], metrics(run)["others"]) == (5, 11)
    (tmp_path / "few.txt").write_text("\n".join(few) + "\n")
    assert semi(listed, "--pixel-labels", str(tmp_path / "few.txt"), "--masks", str(scenes / "masks")) == 0
    made, wanted = ((one / "5-semi" / "model.safetensors").read_bytes() for one in (run, listed))
    assert made == wanted


def test_semi_says_that_they_have_changed(run, scenes, capsys):
    look_at(run, scenes, names(run)[:4])
    assert semi(run, "--quiet") == 0
    assert semi(run, "--quiet") == 0, "it is done"
    look_at(run, scenes, names(run)[4:5])
    assert semi(run, "--quiet") == 2
    assert "--redo" in capsys.readouterr().err
    assert semi(run, "--quiet", "--redo") == 0
    assert metrics(run)["labelled"] == 5


def test_nothing_is_learnt_of_rejected_masks(run, scenes, capsys):
    few = [name for name in names(run) if (load_mask(run / "3-refine" / "masks" / f"{name}.png") != 255).any()][:6]
    at_once = ["--semi-option", "ramp=0", "--semi-option", "weak=5"]  # the run's masks count from the first step
    look_at(run, scenes, few[:4])
    look_at(run, scenes, few[4:], action="reject")
    assert semi(run, *at_once) == 0
    assert "learns from 4 corrected masks, nothing of the masks of 2 rejected" in capsys.readouterr().err
    assert (metrics(run)["labelled"], metrics(run)["others"]) == (4, 12)
    with_them = (run / "5-semi" / "model.safetensors").read_bytes()
    for name in few[4:]:
        (run / "corrected" / "masks" / f"{name}.png").unlink()
    assert semi(run, *at_once, "--redo", "--quiet") == 0
    assert (run / "5-semi" / "model.safetensors").read_bytes() != with_them


def test_semi_without_any_says_how_to_make_them(run, scenes, capsys):
    assert semi(run, "--quiet") == 2
    said = capsys.readouterr().err
    assert "--pixel-labels LIST" in said
    assert f"advcam explore --run {run}" in said
    look_at(run, scenes, names(run, "eval")[:2])
    assert semi(run, "--quiet") == 2
    assert "no mask of an image to train on" in capsys.readouterr().err


def test_a_corrected_mask_that_does_not_fit_is_said(run, scenes, capsys):
    look_at(run, scenes, names(run)[:3])
    save_mask(run / "corrected" / "masks" / f"{names(run)[1]}.png", np.zeros((9, 9), np.uint8))
    assert semi(run, "--quiet") == 2
    said = capsys.readouterr().err
    assert "is 9x9, its image 64x64" in said
    assert "advcam explore" in said


# refine


def test_the_threshold_is_the_best_on_them(run, scenes, capsys):
    images = names(run)[:6]
    look_at(run, scenes, images)
    capsys.readouterr()
    assert main(["refine", "--run", str(run), "--redo", "--method", "threshold", "--corrected"]) == 0
    said = capsys.readouterr().err
    assert "chosen on 6 masks that a person corrected or accepted, drawn at random" in said
    chosen = json.loads((run / "3-refine" / "threshold.json").read_text())["threshold"]
    positions = np.zeros(256, np.int64)
    positions[[1, 2, 3, 4, 5]], positions[255] = [1, 2, 3, 4, 5], 255

    def score(threshold):
        total = torch.zeros(6, 6, dtype=torch.long)
        for name in images:
            stored = load_maps(run / "2-climb" / "maps" / f"{name}.npz")
            ids = argmax_mask(stored.maps, stored.classes, threshold, (64, 64)).long()
            total += confusion(ids, torch.from_numpy(positions[load_mask(scenes / "masks" / f"{name}.png")]), 6)
        return float(mean_iou(total))

    assert score(chosen) == pytest.approx(max(score(at / 100) for at in range(100)), abs=1e-3)
    settings = json.loads((run / "run.json").read_text())["steps"]["refine"]["config"]
    assert settings["corrected"] is True
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    assert "that a person corrected" in json.loads((run / "metrics.json").read_text())["masks"]["rule"]


@pytest.mark.parametrize("method", ["affinity", "pamr", "crf"])
def test_every_method_with_a_threshold_takes_it(run, scenes, method):
    look_at(run, scenes, names(run)[:4], order="need")
    assert main(["refine", "--run", str(run), "--redo", "--method", method, "--corrected", "--quiet"]) == 0
    found = json.loads((run / "3-refine" / "threshold.json").read_text())
    assert ("walked" in found) == (method == "affinity")
    assert "not drawn at random" in found["rule"]
    assert ("before the CRF" in found["rule"]) == (method == "crf")
    assert len(list((run / "3-refine" / "masks").iterdir())) == 24


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "psa", "--corrected"], "psa has none"),
        (["--method", "threshold", "--corrected", "--threshold", "0.2"], "exclude each other"),
        (["--method", "threshold", "--corrected"], "holds no corrected mask"),
    ],
)
def test_what_cannot_be_chosen_is_said_before_anything_is_deleted(run, words, said, capsys):
    assert main(["refine", "--run", str(run), "--redo", "--quiet", *words]) == 2
    assert said in capsys.readouterr().err
    assert len(list((run / "3-refine" / "masks").iterdir())) == 24


def test_the_threshold_is_not_chosen_on_images_for_scoring(run, scenes, capsys):
    command = ["refine", "--run", str(run), "--redo", "--method", "threshold", "--corrected"]
    look_at(run, scenes, names(run, "eval"))
    assert main([*command, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "corrected masks of images for scoring, on which no threshold may be chosen" in said
    assert f"`advcam explore --run {run}` makes them" in said
    assert len(list((run / "3-refine" / "masks").iterdir())) == 24, "nothing was deleted"
    look_at(run, scenes, names(run)[:3])
    assert main(command) == 0
    assert "chosen on 3 masks that a person corrected" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["another image", "another mask"])
def test_refine_says_that_they_have_changed(run, scenes, change, capsys):
    command = ["refine", "--run", str(run), "--quiet"]
    look_at(run, scenes, names(run)[:3])
    assert main([*command, "--redo", "--method", "threshold", "--corrected"]) == 0
    look_at(run, scenes, names(run, "eval")[:1])
    assert main(command) == 0, "it is done, and masks of images for scoring do not count"
    if change == "another image":
        look_at(run, scenes, names(run)[3:4])
    else:
        look_at(run, scenes, names(run)[:1])
        save_mask(run / "corrected" / "masks" / f"{names(run)[0]}.png", np.ones((64, 64), np.uint8))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "a file that they name has changed" in said
    assert f"`advcam refine --run {run} --redo`" in said
    assert main([*command, "--redo"]) == 0
    assert json.loads((run / "run.json").read_text())["steps"]["refine"]["config"]["corrected"] is True


def test_the_page_says_what_the_threshold_was_chosen_on(run, scenes):
    rows = ("the same, threshold without ground truth", "the same, threshold chosen on corrected masks")
    look_at(run, scenes, names(run)[:3])
    for words, there in (([], 0), (["--corrected"], 1)):
        refine = ["refine", "--run", str(run), "--redo", "--method", "threshold", "--refine-option", "threshold=None"]
        assert main([*refine, *words, "--quiet"]) == 0
        assert evaluate(run, "--masks", str(scenes / "masks"), "--quiet") == 0
        page = (run / "report.html").read_text()
        assert [row in page for row in rows] == [at == there for at in (0, 1)]


def test_a_run_without_it_is_as_before(finished, run):
    """The key of a finished step does not change with the new option."""
    assert main(["refine", "--run", str(run), "--quiet"]) == 0
    before, after = (json.loads((one / "run.json").read_text())["steps"]["refine"]["key"] for one in (finished, run))
    assert before == after


# evaluate


def evaluate(run, *words):
    return main(["evaluate", "--run", str(run), *words])


def scores(run):
    return json.loads((run / "metrics.json").read_text())


def test_an_estimate_on_them_with_its_interval(run, scenes, tmp_path, capsys):
    images = names(run, "eval")[:6]
    look_at(run, scenes, images)
    assert evaluate(run, "--corrected") == 0
    said = capsys.readouterr().err
    assert "6 images looked at, drawn at random: mIoU of masks " in said
    assert " ± " in said
    found = scores(run)
    assert found["masks"]["split"] == "corrected masks, 6 images"
    assert "masks that a person accepted or mended" in found["ground_truth"]["rule"]
    (tmp_path / "some.txt").write_text("\n".join(images) + "\n")
    assert evaluate(run, "--masks", str(scenes / "masks"), "--list", str(tmp_path / "some.txt"), "--quiet") == 0
    for kind in ("masks", "predictions", "seed_advcam"):
        assert found[kind]["mean_iou"] == scores(run)[kind]["mean_iou"]
        assert found[kind].get("interval") == scores(run)[kind].get("interval")
    low, high = found["masks"]["interval"]
    assert f"masks {100 * found['masks']['mean_iou']:.0f} ± {50 * (high - low):.0f}" in said


def test_an_estimate_on_what_was_learnt_from_says_so(run, scenes, capsys):
    look_at(run, scenes, names(run)[:4])
    assert main(["refine", "--run", str(run), "--redo", "--method", "threshold", "--corrected", "--quiet"]) == 0
    assert evaluate(run, "--corrected") == 0
    assert "(its threshold was chosen on them)" in capsys.readouterr().err


def test_images_looked_at_worst_first_are_no_sample(run, scenes, capsys):
    every = names(run)
    look_at(run, scenes, every[:4], order="need")
    assert evaluate(run, "--corrected") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "were not drawn at random, so the numbers are of these images only; look at some in the explorer's order" in said
    assert said.count("of these images only") == 2  # in the warning, and with the numbers
    assert "not drawn at random" in scores(run)["ground_truth"]["rule"]
    look_at(run, scenes, every[4:7], order="random")
    assert evaluate(run, "--corrected") == 0
    said = capsys.readouterr().err
    assert "3 of 7 corrected images were drawn at random: scored on these" in said
    assert scores(run)["masks"]["split"] == "corrected masks, 3 images"


def test_rejected_masks_are_counted_aloud(run, scenes, capsys):
    look_at(run, scenes, names(run)[:3])
    look_at(run, scenes, names(run)[3:5], action="reject")
    assert evaluate(run, "--corrected", "--quiet") == 0
    assert "2 rejected masks are not scored" in capsys.readouterr().err
    assert scores(run)["masks"]["split"] == "corrected masks, 3 images"


def test_255_is_what_a_person_does_not_know(scenes, tmp_path, capsys):
    """Also where masks hold 0 and 255 alone and the run has one class, where 255 of other masks is that class."""
    from conftest import CLIMB, NETWORK

    labels = [line.split(",") for line in (scenes / "labels.csv").read_text().splitlines()[1:]]
    one = "".join(f"{name},{'thing' if 'ring' in found else ''}\n" for name, found in labels)
    (tmp_path / "labels.csv").write_text("image,labels\n" + one)
    run, data = tmp_path / "run", ["--images", str(scenes / "images"), "--labels", str(tmp_path / "labels.csv")]
    assert main(["classify", "--run", str(run), *data, *NETWORK]) == 0
    assert main(["climb", "--run", str(run), *CLIMB, "--quiet"]) == 0
    assert main(["refine", "--run", str(run), "--method", "threshold", "--threshold", "0.3", "--quiet"]) == 0
    mask = np.zeros((64, 64), np.uint8)
    mask[:10] = 255
    empty = [name for name, found in labels if "ring" not in found][:3]
    for name in empty:
        save_mask(run / "corrected" / "masks" / f"{name}.png", mask)
    capsys.readouterr()
    assert evaluate(run, "--corrected", "--quiet") == 0
    assert "255 is read as" not in capsys.readouterr().err
    assert scores(run)["masks"]["per_class"]["background"] == 1
    assert main(["semi", "--run", str(run), *SEMI, "--quiet"]) == 2
    assert "all 3 masks hold only background" in capsys.readouterr().err


def test_the_page_shows_the_masks_that_are_scored_on(run, scenes):
    folder, images = run / "corrected" / "masks", names(run, "eval")[:3]
    assert evaluate(run, "--masks", str(scenes / "masks"), "--quiet") == 0
    assert f"ground truth of 8 images ({scenes / 'masks'})" in (run / "report.html").read_text()
    look_at(run, scenes, images)
    assert evaluate(run, "--corrected", "--quiet") == 0
    page = (run / "report.html").read_text()
    assert f"ground truth of 3 images ({folder})" in page
    assert f"One point for each class of an image in the ground truth ({folder})" in page
    assert str(scenes / "masks") not in page
    assert json.loads((run / "report" / "truth.json").read_text()) == {"masks": "corrected/masks", "mask_colours": None}


def test_the_page_too_ignores_255_of_corrected_masks(run):
    """Also of a run of one class, where 255 of other masks of 0 and 255 alone is that class."""
    from advcam.data import ClassTable, Dataset
    from advcam.pipeline import reopen
    from advcam.progress import Reporter
    from advcam.report import ReportConfig
    from advcam.report.truth import truth_shown
    from advcam.runtime import Runtime

    context = reopen(run, None, Runtime(), Reporter(quiet=True))
    item = context.data.items[0]
    data, mask = Dataset(ClassTable((1,), ("thing",)), (item,), (), ()), np.zeros((64, 64), np.uint8)
    mask[:10] = 255
    for folder, number in ((run / "corrected" / "masks", 255), (run.parent / "truth", 1)):
        save_mask(folder / f"{item.id}.png", mask)
        for config in (ReportConfig(masks=folder), ReportConfig()):  # given, and remembered
            assert truth_shown(context.run, data, config, [])(item)[0, 0] == number


@pytest.mark.parametrize("words", [[], ["--corrected", "--masks", "truth"]])
def test_one_of_the_two_must_be_given(run, words, capsys):
    assert evaluate(run, *words) == 2
    assert "give --masks DIR with ground truth, or --corrected" in capsys.readouterr().err


def test_none_or_a_damaged_log_are_said(run, scenes, capsys):
    assert evaluate(run, "--corrected") == 2
    assert "holds no corrected mask; `advcam explore --run" in capsys.readouterr().err
    look_at(run, scenes, names(run)[:3])
    (run / "corrected" / "log.csv").write_bytes(b"time,who,image,action\n\xff\xfe\n")
    assert evaluate(run, "--corrected") == 2
    assert "log.csv: cannot be read" in capsys.readouterr().err
