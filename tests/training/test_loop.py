"""The training loop: it learns, keeps the best, and a killed training ends with the same weights."""

import time
import types
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advcam import progress
from advcam.data import Augmentation, Item, Normalisation, SemiViews, TrainingViews
from advcam.errors import ImageError, RunError, SettingsError
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.training import ImageLoss, PixelLoss, Plan, fit
from conftest import SmallNet


class Stop(Exception):
    pass


@pytest.fixture
def views(scenes):
    paths = sorted((scenes / "images").iterdir())[:12]
    items = [Item(p.stem, p, (i % 4,), (64, 64)) for i, p in enumerate(paths)]
    return TrainingViews(items, Augmentation(32, (0.5, 1.0), 640), Normalisation((0.5,) * 3, (0.5,) * 3), 0, 4)


def train(
    folder, views, stop_after=None, best=None, epochs=4, workers=0, runtime=None, net=None, objective=None, quiet=True, **plan
):
    torch.manual_seed(0)
    net, seen = (net or SmallNet)(), []

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
        "batch_norm": "trained",
    } | plan
    state, history = fit(
        net, None, net.fc.parameters(), views, objective or ImageLoss(F.multilabel_soft_margin_loss), Plan(**settings), look,
        best, folder, runtime or Runtime("cpu", workers=workers), Reporter(quiet), "test",
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


def test_it_says_how_many_images_a_second_and_how_long_it_waited_for_them(tmp_path, views, monkeypatch, capsys):
    """On a clock that goes on by a tenth of a second for each image that is read, and for each batch of four."""
    now = 0.0
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: now, monotonic=time.monotonic))

    class Slow(type(views)):
        aside = False  # one after the other

        def __getitem__(self, at):
            nonlocal now
            now += 0.1
            return super().__getitem__(at)

    class SlowNet(SmallNet):
        def forward(self, x):
            nonlocal now
            now += 0.1
            return super().forward(x)

    views.__class__ = Slow
    train(tmp_path, views, quiet=False, epochs=2, net=SlowNet)
    *epochs, last = capsys.readouterr().err.splitlines()
    assert [line.split(" in ")[0] for line in epochs] == [f"test, epoch {n} of 2: 12 of 12" for n in (1, 2)]
    assert last == "test: 8.0 a second; waited for images 80 % of the time"


class Drawing(SmallNet):
    """Draws from torch's generator, as dropout does, again and again while whoever reads the next views does so too."""

    def forward(self, x):
        if isinstance(x, dict):
            x = x["weak"] + x["strong1"]
        for _ in range(40):
            time.sleep(0.001)
            x = x + torch.rand(x.shape)
        return super().forward(x)


def test_whoever_reads_the_views_the_weights_are_the_same(tmp_path, views):
    """Strong views draw from the generator that the network draws from; a thread that did so meanwhile would change both."""
    others = TrainingViews(views.items, views.augment, views.normalise, 1, 5)  # with a background
    pairs = SemiViews(views, others, views.normalise, 1)
    objective = ImageLoss(lambda scores, at: F.multilabel_soft_margin_loss(scores, torch.ones_like(scores)))
    states = [
        train(tmp_path / f"{workers}-{n}", pairs, epochs=2, workers=workers, net=Drawing, objective=objective)[1]
        for workers, n in ((0, 0), (0, 1), (1, 0))
    ]
    assert equal(states[0], states[1])
    assert equal(states[0], states[2])


def test_a_thread_reads_what_a_process_reads(tmp_path, views):
    assert views.aside
    assert equal(train(tmp_path / "a", views, workers=0)[1], train(tmp_path / "b", views, workers=1)[1])


def test_the_best_epoch_is_kept(tmp_path, views):
    _, best, history = train(tmp_path / "four", views, best="score")
    _, last, _ = train(tmp_path / "last", views)
    assert [row["score"] for row in history] == [0.5, 0.9, 0.9, 0.1]
    assert not equal(best, last)


@pytest.mark.parametrize(("kept", "mean", "scale"), [("trained", 0, 0), ("statistics", 1, 0), ("frozen", 1, 1)])
def test_what_batch_norm_keeps(tmp_path, views, kept, mean, scale):
    fresh = SmallNet().state_dict()
    _, state, _ = train(tmp_path, views, batch_norm=kept)
    assert torch.equal(state["stem.1.running_mean"], fresh["stem.1.running_mean"]) == mean
    assert torch.equal(state["stem.1.weight"], fresh["stem.1.weight"]) == scale


class Tiny(nn.Module):
    """Scores of 6 classes for every pixel; no dropout, no BatchNorm: parts add up to the whole."""

    def __init__(self):
        super().__init__()
        self.first, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return self.fc(F.elu(self.first(x)))


@pytest.fixture
def pixel_views(scenes):
    """Views with masks, some of whose pixels are 255."""
    items = [Item(p.stem, p, (), (64, 64)) for p in sorted((scenes / "images").iterdir())[:8]]
    masks = [scenes / "masks" / f"{item.id}.png" for item in items]
    return TrainingViews(items, Augmentation(48, (0.5, 1.0), 640), Normalisation((0.5,) * 3, (0.5,) * 3), 0, 5, masks=masks)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_batch_in_parts_trains_to_the_same_weights(tmp_path, pixel_views, balanced):
    """Though each part has its own number of pixels that count."""
    trained = {
        parts: train(
            tmp_path / str(parts), pixel_views, runtime=Runtime("cpu", workers=0, accumulate=parts), net=Tiny,
            objective=PixelLoss(balanced=balanced), optimizer="sgd",
        )
        for parts in (1, 2, 4)
    }  # fmt: skip
    for parts in (2, 4):
        for name, value in trained[1][1].items():
            torch.testing.assert_close(trained[parts][1][name], value, rtol=1e-4, atol=1e-6)
        losses = [[row["loss"] for row in trained[n][2]] for n in (1, parts)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_batch_that_cannot_be_shared_out(tmp_path, views):
    with pytest.raises(
        SettingsError, match=r"a batch of 4 cannot be divided over 1 processes in 3 parts .* multiple of 6, since"
    ):
        train(tmp_path, views, runtime=Runtime("cpu", workers=0, accumulate=3))


def test_the_moving_average_is_what_is_kept_and_resumes(tmp_path, views):
    net, average, _ = train(tmp_path / "a", views, ema=0.9)
    assert not equal(average, net.state_dict())
    _, plain, _ = train(tmp_path / "plain", views)
    assert equal(plain, net.state_dict()), "the average does not change what is averaged"
    with pytest.raises(Stop):
        train(tmp_path / "b", views, stop_after=1, ema=0.9)
    _, resumed, _ = train(tmp_path / "b", views, ema=0.9)
    assert equal(average, resumed)


def test_the_moving_average_by_hand():
    plan = Plan(1, 2, 1e-3, 1e-3, 0.0, "trained", ema=0.9)
    assert [plan.average(step) for step in (0, 8, 10_000)] == [0.1, 0.5, 0.9]


def test_so_many_steps_instead_of_epochs(tmp_path, views):
    """12 views in batches of 4 are 3 steps an epoch: 7 steps are 2 epochs and one step."""
    _, _, history = train(tmp_path, views, steps=7)
    assert len(history) == 3


def test_learning_rates_over_time():
    poly = Plan(1, 2, 1.0, 1.0, 0.0, "trained")
    assert [round(poly.factor(i, 10), 4) for i in (0, 5, 10)] == [1.0, 0.5359, 0.0]
    cosine = Plan(1, 2, 1.0, 1.0, 0.0, "trained", schedule="cosine", warmup=0.2)
    assert [round(cosine.factor(i, 10), 4) for i in (0, 1, 5, 10)] == [0.5, 0.9755, 0.5, 0.0]


def test_groups_of_the_published_optimizer():
    net = Tiny()
    plan = Plan(1, 2, 1e-3, 1e-2, 5e-4, "frozen", optimizer="sgd", bias_factor=2.0)
    groups = plan.optimize(net, net.fc.parameters()).param_groups
    assert [(g["lr"], g["weight_decay"], g["momentum"], len(g["params"])) for g in groups] == [
        (1e-3, 5e-4, 0.9, 2), (1e-2, 5e-4, 0.9, 1), (2e-2, 0.0, 0.9, 1),
    ]  # fmt: skip


def test_the_state_of_another_network(tmp_path, views):
    train(tmp_path, views, epochs=1)
    with pytest.raises(RunError, match=r"training.pt: the state of another network .*this training then starts again"):
        train(tmp_path, views, net=Tiny)


def test_out_of_memory_keeps_what_is_done(tmp_path, views):
    """The message says how the same training goes on in parts; and it does."""

    class Hungry(ImageLoss):
        def forward(self, model, inputs, share):
            if len(inputs) > 2 and share >= 0.5:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            return super().forward(model, inputs, share)

    hungry = Hungry(F.multilabel_soft_margin_loss)
    with pytest.raises(SettingsError, match=r"memory ran out with a batch of 4 .* 2 of 4 epochs are kept .*--accumulate 2"):
        train(tmp_path, views, objective=hungry)
    _, _, history = train(tmp_path, views, objective=hungry, runtime=Runtime("cpu", workers=0, accumulate=2))
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]


def test_tensorboard_logs(tmp_path, views):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, views, epochs=2, runtime=Runtime("cpu", workers=0, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("step/loss")) == 6
    assert len(events.Scalars("epoch/loss")) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_on_the_way(tmp_path, views, workers):
    """The error is the image's own, from a worker process too."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    views.items[3] = replace(views.items[3], path=broken)
    with pytest.raises(ImageError) as raised:
        train(tmp_path / "a", views, workers=workers)
    assert str(raised.value) == f"{broken}: the file is empty (0 bytes); copy it again"


def test_a_single_image(tmp_path, views):
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


def test_where_nothing_tells_the_last_epoch_is_kept(tmp_path, views):
    """A held-out image of which nothing counts has no mIoU."""
    torch.manual_seed(0)
    net = SmallNet()
    plan = Plan(3, 4, 1e-2, 1e-2, 0.0, "trained")
    state, _ = fit(
        net, None, net.fc.parameters(), views, ImageLoss(F.multilabel_soft_margin_loss), plan,
        lambda _model: {"score": float("nan")}, "score", tmp_path, Runtime("cpu", workers=0), Reporter(quiet=True), "test",
    )  # fmt: skip
    assert equal(state, net.state_dict())


def test_fewer_images_than_a_batch_in_parts(tmp_path, views):
    views.items = views.items[:7]
    _, _, history = train(tmp_path, views, batch=16, runtime=Runtime("cpu", workers=0, accumulate=2))
    assert len(history) == 4


def test_parts_of_one_image_and_batch_norm(tmp_path, views):
    with pytest.raises(SettingsError, match="multiple of 8, since BatchNorm needs two images a part"):
        train(tmp_path, views, runtime=Runtime("cpu", workers=0, accumulate=4))
    _, _, history = train(tmp_path, views, runtime=Runtime("cpu", workers=0, accumulate=4), batch_norm="frozen")
    assert len(history) == 4
