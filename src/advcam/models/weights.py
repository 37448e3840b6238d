"""Weights from files, and clear words where they do not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from advcam.errors import NetworkError

State = dict[str, Tensor]


LIKELY = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "ema")
"""Under which trainers keep the weights in a checkpoint, the likeliest first."""


def load_state(path: Path) -> State:
    """The tensors of a ``.safetensors`` file or a torch checkpoint, also where they lie in a dict inside it.

    Raises:
        NetworkError: missing, not such a file, without tensors, or with Python objects in it, which are never made.
    """
    if not path.is_file():
        raise NetworkError(f"{path}: there is no such file of weights")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from EOFError to IndexError
        raise NetworkError(f"{path}: {_why_not(error)}") from None
    return _tensors(path, state)


def _why_not(error: Exception) -> str:
    """Why a file was not loaded, in a sentence."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    if isinstance(error, UnpicklingError) and "weights_only" in said.lower().replace("weights only", "weights_only"):
        found = re.search(r"GLOBAL ([\w.]+)", said) or re.search(r"(?:class|function|type) ([\w.]+)", said)
        what = f" ({found[1]})" if found else ""
        return (
            f"not a file of weights alone: it holds Python objects too{what}, which could run code and are not loaded; save the"
            " weights by themselves: torch.save(model.state_dict(), FILE)"
        )
    reason = said.splitlines()[0][:200] if said else type(error).__name__
    return f"not a file of weights (expected .safetensors, or a torch state_dict): {reason}"


def _tensors(path: Path, value: Any) -> State:
    """The dict of tensors in what a file holds."""
    inside = {name: part for name, part in value.items() if _holds_tensors(part)} if isinstance(value, dict) else {}
    likely = next((name for name in LIKELY if name in inside), None)
    if likely or (len(inside) == 1 and not _is_state(value)):
        return _tensors(path, inside[likely or next(iter(inside))])
    if _is_state(value):
        return {name: part for name, part in value.items() if isinstance(name, str) and isinstance(part, Tensor)}
    if inside:
        raise NetworkError(
            f"{path}: holds several dicts of tensors ({', '.join(map(repr, inside))}); save that of the model by itself:"
            " torch.save(checkpoint[NAME], FILE)"
        )
    raise NetworkError(f"{path}: holds no tensors by name; save the model's state_dict()")


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(n, str) and isinstance(part, Tensor) for n, part in value.items())


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, dict) and (_is_state(value) or any(_is_state(part) for part in value.values()))


def without_prefix(state: State, wanted: Iterable[str]) -> State:
    """The tensors without the beginning that the names of a trainer's wrapper have in common (``model.``, ``module.``, ...).

    Args:
        state: of a file.
        wanted: names of the model's tensors: the beginning is what most of them have in front of them in the file.
    """
    names = set(wanted)
    counts = Counter(
        name[:at] for name in state for at in (0, *(found.end() for found in re.finditer(r"[._]", name))) if name[at:] in names
    )
    prefix = max(counts, key=lambda p: (counts[p], -len(p)), default="")
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)} if prefix else state


def fill(model: nn.Module, state: State, source: str, new: tuple[str, ...] = ()) -> None:
    """Copies weights into a model by name; every tensor of the model must be there and fit.

    Args:
        model: is filled.
        state: may hold more than the model asks for, under names with one beginning in common, see :func:`without_prefix`.
        source: where it came from, for the message.
        new: prefixes of what may be missing or of another shape, and is then left as it is (a new head).

    Raises:
        NetworkError: a tensor is missing or of another shape; says which, how many, and what was expected.
    """
    own = model.state_dict()
    state = without_prefix(state, own)
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
