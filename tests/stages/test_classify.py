"""Classes that are not known of an image are neither learnt, nor measured, nor climbed."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from advcam.cli import main
from advcam.data import Augmentation, Item, NetworkInput, Normalisation, TrainingViews
from advcam.errors import StoreError
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages.classify import soft_margin
from advcam.stages.context import load_data
from advcam.stages.ranking import average_precision, ranked
from advcam.stages.table import open_run
from advcam.store import load_maps, load_mask
from conftest import arguments

HALF = (0.5, 0.5, 0.5)


def test_where_all_is_known_it_is_the_loss_of_torch_to_the_last_bit():
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        scores = (9 * torch.randn(7, 5, generator=draw)).requires_grad_()
        targets = torch.randint(2, (7, 5), generator=draw).float()
        ours, theirs = soft_margin(scores, targets), F.multilabel_soft_margin_loss(scores, targets)
        assert torch.equal(ours, theirs)
        assert torch.equal(torch.autograd.grad(ours, scores)[0], torch.autograd.grad(theirs, scores)[0])


def test_a_pair_that_is_not_known_has_no_part_in_the_loss():
    scores = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], requires_grad=True)
    targets = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, 1.0]])
    known = [F.softplus(torch.tensor(z)) for z in (-2.0, 0.5, 2.0)]  # -log sigmoid(2), -log sigmoid(-.5), -log sigmoid(-2)
    loss = soft_margin(scores, targets)
    torch.testing.assert_close(loss, sum(known) / 6)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert (gradient == 0).tolist() == [[False, True, False], [True, True, False]]
    assert soft_margin(scores, torch.full((2, 3), -1.0)) == 0


def test_targets_of_views(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    item = Item("a", tmp_path / "a.png", (1,), (32, 32), unknown=(0, 3))
    views = TrainingViews([item], Augmentation(32, (1.0, 1.0), 32), Normalisation(HALF, HALF), 0, 4)
    assert views[0][1].tolist() == [-1, 1, 0, -1]


class Red(nn.Module):
    """The score of each of two classes is a channel of the image."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
        self.features.weight.data = torch.eye(3)[:2, :, None, None]
        self.fc.weight.data = torch.eye(2)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


def precision(folder, entries):
    """Average precision of images with such red and green, labels and unknown classes."""
    items = []
    for at, (colour, labels, unknown) in enumerate(entries):
        Image.new("RGB", (64, 64), (*colour, 0)).save(folder / f"{at}.png")
        items.append(Item(str(at), folder / f"{at}.png", labels, (64, 64), unknown=unknown))
    data = SimpleNamespace(classes=SimpleNamespace(names=("red", "green")))
    context = SimpleNamespace(runtime=Runtime(), data=data, reporter=Reporter(quiet=True))
    return average_precision(*ranked(context, Red().eval(), NetworkInput(HALF, HALF, 640), items), data.classes.names)


def test_a_pair_that_is_not_known_is_not_measured(tmp_path):
    entries = [((200, 0), (0,), ()), ((150, 0), (), ()), ((100, 90), (0, 1), ()), ((50, 10), (1,), ())]
    found = precision(tmp_path, entries)
    assert found["per_class"] == pytest.approx({"red": (1 + 2 / 3) / 2, "green": 1.0})
    entries[1] = ((150, 0), (), (0,))  # the negative in between
    found = precision(tmp_path, entries)
    assert found["per_class"] == pytest.approx({"red": 1.0, "green": 1.0})
    # ranked together, without (1, red): red 200, red 100, green 90, red 50 (no), green 10, green 0 (no) twice
    assert found["micro"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    found = precision(tmp_path, [((9, 9), (1,), (0,)), ((8, 8), (), (0,))])
    assert found["per_class"] == {"red": None, "green": 1.0}


@pytest.fixture
def partly(scenes, tmp_path):
    """The scenes, with labels as a table of yes, no and blank: of every third pair nothing is known."""
    names = [row["name"] for row in csv.DictReader((scenes / "classes.csv").read_text().splitlines())]
    rows = {row["image"]: row["labels"].split(";") for row in csv.DictReader((scenes / "labels.csv").read_text().splitlines())}
    cells = iter(range(len(rows) * len(names)))
    lines = [[name, *("" if next(cells) % 3 == 0 else int(c in labels) for c in names)] for name, labels in rows.items()]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", *names], *lines])
    return tmp_path / "table.csv", {line[0]: {at for at, cell in enumerate(line[1:]) if cell == ""} for line in lines}


def test_a_run_on_labels_of_which_some_are_not_known(scenes, partly, tmp_path, capsys):
    table, unknown = partly
    words = arguments(scenes, tmp_path / "run")
    words[words.index("--labels") + 1] = str(table)
    words.remove("--quiet")
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "labels read as: CSV, one column per class (5 classes)" in said
    assert f"{sum(map(len, unknown.values()))} (image, class) pairs are not known and are left out" in said
    data = load_data(open_run(tmp_path / "run"))
    assert {item.id: {*item.unknown} for item in data.items} == unknown
    for item in data.train:
        assert {*load_maps(tmp_path / "run" / "2-climb" / "maps" / f"{item.id}.npz").classes} == {at + 1 for at in item.labels}
    for item in data.items:  # an image of which only unknown classes may be shown is no background
        mask = load_mask(tmp_path / "run" / "3-refine" / "masks" / f"{item.id}.png")
        assert item.labels or set(np.unique(mask)) == {255 if item.unknown else 0}
    assert main(["report", "--run", str(tmp_path / "run"), "--quiet"]) == 0
    assert f"{sum(map(len, unknown.values()))} (image, class) pairs" in _resumed(words, capsys)  # it is in the record


def _resumed(words, capsys):
    assert main(words) == 0
    return capsys.readouterr().err


def test_records_without_and_with_such_classes(run):
    path = run / "data.json"
    kept = json.loads(path.read_text())
    assert not any("unknown" in item for item in kept["train"])  # as before
    first = kept["train"][0]
    absent = next(at for at in range(5) if at not in first["labels"])
    first["unknown"] = [absent]
    path.write_text(json.dumps(kept))
    assert load_data(open_run(run)).train[0].unknown == (absent,)
    for odd, said in (([7], "has label 7, of 5 classes"), (first["labels"][:1], "has a label that is not known too")):
        first["unknown"] = odd
        path.write_text(json.dumps(kept))
        with pytest.raises(StoreError, match=said):
            load_data(open_run(run))
