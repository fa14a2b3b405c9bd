"""Processes that want the right to write to a folder."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

HAS_IT = "has it"
_processes = multiprocessing.get_context("forkserver")


class Process(NamedTuple):
    """One of them."""

    pid: int
    process: multiprocessing.process.BaseProcess
    line: Connection

    def hear(self) -> str:
        """Wait for what it says."""
        assert self.line.poll(60)
        return str(self.line.recv())

    def tell(self) -> None:
        """Let it take the right, or give it back."""
        self.line.send(None)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@contextmanager
def waiting(place: str, number: int, dead: float = 180.0) -> Iterator[list[Process]]:
    """Start processes that wait to be told; a run that is silent for longer than ``dead`` is dead for them."""
    started = []
    for _ in range(number):
        here, there = _processes.Pipe()
        process = _processes.Process(target=_want, args=(place, dead, dict(os.environ), there))
        process.start()
        started.append(Process(process.pid or 0, process, here))
    try:
        for one in started:
            assert one.hear() == "ready"
        yield started
    finally:
        for one in started:
            one.kill()


def _want(place: str, dead: float, surroundings: dict[str, str], line: Connection) -> None:
    os.environ.update(surroundings)
    from kedro.io import DatasetError

    from crack_pipeline.datasets import lease
    from crack_pipeline.datasets.places import SharedFolder

    lease.DEAD = dead
    wanted = SharedFolder(place).lease()
    line.send("ready")
    line.recv()
    try:
        wanted.take()
    except DatasetError as error:
        line.send(str(error))
        return
    line.send(HAS_IT)
    line.recv()
    wanted.release()
    line.send("gave it back")
    line.recv()
