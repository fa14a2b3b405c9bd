"""What an engine is, and which one a plan asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from crack_pipeline.engines.compute import Plan

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Job(Protocol[T_contra, R_co]):
    """What is done with pieces of work, on whatever machine.

    It can be pickled, and holds what describes the work: weights, parameters, where files are.
    """

    def begin(self) -> Callable[[T_contra], R_co]:
        """Get ready, once in each worker, before its first piece: build networks, open files.

        Returns
        -------
        callable
            Does one piece. The same piece gives the same result, however often and wherever it is done.
        """


class Lost:
    """In place of a result: one worker after another ended while it did the piece."""


@runtime_checkable
class Divisible(Protocol[T, R]):
    """A job whose pieces can be taken apart, so that what ends a worker costs no more than itself."""

    def begin(self) -> Callable[[T], R]:
        """See `Job.begin`."""

    def parts(self, piece: T) -> Sequence[T]:
        """Take a piece apart as far as it goes."""

    def alone(self) -> Job[T, R]:
        """Give the job that does parts."""

    def joined(self, piece: T, results: Sequence[R | Lost]) -> R:
        """Give the result of a piece from those of its parts, in their order."""


class Engine(Protocol):
    """Decides who does which piece of work."""

    def map(self, job: Job[T, R], pieces: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Do a job with every piece.

        Parameters
        ----------
        job
            What is done.
        pieces
            With what; each can be pickled.

        Yields
        ------
        tuple
            Number of a piece, from 0, and its result, as soon as it is done; each number once.

        Raises
        ------
        Exception
            What the job raises, wherever it is done.
        RuntimeError
            If one worker after another ends at a piece, and the job is not `Divisible`.
        """


def engine_of(plan: Plan) -> Engine:
    """Give the engine of a plan; what a cluster is refused for is in `cluster.join`."""
    if plan.engine == "ray":
        from crack_pipeline.engines.on_ray import RayEngine

        return RayEngine(plan)
    from crack_pipeline.engines.local import LocalEngine

    return LocalEngine()
