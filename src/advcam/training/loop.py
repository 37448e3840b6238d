"""Train, look, save, epoch by epoch; killed at any moment it resumes to the same weights."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset, default_collate

from advcam.data import TrainingViews
from advcam.errors import AdvcamError, SettingsError
from advcam.machine import Machine
from advcam.models.weights import State
from advcam.progress import Reporter
from advcam.store import write_bytes

Loss = Callable[[Tensor, Tensor], Tensor]
Look = Callable[[nn.Module], dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """How to train: AdamW, polynomial decay ``lr (1 - i / n)^0.9``.

    Args:
        epochs: passes over the pictures.
        batch: pictures a step.
        lr: of the body.
        head_lr: of what starts from nothing.
        weight_decay: AdamW's.
        frozen_batch_norm: keep the statistics of BatchNorm as they are (pretrained networks).
        precision: of the network's arithmetic, ``float32`` or ``bfloat16`` (autocast); weights stay float32.
    """

    epochs: int
    batch: int
    lr: float
    head_lr: float
    weight_decay: float
    frozen_batch_norm: bool
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise SettingsError(f"epochs and batch must be at least 1; got {self.epochs} and {self.batch}")
        if self.precision not in ("float32", "bfloat16"):
            raise SettingsError(f"precision is float32 or bfloat16, got {self.precision!r}")
        if not (self.lr > 0 and self.head_lr > 0 and self.weight_decay >= 0):
            raise SettingsError(f"learning rates must be positive, weight decay at least 0; got {self}")


def freeze_batch_norm(model: nn.Module) -> None:
    """Puts every BatchNorm into eval mode: running statistics are used and not changed."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def fit(
    model: nn.Module,
    body: nn.Module | None,
    head: Iterable[nn.Parameter],
    views: TrainingViews,
    loss: Loss,
    plan: Plan,
    look: Look,
    best_by: str | None,
    folder: Path,
    machine: Machine,
    reporter: Reporter,
    what: str,
) -> tuple[State, list[dict[str, Any]]]:
    """Trains a network and returns the weights of its best (or last) epoch with the history of all.

    After every epoch model, optimizer, best weights and history are written to ``folder/training.pt``. A run that finds
    the file goes on behind it; views and dropout depend on seed and epoch alone, so it ends with the same weights.

    Args:
        model: is trained in place.
        body: the part whose BatchNorm ``plan.frozen_batch_norm`` freezes; None is the whole model.
        head: parameters that train at ``plan.head_lr``.
        views: what to train on.
        loss: of (output, target), a scalar.
        plan: how.
        look: called with the model in eval mode after every epoch; its numbers go into the history.
        best_by: the number of ``look`` that decides which epoch is best (higher; the first on ties); None takes the last.
        folder: where the state is kept.
        machine: what to run on.
        reporter: shows progress.
        what: the name on the bar.
    """
    accelerator = Accelerator(cpu=machine.torch_device().type == "cpu")
    fresh = {id(p) for p in head}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in fresh], "lr": plan.lr},
        {"params": [p for p in model.parameters() if id(p) in fresh], "lr": plan.head_lr},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=plan.weight_decay)
    batch = min(plan.batch, max(len(views), 2))  # BatchNorm needs two; a single picture is shown twice
    steps = plan.epochs * max(1, len(views) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: max(0.0, 1 - i / steps) ** 0.9)
    model, optimizer = accelerator.prepare(model, optimizer)
    state = _Progress(folder, model, optimizer, schedule)
    for epoch in range(len(state.history), plan.epochs):
        views.epoch = epoch
        generator = torch.Generator().manual_seed(views.seed * 100_003 + epoch)
        order = torch.randperm(len(views), generator=generator).tolist() * (2 if len(views) == 1 else 1)
        torch.manual_seed(views.seed * 100_003 + epoch)
        ordered = _WithErrors(views, order)
        loader = DataLoader(ordered, batch, drop_last=True, num_workers=machine.workers, collate_fn=ordered.collate)
        model.train()
        if plan.frozen_batch_norm:
            freeze_batch_norm(model if body is None else body)
        total = 0.0
        for images, targets in map(
            ordered.or_raised, reporter.track(loader, len(loader), f"{what}, epoch {epoch + 1} of {plan.epochs}")
        ):
            images = images.to(accelerator.device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
                output = model(images)
            value = loss(output.float(), targets.to(accelerator.device))
            optimizer.zero_grad()
            accelerator.backward(value)
            optimizer.step()
            schedule.step()
            total += float(value.detach())
        if not total < float("inf"):
            raise SettingsError(f"{what}: the loss is {total} in epoch {epoch + 1}; lower the learning rate")
        model.eval()
        with torch.no_grad():
            record = {"epoch": epoch + 1, "loss": total / len(loader), **look(model)}
        state.save(record, best_by)
    return state.best, state.history


class _WithErrors(Dataset[Any]):
    """Views in an order. An error of ours comes out of a worker process as itself, not as a worker's traceback."""

    def __init__(self, views: TrainingViews, order: list[int]) -> None:
        self.views, self.order = views, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor] | AdvcamError:
        try:
            return self.views[self.order[at]]
        except AdvcamError as error:
            return error

    @staticmethod
    def collate(views: list[Any]) -> Any:
        """A batch, or the first error among its views."""
        return next((view for view in views if isinstance(view, AdvcamError)), None) or default_collate(views)

    @staticmethod
    def or_raised(batch: Any) -> Any:
        """The batch; an error is raised."""
        if isinstance(batch, AdvcamError):
            raise batch
        return batch


class _Progress:
    """What is kept between epochs, on disk."""

    def __init__(self, folder: Path, model: nn.Module, optimizer: Any, schedule: Any) -> None:
        self.path, self.parts = folder / "training.pt", {"model": model, "optimizer": optimizer, "schedule": schedule}
        self.history: list[dict[str, Any]] = []
        self.best: State = {}
        if self.path.is_file():
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(kept[name])
            self.history, self.best = kept["history"], kept["best"]

    def save(self, record: dict[str, Any], best_by: str | None) -> None:
        if best_by is None or not self.history or record[best_by] > max(past[best_by] for past in self.history):
            self.best = {n: v.detach().cpu().clone().contiguous() for n, v in self.parts["model"].state_dict().items()}
        self.history.append(record)
        kept = {name: part.state_dict() for name, part in self.parts.items()}
        stream = io.BytesIO()  # torch's own writer turns a full disk into a riddle
        torch.save(kept | {"history": self.history, "best": self.best}, stream)
        write_bytes(self.path, stream.getbuffer())
