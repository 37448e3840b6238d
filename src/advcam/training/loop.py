"""The training loop: trains, evaluates and saves each epoch; resumes to the same weights after a kill."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import convert_to_fp32, recursively_apply, send_to_device
from torch import Tensor, nn

from advcam.data import Views
from advcam.errors import SettingsError, out_of_memory
from advcam.models.weights import State
from advcam.progress import Reporter, Waited
from advcam.runtime import Runtime, is_distributed, resolve_precision

from .batches import step_batches, usable_workers
from .checkpoint import Checkpoint
from .losses import Objective
from .plan import Plan, batch_norms
from .tensorboard import Writer

_WHAT = ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE")
LAUNCHERS = (
    "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    *(f"{mpi}_{what}" for mpi in ("OMPI_COMM_WORLD", "MV2_COMM_WORLD", "PMI") for what in _WHAT),
)  # fmt: skip
"""Environment variables of distributed launchers."""

Look = Callable[[nn.Module], dict[str, Any]]


def divided(model: nn.Module, body: nn.Module | None, plan: Plan, views: int, runtime: Runtime, what: str) -> tuple[int, int]:
    """The images of a step, and in how many shares they are taken: one for each process and part. Puts the model into
    training mode.

    Args:
        model: what is trained.
        body: the part whose BatchNorm follows ``plan.batch_norm``; None is the whole model.
        plan: how.
        views: how many are trained on.
        runtime: processes and parts.
        what: the name of the training, for the message.

    Raises:
        SettingsError: a batch that cannot be divided.
    """
    shares, batch = runtime.processes * runtime.accumulate, plan.batch
    if plan.batch > views:  # BatchNorm needs two; a single image is shown twice
        batch = max(2, views - views % shares, shares)
    plan.set_mode(model, model if body is None else body)
    few = batch // shares < 2 and any(module.training for module in batch_norms(model))
    if batch % shares or few:
        raise SettingsError(
            f"{what}: a batch of {batch} cannot be divided over {runtime.processes} processes in"
            f" {runtime.accumulate} parts each; choose a --batch that is a multiple of {shares if not few else 2 * shares}"
            + (", since BatchNorm needs two images a part" if few else "")
        )
    return batch, shares


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
    run that finds the file resumes from it; views and dropout depend on seed and epoch only, so it ends with the same
    weights. Each of several processes takes its share of every batch, in ``runtime.accumulate`` parts: the weights equal those
    of one process and one part up to rounding, except with trained BatchNorm and dropout.

    Args:
        model: trained in place.
        body: the part whose BatchNorm follows ``plan.batch_norm``; None is the whole model.
        head: parameters with learning rate ``plan.head_lr``.
        views: what to train on.
        objective: the loss.
        plan: how.
        look: evaluates the model (its moving average if there is one) in eval mode after every epoch, in the first process;
            its numbers go into the history.
        best_by: the number of ``look`` by which the best epoch is chosen (the highest; the first on ties); None takes the last.
        folder: of the state.
        runtime: device, workers and limits.
        reporter: shows progress.
        what: the name on the bar.

    Raises:
        SettingsError: a batch that cannot be divided, a loss that is not finite, or too little memory; finished epochs are
            kept.
        RunError: a state of another network.
    """
    accelerator = accelerate(runtime)
    precision = resolve_precision(plan.precision, accelerator.device)
    body = model if body is None else body
    plan.prepare(body)
    average = copy.deepcopy(model).to(accelerator.device).eval() if plan.ema else None
    model, optimizer = accelerator.prepare(model, plan.optimize(model, head))
    batch, shares = divided(model, body, plan, len(views), runtime, what)
    per_epoch = max(1, len(views) // batch)
    steps = plan.steps or plan.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: plan.factor(i, steps))
    plain = accelerator.unwrap_model(model)
    parts = {"model": plain, "optimizer": optimizer, "schedule": schedule}
    state = Checkpoint(folder, parts | ({"average": average} if average else {}))
    writer = Writer(folder if runtime.tensorboard and runtime.first else None)
    epochs = math.ceil(steps / per_epoch)
    workers = usable_workers(runtime.readers, views, batch // shares, reporter) if len(state.history) < epochs else 0
    waited, shown = Waited(), 0
    for epoch in range(len(state.history), epochs):
        views.epoch = epoch
        generator = torch.Generator().manual_seed(views.seed * 100_003 + epoch)
        order = torch.randperm(len(views), generator=generator).tolist() * -(-batch // len(views))
        torch.manual_seed(views.seed * 100_003 + epoch + 7_919 * accelerator.process_index)
        first = epoch * per_epoch
        todo = min(per_epoch, steps - first)
        mine = torch.tensor(order[: todo * batch]).view(todo, accelerator.num_processes, -1)[:, accelerator.process_index]
        plan.set_mode(model, body)
        total = 0.0
        try:
            batches = step_batches(views, mine.flatten().tolist(), batch // shares, runtime.accumulate, workers)
            with reporter.bar(f"{what}, epoch {epoch + 1} of {epochs}", todo * batch) as advance:
                for at, taken in enumerate(waited.watch(batches), first):
                    value = _step(accelerator, model, objective, taken, at / steps, precision)
                    optimizer.step()
                    optimizer.zero_grad()
                    schedule.step()
                    if average:
                        _follow(average, plain, 1 - plan.average(at))
                    total += value
                    writer.numbers(at + 1, {"step/loss": value, "step/lr": float(schedule.get_last_lr()[0])})
                    advance(batch)
            shown += todo * batch
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
    if shown:
        reporter.say(waited.line(what, shown))
    return state.best, state.history


def accelerate(runtime: Runtime) -> Accelerator:
    """The accelerator; environment variables of a launcher that did not start this process are hidden from it.

    Raises:
        SettingsError: invalid environment variables.
    """
    hidden = {} if is_distributed() else {name: os.environ.pop(name) for name in LAUNCHERS if name in os.environ}
    try:
        return Accelerator(cpu=runtime.torch_device().type == "cpu")
    except Exception as error:  # it may raise anything on wrong environment variables
        said = {name: value for name, value in os.environ.items() if name.startswith(("ACCELERATE_", "FORK_LAUNCHED"))}
        raise SettingsError(
            f"accelerate cannot start here ({type(error).__name__}: {error}); unset its environment variables:"
            f" {', '.join(said) or 'those of a launcher'}"
        ) from None
    finally:
        os.environ.update(hidden)


def _step(
    accelerator: Accelerator, model: nn.Module, objective: Objective, taken: list[Any], share: float, precision: str
) -> float:
    """Accumulates the gradient of one step over its parts; returns the loss of the whole batch."""
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


def _remedy(batch: int, processes: int, parts: int) -> str:
    """What to do where memory ran out: more parts of at least two images each, else smaller crops."""
    more = [n for n in range(parts + 1, batch // (2 * processes) + 1) if batch % (n * processes) == 0]
    smaller = "give --redo and a smaller --crop"
    return f"give the same command, without --redo, with --accumulate {more[0]}; or {smaller}" if more else smaller


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, weight: float) -> None:
    """Updates the moving average; integers are copied."""
    for kept, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        kept.lerp_(now, weight) if kept.is_floating_point() else kept.copy_(now)
