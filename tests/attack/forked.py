"""Commands in forks of one process that has torch loaded already, with a signal at a chosen moment, and folders compared.

Run as a program, this file is that process: a request a line on its input, an answer a line on its output. It never computes
itself, so it has no threads that a fork would lose.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

WATCHED = ("replace", "rename", "fsync", "open", "unlink", "rmdir", "mkdir", "chmod")
"""Functions of ``os`` that are operations; opening a file to write is one too."""
LATER = (
    "accelerate", "advcam.cli.parser", "advcam.pipeline", "advcam.report", "advcam.stages.semi",
    "segmentation_models_pytorch", "timm", "torch._dynamo", "torch.utils.tensorboard", "torchmetrics.classification",
)  # fmt: skip
"""What commands import when they come to it."""
UNLIKE = {"seconds", "versions"}
"""Keys of JSON files that two equal runs differ in."""
TOLD = {"report.html", "README.md", "truth.json"}
"""Names of files that tell of seconds in words, or of where the run lies."""


class Forks:
    """The process that forks, as seen from a test."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.process = subprocess.Popen(
            [sys.executable, __file__, scratch], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __call__(self, argv, at=None, after=False, delay=None, number=signal.SIGKILL, group=False):
        """Runs a command; returns its status (minus the signal that ended it), lines of error, operations and seconds.

        Args:
            argv: the command.
            at: the operation that the signal is sent at, from 1.
            after: send it after this operation, not before.
            delay: seconds from that operation (or from the start) to the signal, which then comes from outside.
            number: of the signal.
            group: send it to the command's own processes as well, as a terminal does; goes with ``delay``.
        """
        asked = {"at": at, "after": after, "delay": delay, "number": int(number), "group": group}
        asked["argv"] = [str(word) for word in argv]
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer | {name: (self.scratch / name).read_text().splitlines() for name in ("out", "err")}

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@dataclass
class Made:
    """A command of a run that nothing happened to: what it found and left, how many operations and seconds it took."""

    before: dict
    after: dict
    operations: int
    seconds: float


def contents(folder):
    """Every path below a folder but temporary ones, with what two equal runs have in common of it; None for folders."""
    paths = [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".")]
    return {str(path.relative_to(folder)): _content(path) if path.is_file() else None for path in paths}


def _content(path):
    if path.name in TOLD:
        assert path.read_text().strip(), f"{path} is empty"
        return "told"
    if path.suffix == ".json":
        return json.dumps(_alike(json.loads(path.read_text())), sort_keys=True)
    return path.read_bytes()


def _alike(value):
    if isinstance(value, dict):
        return {key: _alike(item) for key, item in value.items() if key not in UNLIKE}
    return [_alike(item) for item in value] if isinstance(value, list) else value


def differences(found, whole):
    """What of two contents differs, in words."""
    words = dict.fromkeys(whole.keys() - found.keys(), "missing") | dict.fromkeys(found.keys() - whole.keys(), "too many")
    return words | {name: "another content" for name in found.keys() & whole.keys() if found[name] != whole[name]}


def see_that_files_are_whole(folder, made):
    """Each is as it was before the command or as it will be after it; those that change on the way can be read."""
    found = contents(folder)
    for name, content in found.items():
        if name in ("run.json", "data.json") or content in (made.before.get(name, 0), made.after.get(name, 0)):
            continue
        if name.endswith("look.png"):  # of every epoch anew, as is training.pt
            with Image.open(folder / name) as image:
                image.load()
            continue
        assert name.endswith("training.pt"), f"{name} is neither as before nor as after the command"
        torch.load(folder / name, weights_only=True)


def temporaries(folder):
    """Files that no one asked for: names that begin with a dot."""
    return [str(p.relative_to(folder)) for p in folder.rglob(".*")]


def _watch(asked, pipe):
    """Tells the parent of each operation by a byte, and sends the signal to this process where one comes from inside."""
    done = 0

    def watched(original, is_operation=lambda *_, **__: True):
        @functools.wraps(original)
        def function(*args, **kwargs):
            nonlocal done
            if not is_operation(*args, **kwargs):
                return original(*args, **kwargs)
            done += 1
            os.write(pipe, b".")
            now = done == asked["at"] and asked["delay"] is None
            if now and not asked["after"]:
                os.kill(os.getpid(), asked["number"])
            try:
                return original(*args, **kwargs)
            finally:  # also where it failed, as removing what is not there does
                if now and asked["after"]:
                    os.kill(os.getpid(), asked["number"])

        return function

    for name in WATCHED:
        setattr(os, name, watched(getattr(os, name)))
    io.open = builtins.open = watched(io.open, lambda _file, mode="r", *_, **__: bool(set(mode) & set("wax+")))


def _child(asked, pipe, scratch):
    from advcam.cli import main

    os.setpgid(0, 0)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdin.close()
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    status = 70
    try:
        _watch(asked, pipe)
        status = main(asked["argv"])
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _fork(asked, scratch):
    reads, writes = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(reads)
        _child(asked, writes, scratch)
    with contextlib.suppress(PermissionError):  # the child may be first
        os.setpgid(pid, pid)
    os.close(writes)
    operations, left, open_ = 0, asked["delay"], True
    when = None if left is None or asked["at"] else start + left
    while open_:
        wait = None if when is None else max(0.0, when - time.monotonic())
        if select.select([reads], [], [], wait)[0]:
            told = os.read(reads, 4096)
            open_, operations = bool(told), operations + len(told)
            if left is not None and asked["at"] and operations >= asked["at"]:
                when, asked["at"] = time.monotonic() + left, None
        else:
            (os.killpg if asked["group"] else os.kill)(
                pid, asked["number"]
            )  # not waited for yet, so the number is still this child's
            when = left = None
    os.close(reads)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, "operations": operations, "seconds": time.monotonic() - start}


def _serve(scratch):
    for name in LATER:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line), scratch)), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background would ignore it
    _serve(Path(sys.argv[1]))
