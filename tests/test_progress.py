"""What a log gets where no bar can be drawn."""

import queue
import threading
import types

import pytest

from advcam import progress
from advcam.progress import Reporter


class Clock:
    """Stands for time and for the event that a reporter waits for: it is as late as the test says."""

    def __init__(self):
        self.now, self.asked, self.answers, self.waits = 0.0, queue.Queue(), queue.Queue(), []

    def wait(self, seconds):
        self.waits.append(seconds)
        self.asked.put(seconds)
        return self.answers.get(timeout=60)

    def set(self):
        self.answers.put(True)

    def goes_on(self, seconds):
        """It is so much later, and whoever waited has said what there is to say."""
        if not self.now:
            self.asked.get(timeout=60)
        self.now += seconds
        self.answers.put(False)
        self.asked.get(timeout=60)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setattr(progress, "threading", types.SimpleNamespace(Event=lambda: made, Thread=threading.Thread))
    return made


def test_a_log_gets_a_line_now_and_then(clock, capsys):
    """Also while a single item takes long."""
    for _ in Reporter().track(range(2), 2, "climb"):
        clock.goes_on(20)
        clock.goes_on(20)
    assert capsys.readouterr().err.splitlines() == [
        "climb: 0 of 2 in 0:20",
        "climb: 0 of 2 in 0:40",
        "climb: 1 of 2 in 1:00, 60.0 s each, 1:00 left",
        "climb: 1 of 2 in 1:20, 80.0 s each, 1:20 left",
        "climb: 2 of 2 in 1:20, 40.0 s each",
    ]
    assert set(clock.waits) == {progress.EVERY}


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "JPY_PARENT_PID"])
def test_a_log_gets_no_bar_whatever_the_environment_says(clock, capsys, monkeypatch, variable):
    """As a notebook's kernel and build servers do."""
    monkeypatch.setenv(variable, "1")
    with Reporter().bar("climb", 10) as advance:
        clock.goes_on(20)
        advance(10)
    assert capsys.readouterr().err.splitlines() == ["climb: 0 of 10 in 0:20", "climb: 10 of 10 in 0:20, 2.0 s each"]


@pytest.mark.parametrize(("kernel", "bar"), [(None, True), ("1", False)])
def test_a_bar_is_drawn_where_standard_error_is_a_terminal_and_no_kernel_reads_it(capfd, monkeypatch, kernel, bar):
    if kernel:
        monkeypatch.setenv("JPY_PARENT_PID", kernel)
    else:
        monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    list(Reporter().track(range(2), 2, "climb"))
    drawn = capfd.readouterr().err
    assert ("\x1b" in drawn) == bar
    assert "climb" in drawn


def test_half_a_minute_at_most():
    assert progress.EVERY <= 30


def test_what_was_done_before_is_counted_but_not_timed(clock, capsys):
    with Reporter().bar("climb", 10, done=8) as advance:
        clock.goes_on(20)
        advance(1)
        clock.goes_on(20)
    assert capsys.readouterr().err.splitlines() == [
        "climb: 8 of 10 in 0:20",
        "climb: 9 of 10 in 0:40, 40.0 s each, 0:40 left",
        "climb: 9 of 10 in 0:40, 40.0 s each, 0:40 left",
    ]


def test_an_error_passes_and_ends_the_lines(clock, capsys):
    before = threading.enumerate()
    with pytest.raises(ValueError, match="in the middle"), Reporter().bar("climb", 10):
        raise ValueError("in the middle")
    assert capsys.readouterr().err == "climb: 0 of 10 in 0:00\n"
    assert set(threading.enumerate()) <= set(before)


def test_quiet_says_nothing(clock, capsys):
    seen = list(Reporter(quiet=True).track(range(2), 2, "climb"))
    assert seen == [0, 1]
    assert not capsys.readouterr().err
    assert not clock.waits


@pytest.mark.parametrize(("seconds", "clock"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")])
def test_clock(seconds, clock):
    assert progress._clock(seconds) == clock


def test_a_fast_loop_says_how_many_a_second(clock, capsys):
    with Reporter().bar("climb", 100) as advance:
        advance(50)
        clock.goes_on(20)
        advance(50)
    assert capsys.readouterr().err.splitlines() == [
        "climb: 50 of 100 in 0:20, 2.5 a second, 0:20 left",
        "climb: 100 of 100 in 0:20, 5.0 a second",
    ]


def test_waiting_is_what_the_items_take_to_come_and_not_what_is_done_with_them(monkeypatch):
    now = 0.0

    def pass_time(seconds):
        nonlocal now
        now += seconds

    def batches():
        for _ in range(4):
            pass_time(1)
            yield 8

    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: now))
    waited = progress.Waited()
    for _epoch in range(2):
        for _batch in waited.watch(batches()):
            pass_time(3)
        pass_time(100)  # between epochs: neither waiting nor training
    assert (waited.seconds, waited.whole) == (8, 32)
    assert waited.line("classify", 64) == "classify: 2.0 a second; waited for images 25 % of the time"


def test_an_error_of_a_reader_passes_through_the_watch():
    def broken():
        yield 1
        raise ValueError("damaged")

    watched = progress.Waited().watch(broken())
    assert next(watched) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(watched)
