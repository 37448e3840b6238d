"""``advcam.Run``: masks of every step, images that were moved, and the classifier's curves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from notebook_helpers import HOSTILE, Read
from PIL import Image

import advcam
from advcam.cli import main
from advcam.errors import DataError, ImageError, InputError, RunError, StoreError
from advcam.store import save_mask

SCORED = "scene-00016"


def test_masks_of_each_step(run):
    view, mine = advcam.Run(run), np.full((64, 64), 3, np.uint8)
    save_mask(run / "corrected" / "masks" / f"{SCORED}.png", mine)
    save_mask(run / "5-semi" / "predictions" / f"{SCORED}.png", mine + 1)
    np.testing.assert_array_equal(view.mask(SCORED, "corrected"), mine)
    np.testing.assert_array_equal(view.mask(SCORED, step="semi"), mine + 1)
    np.testing.assert_array_equal(view.mask(SCORED, "segment"), view.prediction(SCORED))
    with Image.open(run / "3-refine" / "masks" / f"{SCORED}.png") as image:
        np.testing.assert_array_equal(view.mask(SCORED), np.asarray(image))
    assert "corrected" in Read(view.plot(SCORED)._repr_html_()).words


def test_a_mask_that_there_is_not(run):
    view = advcam.Run(run)
    for step in ("climb", "", None, 3):
        with pytest.raises(InputError, match="expected one of refine, segment, semi, corrected"):
            view.mask(SCORED, step)
    with pytest.raises(RunError, match="nobody has looked at this mask; `advcam explore --run"):
        view.mask(SCORED, "corrected")
    with pytest.raises(InputError, match="has no image '../a'"):
        view.mask("../a", "corrected")
    with pytest.raises(RunError, match="segment predicts the 8 images to score on"):
        view.mask("scene-00000", "segment")
    save_mask(run / "corrected" / "masks" / f"{SCORED}.png", np.zeros((9, 64), np.uint8))
    with pytest.raises(StoreError, match=rf"{SCORED}.png"):
        view.mask(SCORED, "corrected")


@pytest.fixture
def elsewhere(run, scenes, tmp_path):
    """A run whose images were moved; the folder where they are, and a copy of what the run knew."""
    here = shutil.copytree(scenes / "images", tmp_path / "here")
    data = json.loads((run / "data.json").read_text())
    for item in data["train"] + data["eval"]:
        item["path"] = str(tmp_path / "gone" / Path(item["path"]).name)
    (run / "data.json").write_text(json.dumps(data))
    return run, here, (run / "data.json").read_bytes()


def test_images_that_were_moved(elsewhere):
    run, here, before = elsewhere
    with pytest.raises(ImageError, match="gone"):
        advcam.Run(run).image(SCORED)
    for images in (here, str(here)):
        view = advcam.Run(run, images=images)
        with Image.open(here / f"{SCORED}.png") as image:
            np.testing.assert_array_equal(view.image(SCORED), np.asarray(image.convert("RGB")))
    assert view.plot().rows
    assert (run / "data.json").read_bytes() == before  # which a command would have changed


def test_images_that_are_not_the_run_s(elsewhere, tmp_path):
    run, here, _ = elsewhere
    with pytest.raises(DataError, match="nowhere"):
        advcam.Run(run, images=tmp_path / "nowhere")
    for wrong in (3, "", ["a"]):
        with pytest.raises(InputError, match="expected the folder where the run's images are"):
            advcam.Run(run, images=wrong)
    Image.new("RGB", (64, 64)).save(here / f"{SCORED}.png")
    with pytest.raises(ImageError, match="has changed"):
        advcam.Run(run, images=here).image(SCORED)
    (here / f"{SCORED}.png").unlink()
    with pytest.raises(RunError, match="lacks 1 of the run's 24 images, the first scene-00016.png"):
        advcam.Run(run, images=here)


def test_it_draws_precision_against_recall(finished, tmp_path):
    view = advcam.Run(finished)
    drawn = view.precision_recall()
    kept = json.loads((finished / "1-classify" / "metrics.json").read_text())["precision_recall"]
    words = [word.strip() for word in Read(drawn._repr_html_()).words]
    assert {*kept["per_class"]} <= {*words}
    assert "recall in %" in words
    drawn.save(tmp_path / "curves.svg")
    svg = (tmp_path / "curves.svg").read_text()
    assert svg.count('class="line s') == 2 * len(kept["per_class"])  # its curve, and its line in the legend
    assert f'viewBox="0 -{16 * -(-len(kept["per_class"]) // 4)} 480 ' in svg  # room for the names, four in a line


def test_without_curves_it_says_how_to_have_them(run, capsys):
    path = run / "1-classify" / "metrics.json"
    kept = json.loads(path.read_text())
    old = {name: value for name, value in kept.items() if name != "precision_recall"}
    path.write_text(json.dumps(old))
    with pytest.raises(RunError, match=r"holds no curve .*; delete it, and `advcam classify --run .*` measures again"):
        advcam.Run(run).precision_recall()
    path.unlink()
    assert main(["classify", "--run", str(run), "--quiet"]) == 0
    assert json.loads(path.read_text())["precision_recall"] == kept["precision_recall"]
    assert advcam.Run(run).steps["segment"] == "done"
    path.write_text("{")
    with pytest.raises(StoreError, match=r"1-classify/metrics.json"):
        advcam.Run(run).precision_recall()


def test_hostile_names_of_curves_are_text(run, tmp_path):
    name = next(iter(json.loads((run / "1-classify" / "metrics.json").read_text())["precision_recall"]["per_class"]))
    for file in ("1-classify/metrics.json", "data.json"):
        text = (run / file).read_text()
        (run / file).write_text(text.replace(f'"{name}"', json.dumps(HOSTILE)))
    drawn = advcam.Run(run).precision_recall()
    assert "script" not in Read(drawn._repr_html_()).tags
    drawn.save(tmp_path / "curves.svg")
    assert "<script" not in (tmp_path / "curves.svg").read_text()
