"""Running a foreign model in eval mode and restoring it afterwards."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from textwrap import shorten
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from advcam.errors import AdvcamError, NetworkError, RefusedImagesError, out_of_memory

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_one_at_a_time = threading.Lock()
_renewed: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # how often a model's cached analysis was discarded


@contextlib.contextmanager
def evaluating(model: nn.Module, draws: bool = True) -> Iterator[nn.Module]:
    """The model in eval mode with no parameter requiring gradient; restored afterwards, also after an error.

    Training flags and ``requires_grad`` are restored, and the random state if the model draws from it (else other threads
    would draw the same numbers twice). A lock lets in one thread at a time.
    """
    with _one_at_a_time:
        lock = _locks.setdefault(model, threading.RLock())
    with lock, torch.random.fork_rng(_cuda(model), enabled=draws):
        training = [module for module in model.modules() if module.training]
        asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
        try:
            for module in training:
                module.training = False
            for parameter in asking:
                parameter.requires_grad_(False)
            yield model
        finally:
            for module in training:
                module.training = True
            for parameter in asking:
                parameter.requires_grad_(True)


def random_state(model: nn.Module) -> list[bytes]:
    """The states of the random generators that the model may draw from."""
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in _cuda(model))]
    return [bytes(state.tolist()) for state in states]


def _cuda(model: nn.Module) -> list[int]:
    return sorted({parameter.device.index for parameter in model.parameters() if parameter.is_cuda})


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile``, whose layers can be hooked.

    Raises:
        NetworkError: not a module, or TorchScript, whose layers cannot be hooked.
    """
    while isinstance(model, nn.Module):
        held = vars(model).get("_modules", {})
        if "_orig_mod" in held:  # compiled; first, since it forwards attributes such as `module` of the inner model
            model = held["_orig_mod"]
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    if not isinstance(model, nn.Module):
        raise NetworkError(f"the model must be a torch.nn.Module that returns logits [N, K]; got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise NetworkError(
            "the model is TorchScript, whose layers cannot be hooked: give the torch.nn.Module that it was made of"
        )
    if "_modules" not in vars(model):
        raise NetworkError(f"{type(model).__name__} is not set up: its __init__ must begin with super().__init__()")
    return model


def signature(model: nn.Module) -> object:
    """A key that changes with modules, hooks, patched forwards and tensors: a cached analysis is valid while it is the same."""
    modules = tuple(
        (name, id(m), len(m._forward_hooks), len(m._forward_pre_hooks), id(vars(m).get("forward")))
        for name, m in model.named_modules()
    )
    tensors = (*model.parameters(), *model.buffers())
    return _renewed.get(model, 0), modules, tuple((id(t), t.dtype, 0 if t.is_inference() else t._version) for t in tensors)


def remembered(store: WeakKeyDictionary[nn.Module, Any], model: nn.Module) -> dict[Any, Any]:
    """What ``store`` holds of a model; empty where the model's signature has changed since."""
    state = signature(model)
    kept = store.get(model)
    if kept is None or kept[0] != state:
        kept = store[model] = (state, {})
    found: dict[Any, Any] = kept[1]
    return found


def renew(model: nn.Module) -> None:
    """Discards the cached analysis of a model although its signature is the same."""
    _renewed[model] = _renewed.get(model, 0) + 1


def checked_forward(model: nn.Module, images: Tensor) -> Tensor:
    """The logits [N, K] of images [N, C, H, W]; any exception of the model becomes a NetworkError.

    Out-of-memory errors pass unchanged, for the caller to halve its batch.

    Raises:
        RefusedImagesError: the model refuses images of this size.
        NetworkError: it fails in any other way, or returns no logits for these images.
    """
    with as_network_errors(model, "fails", f"does not take images of {images.shape[2]}x{images.shape[3]}"):
        logits = logits_of(model(images))
    if len(logits) != len(images):
        raise NetworkError(
            f"{type(model).__name__} returned logits {tuple(logits.shape)} for {len(images)} images: expected a row for each."
            " Give one image at a time, or wrap it in a module that returns a row for each"
        )
    return logits


@contextlib.contextmanager
def as_network_errors(model: nn.Module, does: str, refuses: str = "") -> Iterator[None]:
    """Turns any exception of a foreign model into a NetworkError, with the original as its cause.

    Errors of advcam, out-of-memory errors, and warnings turned into errors pass unchanged.

    Args:
        model: whose errors they are.
        does: what the model does wrong, in words that follow its name.
        refuses: the same where it refuses a size, as timm (AssertionError) and Hugging Face (ValueError) do it.

    Raises:
        RefusedImagesError: it refuses a size.
        NetworkError: anything else.
    """
    try:
        yield
    except AdvcamError:
        raise
    except Exception as error:
        if out_of_memory(error) or isinstance(error, Warning):
            raise
        name = type(model).__name__
        if refuses and isinstance(error, (AssertionError, ValueError)):
            raise RefusedImagesError(
                f"{name} {refuses} pixels: {describe_error(error)}. Give images (and scales) of the size that it was made for"
            ) from error
        raise NetworkError(f"{name} {does} with {type(error).__name__}: {describe_error(error)}. {REMEDY}") from error


REMEDY = (
    "Its forward must take one float tensor of images [N, C, H, W] and nothing else: give images of the size that it was made"
    " and channels for; where it takes more than images, wrap it in a module that takes RGB images alone"
)


def describe_error(error: Exception) -> str:
    """A foreign error's message, in one line without a full stop at its end."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    lines = plain.splitlines() or ["no reason given"]
    return shorten(lines[-1 if "Traceback" in plain else 0], 240, placeholder=" ...").rstrip(".:")


def describe_value(value: object) -> str:
    """A value for a message: a tensor by type and shape, anything else by its repr, in one short line."""
    if isinstance(value, Tensor):
        return "a nested tensor" if value.is_nested else f"a {value.dtype} tensor {tuple(value.shape)}"
    try:
        return shorten(repr(value), 100, placeholder=" ...")
    except Exception:  # the repr of a foreign object may raise anything
        return f"a {type(value).__name__}"


def logits_of(output: object) -> Tensor:
    """The logits [N, K] of what a model returned: a tensor, or an object with ``.logits`` (Hugging Face).

    Raises:
        NetworkError: something else.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] and logits.is_floating_point():
        return logits
    kind = f"{output.dtype} tensor" if isinstance(output, Tensor) and not output.is_floating_point() else "tensor"
    came = f"a {kind} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise NetworkError(
        f"the model must return logits as one tensor [N, K], or an object with such .logits; it returned {came}."
        " Wrap it in a module that returns them"
    )
