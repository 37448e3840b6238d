"""Train, look, save, epoch by epoch; killed at any moment it resumes to the same weights."""

from __future__ import annotations

import copy
import io
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch
from accelerate import Accelerator
from accelerate.utils import convert_to_fp32, recursively_apply, send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from advcam.data import Views
from advcam.errors import AdvcamError, RunError, SettingsError, out_of_memory
from advcam.models.weights import State, torch_load
from advcam.progress import Reporter
from advcam.runtime import Runtime, is_distributed, resolve_precision
from advcam.store import write_bytes
from advcam.store.records import History

from .losses import Objective
from .plan import Plan, batch_norms

SHARED_MEMORY = Path("/dev/shm")
"""Where processes leave batches for one another; Docker gives it 64 MB."""

AHEAD = 3
"""Batches of each worker that lie there at once: two that it prepares, and one that is taken."""

_WHAT = ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE")
LAUNCHERS = (
    "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    *(f"{mpi}_{what}" for mpi in ("OMPI_COMM_WORLD", "MV2_COMM_WORLD", "PMI") for what in _WHAT),
)  # fmt: skip
"""Variables by which launchers tell processes of one another."""

Look = Callable[[nn.Module], dict[str, Any]]


def fit(
    model: nn.Module,
    body: nn.Module | None,
    head: Iterable[nn.Parameter],
    views: Views,
    objective: Objective,
    plan: Plan,
    look: Look,
    best_by: str | None,
    folder: Path,
    runtime: Runtime,
    reporter: Reporter,
    what: str,
) -> tuple[State, list[dict[str, Any]]]:
    """Trains a network and returns the weights of its best (or last) epoch with the history of all.

    After every epoch model, optimizer, moving average, best weights and history are written to ``folder/training.pt``. A
    run that finds the file goes on behind it; views and dropout depend on seed and epoch alone, so it ends with the same
    weights. Of several processes each takes its share of every batch, and takes that in ``machine.accumulate`` parts: up to
    rounding the weights are those of one process and one part, but for BatchNorm that trains and for dropout.

    Args:
        model: is trained in place.
        body: the part whose BatchNorm ``plan.batch_norm`` is about; None is the whole model.
        head: parameters that train at ``plan.head_lr``.
        views: what to train on.
        objective: the loss.
        plan: how.
        look: called with the model (its moving average where there is one) in eval mode after every epoch, in the first
            process; its numbers go into the history.
        best_by: the number of ``look`` that decides which epoch is best (higher; the first on ties); None takes the last.
        folder: where the state is kept.
        runtime: what to run on.
        reporter: shows progress.
        what: the name on the bar.

    Raises:
        SettingsError: a batch that cannot be shared out, a loss that is not finite, or too little memory; what is done is
            kept.
        RunError: a state that is another network's.
    """
    accelerator = accelerate(runtime)
    precision = resolve_precision(plan.precision, accelerator.device)
    body = model if body is None else body
    plan.prepare(body)
    average = copy.deepcopy(model).to(accelerator.device).eval() if plan.ema else None
    model, optimizer = accelerator.prepare(model, plan.optimize(model, head))
    shares = accelerator.num_processes * runtime.accumulate
    batch = plan.batch
    if plan.batch > len(views):  # BatchNorm needs two; a single image is shown twice
        batch = max(2, len(views) - len(views) % shares, shares)
    plan.set_mode(model, body)
    few = batch // shares < 2 and any(module.training for module in batch_norms(model))
    if batch % shares or few:
        raise SettingsError(
            f"{what}: a batch of {batch} cannot be shared out over {accelerator.num_processes} processes in"
            f" {runtime.accumulate} parts each; choose a --batch that is a multiple of {shares if not few else 2 * shares}"
            + (", since BatchNorm needs two images a part" if few else "")
        )
    per_epoch = max(1, len(views) // batch)
    steps = plan.steps or plan.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: plan.factor(i, steps))
    plain = accelerator.unwrap_model(model)
    parts = {"model": plain, "optimizer": optimizer, "schedule": schedule}
    state = _Progress(folder, parts | ({"average": average} if average else {}))
    writer = _Writer(folder if runtime.tensorboard and runtime.first else None)
    epochs = math.ceil(steps / per_epoch)
    workers = _workers(runtime.workers, views, batch // shares, reporter) if len(state.history) < epochs else 0
    for epoch in range(len(state.history), epochs):
        views.epoch = epoch
        generator = torch.Generator().manual_seed(views.seed * 100_003 + epoch)
        order = torch.randperm(len(views), generator=generator).tolist() * -(-batch // len(views))
        torch.manual_seed(views.seed * 100_003 + epoch + 7_919 * accelerator.process_index)
        first = epoch * per_epoch
        todo = min(per_epoch, steps - first)
        mine = torch.tensor(order[: todo * batch]).view(todo, accelerator.num_processes, -1)[:, accelerator.process_index]
        ordered = _WithErrors(views, mine.flatten().tolist())
        loader = DataLoader(ordered, batch // shares, num_workers=workers, collate_fn=ordered.collate)
        plan.set_mode(model, body)
        total = 0.0
        try:
            tracked = reporter.track(
                _steps(_started(loader), runtime.accumulate), todo, f"{what}, epoch {epoch + 1} of {epochs}"
            )
            for at, taken in enumerate(tracked, first):
                value = _step(accelerator, model, objective, taken, at / steps, precision)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                if average:
                    _follow(average, plain, 1 - plan.average(at))
                total += value
                writer.numbers(at + 1, {"step/loss": value, "step/lr": float(schedule.get_last_lr()[0])})
        except (RuntimeError, MemoryError) as error:
            if workers and ("shared memory" in str(error) or "DataLoader worker" in str(error)):
                raise SettingsError(
                    f"{what}: a process that reads images ended ({str(error).splitlines()[0]:.120}); {epoch} of {epochs} epochs"
                    f" are kept in {folder}; give the same command, without --redo, with --workers 0"
                ) from None
            if not out_of_memory(error):
                raise
            raise SettingsError(
                f"{what}: memory ran out with a batch of {batch} in {runtime.accumulate} parts; {epoch} of {epochs} epochs are"
                f" kept in {folder}; {_remedy(batch, accelerator.num_processes, runtime.accumulate)}"
            ) from None
        if not total < float("inf"):
            raise SettingsError(f"{what}: the loss is {total} in epoch {epoch + 1}; lower the learning rate (or weight decay)")
        seen = average or plain
        seen.eval()
        with torch.no_grad():
            found = runtime.once(lambda seen=seen: look(seen))  # type: ignore[misc]
        record = {"epoch": epoch + 1, "loss": total / todo, **found}
        state.save(record, best_by, seen, write=runtime.first)
        writer.numbers(first + todo, {f"epoch/{name}": value for name, value in record.items() if isinstance(value, float)})
        writer.flush()
        runtime.wait()
    return state.best, state.history


def accelerate(runtime: Runtime) -> Accelerator:
    """What trains on this machine; variables of a launcher that did not start this process are not shown to it.

    Raises:
        SettingsError: the environment says what cannot be.
    """
    hidden = {} if is_distributed() else {name: os.environ.pop(name) for name in LAUNCHERS if name in os.environ}
    try:
        return Accelerator(cpu=runtime.torch_device().type == "cpu")
    except Exception as error:  # whatever it makes of the environment
        said = {name: value for name, value in os.environ.items() if name.startswith(("ACCELERATE_", "FORK_LAUNCHED"))}
        raise SettingsError(
            f"accelerate cannot start here ({type(error).__name__}: {error}); unset what the environment says of it:"
            f" {', '.join(said) or 'what a launcher has set'}"
        ) from None
    finally:
        os.environ.update(hidden)


def _step(
    accelerator: Accelerator, model: nn.Module, objective: Objective, taken: list[Any], share: float, precision: str
) -> float:
    """The gradient of one step, added up over its parts; returns the loss of the whole batch."""
    counts: Tensor | None = None
    total = torch.zeros((), device=accelerator.device)
    taken = send_to_device(taken, accelerator.device)
    for at, (inputs, targets) in enumerate(taken):
        whole = at == len(taken) - 1
        with nullcontext() if whole else accelerator.no_sync(model):
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                output = objective.forward(model, recursively_apply(_channels_last, inputs), share)
            output = convert_to_fp32(output)
            if counts is None:
                of_parts = torch.stack([objective.counts(output, others) for _, others in taken])
                counts = accelerator.reduce(of_parts.sum(0).to(accelerator.device), "sum")
            value = objective(output, targets, counts)
            accelerator.backward(value * accelerator.num_processes)  # gradients of processes are averaged
            total = total + value.detach()
    return float(accelerator.reduce(total, "sum"))


def _workers(wanted: int, views: Views, batch: int, reporter: Reporter) -> int:
    """So many processes as are wanted, or none where shared memory has no room for the batches that they would leave there."""
    if not wanted or not SHARED_MEMORY.is_dir():
        return wanted
    try:
        shown = views[0]
    except (AdvcamError, RuntimeError, MemoryError):  # said where the images are read in earnest
        return wanted
    values = [value for part in shown for value in (part.values() if isinstance(part, dict) else [part])]
    each = batch * sum(value.nbytes for value in values)
    needed, free = AHEAD * wanted * each, shutil.disk_usage(SHARED_MEMORY).free
    if needed <= free:
        return wanted
    reporter.say(
        f"images are read in the training process: {wanted} workers need {needed / 2**20:.0f} MB of shared memory,"
        f" {SHARED_MEMORY} has {free / 2**20:.0f} MB free (docker run --shm-size=1g gives more)"
    )
    return 0


def _remedy(batch: int, processes: int, parts: int) -> str:
    """What to do where memory ran out: more parts, each of two images at least; else smaller crops."""
    more = [n for n in range(parts + 1, batch // (2 * processes) + 1) if batch % (n * processes) == 0]
    smaller = "give --redo and a smaller --crop"
    return f"give the same command, without --redo, with --accumulate {more[0]}; or {smaller}" if more else smaller


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches; the processes that read them leave Ctrl-C, which a terminal sends to all, to this one."""
    if not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is started now keeps it blocked
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _steps(loader: Iterable[Any], parts: int) -> Iterator[list[Any]]:
    """The batches that belong to one step, together; an error is raised."""
    taken: list[Any] = []
    for batch in loader:
        if isinstance(batch, AdvcamError):
            raise batch
        taken.append(batch)
        if len(taken) == parts:
            yield taken
            taken = []


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, weight: float) -> None:
    """Moves the average towards the model; what is not a float is copied."""
    for kept, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        kept.lerp_(now, weight) if kept.is_floating_point() else kept.copy_(now)


class _WithErrors(Dataset[Any]):
    """Views in an order. An error of ours comes out of a worker process as itself, not as a worker's traceback."""

    def __init__(self, views: Views, order: list[int]) -> None:
        self.views, self.order = views, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> Any:
        try:
            return self.views[self.order[at]]
        except AdvcamError as error:
            return error

    @staticmethod
    def collate(views: list[Any]) -> Any:
        """A batch, or the first error among its views."""
        return next((view for view in views if isinstance(view, AdvcamError)), None) or default_collate(views)


class _Progress:
    """What is kept between epochs, on disk."""

    def __init__(self, folder: Path, parts: dict[str, Any]) -> None:
        self.path, self.parts = folder / "training.pt", parts
        self.history: list[dict[str, Any]] = []
        self.best: State = {}
        if self.path.is_file():
            self._go_on()

    def _go_on(self) -> None:
        """Takes up what the file holds.

        Raises:
            RunError: it is damaged, or the state of another network.
        """
        remedy = f"delete {self.path} and give the same command again: this training then starts anew"
        try:
            kept = torch_load(self.path)
            history = msgspec.convert(kept["history"], History)
            best = msgspec.convert(kept["best"], dict[str, Any])
            if not history:
                raise ValueError("no epoch")
        except Exception as error:  # a damaged file raises anything from EOFError to zipfile's
            said = " ".join(str(error).split())[:160]
            raise RunError(f"{self.path}: damaged ({type(error).__name__}: {said}); {remedy}") from None
        try:
            for name, part in self.parts.items():
                part.load_state_dict(kept[name])
            wanted = {name: (value.shape, True) for name, value in self.parts["model"].state_dict().items()}
            if {name: (value.shape, value.is_contiguous()) for name, value in best.items()} != wanted:
                raise ValueError("its best weights are none of this network")
        except Exception as error:  # optimizers and schedules raise whatever comes
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(f"{self.path}: the state of another network ({said}); {remedy}") from None
        # The same words as this program's own, so that the file is written the same as by one that was never stopped.
        self.history = [{sys.intern(name): value for name, value in record.items()} for record in history]
        self.best = best

    def save(self, record: dict[str, Any], best_by: str | None, model: nn.Module, write: bool) -> None:
        score, *past = (-1.0 if best_by is None or math.isnan(r[best_by]) else r[best_by] for r in (record, *self.history))
        if score == -1.0 == max([-1.0, *past]) or score > max(past, default=-1.0):  # where nothing tells, the last
            self.best = {n: v.detach().cpu().clone().contiguous() for n, v in model.state_dict().items()}
        self.history.append(record)
        if not write:
            return
        kept = {name: part.state_dict() for name, part in self.parts.items()}
        stream = io.BytesIO()  # torch's own writer turns a full disk into a riddle
        torch.save(kept | {"history": self.history, "best": self.best}, stream)
        write_bytes(self.path, stream.getbuffer())


class _Writer:
    """TensorBoard's, where one is wanted."""

    def __init__(self, folder: Path | None) -> None:
        self.writer = None
        if folder:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise SettingsError("--tensorboard: it is not installed; `pip install tensorboard`, or leave it out") from None
            self.writer = SummaryWriter(str(folder / "tensorboard"))

    def flush(self) -> None:
        """Writes what was collected to disk."""
        if self.writer:
            self.writer.flush()

    def numbers(self, step: int, found: dict[str, float]) -> None:
        """Writes numbers of a step."""
        for name, value in found.items() if self.writer else ():
            self.writer.add_scalar(name, value, step)  # type: ignore[union-attr]
