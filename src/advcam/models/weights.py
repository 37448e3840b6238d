"""Weights from files, and clear words where they do not fit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from advcam.errors import NetworkError

State = dict[str, Tensor]


def load_state(path: Path) -> State:
    """The tensors of a ``.safetensors`` file or a torch checkpoint (also under ``state_dict`` or ``model``).

    Raises:
        NetworkError: missing, not such a file, or without tensors.
    """
    if not path.is_file():
        raise NetworkError(f"{path}: there is no such file of weights")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from EOFError to IndexError
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise NetworkError(f"{path}: not a file of weights (expected .safetensors, or a torch state_dict): {reason}") from None
    for name in ("state_dict", "model"):
        state = state[name] if isinstance(state, dict) and isinstance(state.get(name), dict) else state
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise NetworkError(f"{path}: holds no tensors by name; save the model's state_dict()")
    return {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}


def fill(model: nn.Module, state: State, source: str, new: tuple[str, ...] = ()) -> None:
    """Copies weights into a model by name; every tensor of the model must be there and fit.

    Args:
        model: is filled.
        state: may hold more than the model asks for.
        source: where it came from, for the message.
        new: prefixes of what may be missing or of another shape, and is then left as it is (a new head).

    Raises:
        NetworkError: a tensor is missing or of another shape; says which, how many, and what was expected.
    """
    own = model.state_dict()
    wanted = {name: value for name, value in own.items() if not name.endswith("num_batches_tracked")}
    fresh = (
        {n for n, v in wanted.items() if n.startswith(new) and (n not in state or state[n].shape != v.shape)} if new else set()
    )
    missing = [name for name in wanted if name not in state and name not in fresh]
    if missing:
        has = ", ".join(repr(name) for name in list(state)[:3])
        raise NetworkError(
            f"{source}: lacks {len(missing)} of the model's {len(wanted)} tensors, the first {missing[0]!r}; it has {has}, ..."
            f" Are these the weights of {type(model).__name__} as set up here?"
        )
    other = [name for name in wanted if name not in fresh and state[name].shape != wanted[name].shape]
    if other:
        name = other[0]
        raise NetworkError(
            f"{source}: {name!r} has shape {tuple(state[name].shape)}, the model expects {tuple(wanted[name].shape)}"
            f" ({len(other)} such tensors); these are weights of another network, or of another number of classes"
        )
    model.load_state_dict({n: state[n] for n in own if n in state and n not in fresh}, strict=False)
