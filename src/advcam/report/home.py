"""Paths on a page that others may read: the home folder stands there as ``~``, so that its name, and whose it is, does not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape as of_svg

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import escape


def without_home(page: str) -> str:
    """Returns a text, or the source of a page, with ``~`` for the home folder in every path."""
    forms = {form for home in homes() for form in (home, str(escape(home)), of_svg(home), str(htmlsafe_json_dumps(home))[1:-1])}
    return re.sub(_paths(forms), "~", page) if forms else page


def command(words: Sequence[str]) -> str:
    """Returns words as they are typed in a shell, which knows the home folder."""
    return " ".join(map(_typed, words))


def homes() -> list[str]:
    """Returns the paths of the home folder, as it is named and as it is without links; none if it is the root or unknown."""
    try:
        home = Path.home()
    except RuntimeError:
        return []
    return [str(path) for path in dict.fromkeys((home, home.resolve())) if path != Path(path.anchor)]


def _typed(word: str) -> str:
    found = homes()
    parts = re.split(_paths(set(found)), word) if found else [word]
    if len(parts) == 1:
        return shlex.quote(word)
    if len(parts) == 2 and parts[0] == "" and parts[1][:1] in ("/", "\\"):
        return f"~/{shlex.quote(parts[1][1:]) if parts[1][1:] else ''}"
    return '"$HOME"'.join(shlex.quote(part) if part else "" for part in parts)


def _paths(forms: set[str]) -> str:
    """A pattern of these folders where they begin a path: no part of a longer name."""
    either = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    begins = r"(?:(?<![\w./\\~-])|(?<=\\u0027)|(?<=\\n)|(?<=file://))"  # the middle two: in JSON
    return rf"{begins}(?:{either})(?![\w-]|\.\w)"
