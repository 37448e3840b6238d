"""Turns options of configs into command-line options, and typed options into layers of configs."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping
from dataclasses import MISSING
from pathlib import Path
from textwrap import fill
from typing import Any

from advcam.errors import AdvcamError, SettingsError
from advcam.options import Option, key_values, plain

LIMITS = "device and limits"
"""The group of the runtime's options."""


class Verb:
    """The parser of a verb, with the options of configs in groups.

    Args:
        parser: parser of the verb.
        everything: whether ``--help`` shows all options, or only the common ones.
    """

    def __init__(self, parser: ArgumentParser, everything: bool) -> None:
        self.parser, self.everything = parser, everything
        self.taken = set[str]()
        parser.add_argument("--help", "-h", action="help", help="show this and stop; --help-all shows every option")
        parser.add_argument("--help-all", action="help", help=argparse.SUPPRESS)

    def add(self, of: str, options: Mapping[str, Option], pairs: str = "", optional: Collection[str] = ()) -> None:
        """Adds options as a group of flags; an option whose flag is already taken becomes ``--OF-name``.

        Args:
            of: owner of the options and title of the group; in the namespace, an option is ``OF.name``.
            options: the options by name.
            pairs: the flag for ``KEY=VALUE``, if there is one.
            optional: names that need not be given although the config has no default.
        """
        flagged = {name: about for name, about in options.items() if about.flag or about.positional}
        others = ", ".join(_named(about) for name, about in options.items() if name not in flagged)
        rest = fill(f"{pairs} KEY=VALUE sets any other of: {others}", 96) if others and self.everything else None
        group = self.parser.add_argument_group(of, rest)
        for name, about in flagged.items():
            self._add(group, of, about, required=about.default is MISSING and name not in optional)
        if pairs:
            group.add_argument(
                pairs, dest=f"{of}.{pairs}", action="append", metavar="KEY=VALUE", default=[],
                help="a setting; may be repeated" if self.everything else argparse.SUPPRESS,
            )  # fmt: skip

    def _add(self, group: Any, of: str, about: Option, required: bool) -> None:
        flag = about.flag or about.name
        if flag in self.taken:
            flag = f"{of}-{about.name.replace('_', '-')}"
        self.taken.add(flag)
        said: dict[str, Any] = {"help": _help(about) if about.common or self.everything else argparse.SUPPRESS}
        said |= {"dest": f"{of}.{about.name}", "default": argparse.SUPPRESS}
        if about.positional:
            group.add_argument(said["dest"], metavar=about.name.upper(), type=_reader(about), help=said["help"])
            return
        if "bool" in str(about.kind):
            group.add_argument(f"--{flag}", action=argparse.BooleanOptionalAction, **said)
            return
        if about.repeat or "dict" in str(about.kind):
            said |= {
                "action": "append",
                "default": argparse.SUPPRESS,
                "metavar": "KEY=VALUE" if "dict" in str(about.kind) else _metavar(about),
            }
        elif about.choices:
            said |= {"choices": [c for c in about.choices if c is not None], "type": _reader(about)}
        else:
            said |= {"type": _reader(about), "metavar": _metavar(about)}
        group.add_argument(f"--{flag}", required=required, **said)


def typed(args: Namespace, of: str, options: Mapping[str, Option]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a config's typed options, those typed as ``KEY=VALUE`` and those typed as flags; files as absolute paths.

    Raises:
        SettingsError: an entry is not ``KEY=VALUE``.
    """
    given = {name.removeprefix(f"{of}."): value for name, value in vars(args).items() if name.startswith(f"{of}.")}
    entered = {flag: entries for flag, entries in given.items() if flag.startswith("--")}
    pairs = {k: v for flag, entries in entered.items() for k, v in key_values(entries, flag, options).items()}
    flags = {name: _whole(options[name], value) for name, value in given.items() if name not in entered}
    return placed(pairs, options), placed(flags, options)


def placed(layer: Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Any]:
    """Settings as they are, but files by names that hold from any folder.

    Raises:
        SettingsError: links that lead nowhere, or no path.
    """
    return {name: _placed(name, value, options.get(name)) for name, value in layer.items()}


def _placed(name: str, value: Any, about: Option | None) -> Any:
    if not about or not about.file or not value or value in about.besides or not isinstance(value, (str, Path)):
        return value
    try:
        return about.make(value).resolve() if about.make else type(value)(Path(value).resolve())
    except (ValueError, OSError, RuntimeError) as error:
        raise SettingsError(f"{name}: {str(value)!r:.60} is no path that can be followed ({error})") from None


def _whole(about: Option, value: Any) -> Any:
    if "dict" in str(about.kind) and isinstance(value, list):
        return key_values(value, f"--{about.flag}")
    return tuple(value) if about.repeat and isinstance(value, list) else value


def _reader(about: Option) -> Any:
    def read(text: str) -> Any:
        try:
            return about.read(text)
        except AdvcamError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _help(about: Option) -> str:
    said = f"{about.symbol}: {about.help}" if about.symbol else about.help
    known = plain(None if about.default is MISSING or about.default is False else about.default)
    said += f" (default: {known})" if known else ""
    return (said + (f", e.g. {about.example}" if about.example and not about.choices else "")).replace("%", "%%")


def _metavar(about: Option) -> str:
    kind = str(about.kind)
    if "Path" in kind or about.file:
        return "PATH"
    return "A,B" if about.several and not about.repeat else "N" if "int" in kind or "float" in kind else "NAME"


def _named(about: Option) -> str:
    known = plain(None if about.default is MISSING else about.default)
    return f"{about.name}={known}" if known else about.name
