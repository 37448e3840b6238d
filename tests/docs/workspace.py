"""The folder in which the code blocks of a page run, and how they run."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

from sybil import Document, Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from advcam.cli import main
from advcam.cli.parser import parser
from advcam.data import SceneSettings, write_dataset

NOT_RUN = re.compile(r"<!-- not run: [^>]+ -->\n\s*\Z")
"""Stands before a block that is checked and not run, with the reason."""
STARTS_WITH = re.compile(r"<!-- starts with: (\S+) -->")
"""Names a folder of the workspace that a page needs: ``runs/first``, the run that its tutorial begins with."""
OTHERS = ("accelerate", "cd", "conda", "git", "make", "pip", "python", "torchrun")
"""Programs of which a block may have a line that is not run."""
SMALL = {
    "run": "--backbone test_resnet --from-scratch --epochs 1 --crop 64 --steps 2 --segment-epochs 1 --segment-crop 64",
    "classify": "--backbone test_resnet --from-scratch --epochs 1 --crop 64",
    "climb": "--steps 2",
    "segment": "--epochs 1 --crop 64",
    "semi": "--epochs 1 --crop 64",
    "demo": None,
    "study": "--sample 4 --longest 2",
}
"""Options that replace a pretrained network and a long training; those that a line gives itself are left as they are."""


def write_workspace(folder: Path) -> None:
    """Images, labels and ground truth as a reader of the documentation has them: 24 generated scenes."""
    made = folder / "made"
    write_dataset(made, 18, 6, 0, SceneSettings(size=96))
    for name, new in (("images", "photos"), ("masks", "truth")):
        shutil.move(made / name, folder / new)
    for name in ("labels.csv", "classes.csv", "train.txt", "eval.txt"):
        shutil.move(made / name, folder / name)
    shutil.rmtree(made)
    names = sorted(path.name for path in (folder / "photos").iterdir())
    shutil.copytree(folder / "photos", folder / "other", ignore=lambda _folder, _names: names[3:])
    shutil.copy(folder / "photos" / names[0], folder / "image.png")
    (folder / "few.txt").write_text("\n".join((folder / "train.txt").read_text().split()[:6]) + "\n")


def write_first_run(folder: Path) -> None:
    """The run that pages begin with, ``runs/first``."""
    data = "--images photos --labels labels.csv --classes classes.csv --eval-list eval.txt"
    command(folder, f"advcam run {data} --out runs/first")


def command(folder: Path, line: str) -> None:
    """Runs one ``advcam`` command in a folder; fails with what it said."""
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main([*small(words(line)), *([] if "data" in line.split()[:2] else ["--quiet"])])
    assert status == 0, f"{line}\n{said.getvalue()}"


def words(line: str) -> list[str]:
    """The words behind ``advcam``."""
    return shlex.split(line, comments=True)[1:]


def small(given: list[str]) -> list[str]:
    """The words with the options of ``SMALL`` that they do not give."""
    extra, flags = (SMALL.get(given[0]) or "").split(), {word for word in given if word.startswith("--")}
    groups = re.findall(r"--[a-z-]+(?: [^-]\S*)?", " ".join(extra))
    own = {"--backbone", "--weights", "--classifier", "--from-scratch", "--recipe"}
    skip = {"--backbone", "--from-scratch"} if flags & own else set[str]()
    return given + [word for group in groups if group.split()[0] not in flags | skip for word in group.split()]


def lines_of(source: str) -> list[str]:
    """The commands of a shell block, lines that end in a backslash joined."""
    return [line.strip() for line in source.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


def shell(example: Example) -> None:
    """Runs the lines of a shell block that are ``advcam``'s, or parses them where the page says that it is not run."""
    for line in lines_of(example.parsed):
        program = line.split()[0]
        if program != "advcam":
            assert program in OTHERS, f"{line}: a documented command begins with advcam or {', '.join(OTHERS)}"
        elif skipped(example):
            parse(line)
        else:
            command(Path.cwd(), line)


def parse(line: str) -> argparse.Namespace:
    """The real parser's reading of a command; fails where it has no such verb or option."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parser(True).parse_args(words(line))
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{line}\n{said.getvalue()}") from end
        return argparse.Namespace()


def every_flag() -> set[str]:
    """The flags of all verbs."""
    found, left = set[str](), [parser(True)]
    while left:
        for action in left.pop()._actions:
            found |= {flag for flag in action.option_strings if flag.startswith("--")}
            if isinstance(action, argparse._SubParsersAction):
                left += action.choices.values()
    return found


def skipped(example: Example) -> bool:
    """Whether the page says that the block is not run."""
    return bool(NOT_RUN.search(example.document.text[: example.start]))


RUN_PYTHON = PythonEvaluator()


def python(example: Example) -> None:
    """Runs a Python block in the page's namespace; compiles it where the page says that it is not run."""
    if skipped(example):
        compile(example.parsed, example.path, "exec")
    else:
        RUN_PYTHON(example)


def _data(reader):
    return lambda example: reader(example.parsed) and None


BLOCKS = Sybil(
    [
        CodeBlockParser("python", python),
        CodeBlockParser("sh", shell),
        CodeBlockParser("toml", _data(tomllib.loads)),
        CodeBlockParser("json", _data(json.loads)),
    ],
    pattern="*.md",
)
LANGUAGES = {"python", "sh", "toml", "json", "text", "csv", "pycon"}


def blocks(page: Path) -> Document:
    """The code blocks of a page."""
    return BLOCKS.parse(page)
