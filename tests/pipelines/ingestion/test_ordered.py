import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.pipelines.ingestion.ordered import in_order

SECONDS = 20  # after which a test has hung


class Tally:
    """Bytes that pieces of work hold, and the most there ever were."""

    def __init__(self):
        self.lock = threading.Lock()
        self.held = {}
        self.most = 0

    def note(self, number, size):
        with self.lock:
            self.held[number] = size
            self.most = max(self.most, sum(self.held.values()))


@settings(max_examples=30)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 200), st.integers(0, 50)), max_size=40),
    workers=st.integers(1, 5),
    room=st.integers(1, 300),
)
def test_results_come_in_order_and_hold_no_more_than_there_is_room_for(sizes, workers, room):
    tally = Tally()

    def work(item, hold):
        number, needed = item
        for size in needed:
            hold(size)
            tally.note(number, size)
        return number

    for item, result in in_order(work, enumerate(sizes), workers=workers, room=room):
        assert result == item[0]
        tally.note(result, 0)
    # The oldest may come in over and above the room.
    assert tally.most <= room + 200


def test_small_pieces_are_worked_on_at_the_same_time():
    together = threading.Barrier(3, timeout=SECONDS)

    def work(item, hold):
        hold(10)
        together.wait()
        return item

    assert [result for _, result in in_order(work, range(3), workers=3, room=30)] == [0, 1, 2]


def test_large_pieces_wait_for_each_other():
    running, most = [], []

    def work(item, hold):
        hold(100)
        running.append(item)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(item)
        return item

    assert len(list(in_order(work, range(6), workers=4, room=150))) == 6
    assert max(most) <= 2  # one that has room, and the oldest


def test_what_needs_less_in_the_end_makes_room():
    first_is_done, second_went_on = threading.Event(), threading.Event()

    def work(item, hold):
        if item == 0:  # the oldest is not handed on before the second one was let in
            assert second_went_on.wait(SECONDS)
            return item
        if item == 1:
            hold(100)
            hold(1)
            first_is_done.set()
            return item
        assert first_is_done.wait(SECONDS)
        hold(100)
        second_went_on.set()
        return item

    assert [result for _, result in in_order(work, range(3), workers=3, room=150)] == [0, 1, 2]


def test_whoever_stops_early_leaves_no_thread_waiting():
    before = threading.active_count()
    results = in_order(lambda item, hold: hold(100) or item, range(50), workers=4, room=150)
    assert next(results)[1] == 0
    closing = threading.Thread(target=results.close)
    closing.start()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert threading.active_count() == before


def test_an_error_ends_it_and_is_passed_on():
    def work(item, hold):
        hold(100)
        if item == 1:
            raise OSError("gone")
        return item

    with pytest.raises(OSError, match="gone"):
        list(in_order(work, range(20), workers=3, room=100))
