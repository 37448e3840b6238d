"""Checks that every public name has a docstring in the project's one form; run by ``make check``.

Usage: ``python tools/docstrings.py [MODULE ...]``; without arguments, the public names of advcam and of the four rooms of pure
maths.

Of each function and class in a module's ``__all__`` it asks for one sentence, ``Args:`` naming every parameter and no other,
``Returns:`` (or ``Yields:``) where something is returned, ``Raises:`` where the body has a ``raise``, ``Source:``, and
``Example:`` with a doctest (pytest runs it). Of each public method of such a class it asks for the same but ``Source:`` and
``Example:``. Of a property it asks for a sentence. Plain values (dicts, tuples, strings) are not looked at.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

MODULES = ("advcam", "advcam.attribution", "advcam.refinement", "advcam.metrics", "advcam.consistency")
HEADING = re.compile(r"^(Args|Returns|Yields|Raises|Source|Example):[ ]*(.*)$")
ENTRY = re.compile(r"^    \*{0,2}(\w+):")


def main(names: list[str]) -> int:
    """Print every fault in these modules.

    Returns:
        The exit status: 0 if there is none, else 1.
    """
    found = [fault for name in names or MODULES for fault in faults(importlib.import_module(name))]
    found = list(dict.fromkeys(found))  # a name exported by two modules is reported once
    print("\n".join(found) if found else "docstrings: all public names have one in full")
    return 1 if found else 0


def faults(module: ModuleType) -> Iterator[str]:
    """``name: lacks ...`` for each exported function or class, and each public method, whose docstring is not in full."""
    for name in module.__all__:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        where = f"{value.__module__}.{value.__qualname__}"
        lacks = _lacks_of_class(value) if inspect.isclass(value) else _lacks_of_function(value)
        yield from _report(where, lacks + _lacks_source_and_example(value))
        if inspect.isclass(value):
            for method_name, method in _public_methods(value):
                yield from _report(f"{where}.{method_name}", _lacks_of_method(method))


def _report(where: str, lacks: list[str]) -> Iterator[str]:
    if lacks:
        yield f"{where}: lacks {', '.join(lacks)}"


def _lacks_source_and_example(value: Any) -> list[str]:
    """Functions and classes need both, methods neither."""
    sections = _sections(value)
    missing = {"Source": "Source" not in sections, "Example": ">>>" not in sections.get("Example", "")}
    return [name for name, lacks in missing.items() if lacks]


def _lacks_of_function(function: Callable[..., Any], bound: bool = False) -> list[str]:
    sections = _sections(function)
    signature = inspect.signature(function)
    parameters = list(signature.parameters)[1 if bound else 0 :]
    lacks = _lacks_sentence(sections) + _lacks_args(sections, parameters)
    returns = signature.return_annotation not in (None, "None", inspect.Signature.empty)
    if returns and not sections.keys() & {"Returns", "Yields"}:
        lacks.append("Returns")
    return lacks + _lacks_raises(sections, function)


def _lacks_of_class(of: type) -> list[str]:
    sections = _sections(of)
    fields = dataclasses.fields(of) if dataclasses.is_dataclass(of) else ()
    described_elsewhere = fields and all("option" in field.metadata for field in fields)
    lacks = _lacks_sentence(sections)
    if not described_elsewhere:
        lacks += _lacks_args(sections, list(inspect.signature(of).parameters))
    makers = [vars(of)[name] for name in ("__init__", "__post_init__") if _has_source(vars(of).get(name))]
    return lacks + list(dict.fromkeys(lack for maker in makers for lack in _lacks_raises(sections, maker)))


def _lacks_of_method(method: Any) -> list[str]:
    if isinstance(method, property):
        return _lacks_sentence(_sections(method))
    static = isinstance(method, staticmethod)
    return _lacks_of_function(method.__func__ if isinstance(method, (classmethod, staticmethod)) else method, bound=not static)


def _lacks_sentence(sections: dict[str, str]) -> list[str]:
    return [] if "" in sections else ["a sentence"]


def _lacks_args(sections: dict[str, str], parameters: list[str]) -> list[str]:
    named = [entry.group(1) for line in sections.get("Args", "").splitlines() if (entry := ENTRY.match(line))]
    unknown = [f"the parameter {name} that Args names" for name in named if name not in parameters]
    return [f"Args for {name}" for name in parameters if name not in named] + unknown


def _lacks_raises(sections: dict[str, str], function: Callable[..., Any]) -> list[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    raises = any(isinstance(node, ast.Raise) for node in _own_body(tree))
    return ["Raises"] if raises and "Raises" not in sections else []


def _own_body(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below this one, but for those inside functions and classes defined in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield child
            yield from _own_body(child)


def _public_methods(of: type) -> Iterator[tuple[str, Any]]:
    """The methods, class methods and properties that the class itself defines in source, ``__call__`` included."""
    for name, member in vars(of).items():
        if name == "__call__" or not name.startswith("_"):
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if _has_source(function):
                yield name, member


def _has_source(function: Any) -> bool:
    """Whether somebody wrote it, unlike the methods that ``dataclass`` and ``NamedTuple`` generate."""
    return inspect.isfunction(function) and not function.__code__.co_filename.startswith("<")


def _sections(value: Any) -> dict[str, str]:
    """The text of each section of a docstring by its heading, the summary by ``""``; empty sections are left out."""
    sections: dict[str, str] = {}
    heading = ""
    for line in inspect.cleandoc(value.__doc__ or "").splitlines():
        if found := HEADING.match(line):
            heading, line = found.group(1), found.group(2)
        sections[heading] = sections.get(heading, "") + line + "\n"
    return {heading: text for heading, text in sections.items() if text.strip()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
