"""``advcam.Run``: a run folder as Python sees it."""

import json
import shutil

import numpy as np
import pytest
from notebook_helpers import HOSTILE, Read
from PIL import Image

import advcam
from advcam.cli import main
from advcam.errors import AdvcamError, ImageError, InputError, RunError, StoreError
from advcam.stages.table import ORDER, open_run
from advcam.store import RunFolder

SCORED = "scene-00016"


@pytest.fixture(scope="module")
def view(finished):
    return advcam.Run(finished)


def changed(path, change):
    made = json.loads(path.read_text())
    change(made)
    path.write_text(json.dumps(made))


def files(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_its_arrays_are_those_of_its_files(view, finished, scenes):
    with np.load(finished / "2-climb" / "maps" / f"{SCORED}.npz") as held:
        maps = view.maps(SCORED)
        assert list(maps) == held["classes"].tolist()
        for values, own in zip(maps.values(), held["maps"], strict=True):
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, own.astype(np.float32))
    with np.load(finished / "2-climb" / "cam" / f"{SCORED}.npz") as held:
        np.testing.assert_array_equal(np.stack([*view.maps(SCORED, plain=True).values()]), held["maps"].astype(np.float32))
    for array, path in (
        (view.image(SCORED), scenes / "images" / f"{SCORED}.png"),
        (view.mask(SCORED), finished / "3-refine" / "masks" / f"{SCORED}.png"),
        (view.prediction(SCORED), finished / "4-segment" / "predictions" / f"{SCORED}.png"),
    ):
        with Image.open(path) as image:
            np.testing.assert_array_equal(array, np.asarray(image))
        assert array.dtype == np.uint8
        assert array.flags.writeable
    sure = view.confidence(SCORED)
    with Image.open(finished / "3-refine" / "confidence" / f"{SCORED}.png") as image:
        np.testing.assert_array_equal(np.rint(255 * sure), np.asarray(image))
    assert (sure.dtype, sure.shape) == (np.float32, (64, 64))


def test_its_facts(view, finished):
    assert view.root == finished
    assert view.classes == {1: "cross", 2: "dots", 3: "quarters", 4: "ring", 5: "triangle"}
    assert view.images == [f"scene-{at:05}" for at in range(24)]
    assert view.steps == dict.fromkeys(ORDER, "done") | {"semi": "not begun"}
    assert view.metrics == json.loads((finished / "metrics.json").read_text())
    assert view.studies == {}
    assert repr(view) == f"Run({str(finished)!r}, done: classify, climb, refine, segment)"


def test_it_shows_its_state_and_numbers(view, finished):
    words = " ".join(Read(view._repr_html_()).words)
    assert f"Run {finished}" in words
    assert "classify: done, climb: done, refine: done, segment: done, semi: not begun" in words
    assert "24, of which 8 to score on" in words
    found = view.metrics["masks"]
    assert f"masks mIoU {100 * found['mean_iou']:.1f} % [" in words
    assert found["rule"] in words


def test_it_draws_an_image(view, tmp_path):
    read = Read(view.plot(SCORED, side=64)._repr_html_())
    names = [view.classes[number] for number in view.maps(SCORED)]
    rows = [word for name in names for word in (f"plain map, {name}", f"AdvCAM, {name}")]
    captions = [word for word in read.words if word.strip() and word != "■"]
    assert captions == [SCORED, "mask", "prediction", *rows, *captions[3 + len(rows) :]]
    assert {word.strip() for word in captions[3 + len(rows) :]} == set(names)
    assert {picture.size for picture in read.pictures} == {(64, 64)}
    shown = np.asarray(read.pictures[0].convert("RGB"), float)
    assert np.abs(shown - view.image(SCORED)).mean() < 8  # a JPEG of it
    view.plot(SCORED).save(tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as sheet:
        assert sheet.width == 3 * 166 - 6


def test_it_draws_the_worst_where_no_image_is_named(view, finished):
    read = Read(view.plot()._repr_html_())
    assert read.words[-1] == "3 of 24 images, the worst by masks."
    rows = [line.split(",") for line in (finished / "per-image.csv").read_text().splitlines()]
    at = rows[0].index("masks")
    worst = sorted(rows[1:], key=lambda row: (float(row[at]), row[0]))[:3]
    assert [word for word in read.words if word.startswith("scene-")] == [row[0] for row in worst]


def test_looking_changes_nothing(view, finished):
    before = files(finished)
    view.plot()
    view._repr_html_()
    advcam.Run(str(finished)).maps(SCORED)
    assert files(finished) == before


def test_what_is_typed_wrong(view, tmp_path):
    with pytest.raises(InputError, match=r"has no image 'scene-0016'; did you mean scene-00016.*\(24 in all\)"):
        view.mask("scene-0016")
    with pytest.raises(InputError, match="id 16: expected the id of an image as text, such as 'scene-00000'"):
        view.maps(16)
    with pytest.raises(InputError, match="has no image '../first'"):
        view.image("../first")
    with pytest.raises(InputError, match="step 'climb': expected segment or semi"):
        view.prediction(SCORED, "climb")
    with pytest.raises(RunError, match=r"semi is not begun; `advcam semi --run .* makes it"):
        view.prediction(SCORED, "semi")
    with pytest.raises(RunError, match=r"segment predicts the 8 images to score on, and scene-00000 is none of them; `advcam"):
        view.prediction("scene-00000")
    with pytest.raises(RunError, match=r"expected a run folder, and it has no run.json; give the one of `advcam run --out`"):
        advcam.Run(tmp_path)
    with pytest.raises(InputError, match="root 3: expected the path of a run folder"):
        advcam.Run(3)


def test_a_run_that_is_half_done(run):
    open_run(run).drop("climb")
    view = advcam.Run(run)
    assert view.steps == {
        "classify": "done",
        "climb": "planned",
        "refine": "planned",
        "segment": "planned",
        "semi": "not begun",
    }
    for read, words in (
        (view.maps, "climb is planned; `advcam climb --run"),
        (view.mask, "refine is planned; `advcam refine --run"),
        (view.confidence, "refine is planned; `advcam refine --run"),
        (view.prediction, "segment is planned; `advcam segment --run"),
    ):
        with pytest.raises(RunError, match=words):
            read(SCORED)
    with pytest.raises(RunError, match=r"the run has not been scored; `advcam evaluate --run .* --masks DIR` writes it"):
        _ = view.metrics
    assert "climb: planned" in view._repr_html_()
    assert [word for word in Read(view.plot(SCORED)._repr_html_()).words if word.startswith("scene")] == [SCORED]
    assert view.plot().note == "3 of 24 images, the first by name."
    assert main(["climb", "--run", str(run), "--quiet"]) == 0
    assert view.maps(SCORED)  # the same object sees what came
    assert view.steps["climb"] == "done"


def test_a_run_that_has_only_begun(tmp_path):
    about = dict.fromkeys(("labels", "classes", "train_list", "eval_list", "eval_name")) | {"images": "x", "seed": 0}
    RunFolder.create(tmp_path / "run", ORDER, about, {})
    view = advcam.Run(tmp_path / "run")
    assert "classify: not begun" in view._repr_html_()
    assert repr(view).endswith("nothing done yet)")
    with pytest.raises(RunError, match="its images have not been read yet; give `advcam run` with the same"):
        _ = view.images


def test_missing_and_damaged_files(run, scenes, tmp_path):
    view = advcam.Run(run)
    (run / "3-refine" / "masks" / f"{SCORED}.png").unlink()
    with pytest.raises(RunError, match=r"although refine is done: the image was left out .* or the file was deleted; `adv"):
        view.mask(SCORED)
    assert "mask" not in Read(view.plot(SCORED)._repr_html_()).words
    (run / "2-climb" / "maps" / f"{SCORED}.npz").write_bytes(b"no maps")
    with pytest.raises(StoreError, match="not a map file, or damaged"):
        view.maps(SCORED)
    advcam.Run(run).maps(SCORED, plain=True)
    shutil.copytree(scenes / "images", tmp_path / "images")
    changed(
        run / "data.json",
        lambda data: [one.update(path=str(tmp_path / "images" / f"{one['id']}.png")) for one in data["train"] + data["eval"]],
    )
    view = advcam.Run(run)
    (tmp_path / "images" / "scene-00003.png").unlink()
    with pytest.raises(ImageError, match=r"scene-00003.png"):
        view.image("scene-00003")
    (run / "metrics.json").write_text("{")
    with pytest.raises(AdvcamError, match=r"metrics.json"):
        _ = view.metrics


def test_hostile_classes_are_text(run):
    for name in ("run.json", "data.json"):
        changed(run / name, lambda record: record["classes"][0].update(name=HOSTILE))
    view = advcam.Run(run)
    shown = next(id for id in view.images if 1 in view.maps(id))
    for html in (view._repr_html_(), view.plot(shown)._repr_html_()):
        read = Read(html)
        assert HOSTILE in " ".join(read.words)
        assert not {"script", "link", "iframe"} & set(read.tags)
        assert all(address.startswith("data:image/jpeg;base64,") for address in read.addresses)


def test_its_studies(run, scenes):
    words = ["--masks", str(scenes / "masks"), "--sample", "4", "--resamples", "20", "--values", "0", "--steps", "1", "--quiet"]
    assert main(["study", "restrain", "--run", str(run), *words]) == 0
    study = advcam.Run(run).studies["restrain"]
    assert study.paragraph == (run / "studies" / "restrain" / "paragraph.txt").read_text().strip()
    assert len(study.rows) == len((run / "studies" / "restrain" / "rows.csv").read_text().splitlines()) - 1
    assert all(isinstance(row["mean_iou"], float) for row in study.rows)
    with Image.open(run / "studies" / "restrain" / "figure.png") as figure:
        assert study.figure.size == figure.size
    assert study.paragraph in " ".join(Read(study._repr_html_()).words)
    (run / "studies" / "restrain" / "rows.csv").unlink()
    with pytest.raises(StoreError, match="studies/restrain: a file is damaged or gone .*; run the study again"):
        _ = advcam.Run(run).studies


def test_a_run_without_maps(scenes, tmp_path):
    data = ["--images", str(scenes / "images"), "--labels", str(scenes / "labels.csv")]
    small = ["--backbone", "test_resnet", "--from-scratch", "--epochs", "1", "--crop", "64", "--workers", "0", "--quiet"]
    out = str(tmp_path / "run")
    assert main(["classify", *data, "--run", out, *small]) == 0
    assert main(["climb", "--run", out, "--steps", "1", "--no-keep-maps", "--quiet"]) == 0
    with pytest.raises(RunError, match="this run was made with --no-keep-maps; climb again without it to have maps"):
        advcam.Run(out).maps(SCORED)
