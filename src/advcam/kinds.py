"""Settings that hold what their annotations say."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import msgspec

from advcam.errors import SettingsError
from advcam.limits import MAX_SETTINGS, MAX_VALUE


def check_kinds(settings: Any) -> None:
    """Sees that every field of a dataclass holds a value of the kind that it is annotated with, and finite numbers.

    Raises:
        SettingsError: one does not; says which, what was expected, and what came.
    """
    for name, kind in _kinds(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, name)
        try:
            msgspec.convert(value, kind)
        except (msgspec.ValidationError, RecursionError) as error:
            raise SettingsError(
                f"{name}: {str(error).replace('`', '').replace('Expected', 'expected')} ({value!r:.60})"
            ) from None
        most = MAX_SETTINGS.get(name, MAX_VALUE)
        if not _within(value, most):
            raise SettingsError(f"{name}: expected finite numbers of at most {most:g}, got {value!r:.60}")


@functools.cache
def _kinds(settings: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, but for fields that are dataclasses: those look after themselves."""
    hints = get_type_hints(settings)
    return {field.name: hints[field.name] for field in fields(settings) if not is_dataclass(hints[field.name])}


def _within(value: object, most: float) -> bool:
    """Whether all numbers in a value are finite and no larger."""
    if isinstance(value, (int, float)):
        return abs(value) <= most
    if isinstance(value, Mapping):
        return all(_within(one, most) for one in value.values())
    return isinstance(value, str) or not isinstance(value, Iterable) or all(_within(one, most) for one in value)
