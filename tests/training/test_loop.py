"""The training loop: it learns, keeps the best, and a killed training ends with the same weights."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from advcam.data import Augmentation, Item, Normalisation, TrainingViews
from advcam.errors import ImageError, SettingsError
from advcam.machine import Machine
from advcam.progress import Reporter
from advcam.training import Plan, fit
from conftest import SmallNet


class Stop(Exception):
    pass


@pytest.fixture
def views(scenes):
    paths = sorted((scenes / "images").iterdir())[:12]
    items = [Item(p.stem, p, (i % 4,), (64, 64)) for i, p in enumerate(paths)]
    return TrainingViews(items, Augmentation(32, (0.5, 1.0), 640), Normalisation((0.5,) * 3, (0.5,) * 3), 0, 4)


def train(folder, views, stop_after=None, best=None, epochs=4, workers=0, **plan):
    torch.manual_seed(0)
    net, seen = SmallNet(), []

    def look(model):
        assert not model.training
        seen.append(1)
        if stop_after and len(seen) > stop_after:
            raise Stop
        return {"score": [0.5, 0.9, 0.9, 0.1][len(seen) - 1]} if best else {}

    settings = {
        "epochs": epochs,
        "batch": 4,
        "lr": 1e-2,
        "head_lr": 1e-2,
        "weight_decay": 1e-4,
        "frozen_batch_norm": False,
    } | plan
    state, history = fit(
        net, None, net.fc.parameters(), views, F.multilabel_soft_margin_loss, Plan(**settings), look, best,
        folder, Machine("cpu", workers=workers), Reporter(quiet=True), "test",
    )  # fmt: skip
    return net, state, history


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_training_ends_with_the_same_weights(tmp_path, views):
    _, straight, history = train(tmp_path / "a", views)
    with pytest.raises(Stop):
        train(tmp_path / "b", views, stop_after=2)
    _, resumed, again = train(tmp_path / "b", views)
    assert equal(straight, resumed)
    assert [row["loss"] for row in history] == [row["loss"] for row in again]
    assert len(history) == 4


def test_a_finished_training_is_not_trained_again(tmp_path, views):
    _, state, _ = train(tmp_path, views)
    _, again, _ = train(tmp_path, views)
    assert equal(state, again)


def test_the_loss_falls(tmp_path, views):
    _, _, history = train(tmp_path, views, epochs=25)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_the_best_epoch_is_kept(tmp_path, views):
    _, best, history = train(tmp_path / "four", views, best="score")
    _, last, _ = train(tmp_path / "last", views)
    assert [row["score"] for row in history] == [0.5, 0.9, 0.9, 0.1]
    assert not equal(best, last)


def test_frozen_batch_norm_keeps_its_statistics(tmp_path, views):
    fresh = SmallNet().state_dict()["stem.1.running_mean"]
    _, frozen, _ = train(tmp_path / "frozen", views, frozen_batch_norm=True)
    _, trained, _ = train(tmp_path / "trained", views)
    assert torch.equal(frozen["stem.1.running_mean"], fresh)
    assert not torch.equal(trained["stem.1.running_mean"], fresh)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_on_the_way(tmp_path, views, workers):
    """The error is the picture's own, from a worker process too."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    views.items[3] = replace(views.items[3], path=broken)
    with pytest.raises(ImageError) as raised:
        train(tmp_path / "a", views, workers=workers)
    assert str(raised.value) == f"{broken}: the file is empty (0 bytes); copy it again"


def test_a_single_picture(tmp_path, views):
    views.items = views.items[:1]
    _, _, history = train(tmp_path, views, epochs=2)
    assert len(history) == 2


def test_plans_that_cannot_work(tmp_path, views):
    with pytest.raises(SettingsError, match="epochs and batch must be at least 1"):
        train(tmp_path, views, epochs=0)
    with pytest.raises(SettingsError, match="learning rates must be positive"):
        train(tmp_path, views, lr=0.0)
    with pytest.raises(SettingsError, match=r"the loss is (nan|inf) in epoch \d; lower the learning rate"):
        train(tmp_path / "wild", views, lr=1e30, head_lr=1e30)
