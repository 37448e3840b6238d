"""The programs in examples/ run as they are called without arguments, are short, and write what they say and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
CALL = re.compile(r"^python examples/(\S+\.py)(.*)$", re.MULTILINE)


def ran(example, folder, *arguments):
    """The output of an example that runs in an empty folder, its temporary files too."""
    work, temporary = folder / "work", folder / "temporary"
    work.mkdir()
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONWARNINGS": "default", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(example), *arguments]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert not list(work.iterdir()), "it writes into the current folder"
    return done.stdout


def test_there_are_examples():
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_writes_what_it_says(example, tmp_path):
    said = ran(example, tmp_path)
    written = [Path(line) for line in re.findall(r"^wrote (.+)$", said, re.MULTILINE)]
    assert written, said
    assert all(path.is_file() and path.stat().st_size for path in written), said
    assert {path.is_relative_to(tmp_path / "temporary") for path in written} == {True}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_says_how_it_is_called(example):
    text = example.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    calls = CALL.findall(text.split('"""')[1])
    assert {name for name, _ in calls} == {example.name}
    assert any("--out" in rest for _, rest in calls)
