"""Writes src/advcam/cli/help.json, the help of every verb as ``--help`` prints it; ``--check`` sees that it is current.

``advcam VERB --help`` is answered from this file, since the parser is made of configs whose modules need torch: seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["COLUMNS"] = "80"

import advcam
from advcam.cli.parser import parser

FILE = Path(advcam.__file__).parent / "cli" / "help.json"


def texts(made: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> dict[str, str]:
    """Help by the words of the verb."""
    found = {" ".join(words): made.format_help()}
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found |= texts(below, (*words, name))
    return found


def main() -> int:
    """Writes the file, or compares it."""
    whole = texts(parser(True))
    found = {verb: {"--help": text, "--help-all": whole[verb]} for verb, text in texts(parser(False)).items()}
    text = json.dumps(found, indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text, encoding="utf-8")
    elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
        print(f"{FILE}: is not what the parser says now; `make reference` writes it anew")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
