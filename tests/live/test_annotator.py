"""Masks of images that another program shows: what makes them, and which classes they may have."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from advcam.errors import ImageError, RunError, SettingsError
from advcam.live import Annotator
from advcam.live.cvat import create
from advcam.segmenter import Segmenter
from advcam.store import load_mask, load_scores


@pytest.fixture(scope="module")
def by_network(finished):
    return Annotator(finished)


@pytest.fixture(scope="module")
def by_maps(finished):
    return Annotator(finished, of="masks")


def test_the_network_comes_first_and_its_version_names_it(finished, by_network, by_maps):
    key = by_network.context.run.state()["steps"]["segment"]["key"][:8]
    assert (by_network.of, by_network.version) == ("predictions", f"advcam predictions {key}")
    assert by_maps.version.startswith("advcam masks ")
    assert by_network.classes == {1: "cross", 2: "dots", 3: "quarters", 4: "ring", 5: "triangle"}


def test_an_image_of_the_run_gets_its_labels_and_any_other_any_class(finished, by_network):
    segmenter = Segmenter.load(finished / "4-segment", torch.device("cpu"))
    item = next(item for item in by_network.context.data.items if len(item.labels) == 1)
    image = by_network.read(item.path)
    labelled = by_network(image, f"somewhere/{item.path.name}")
    assert np.array_equal(labelled.ids, segmenter(image, item.labels))
    changed = Image.fromarray(255 - np.asarray(image))  # of the same name and size
    assert np.array_equal(by_network(changed, item.path.name).ids, segmenter(changed))
    assert np.array_equal(by_network(image, "no image of the run.png").ids, segmenter(image))


def test_maps_and_refinement_make_the_masks_that_the_run_has(finished, by_maps):
    run = by_maps.context.run
    for item in by_maps.context.data.eval[:3]:
        found, mask = by_maps(by_maps.read(item.path), item.path.name), load_mask(run.mask(item.id))
        assert (found.ids == mask).mean() > 0.995
        there = {number: score for number, score in load_scores(run.confidence(item.id)).items() if (mask == number).any()}
        assert found.scores == pytest.approx(there, abs=0.01)


def test_the_classifier_says_what_an_image_that_nobody_labelled_shows(by_maps):
    image = by_maps.read(by_maps.context.data.items[0].path)
    found = by_maps(image, "new.png")
    assert found.ids.shape == (image.height, image.width)
    assert set(np.unique(found.ids).tolist()) <= {0, 255, *by_maps.classes}
    assert all(0 < score <= 1 for score in found.scores.values())
    assert set(found.scores) == set(np.unique(found.ids).tolist()) - {0, 255}


@pytest.mark.parametrize("size", [(40, 64), (70, 90)])
@pytest.mark.parametrize("of", ["predictions", "masks"])
def test_an_image_of_any_size(finished, of, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert Annotator(finished, of)(Image.fromarray(pixels), "noise.png").ids.shape == size


def test_an_image_of_another_program_is_what_the_run_reads_from_a_file(by_network, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    shown = Image.fromarray(pixels)
    for mode in ("RGB", "L", "RGBA", "LA", "P", "1"):
        image = shown.convert(mode)
        image.save(tmp_path / "image.png")
        assert np.array_equal(np.asarray(by_network.given(image)), np.asarray(by_network.read(tmp_path / "image.png"))), mode
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    assert np.abs(np.asarray(by_network.given(deep)).astype(int)[..., 0] - pixels[..., 0]).max() <= 1
    assert by_network.given(shown.convert("CMYK")).mode == "RGB"
    for mode in ("I", "F", "I;16B"):
        with pytest.raises(ImageError, match=f"mode {mode}: expected 8 or 16 bits"):
            by_network.given(Image.new(mode, (20, 30)))


def read_as(run, **reading):
    data = json.loads((run / "data.json").read_text())
    data["reading"] = {"window": "dtype", "bands": None, "page": 1, "deep_only": False} | reading
    (run / "data.json").write_text(json.dumps(data))
    return run


@pytest.mark.parametrize(
    "reading",
    [{"window": [0, 4095]}, {"window": [-1000, 100]}, {"window": [0, 1]}, {"page": 2}, {"window": [0, 4095], "page": 2}],
)
def test_a_frame_of_8_bits_is_what_it_shows_whatever_the_runs_files_are(run, reading):
    annotator = Annotator(read_as(run, **reading))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(annotator.given(Image.fromarray(pixels))), pixels)


def test_a_range_of_8_bit_files_is_that_of_their_frames(run):
    annotator = Annotator(read_as(run, window=[0, 100]))
    assert np.asarray(annotator.given(Image.new("L", (20, 30), 50))).tolist() == [[[127] * 3] * 20] * 30


def test_a_frame_that_cannot_be_read_is_not_named_by_a_path_that_is_gone(by_network):
    with pytest.raises(ImageError, match=r"^an image of another program: "):
        by_network.given(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize("bands", [[1, 2, 3, 4], [4, 3, 2], [1, 2]])
def test_a_run_of_bands_that_no_frame_has_is_refused_at_once(run, bands):
    named = ",".join(map(str, bands))
    with pytest.raises(SettingsError, match=rf"{run}: its network is given the bands {named} of a file"):
        create(str(read_as(run, bands=bands)))


def test_what_a_run_has_not_done(run):
    with pytest.raises(RunError, match=r"semi is not done, which annotates; `advcam semi --run"):
        Annotator(run, "semi")
    with pytest.raises(SettingsError, match="known: semi, predictions, masks"):
        Annotator(run, "seeds")
    with pytest.raises(RunError, match="not a run folder"):
        Annotator(run / "1-classify")


def test_a_run_without_a_network_uses_its_maps(run):
    from advcam.cli import main

    assert main(["refine", "--run", str(run), "--redo", "--quiet"]) == 0  # drops the network
    assert Annotator(run).of == "masks"
    shutil.rmtree(run / "3-refine")
