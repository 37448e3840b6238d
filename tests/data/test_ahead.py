"""Batches prepared ahead: in order, few at a time, and the thread gone afterwards."""

import gc
import threading
import weakref

import pytest

from advcam.data.ahead import ahead
from advcam.progress import Waited


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


class Batch:
    """Something to prepare, of which those alive are counted."""


@pytest.mark.parametrize("depth", [1, 2, 9])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_all_come_in_order_and_from_one_other_thread(count, depth):
    ran = []

    def prepare(item):
        ran.append(threading.current_thread().name)
        return item * 10

    assert list(ahead(range(count), prepare, depth)) == [(item, item * 10) for item in range(count)]
    assert set(ran) <= {"ahead_0"}
    assert len(ran) == count
    assert not threads()


def test_the_next_is_prepared_while_one_is_used():
    begun = [threading.Event() for _ in range(4)]

    def prepare(item):
        begun[item].set()
        return item

    for item, _ in ahead(range(4), prepare):
        if item < 3:
            assert begun[item + 1].wait(60)  # nobody asked for it yet
        if item < 2:
            assert not begun[item + 2].wait(0.05)


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_are_held_than_depth_and_the_one_in_use(depth):
    alive, most = weakref.WeakSet(), []

    def prepare(item):
        alive.add(made := Batch())
        most.append(len(alive))
        return made

    for _, batch in ahead(range(12), prepare, depth):
        assert batch in alive
    del batch
    gc.collect()
    assert max(most) <= depth + 1
    assert not alive


def test_an_error_comes_at_its_turn_and_what_follows_is_not_begun():
    begun = []

    def prepare(item):
        begun.append(item)
        if item == 2:
            raise OSError("the third cannot be read")
        return item

    seen = []
    with pytest.raises(OSError, match="the third cannot be read"):
        for item, _ in ahead(range(9), prepare):
            seen.append(item)
    assert seen == [0, 1]
    assert begun == [0, 1, 2]
    assert not threads()


def test_a_consumer_that_stops_ends_the_thread():
    begun, go_on = [], threading.Event()

    def prepare(item):
        begun.append(item)
        if item:
            go_on.wait(60)
        return item

    pairs = ahead(range(100), prepare, depth=3)
    assert next(pairs) == (0, 0)
    go_on.set()
    pairs.close()
    assert len(begun) <= 4
    assert not threads()


def test_a_consumer_that_fails_ends_the_thread():
    with pytest.raises(ZeroDivisionError):
        for item, _ in ahead(range(100), lambda item: item):
            1 / (3 - item)
    gc.collect()
    assert not threads()


def test_waiting_is_counted_and_working_is_not():
    slow, fast = Waited(), Waited()
    pause = threading.Event()
    for _ in slow.watch(ahead(range(3), lambda _: pause.wait(0.3))):
        pass
    assert slow.seconds > slow.whole / 2
    for _ in fast.watch(ahead(range(3), lambda _: None)):
        pause.wait(0.3)
    assert fast.seconds < fast.whole / 2
