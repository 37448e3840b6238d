"""What a log gets where no bar can be drawn."""

import re
import time

import pytest

from advcam import progress
from advcam.progress import Reporter


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.05)


def test_a_log_gets_a_line_now_and_then(often, capsys):
    """Also while a single item takes long."""
    for _ in Reporter().track(range(2), 2, "climb"):
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 4
    assert lines[0].startswith("climb: 0 of 2 in 0:00")
    assert re.fullmatch(r"climb: 1 of 2 in 0:0\d, 0:0\d left", lines[-2])
    assert lines[-1].startswith("climb: 2 of 2 in 0:0")


def test_half_a_minute_at_most():
    assert progress.EVERY <= 30


def test_what_was_done_before_is_counted_but_not_timed(often, capsys):
    with Reporter().bar("climb", 10, done=8) as advance:
        time.sleep(0.2)
        advance(1)
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "climb: 8 of 10 in 0:00"
    assert any(re.search(r"9 of 10 in 0:0\d, 0:0\d left", line) for line in lines)


def test_an_error_passes_and_ends_the_lines(often, capsys):
    with pytest.raises(ValueError, match="in the middle"), Reporter().bar("climb", 10):
        raise ValueError("in the middle")
    capsys.readouterr()
    time.sleep(0.2)
    assert not capsys.readouterr().err


def test_quiet_says_nothing(often, capsys):
    for _ in Reporter(quiet=True).track(range(2), 2, "climb"):
        time.sleep(0.1)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "clock"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")])
def test_clock(seconds, clock):
    assert progress._clock(seconds) == clock
