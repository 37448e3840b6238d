"""Parses the command line, calls the verb, and reports the result as one line and an exit status."""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from advcam import process

from .terminal import Unread, only_our_warnings, print_any_name, say, speaks

DONE, SOME_FAILED, COULD_NOT_START = 0, 1, 2
SEVERAL = ("climb", "refine", "segment", "predict")
"""Verbs that torchrun may start several processes of."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0 done, 1 some items left out (the last line names the list), 2 failed."""
    from advcam.models import register_operators  # noqa: F401  (before anything imports torchvision)
    from advcam.runtime import bound_threads

    from .parser import parser

    print_any_name()
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser("--help-all" in words).parse_args(words)
    process.keep_memory()
    bound_threads()
    with warnings.catch_warnings(), contextlib.redirect_stderr(Unread(sys.stderr)):
        if not args.debug:
            only_our_warnings()
        process.take_interrupts()
        return _called(args)


def _called(args: Namespace) -> int:
    """Calls the verb and returns its exit status; prints any exception as one line."""
    from advcam.errors import AdvcamError, SettingsError
    from advcam.limits import MAX_SEED
    from advcam.runtime import is_distributed

    try:
        if is_distributed() and args.verb not in SEVERAL:
            raise SettingsError(
                f"only advcam {', '.join(SEVERAL)} run in several processes; start this command without a launcher"
            )
        if args.seed is not None and not 0 <= args.seed <= MAX_SEED:
            raise SettingsError(f"--seed must be from 0 to {MAX_SEED}, got {args.seed}")
        return _end(args.call(args))
    except KeyboardInterrupt:
        say(process.STOPPED, sys.stderr)
        return 130
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        line = f"unexpected {type(error).__name__}: {error}; --debug shows where. What is done is kept"
        if isinstance(error, AdvcamError):
            line = str(error)
        elif isinstance(error, OSError) and error.filename:
            line = f"{error.filename}: cannot be used ({error.strerror}); check the path. What is done is kept"
        say(f"advcam: {' '.join(line.split())}", sys.stderr)
        return COULD_NOT_START


def _end(outcome: Any) -> int:
    """Prints the outcome and returns its exit status."""
    for line in outcome.lines:
        say(line)
    if speaks():
        say(outcome.done)
        if outcome.skipped:
            say(f"{outcome.skipped} {outcome.what}, listed with reasons in {outcome.listed}")
    return SOME_FAILED if outcome.skipped else DONE
