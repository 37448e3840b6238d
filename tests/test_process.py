"""Threads and memory of the command line's process, and of a library's."""

import platform

import pytest
import torch

from advcam import process, runtime
from advcam.runtime import Runtime
from conftest import AS_IT_IS, python


def test_only_the_command_line_changes_its_process():
    code = "import advcam, os, json; print(json.dumps(os.environ.get('OMP_WAIT_POLICY')))"
    plain = {name: value for name, value in AS_IT_IS.items() if name != "OMP_WAIT_POLICY"}
    assert python(code, plain) is None
    code = f"import sys; sys.argv = ['/usr/bin/advcam', 'demo']; {code}"
    assert python(code, plain) == "passive"
    assert python(code, plain | {"OMP_WAIT_POLICY": "active"}) == "active"


def test_a_quota_bounds_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_CGROUP", tmp_path / "cpu.max")
    without = process.usable_cores()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert process.usable_cores() == without
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert process.usable_cores() == 1
    assert Runtime().readers == 0
    threads = torch.get_num_threads()
    try:
        runtime.bound_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


FAULTS = """
import json, resource, torch
from advcam import process, runtime
if {keep}:
    process.keep_memory()
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12_000_000)  # 48 MB, given back at once; up to 32 MB glibc learns to keep
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_is_kept():
    """Pages of a tensor that is made again and again are cleared by the kernel once, not every time."""
    without, kept = (python(FAULTS.format(keep=keep), AS_IT_IS) for keep in (False, True))
    assert without > 20_000  # ten times 48 MB in pages of 4 kB, if they are as small as that
    assert kept < without / 5  # a single growth of the heap is a tenth
    told = python(FAULTS.format(keep=True), AS_IT_IS | {"MALLOC_PERTURB_": "0"})
    assert told > without / 2  # the environment has the last word
