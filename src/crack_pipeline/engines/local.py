"""The engine that is there without anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from crack_pipeline.engines.engine import Job

T = TypeVar("T")
R = TypeVar("R")


class LocalEngine:
    """Does one piece after another in this process, in their order; see `engine.Engine`."""

    def map(self, job: Job[T, R], pieces: Sequence[T]) -> Iterator[tuple[int, R]]:
        """See `engine.Engine.map`."""
        work = job.begin()
        for number, piece in enumerate(pieces):
            yield number, work(piece)
