"""A network of the user's own from ``FILE.py:FUNCTION``, run only where this user has asked for it.

A run folder names such code too, and may come from somebody else. So the code that the user named on the command line is
copied to the user's configuration (``~/.config/advcam/classifiers``, or below ``XDG_CONFIG_HOME``) under its hash, and only
these copies are run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import warnings
from pathlib import Path

from torch import nn

from advcam.errors import AdvcamWarning, NetworkError, known

_asked: dict[str, bytes] = {}


def is_code(reference: str | None) -> bool:
    """Whether a classifier is named as ``FILE.py:FUNCTION``."""
    return reference is not None and ".py:" in reference


def allow(reference: str) -> None:
    """Allows the code of ``FILE.py:FUNCTION``, as the file is now, to be run from now on.

    Raises:
        NetworkError: no such file.
    """
    source = _read(reference)
    key = _key(source, reference)
    if _kept(key, reference) is not None:
        return
    _asked[key] = source
    path = kept_in() / f"{key}.py"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)
    except OSError as error:
        warnings.warn(
            f"{path}: cannot be written ({error.strerror}), so {reference} is allowed for this command only; give"
            " --classifier again with the next",
            AdvcamWarning,
            stacklevel=2,
        )


def kept_in() -> Path:
    """The user's folder of allowed code."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(home) / "advcam" / "classifiers"


def key_of(reference: str) -> str:
    """The hash of the code of ``FILE.py:FUNCTION``: the file's content and the function's name.

    Raises:
        NetworkError: no such file.
    """
    return _key(_read(reference), reference)


def own_classifier(reference: str, key: str | None = None) -> nn.Module:
    """The user's network from ``FILE.py:FUNCTION``; the function takes nothing and returns a trained module.

    Args:
        reference: the file and the function.
        key: the code's :func:`key_of`, to run it as it was then; None takes the file as it is.

    Raises:
        NetworkError: no such file or function, it was not allowed, it fails, or returns something else.
    """
    source = _kept(key or key_of(reference), reference)
    if source is None:
        raise NetworkError(
            f"{reference}: is code that this user has not allowed to run, or it has changed since; read the file and, to"
            f" run it, give the same command with --classifier {reference}"
        )
    file, _, function = reference.rpartition(":")
    spec = importlib.util.spec_from_loader(Path(file).stem, None, origin=file)
    if spec is None:
        raise NetworkError(f"{reference}: {file!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    module.__file__ = file
    try:
        exec(compile(source, file, "exec"), vars(module))  # the hashed source, and no bytecode beside the file
        model = getattr(module, function)()
    except AttributeError as error:
        names = [name for name in vars(module) if not name.startswith("_")]
        raise NetworkError(f"{reference}: {error}; {known(function, names)}") from error
    except Exception as error:  # the user's file may raise anything
        beside = isinstance(error, ModuleNotFoundError) and Path(file).with_name(f"{error.name}.py").is_file()
        hint = f"; {error.name}.py lies beside it: PYTHONPATH={Path(file).resolve().parent} finds it" if beside else ""  # type: ignore[attr-defined]
        raise NetworkError(f"{reference}: failed with {type(error).__name__}: {error}{hint}") from error
    if not isinstance(model, nn.Module):
        raise NetworkError(f"{reference}: expected a torch.nn.Module, got {type(model).__name__}")
    return model


def _read(reference: str) -> bytes:
    file = reference.rpartition(":")[0]
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError):
        raise NetworkError(f"{reference}: expected FILE.py:FUNCTION; there is no file {file!r}") from None


def _key(source: bytes, reference: str) -> str:
    return hashlib.sha256(source + b"\0" + reference.rpartition(":")[2].encode()).hexdigest()


def _kept(key: str, reference: str) -> bytes | None:
    """The code of a hash, if this user has allowed it."""
    try:
        source = _asked.get(key) or (kept_in() / f"{key}.py").read_bytes()
    except (OSError, ValueError):
        return None
    return source if _key(source, reference) == key else None
