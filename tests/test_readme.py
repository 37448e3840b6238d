"""What the README says works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_runs():
    code = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    code = code.replace("pretrained=True", "pretrained=False")  # no download in a test
    assert "pretrained=False" in code
    code += "assert maps.shape == plain.shape == (3, 224, 224)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # nothing imported before
    assert done.returncode == 0, done.stderr


def test_every_option_exists():
    from advcam.cli.main import _parser

    known = {
        word for action in _parser()._subparsers._group_actions[0].choices.values() for word in action._option_string_actions
    }
    ours = README.replace("torchrun --nproc_per_node 2 -m --", "")
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ours))
    assert used <= known, used - known


def test_files_it_names_are_there():
    root = Path(__file__).resolve().parents[1]
    named = re.findall(r"`([A-Za-z/]+\.(?:md|cff|sh))`", README) + re.findall(r"\]\(([^)#:]+)\)", README)
    assert named
    assert all((root / name).exists() for name in named), [n for n in named if not (root / n).exists()]
