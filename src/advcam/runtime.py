"""Device, limits and engine, which do not change a result, and precision, which does."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch

from advcam.errors import AdvcamError, AdvcamWarning, SettingsError
from advcam.options import Config, option
from advcam.process import usable_cores

T = TypeVar("T")

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Runtime(Config):
    """The device, the limits of memory and processes, and what the images of a step are made by.

    Raises:
        SettingsError: the device or the engine is not available.
    """

    device: str = option("auto", "auto (CUDA, then Apple's MPS, then CPU), cpu, cuda or mps", flag="device", common=True)
    workers: int | None = option(
        None, "processes that read images while a network trains; 0: a thread of this process; none: 0 on a CPU, which they"
        " slow down, elsewhere as many as cores but one, 2 at most", flag="workers", least=0, most=1024,
    )  # fmt: skip
    max_pixels: int | None = option(
        None, "most pixels in one forward pass of a climb; bounds memory", flag="max-pixels", least=1
    )
    accumulate: int = option(
        1, "take each training batch in so many micro-batches; bounds memory", flag="accumulate", least=1, most=10**6
    )
    tensorboard: bool = option(False, "write TensorBoard logs of trainings into the step's folder", flag="tensorboard")
    engine: str = option(
        "local", "what images are shared out by: local, this process or those of torchrun; ray, the actors of a Ray cluster",
        flag="engine", choices=ENGINES,
    )  # fmt: skip
    address: str | None = option(
        None, "HOST:PORT of a running Ray cluster, or auto for the one of this machine; none: RAY_ADDRESS, else a cluster of"
        " this machine alone, for this command", flag="address", example="10.0.0.1:6379",
    )  # fmt: skip
    actors: int | None = option(
        None, "processes that Ray works in, each with as many cores as this process has threads, or one GPU; none: as many as"
        " the cluster has room for", flag="actors", least=1, most=10**5,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        there = _devices()
        if self.device not in ("auto", *there):
            raise SettingsError(f"--device is one of auto, {', '.join(there)}; got {self.device!r}")
        if self.device != "auto" and not there[self.device] and self.engine == "local":
            raise SettingsError(
                f"--device {self.device}: not available here; use {', '.join(d for d, on in there.items() if on)}"
            )
        self._check_engine()

    def _check_engine(self) -> None:
        if self.engine == "local" and (odd := [name for name in ("address", "actors") if getattr(self, name) is not None]):
            raise SettingsError(f"--{odd[0]} is of a Ray cluster: give --engine ray too")
        if self.engine == "ray" and importlib.util.find_spec("ray") is None:
            raise SettingsError("--engine ray needs Ray, which is not installed: pip install 'advcam[ray]'")
        if self.engine == "ray" and is_distributed():
            raise SettingsError("torchrun and --engine ray both share out the images: leave out one of them")

    @property
    def readers(self) -> int:
        """The number of processes that read images."""
        if self.workers is not None:
            return self.workers
        return 0 if self.kind == "cpu" else min(2, usable_cores() - 1)

    def torch_device(self) -> torch.device:
        """Returns the torch device."""
        if is_distributed() and self.device != "cpu":
            return torch.device(_state(self).device)
        if self.device != "auto" and _devices()[self.device]:  # of a Ray cluster, only its actors may have it
            return torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    @property
    def kind(self) -> str:
        """The kind of device that images are made on: ``auto`` is what this process has."""
        return self.torch_device().type if self.device == "auto" else self.device

    def of_actor(self) -> Runtime:
        """Returns the runtime of an actor: the same kind of device and limits, for its own process alone."""
        return replace(self, device=self.kind, engine="local", address=None, actors=None)

    @property
    def first(self) -> bool:
        """Whether this process is the first, the one that writes; True if there is only one."""
        return not is_distributed() or bool(_state(self).is_main_process)

    @property
    def processes(self) -> int:
        """How many processes share the work."""
        return int(_state(self).num_processes) if is_distributed() else 1

    def share(self, items: list[T]) -> list[T]:
        """Returns this process's share of the items: with n processes, every n-th item."""
        return items[_state(self).process_index :: _state(self).num_processes] if is_distributed() else items

    def together(self, found: list[T]) -> list[T]:
        """Returns what all processes have found; each waits for the others."""
        if not is_distributed():
            return found
        from accelerate.utils import gather_object

        _state(self)
        every: list[T] = gather_object(found)
        return every

    def wait(self) -> None:
        """Waits until all processes have reached this call."""
        if is_distributed():
            _state(self).wait_for_everyone()

    def leave(self) -> None:
        """Waits for all processes, then closes the process group; one that exited early would abort the others."""
        if is_distributed():
            self.wait()
            gc.collect()  # a reference to the group would keep its threads alive, and the interpreter's exit would abort them
            torch.distributed.destroy_process_group()

    def once(self, call: Callable[[], T]) -> T:
        """Calls ``call`` in the first process and returns its result in all; an AdvcamError is raised in all."""
        if not is_distributed():
            return call()
        from accelerate.utils import broadcast_object_list

        _state(self)  # initialises the process group
        answer: list[Any] = [None]
        if self.first:
            try:
                answer = [call()]
            except AdvcamError as error:
                answer = [error]
        broadcast_object_list(answer)
        if isinstance(answer[0], AdvcamError):
            raise answer[0]
        given: T = answer[0]
        return given


def _devices() -> dict[str, bool]:
    """Which kinds of device there are, and whether this process has one."""
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def resolve_precision(precision: str, device: torch.device) -> str:
    """Resolves ``auto``: ``bfloat16`` if the device supports it in hardware, else ``float32``.

    An explicit ``bfloat16`` is used even if it is emulated, with an :class:`~advcam.errors.AdvcamWarning`.

    Args:
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: the device to compute on.
    """
    if precision == "float32" or has_bfloat16(device.type):
        return "float32" if precision == "float32" else "bfloat16"
    if precision == "bfloat16":
        warnings.warn(_emulated(device.type), AdvcamWarning, stacklevel=3)
    return "float32" if precision == "auto" else precision


def has_bfloat16(kind: str) -> bool:
    """Whether a kind of device supports bfloat16 in hardware, according to torch and oneDNN.

    CPU: AVX512-BF16 or AMX, unless ``ATEN_CPU_CAPABILITY`` or ``ONEDNN_MAX_CPU_ISA`` hides them, or ARM's BF16; CUDA:
    compute capability 8.0 or later; others: no.
    """
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    if kind != "cpu" or not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("AVX512_CORE", "AVX512_CORE_VNNI"):
        return False
    says = (getattr(torch.cpu, f"_is_{unit}_supported", lambda: False)() for unit in ("avx512_bf16", "amx_tile"))
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and any(says)


@functools.cache
def _emulated(kind: str) -> str:
    """Returns the warning that bfloat16 is emulated; on a CPU it states the slowdown, measured by this call."""
    if kind != "cpu":
        return f"bfloat16 is emulated on this {kind} device; precision auto uses float32 here"
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        image = torch.rand(4, 32, 56, 56)
        block = torch.nn.Sequential(
            torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.BatchNorm2d(32), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 1)
        )

    def seconds(enabled: bool) -> float:
        start = time.perf_counter()
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            block(image).float().sum().backward()
        return time.perf_counter() - start

    turns = [(seconds(True), seconds(False)) for _ in range(6)]
    slow, fast = (min(times) for times in zip(*turns[1:], strict=True))
    return (
        f"bfloat16 is emulated on this processor: two convolutions just took {slow / fast:.1f} times as long as in float32,"
        " which precision auto uses here"
    )


def bound_threads() -> None:
    """Limits torch to the cores that this process may use; a lower number of threads that is already set stays."""
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def is_distributed() -> bool:
    """Whether ``accelerate launch`` or ``torchrun`` started this process as one of several.

    ``WORLD_SIZE`` alone, as some clusters set it, does not count: the rank and the master address must be set too.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    launched = {"RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return launched and size.isdecimal() and int(size) > 1


def _state(runtime: Runtime) -> Any:
    from accelerate import PartialState

    patient = timedelta(days=30)  # a process may have to wait for the share of another; torchrun notices one that is gone
    return PartialState(cpu=runtime.device == "cpu" or not torch.cuda.is_available(), timeout=patient)
