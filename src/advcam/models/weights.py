"""Weights from files, with clear errors where they do not fit."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from advcam.errors import NetworkError

State = dict[str, Tensor]
Keys = tuple[str, ...]

_NAMES = ("state_dict", "model", "model_state_dict", "net", "network", "module", "weights", "params")
"""Names that trainers give the model's tensors, the likeliest first; used where a file holds several sets of tensors."""

_SUFFIX = "num_batches_tracked"  # of tensors that may be missing


def load_state(path: Path) -> State:
    """The tensors of a ``.safetensors`` file or a torch checkpoint, nested dicts included.

    Takes the only dict of tensors by name, up to two levels down, or of several the one with a known name (``state_dict``,
    ``model``, ...). Names are not changed; :func:`without_prefix` removes a shared prefix.

    Raises:
        NetworkError: missing, another kind of file, with Python objects in it, without tensors, or with several sets of them.
    """
    try:
        if not path.is_file():
            raise NetworkError(f"{path}: there is no such file of weights")
        held = load_file(path) if _is_safetensors(path) else torch_load(path)
    except NetworkError:
        raise
    except Exception as error:  # a damaged file raises anything from EOFError to IndexError
        raise NetworkError(f"{path}: {_why_not(path, error)}") from None
    state = _chosen(held, path)
    for name, value in state.items():
        if odd := _odd(value):
            raise NetworkError(f"{path}: {name!r} is {odd}, expected a plain tensor with values; save the weights as such")
    return state


def _odd(value: Tensor) -> str:
    """Why a tensor cannot be a weight; empty for plain tensors."""
    if value.is_nested or value.layout is not torch.strided:
        return f"a {'nested' if value.is_nested else value.layout} tensor"
    if value.is_meta:
        return "on the meta device, without values"
    if value.is_quantized or value.is_complex():
        return f"of {value.dtype}"
    return ""


def torch_load(path: Path) -> Any:
    """Reads what ``torch.save`` wrote, without Python objects that could run code and within the memory of the file's size.

    Raises:
        Exception: any, where the file is damaged.
    """
    with warnings.catch_warnings():  # we have our own messages for old pickles and TorchScript
        warnings.simplefilter("ignore")
        with path.open("rb") as file:  # by handle, as torch treats the name *.safetensors differently
            start = file.peek(2)[:2]
            if start != b"PK" and start[:1] != b"\x80":
                raise ValueError("neither an archive nor a pickle")
            if start == b"PK" and _unpacked(path) > 2 * path.stat().st_size:
                raise ValueError("unpacks to more than torch.save would have written")
            # A pickle states lengths to read; from bytes in memory it cannot get more than there is.
            held = file if start == b"PK" else io.BytesIO(file.read())
            return torch.load(held, map_location="cpu", weights_only=True)


def _unpacked(path: Path) -> int:
    """The unpacked size of an archive in bytes."""
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins with eight bytes of length, then JSON, whatever its name."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _why_not(path: Path, error: Exception) -> str:
    """Why a file was not loaded, and what to do."""
    save = "torch.save(model.state_dict(), FILE)"
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as refused:
        return f"cannot be read ({refused.strerror}): expected a file of weights"
    if _is_torchscript(path):
        return (
            "not a file of weights alone: it is a TorchScript archive, which holds code and is not loaded; save the weights of"
            f" the module it was made of by themselves: {save}"
        )
    if pickled := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"not a file of weights alone: it holds Python objects too ({pickled[1]}), which could run code and are not loaded;"
            f" save the weights by themselves: {save}"
        )
    if start[:1] == b"\x80" and "Weights only" in str(error):
        return (
            "not a file of weights that torch.save wrote: it is another pickle, which could run code and is not loaded; save"
            f" the weights by themselves: {save}"
        )
    expected = "expected .safetensors, or a torch state_dict"
    if not start:
        return f"not a file of weights ({expected}): it is empty. Copy or download it again"
    if start.startswith(b"PK") or start[8:9] == b"{" or start[:1] == b"\x80":
        return f"not a file of weights ({expected}): it is damaged or incomplete. Copy or download it again"
    return f"not a file of weights ({expected}): it begins with {start[:24]!r}"


def _is_torchscript(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile, NotImplementedError), zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _chosen(held: object, path: Path) -> State:
    """The tensors by name in what a file holds."""
    sets = dict(_sets(held))
    if not sets:
        came = f"a dict of {_some(held)}" if isinstance(held, dict) else f"a {type(held).__name__}"
        raise NetworkError(
            f"{path}: holds no tensors by name but {came}; save the model's: torch.save(model.state_dict(), FILE)"
        )
    likely = _likely(sets)
    if len(likely) == 1:
        return sets[likely[0]]
    keys = ["".join(f"[{name!r}]" for name in where) for where in likely]
    raise NetworkError(
        f"{path}: holds several dicts of tensors ({', '.join(repr('.'.join(where)) for where in likely[:8])}); save that of the"
        f" model by itself, e.g. torch.save(torch.load({path.name!r}){keys[0]}, FILE)"
    )


def _likely(sets: dict[Keys, State]) -> list[Keys]:
    """The sets of tensors that may be the model's: of nested sets the larger, then those of known names."""
    likely = list(sets)
    for inner in sets:
        for outer in sets:
            if len(outer) < len(inner) and inner[: len(outer)] == outer:
                smaller = inner if len(sets[inner]) <= len(sets[outer]) else outer
                likely = [keys for keys in likely if keys != smaller]
    for at in (0, 1):
        for name in _NAMES:
            if mine := [keys for keys in likely if keys[at : at + 1] == (name,)]:
                likely = mine
                break
    return likely


def _sets(held: object, where: Keys = ()) -> Iterator[tuple[Keys, State]]:
    """Every dict of tensors in a checkpoint with its path of keys, at most two."""
    if not isinstance(held, dict):
        return
    tensors = {name: value for name, value in held.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield where, tensors
    for name, value in held.items() if len(where) < 2 else ():
        if isinstance(name, str):
            yield from _sets(value, (*where, name))


def without_prefix(state: State, wanted: Iterable[str], source: str = "the file", form: Callable[[str], str] = str) -> State:
    """The tensors without the prefix (``model.``, ``module.``, ``net.backbone.``) that the file puts before the model's names.

    It is the prefix p with the most wanted names as ``p + name``, if these are at least half of them. Without such a prefix,
    the tensors are returned unchanged.

    Args:
        state: tensors by name.
        wanted: the model's names.
        source: where it came from, for the message.
        form: applied to names before they are compared.

    Raises:
        NetworkError: several prefixes have these names, with different values.
    """
    forms = {form(name) for name in wanted}
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for at in range(len(parts)):
            if form(".".join(parts[at:])) in forms:
                found["".join(f"{part}." for part in parts[:at])] += 1
    most = max(found.values(), default=0)
    if 2 * most < len(forms) or found[""] == most:
        return state
    stripped = {
        prefix: {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        for prefix, count in found.items()
        if count == most
    }
    known = [p for name in _NAMES for p in stripped if p.split(".")[0] == name]
    first = (known or list(stripped))[0]
    if len(stripped) > 1 and not known and any(not _equal(stripped[first], other, forms, form) for other in stripped.values()):
        raise NetworkError(
            f"{source}: has the model's tensors several times, under {', '.join(repr(p) for p in stripped)}: save one set"
            f" only, e.g. {{name: t for name, t in state.items() if name.startswith({first!r})}}"
        )
    return stripped[first]


def _equal(a: State, b: State, forms: set[str], form: Callable[[str], str]) -> bool:
    shared = [name for name in a if form(name) in forms]
    return all(name in b and (a[name] is b[name] or torch.equal(a[name], b[name])) for name in shared)


def load_weights(model: nn.Module, state: State, source: str, new: tuple[str, ...] = ()) -> None:
    """Copies weights into a model by name; every tensor of the model must be there and fit.

    Args:
        model: to load into.
        state: may hold further tensors, and have a prefix before all names, see :func:`without_prefix`.
        source: where it came from, for the message.
        new: prefixes of tensors that keep their values where they are missing or of another shape (a new head).

    Raises:
        NetworkError: a tensor is missing, of another shape or not finite; says which, how many, and what was expected.
    """
    own = model.state_dict()
    wanted = {name: value for name, value in own.items() if not name.endswith(_SUFFIX)}
    held, state = state, without_prefix(state, [name for name in wanted if not (new and name.startswith(new))], source)
    fresh = (
        {n for n, v in wanted.items() if n.startswith(new) and (n not in state or state[n].shape != v.shape)} if new else set()
    )
    missing = [name for name in wanted if name not in state and name not in fresh]
    if missing:
        said = has(held, missing[0], [state[name] for name in wanted if name in state])
        raise NetworkError(
            f"{source}: lacks {len(missing)} of the model's {len(wanted)} tensors, the first {missing[0]!r}; {said}."
            f" Are these the weights of {type(model).__name__} as set up here?"
        )
    other = [name for name in wanted if name not in fresh and state[name].shape != wanted[name].shape]
    if other:
        name = other[0]
        raise NetworkError(
            f"{source}: {name!r} has shape {tuple(state[name].shape)}, the model expects {tuple(wanted[name].shape)}"
            f" ({len(other)} such tensors); these are weights of another network or number of classes"
        )
    broken = [name for name, _ in model.named_parameters() if name in state and not state[name].float().isfinite().all()]
    if broken:
        raise NetworkError(
            f"{source}: {broken[0]!r} holds NaN or infinite values ({len(broken)} such tensors): a diverged training, or a"
            " damaged file"
        )
    model.load_state_dict({n: state[n] for n in own if n in state and n not in fresh}, strict=False)


def adapted(state: State, model: nn.Module, channels: int) -> State:
    """The tensors with a first convolution of three channels made one of ``channels``, as timm adapts its pretrained weights.

    Args:
        state: tensors by name.
        model: that they are meant for.
        channels: of the model's input; with three, nothing changes.
    """
    wanted = {value.shape for value in model.state_dict().values() if value.ndim == 4 and value.shape[1] == channels}

    def fits(value: Tensor) -> bool:
        return value.ndim == 4 and value.shape[1] == 3 and torch.Size((len(value), channels, *value.shape[2:])) in wanted

    return state if channels == 3 else {n: adapt_input_conv(channels, v) if fits(v) else v for n, v in state.items()}


def has(held: State, lacked: str, taken: Iterable[Tensor]) -> str:
    """The file's tensor names closest to one that it lacks, unused tensors first, for a message."""
    own = {id(value) for value in taken}
    return f"it has {_some([name for name, value in held.items() if id(value) not in own] or held, lacked)}"


def _some(held: Iterable[object], near: str = "") -> str:
    """Three names, those like ``near`` first."""
    names = [str(name) for name in held]
    close = get_close_matches(near, names, 3, 0.5) if near else []
    shown = list(dict.fromkeys([*close, *names]))[:3]
    return ", ".join(repr(name) for name in shown) + (", ..." if len(names) > len(shown) else "")
