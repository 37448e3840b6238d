"""The map after every step of the climb: that of the last is the run's own."""

import json

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.errors import RunError, StoreError
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.report import grow
from advcam.report.growth import Growth, eight_bits, growth_file, load_growth, save_growth, spread
from advcam.runtime import Runtime
from advcam.store import load_maps


def opened(run):
    return reopen(run, None, Runtime(), Reporter(quiet=True))


@pytest.mark.parametrize("climb", [[], ["--preset", "multiscale", "--steps", "2"]])
def test_the_last_step_is_the_map_of_the_run(run, climb):
    if climb:
        assert main(["climb", "--run", str(run), "--redo", *climb, "--quiet"]) == 0
    context = opened(run)
    item = next(item for item in context.data.items if len(item.labels) > 1)
    grow(context, [item])
    grown = load_growth(run=context.run, item=item, climb=context.run.state()["steps"]["climb"]["key"])
    stored = load_maps(context.run.maps(item.id))
    assert grown.classes == stored.classes
    assert len(grown.maps) == context.run.config("climb")["steps"]
    for last, own in zip(grown.maps[-1], stored.maps.numpy(), strict=True):
        assert np.abs(last.astype(int) - eight_bits(own)).max() <= 1
    assert (np.diff(grown.maps.astype(int), axis=0) >= 0).all()  # sums of maps that are at least 0
    with Image.open(growth_file(context.run, item)) as strip:
        assert strip.mode == "L"
        assert strip.size == (16 * len(grown.maps), 16 * len(grown.classes))


def test_a_strip_reads_back_and_that_of_another_climb_is_nothing(run):
    fresh = opened(run)
    item = fresh.data.items[0]
    growth = Growth((3, 9), np.arange(2 * 2 * 3 * 4, dtype=np.uint8).reshape(2, 2, 3, 4))
    save_growth(growth_file(fresh.run, item), growth, "this")
    assert load_growth(fresh.run, item, "another") is None
    read = load_growth(fresh.run, item, "this")
    assert read.classes == (3, 9)
    assert (read.maps == growth.maps).all()


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_damaged_strip_is_named(run, content):
    context = opened(run)
    item = context.data.items[0]
    path = growth_file(context.run, item)
    path.parent.mkdir(parents=True)
    if content is None:
        Image.new("L", (8, 8)).save(path)  # an image of somebody else's
    else:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is no strip of maps .*delete it"):
        load_growth(context.run, item, "key")


def test_without_a_climb_nothing_grows(run):
    context = opened(run)
    context.run.drop("climb")
    with pytest.raises(RunError, match="has not climbed, so no map can grow; `advcam climb --run"):
        grow(context, context.data.items[:1])


def test_what_has_grown_goes_with_its_climb(run):
    assert main(["report", "--run", str(run), "--grow", "2", "--quiet"]) == 0
    assert len([*(run / "report" / "growth").iterdir()]) == 2
    assert main(["climb", "--run", str(run), "--redo", "--steps", "1", "--quiet"]) == 0
    assert not (run / "report").exists()


def test_the_images_that_grow_are_spread_from_the_best_to_the_worst(run):
    assert main(["report", "--run", str(run), "--grow", "3", "--quiet"]) == 0
    rows = [line.split(",") for line in (run / "per-image.csv").read_text().split()]
    at = rows[0].index("masks")
    ordered = sorted((row for row in rows[1:] if row[at]), key=lambda row: (float(row[at]), row[0]))
    grown = {path.stem for path in (run / "report" / "growth").iterdir()}
    assert {ordered[0][0], ordered[-1][0]} <= grown
    assert len(grown) == 3
    assert json.loads((run / "run.json").read_text())["steps"]["climb"]["state"] == "done"


def test_spread():
    assert spread(range(10), 3) == [0, 4, 9]
    assert spread(range(10), 1) == [0]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 4) == []
