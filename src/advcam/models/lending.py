"""Another's model: used as it is, given back exactly as it was."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from advcam.errors import NetworkError

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def lent(model: nn.Module, draws: bool = True) -> Iterator[nn.Module]:
    """The model in eval mode with no parameter asking for a gradient; exactly as before afterwards, errors included.

    Training flags and ``requires_grad`` are put back, and the state of the random generators if the model draws from them
    (else other threads' numbers would come twice). One thread at a time has it.
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
    """Of the generators that the model may draw from."""
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in _cuda(model))]
    return [bytes(state.tolist()) for state in states]


def _cuda(model: nn.Module) -> list[int]:
    return sorted({parameter.device.index for parameter in model.parameters() if parameter.is_cuda})


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile``, whose layers can be watched.

    Raises:
        NetworkError: not a module, or TorchScript, whose layers cannot be watched.
    """
    while True:
        if hasattr(model, "_orig_mod"):  # compiled; first, since it passes on what its inside calls `module`
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    if not isinstance(model, nn.Module):
        raise NetworkError(f"the model must be a torch.nn.Module that returns logits [N, K]; got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise NetworkError(
            "the model is TorchScript, in which no layer can be watched: give the torch.nn.Module that it was made of"
        )
    return model


def signature(model: nn.Module) -> object:
    """What changes when modules, hooks, patched forwards or tensors do: what was found of a model holds as long as this."""
    modules = tuple(
        (name, id(m), len(m._forward_hooks), len(m._forward_pre_hooks), id(vars(m).get("forward")))
        for name, m in model.named_modules()
    )
    tensors = (*model.parameters(), *model.buffers())
    return modules, tuple((id(t), t.dtype, 0 if t.is_inference() else t._version) for t in tensors)


def logits_of(output: object) -> Tensor:
    """The logits [N, K] of what a model returned: a tensor, or an object with ``.logits`` (Hugging Face).

    Raises:
        NetworkError: something else.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(logits, Tensor) and logits.ndim == 2:
        return logits
    came = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise NetworkError(
        f"the model must return logits as one tensor [N, K], or an object with such .logits; it returned {came}."
        " Wrap it in a module that returns them"
    )
