"""What the README says works as it stands there."""

import contextlib
import functools
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from advcam.cli import main

FLAG = r"(?<![\w-])--[a-z][a-z-]*"
README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_runs():
    code = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    code = code.replace("pretrained=True", "pretrained=False")  # no download in a test
    assert "pretrained=False" in code
    code += "assert maps.shape == plain.shape == (3, 224, 224)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # nothing imported before
    assert done.returncode == 0, done.stderr


@functools.cache
def flags(verb):
    """The flags of a verb: each begins a line of its whole help."""
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit):
        main([*verb.split(), "--help-all"])
    assert said.getvalue().startswith(f"usage: advcam {verb} ")
    return {"--help-all", *re.findall(FLAG, "\n".join(re.findall(r"^  --.*?(?:  |$)", said.getvalue(), re.MULTILINE)))}


COMMANDS = re.findall(r"(?:advcam |`(?=data ))((?:data )?[a-z-]+)( [^`#\n]*--[^`#\n]*)", README)


def test_every_command_has_its_verb_s_own_options():
    assert len({verb for verb, _ in COMMANDS}) >= 10
    wrong = [(verb, flag) for verb, words in COMMANDS for flag in re.findall(FLAG, words) if flag not in flags(verb)]
    assert not wrong


def test_every_option_that_is_named_by_itself_is_some_verb_s():
    known = set().union(*(flags(verb) for verb, _ in COMMANDS))
    used = set(re.findall(FLAG, README.replace("torchrun --nproc_per_node 2 -m --", "")))
    assert used <= known, used - known


def test_files_it_names_are_there():
    root = Path(__file__).resolve().parents[1]
    named = re.findall(r"`([A-Za-z/]+\.(?:md|cff|sh))`", README) + re.findall(r"\]\(([^)#:]+)\)", README)
    assert named
    assert all((root / name).exists() for name in named), [n for n in named if not (root / n).exists()]
