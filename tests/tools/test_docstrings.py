"""The check of docstrings finds what is missing, and passes what is in full."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "docstrings.py"

FUNCTION = '''
__all__ = ["TABLE", "double"]

TABLE = {"plain": "values are not looked at"}


def double(x: float) -> float:
    """Multiply a number by 2.

    Args:
        x: any number.

    Returns:
        2 x.

    Raises:
        ValueError: x is NaN.

    Source: ours.

    Example:
        >>> double(2.0)
        4.0
    """
    if x != x:
        raise ValueError("NaN")
    return 2 * x
'''

CLASS = '''
from dataclasses import dataclass, field

__all__ = ["Pair"]


@dataclass
class Pair:
    """Two numbers.

    Args:
        one: the first.
        other: the second.

    Source: ours.

    Example:
        >>> Pair(1, 2).total(3)
        6
    """

    one: int
    other: int = field(default=0)

    def total(self, more: int) -> int:
        """Add the numbers.

        Args:
            more: a third.

        Returns:
            The sum.
        """
        return self.one + self.other + more

    @property
    def swapped(self) -> "Pair":
        """The numbers in the other order."""
        return Pair(self.other, self.one)
'''


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("docstrings_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(tool, tmp_path, monkeypatch, capsys):
    """What the tool says of a module with this text, and its exit status."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def check(text: str) -> tuple[int, list[str]]:
        (tmp_path / "docstrings_sample.py").write_text(text)
        sys.modules.pop("docstrings_sample", None)
        importlib.invalidate_caches()
        try:
            status = tool.main(["docstrings_sample"])
        finally:
            sys.modules.pop("docstrings_sample", None)
        return status, capsys.readouterr().out.splitlines()

    return check


def test_the_public_names_are_in_full():
    """In a process of its own: the import hook of these tests wraps what it imports."""
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", [FUNCTION, CLASS])
def test_in_full(check, text):
    assert check(text)[0] == 0


@pytest.mark.parametrize(
    ("drop", "lacks"),
    [
        ("        >>> double(2.0)\n", "Example"),
        ("    Example:\n        >>> double(2.0)\n        4.0\n", "Example"),
        ("    Source: ours.\n", "Source"),
        ("    Returns:\n", "Returns"),
        ("        2 x.\n", "Returns"),
        ("    Raises:\n", "Raises"),
        ("        x: any number.\n", "Args for x"),
        ("Multiply a number by 2.", "a sentence"),
    ],
)
def test_a_function_lacks(check, drop, lacks):
    assert drop in FUNCTION
    assert check(FUNCTION.replace(drop, "")) == (1, [f"docstrings_sample.double: lacks {lacks}"])


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        ("        other: the second.\n", "Pair: lacks Args for other"),
        ("        >>> Pair(1, 2).total(3)\n", "Pair: lacks Example"),
        ("        Returns:\n", "Pair.total: lacks Returns"),
        ("            more: a third.\n", "Pair.total: lacks Args for more"),
        ('        """The numbers in the other order."""\n', "Pair.swapped: lacks a sentence"),
    ],
)
def test_a_class_lacks(check, drop, said):
    assert drop in CLASS
    assert check(CLASS.replace(drop, "")) == (1, [f"docstrings_sample.{said}"])


def test_a_parameter_that_is_none(check):
    found = check(FUNCTION.replace("        x: any number.\n", "        x: any number.\n        y: gone.\n"))
    assert found == (1, ["docstrings_sample.double: lacks the parameter y that Args names"])


def test_without_any_docstring(check):
    text = '__all__ = ["bare"]\n\n\ndef bare(x, *, y=1) -> int:\n    raise ValueError\n'
    lacks = "a sentence, Args for x, Args for y, Returns, Raises, Source, Example"
    assert check(text) == (1, [f"docstrings_sample.bare: lacks {lacks}"])


def test_fields_that_carry_their_help_need_no_args(check):
    text = CLASS.replace("        one: the first.\n        other: the second.\n", "        self-described fields.\n")
    helped = text.replace("one: int\n", 'one: int = field(metadata={"option": "the first"})\n').replace(
        "field(default=0)", 'field(default=0, metadata={"option": "the second"})'
    )
    assert check(text)[0] == 1
    assert check(helped)[0] == 0
