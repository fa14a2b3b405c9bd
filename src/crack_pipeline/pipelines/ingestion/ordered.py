"""Map over threads, in order, with bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

Hold = Callable[[int], None]
"""Called by a piece of work with the bytes that it is about to need in all; returns when there is room."""


def in_order(work: Callable[[T, Hold], R], items: Iterable[T], *, workers: int, room: int) -> Iterator[tuple[T, R]]:
    """Map over threads, in order, with only a few results waiting.

    Parameters
    ----------
    work
        Called with an item and a function to be told the bytes that the item needs, before it needs them and
        when it needs fewer. They are held until the result is handed on.
    items
        What to work on.
    workers
        Threads.
    room
        Bytes that all items hold together at most, save that the oldest item always has room: its size alone
        may exceed it.

    Yields
    ------
    tuple
        An item and its result, in the order of the items.
    """
    pool = ThreadPoolExecutor(workers)
    shared = _Room(room)
    waiting: deque[tuple[T, Future[R]]] = deque()
    done = 0

    def next_one() -> tuple[T, R]:
        nonlocal done
        item, future = waiting.popleft()
        result = future.result()
        done += 1
        shared.leave(done - 1)
        return item, result

    try:
        for number, item in enumerate(items):
            waiting.append((item, pool.submit(work, item, partial(shared.hold, number))))
            if len(waiting) > 4 * workers:
                yield next_one()
        while waiting:
            yield next_one()
    finally:
        shared.close()
        pool.shutdown(cancel_futures=True)


class _Room:
    """Shares out a number of bytes.

    The oldest item always has room, whatever it needs: the others are handed on after it, so if it waited for
    what they hold, nothing would ever move. Of those that wait the older one comes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[int, int] = {}
        self._total = 0
        self._waiting: set[int] = set()
        self._oldest = 0
        self._closed = False
        self._changed = threading.Condition()

    def hold(self, number: int, size: int) -> None:
        """Wait until an item may hold so many bytes in all, and let it hold them."""
        with self._changed:
            more = size - self._held.get(number, 0)
            if more > 0:
                self._waiting.add(number)
                self._changed.wait_for(lambda: self._lets_in(number, more))
                self._waiting.remove(number)
            self._held[number] = size
            self._total += more
            if self._waiting:
                self._changed.notify_all()

    def _lets_in(self, number: int, more: int) -> bool:
        fits = self._total + more <= self._size and number == min(self._waiting)
        return fits or number == self._oldest or self._closed

    def leave(self, number: int) -> None:
        """Forget an item; the next is the oldest."""
        with self._changed:
            self._total -= self._held.pop(number, 0)
            self._oldest = number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let all that wait go on, since nobody takes their results."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
