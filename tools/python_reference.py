"""Writes docs/reference/*.md, the public Python names from their docstrings; ``--check`` sees that they are current."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
PAGES = {
    "python": ("advcam", "Python", "What `import advcam` gives."),
    "attribution": ("advcam.attribution", "Python: maps and climb", "Pure torch: maps of features, the climb, views, presets."),
    "refinement": ("advcam.refinement", "Python: refinement", "Pure torch: from maps to masks."),
    "metrics": ("advcam.metrics", "Python: metrics", "Pure torch: counts that add over images, and their numbers."),
    "consistency": ("advcam.consistency", "Python: consistency losses", "Pure torch: losses that ask predictions to agree."),
}
NOTE = "\n\nWritten by `make reference` from the docstrings; `make check` sees that it is current.\n"
HEADING = re.compile(r"^(Args|Returns|Yields|Raises|Source|Example):[ ]*(.*)$")
ROLE = re.compile(r":\w+:`[~.]?([^`]+)`")


def main() -> int:
    """Writes the pages, or compares them."""
    stale = 0
    for name, (module, title, about) in PAGES.items():
        path, text = FOLDER / f"{name}.md", page(importlib.import_module(module), title, about)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"{path}: is not what the docstrings are now; `make reference` writes it anew")
            stale = 1
    return stale


def page(module: Any, title: str, about: str) -> str:
    """All public functions and classes of a module."""
    parts = [f"# {title}\n\n{about}{NOTE}"]
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            parts += entry(f"{module.__name__}.{name}", value, "##")
            parts += [part for method, of in methods(value) for part in entry(f"{name}.{method}", of, "###")]
    return "\n".join(parts)


def methods(value: Any) -> Iterator[tuple[str, Any]]:
    """The public methods of a class that have docstrings of their own."""
    if inspect.isclass(value):
        for name, method in vars(value).items():
            if inspect.isfunction(method) and method.__doc__ and (name == "__call__" or not name.startswith("_")):
                yield name, method


def entry(name: str, value: Callable[..., Any], level: str) -> list[str]:
    """Heading, signature and docstring."""
    lines = (inspect.getdoc(value) or "").splitlines()
    shown = f"{name.replace('.__call__', '')}{signature(value)}"
    return [f"{level} {name}\n", f"```text\n{shown}\n```\n", *sections(lines)]


def signature(value: Callable[..., Any]) -> str:
    """Names and defaults of the parameters."""
    kept = [p.replace(annotation=p.empty) for p in inspect.signature(value).parameters.values() if p.name != "self"]
    return str(inspect.Signature(kept))


def sections(lines: list[str]) -> Iterator[str]:
    """The parts of a docstring as Markdown: paragraphs, lists of arguments, examples."""
    title, body = "", list[str]()
    for line in lines:
        if found := HEADING.match(line):
            yield from section(title, body)
            title, body = found[1], [found[2]] if found[2] else []
        else:
            body.append(line)
    yield from section(title, body)


def section(title: str, body: list[str]) -> Iterator[str]:
    """One part."""
    text = ROLE.sub(r"`\1`", textwrap.dedent("\n".join(body)).strip("\n")).replace("``", "`")
    if not text.strip():
        return
    if title == "Example":
        yield f"```pycon\n{textwrap.dedent(text)}\n```\n"
    elif title in ("Args", "Raises"):
        entries = re.sub(r"^\*{0,2}(\w+):", r"* `\1`:", textwrap.dedent(text), flags=re.MULTILINE)
        yield f"**{title}**\n\n{entries}\n"
    else:
        yield (f"**{title}**: " if title else "") + textwrap.dedent(text) + "\n"


if __name__ == "__main__":
    sys.exit(main())
