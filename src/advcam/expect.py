"""Checks of the arguments of public functions, before anything is computed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from numbers import Integral, Real
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from advcam.errors import InputError
from advcam.limits import MAX_ENTRIES, MAX_PIXELS, MAX_VALUE

_FLOAT = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_KINDS = {
    "float": _FLOAT,
    "whole numbers": _WHOLE,
    "whole numbers or booleans": (*_WHOLE, torch.bool),
    "booleans": (torch.bool,),
    "numbers": (*_FLOAT, *_WHOLE),
    "numbers or booleans": (*_FLOAT, *_WHOLE, torch.bool),
}


def expect(value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Checks that an argument is of a type; True and False do not count as numbers.

    Raises:
        InputError: it is not; the message says what was expected and what came.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"expected {what}, got {type(value).__name__}")


def expect_tensor(
    value: object, name: str, kind: str = "float", shape: str = "", *, finite: bool = False, beside: Tensor | None = None
) -> None:
    """Checks that an argument is a dense tensor that holds values (not sparse, nested or meta).

    Args:
        value: the argument.
        name: of the argument.
        kind: type of its values: ``float``, ``whole numbers``, ``booleans``, ``numbers`` (either of the first two), or the
            second or the fourth followed by ``or booleans``.
        shape: a word for each dimension, such as ``k h w``; empty accepts any number of dimensions.
        finite: refuse NaN and infinity; costs a pass over the values.
        beside: a tensor whose device it must share.

    Raises:
        InputError: it is not; the message says what was expected, what came, and what to do.
    """
    form = kind + (f" [{', '.join(shape.split())}]" if shape else "")
    if not isinstance(value, Tensor):
        raise InputError(f"{name} {describe(value)}: expected a tensor, {form}; torch.as_tensor makes one of arrays and lists")
    if value.is_nested or value.layout != torch.strided:
        layout = "nested" if value.is_nested else value.layout
        raise InputError(f"{name}, a {layout} tensor: expected a dense one, {form}; to_dense() or a padded copy gives it")
    if value.dtype not in _KINDS[kind] or (shape and value.ndim != len(shape.split())):
        raise InputError(f"{name} {tuple(value.shape)} of {value.dtype}: expected {form}; convert or reshape it")
    if value.is_meta or (beside is not None and value.device != beside.device):
        where = "" if beside is None else f" beside a tensor on {beside.device}"
        raise InputError(f"{name} on {value.device}{where}: expected values, all tensors on one device; move it with to()")
    if finite and not bool(value.isfinite().all()):
        raise InputError(
            f"{name} with NaN or infinity, expected finite numbers: look at what made it, or clean it (nan_to_num)"
        )


def expect_number(value: object, name: str, least: float = -MAX_VALUE, most: float = MAX_VALUE) -> float:
    """Returns a finite number from ``least`` to ``most`` as a float; takes Python's and numpy's, not tensors or booleans.

    Raises:
        InputError: it is not; the message says what was expected and what came.
    """
    try:
        if type(value) is not float and (not isinstance(value, Real) or isinstance(value, bool)):  # isinstance is slow
            value = math.nan
        given = float(value)
    except OverflowError:  # a whole number too large for a float
        given = math.nan
    if not (math.isfinite(given) and least <= given <= most):
        raise InputError(f"{name} {describe(value)}: expected a number from {least:g} to {most:g}")
    return given


def expect_whole(value: object, name: str, least: int = -(2**63), most: int = 2**63 - 1) -> int:
    """Returns a whole number from ``least`` to ``most`` as an int; takes Python's and numpy's, not tensors or booleans.

    Raises:
        InputError: it is not; the message says what was expected and what came.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
        limits = (
            f"from {least:,} to {most:,}" if most < 2**31 else f"of at least {least:,}" if least > -(2**31) else "of 64 bits"
        )
        raise InputError(f"{name} {describe(value)}: expected a whole number {limits}")
    return int(value)


def expect_list(value: Any, name: str) -> list[Any]:
    """Returns the entries of a sequence, a range, or a one-dimensional array; text is refused.

    Raises:
        InputError: it is something else.
    """
    with contextlib.suppress(Exception):  # foreign objects may raise anything
        listed = (isinstance(value, Sequence) and not isinstance(value, (str, bytes))) or value.ndim == 1
        if listed and len(value) <= MAX_ENTRIES:
            return list(value.tolist() if hasattr(value, "tolist") else value)
    raise InputError(f"{name} {describe(value)}: expected a list or tuple of at most {MAX_ENTRIES:,} entries")


def expect_size(value: object, name: str = "size", most: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns a size (H, W) of at least one and at most ``most`` pixels.

    Raises:
        InputError: it is something else, or larger.
    """
    sides = [expect_whole(side, f"a side of {name}", 1, 2**31) for side in expect_list(value, name)]
    if len(sides) != 2 or sides[0] * sides[1] > most:
        raise InputError(f"{name} {describe(sides)}: expected (H, W), two whole numbers, of at most {most:,} pixels in all")
    return sides[0], sides[1]


def describe(value: object) -> str:
    """Describes a value for a message in one short line: a tensor by type and shape, anything else by its repr."""
    try:
        if isinstance(value, Tensor):
            return "(a nested tensor)" if value.is_nested else f"(a {value.dtype} tensor {tuple(value.shape)})"
        return shorten(repr(value), 80, placeholder=" ...")
    except Exception:  # a foreign object's repr may raise anything
        return f"(a {type(value).__name__})"
