"""Quality against time: maps from kept steps, the published loop's cost and maps, which settings nothing beats, the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import advcam
from advcam import pipeline
from advcam.data import SceneSettings, write_dataset
from advcam.models.own import allow
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages import classify
from advcam.stages.classify import ClassifyConfig

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks.attribution import faithful_loop
from benchmarks.frontier import __main__ as command
from benchmarks.frontier.loop import Named, published
from benchmarks.frontier.points import Point, cell, frontier, table, within
from benchmarks.frontier.quality import climbed, of_climbs, split
from benchmarks.frontier.settings import SETTINGS, Setting, source, sources
from benchmarks.frontier.times import LOOP, ONE_SCALE, OURS, taken
from benchmarks.quality.data import DATA, DataSet, listed

NETWORK = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.classifier = nn.Linear(12, classes)

    def forward_features(self, x):
        return self.body(x)

    def forward(self, x):
        return self.classifier(self.forward_features(x).mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Small(%d).eval()
"""


@pytest.fixture
def small() -> nn.Module:
    names: dict[str, object] = {}
    exec(NETWORK % 4, names)
    return names["make"]()


def point(setting: str, mean_iou: float, seconds: float | None, data: str = "photos", half: str = "last") -> Point:
    return Point(
        "mobilenet", data, half, setting, "float32", 5, (mean_iou, 0.0, 100.0), None, 0.3, 0.3, mean_iou, 9.0, seconds, 2.0
    )


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("default", {"steps": 3}),
        ("multiscale", {"steps": 2, "mirror": True}),
        ("default", {"steps": 1}),
        ("features", {"steps": 3, "mirror": True}),
        ("fast", {"scales": (0.5, 1)}),
    ],
)
def test_maps_of_kept_steps_are_those_of_the_library(small, preset, changes):
    image, labels = torch.rand(1, 3, 24, 32), [2, 0]
    one = Setting("one", preset, changes)
    needed = sources([one])
    parts = {each: climbed(small, image, labels, each, steps) for each, steps in needed.items()}
    expected = advcam.AdvCAM(small, preset, precision="float32", **changes)(image, [labels])
    torch.testing.assert_close(of_climbs(parts, one, (24, 32), labels).maps, expected.maps, rtol=1e-4, atol=1e-6)
    assert max(needed.values()) == one.climb.steps


def test_settings_of_equal_climbs_share_their_steps():
    needed = sources(
        [Setting("a", "default", {"steps": 2}), Setting("b", "default", {"later": 3.0}), Setting("c", "multiscale")]
    )
    assert {(s.scales, steps) for s, steps in needed.items()} == {((1.0,), 4), ((2.0,), 4)}
    assert len({s.name for s in SETTINGS}) == len(SETTINGS)
    assert source(Setting("", "fast"), 1.0) != source(Setting("", "default"), 1.0)


def test_the_timed_loop_makes_the_maps_of_official(small):
    image = torch.randn(1, 3, 24, 32).double()
    label = int(advcam.AdvCAM(small).scores(image.float())[0].argmax())  # a class that has a map
    theirs = faithful_loop(Named(small).double(), image, label, 5)
    (ours,) = advcam.AdvCAM(small.double(), "official", scales=(1.0,), steps=5, mirror=False)(image, [[label]]).maps
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_the_loop_is_timed_for_every_class_and_scale_and_scaled_up_to_all_steps(small, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("benchmarks.frontier.loop.time.process_time", lambda: next(clock))
    monkeypatch.setattr("benchmarks.frontier.loop.faithful_loop", lambda *_: None)
    # every call takes one second of two steps; 27 steps at scales 1, 1.5 and 2, 13 at scale .5
    assert published(Named(small), torch.rand(1, 3, 24, 32), [0, 3], 2) == pytest.approx(2 * (3 * 27 / 2 + 13 / 2))
    assert published(Named(small), torch.rand(1, 3, 24, 32), [0], 27) == 4


def test_nothing_on_the_frontier_is_beaten():
    found = [point("a", 50, 1.0), point("b", 55, 2.0), point("c", 54, 3.0), point("d", 55, 2.5), point("e", 60, 9.0)]
    found += [point("f", 49, 1.0), point("not timed", 99, None)]
    assert [p.setting for p in frontier(found)] == ["a", "b", "e"]
    assert [p.setting for p in frontier(found[::-1])] == ["a", "b", "e"]
    assert table(found).splitlines()[-1] == "| not timed | 99.0 / 99.0, 2.0x |"
    assert "| c | 54.0 / 54.0; 3.00 s, 2.0x |" in table(found)
    assert cell(found[1], True) == "**55.0** / 55.0; 2.00 s, 2.0x"


def test_within_a_point_of_default_in_the_mean_cheapest_first():
    found = [point("default, T = 4", 60, 4.0), point("default, T = 4", 50, 2.0, "objects")]
    found += [point("cheap", 59.5, 1.0), point("cheap", 48.5, 1.0, "objects")]
    found += [point("poor", 58.9, 0.1), point("poor", 49, 0.1, "objects")]
    found += [point("of one data set", 60, 0.1)]
    assert within(found) == [("cheap", 0.38, -1.0, -1.5), ("default, T = 4", 1.0, 0.0, 0.0)]


def test_the_command_on_a_generated_case(tmp_path, monkeypatch, capsys):
    where = tmp_path / "tiny"
    classes = len(write_classes(where))
    code = tmp_path / "net.py"
    code.write_text(NETWORK % classes)
    allow(f"{code}:make")
    tiny = DataSet(listed, lambda work: work / "masks", {})
    monkeypatch.setitem(DATA, "tiny", tiny)
    context = pipeline.start(tmp_path / "tiny-small", listed(where), 0, Runtime(), Reporter())
    config = ClassifyConfig(classifier=f"{code}:make", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pipeline.plan(context, {"classify": config}, {})
    classify.run(context, config)

    few = [
        Setting("plain", "default", {"steps": 1}),
        Setting("default, T = 4", "default"),
        Setting("fast, T = 2", "fast"),
    ]
    large = Setting("fast, T = 2, scales 2", "fast", {"scales": (2.0,)})
    monkeypatch.setattr(command, "CHOICES", few)
    monkeypatch.setattr(command, "SETTINGS", [*few, large])
    first, last = split(context, 39)
    assert not {item.id for item in first} & {item.id for item in last}

    times = taken(context, [*few, large], 1, whole=False)
    assert set(times["seconds"]) == {s.name for s in few} | {large.name, LOOP, ONE_SCALE, OURS}
    for part in ("pixels", "features"):
        kept = context.run.root / "frontier" / f"seconds-{part}.json"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(times))
    arguments = [
        "frontier",
        "--work",
        str(tmp_path),
        "--networks",
        "small",
        "--data",
        "tiny",
        "--numbers",
        str(tmp_path / "f.json"),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()
    rows = json.loads((tmp_path / "f.json").read_text())["points"]
    assert [(row["half"], row["setting"]) for row in rows] == [
        *(("first", s.name) for s in few), *(("last", s.name) for s in (*few, large)),
    ]  # fmt: skip
    assert all(0 <= row["mean_iou"][0] <= 100 and row["seconds"] > 0 and row["times"] > 0 for row in rows)
    assert rows[0]["count"] == len(first)
    assert "| fast, T = 2, scales 2 |" in capsys.readouterr().out

    monkeypatch.setattr("benchmarks.frontier.quality.climbed", None)  # all is kept: nothing is climbed again
    command.main()
    assert json.loads((tmp_path / "f.json").read_text())["points"] == rows


def write_classes(where: Path) -> list[str]:
    write_dataset(where, 2, 6, 0, SceneSettings(size=48))
    return (where / "classes.csv").read_text().splitlines()[1:]
