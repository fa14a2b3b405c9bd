"""The engine whose workers are actors on a Ray cluster, handed their blocks by Ray Data."""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from crack_pipeline.engines import cluster
from crack_pipeline.engines.compute import Plan
from crack_pipeline.engines.engine import Divisible, Job, Lost

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_RETRIES = 2
"""How often a piece whose worker was lost is done again before it is set aside."""
_MOST, _SHARE = 20, 0.01
"""Pieces that may be set aside, and which share of all, before a run is given up."""
_HANDED = 16
"""Pieces, for each worker, that may fail a first time: one whose machine is gone fails 6 before the cluster notices."""
_AT_ONCE = 16
"""Pieces set aside that are taken apart at a time: their results are in memory together."""
_SECONDS_BETWEEN_LOOKS = 10.0
_SECONDS_BETWEEN_GLANCES = 1.0
_HEADLESS = "the head of the Ray cluster does not answer any more, and the run will end if that stays so"
_RAY_WAITS = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""After so many seconds without its head Ray ends the process there and then, with nothing tidied up; 60 by itself."""
_BYTES_AT_ONCE = 2**28
"""Bytes of pieces that are handed to Ray at a time: an ingestion of ten million photographs has ten times as many."""
_TASKS = 20_000
"""Tasks of Ray, about, at most. Each takes some ms and KiB where the command runs, 2 ms of them before the first one
begins; where there are more pieces, several make a task."""


class RayEngine:
    """Hands pieces to workers of a Ray cluster; see `engine.Engine`.

    A worker takes the cores and the share of a GPU that the plan says, and gets a job ready once. One that is lost,
    with its machine or alone, is replaced where there is room, and its pieces are done again. A piece at which that
    happens again and again, such as one that does not fit in memory, is set aside, tried once more after all others,
    and done at last by one worker that has the cluster to itself, in parts where the job is `engine.Divisible`.

    Parameters
    ----------
    plan
        Compute plan.

    Raises
    ------
    Exception
        As `cluster.join`.
    """

    def __init__(self, plan: Plan) -> None:
        cluster.join(plan)
        self._plan = plan

    def map(self, job: Job[T, R], pieces: Sequence[T]) -> Iterator[tuple[int, R]]:
        """See `engine.Engine.map`; results come in the order of the pieces, but for those that were set aside."""
        done = bytearray(len(pieces))
        heard = _Heard()
        aside: Sequence[int] = range(len(pieces))
        together, most = max(1, math.ceil(len(pieces) / _TASKS)), max(_MOST, int(_SHARE * len(pieces)))
        first = max(_MOST, int(_SHARE * len(pieces) / together), _HANDED * self.workers())
        with self._watched(heard):
            # Tried once more, by itself, is what a lost machine had, which fails until it is known to be lost, and what
            # was in one task with a piece that ended its worker.
            for size, allowed in ((together, first), (1, most)):
                for number, result in self._run(job, pieces, aside, heard, most=allowed, together=size):
                    done[number] = 1
                    yield number, result
                aside = [number for number, there in enumerate(done) if not there]
            for start in range(0, len(aside), _AT_ONCE):
                yield from self._alone(job, pieces, aside[start : start + _AT_ONCE], heard)

    def workers(self) -> int:
        """Count the workers for which the cluster has room."""
        return max(1, cluster.room(self._plan.cores, self._plan.gpus))

    def _run(
        self,
        job: Job[T, R],
        pieces: Sequence[T],
        numbers: Sequence[int],
        heard: _Heard,
        *,
        most: int,
        together: int = 1,
        alone: bool = False,
    ) -> Iterator[tuple[int, R]]:
        """Do some pieces, so many in a task, save up to ``most`` tasks, at which workers were lost again and again."""
        from ray import cloudpickle

        rows: list[dict[str, Any]] = []
        size = 0
        for at, number in enumerate(numbers, start=1):
            piece = cloudpickle.dumps(pieces[number])
            rows.append({"number": number, "piece": piece})
            size += len(piece)
            # Ray takes all that it is to hand out into memory
            if size > _BYTES_AT_ONCE or at == len(numbers):
                yield from self._run_rows(job, rows, heard, most=most, together=together, alone=alone)
                rows, size = [], 0

    def _run_rows(
        self, job: Job[T, R], rows: list[dict[str, Any]], heard: _Heard, *, most: int, together: int, alone: bool
    ) -> Iterator[tuple[int, R]]:
        import ray
        from ray import cloudpickle
        from ray.data import ActorPoolStrategy, DataContext
        from ray.util.annotations import RayDeprecationWarning

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = most
        context.execution_options.preserve_order = True  # what is out of turn waits there, not in this process
        tasks = math.ceil(len(rows) / together)
        data = ray.data.from_items(rows, override_num_blocks=tasks)
        with warnings.catch_warnings():
            # Ray 2.64 is to drop the last argument, for which 2.60 has no other name.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            results = data.map_batches(
                _Worker,
                fn_constructor_args=(job,),
                batch_size=1,
                num_cpus=self._plan.cores,
                num_gpus=self._plan.gpus or None,
                # All begin at once, since a pool grows by a seventh at a time; more may follow where nodes join.
                compute=ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=1)
                if alone
                else ActorPoolStrategy(min_size=1, initial_size=min(tasks, self.workers()), max_size=tasks),
                max_task_retries=_RETRIES,  # Ray Data's own number is: without an end
            )
        try:
            with heard.instead_of_the_screen():
                for row in _taken(results.iter_rows(), heard, lambda: _stop(results)):
                    done, result = cloudpickle.loads(row["result"])
                    if not done:
                        raise result
                    yield int(row["number"]), result
        except ray.exceptions.RayError as error:
            raise RuntimeError(f"the Ray cluster cannot go on: {_last_line(error)}") from None

    def _alone(
        self, job: Job[T, R], pieces: Sequence[T], aside: Sequence[int], heard: _Heard
    ) -> Iterator[tuple[int, R]]:
        logger.warning(
            "workers ended again and again at %d pieces of work, which one does alone now, bit by bit; the last: %s",
            len(aside),
            heard.last,
        )
        taken_apart = job if isinstance(job, Divisible) else None
        parts = [taken_apart.parts(pieces[number]) if taken_apart else [pieces[number]] for number in aside]
        every = [part for some in parts for part in some]
        found: list[R | Lost] = [Lost()] * len(every)
        by = taken_apart.alone() if taken_apart else job
        for at, result in self._run(by, every, range(len(every)), heard, most=len(every), alone=True):
            found[at] = result
        for number, some in zip(aside, parts, strict=True):
            mine, found = found[: len(some)], found[len(some) :]
            if taken_apart:
                yield number, taken_apart.joined(pieces[number], mine)
            elif isinstance(mine[0], Lost):
                raise RuntimeError(
                    f"every worker that did a certain piece of work ended, at last one that had the cluster to itself: "
                    f"{heard.last}; is there too little memory for it? See docs/ray.md"
                )
            else:
                yield number, mine[0]

    @contextmanager
    def _watched(self, heard: _Heard) -> Iterator[None]:
        """Say so where Ray does not: it waits without an end for nodes, and ends the process without its head."""
        ended = threading.Event()
        patience = float(os.environ.get(_RAY_WAITS, "60")) / 2

        def watch() -> None:
            said, answered = "", time.monotonic()
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                before, said = said, self._trouble()
                if said != _HEADLESS:
                    answered = time.monotonic()
                elif time.monotonic() - answered > patience:
                    heard.lost = (
                        f"the head of the Ray cluster has not answered for {patience:.0f} s; what is done is kept: "
                        "type the command again when a cluster is there"
                    )
                    return
                if said not in ("", before) and not ended.is_set():
                    logger.warning("%s; what is done is kept: type the command again to go on later", said)

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _trouble(self) -> str:
        if not cluster.head_answers(_SECONDS_BETWEEN_LOOKS):
            return _HEADLESS
        with suppress(Exception):  # it does not answer since a moment ago
            if not cluster.room(self._plan.cores, self._plan.gpus):
                return "no node that is left in the Ray cluster has room for a worker: the run waits for one to join"
        return ""


def _stop(results: Any) -> None:
    """Let Ray Data give up what it still does; without an effect where it has come to its end."""
    executor = getattr(results, "_current_executor", None)  # nothing public does it for another thread
    if executor is not None:
        executor.shutdown(force=False)


def _taken(rows: Iterable[dict[str, Any]], heard: _Heard, stop: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Take rows in a thread: what waits for one from a cluster without a head does so until Ray ends the process.

    ``stop`` ends them where no more are wanted.

    Raises
    ------
    ConnectionError
        If the head is lost. The thread is left alone then: Ray does not answer it any more.
    """
    ready: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue(maxsize=1)
    ended = threading.Event()

    def hand(what: dict[str, Any] | BaseException | None) -> bool:
        while not ended.is_set():
            with suppress(queue.Full):
                ready.put(what, timeout=_SECONDS_BETWEEN_GLANCES)
                return True
        return False

    def take() -> None:
        try:
            if all(map(hand, rows)):
                hand(None)
        except BaseException as error:
            hand(error)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        while True:
            try:
                row = ready.get(timeout=_SECONDS_BETWEEN_GLANCES)
            except queue.Empty:
                if heard.lost:
                    raise ConnectionError(heard.lost) from None
                continue
            if row is None:
                return
            if isinstance(row, BaseException):
                raise row
            yield row
    finally:
        ended.set()
        if not heard.lost:
            stop()
            thread.join(_SECONDS_BETWEEN_LOOKS)


class _Heard(logging.Handler):
    """Hears what Ray Data would print a page about, for one line of ours; and whether the cluster has lost its head."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = "no reason is known"
        self.lost = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the reason."""
        if record.exc_info and record.exc_info[1]:
            self.last = _last_line(record.exc_info[1])

    @contextmanager
    def instead_of_the_screen(self) -> Iterator[None]:
        """Listen as long as the context lasts; Ray's own file of logs still gets everything."""
        source = logging.getLogger("ray.data")
        source.setLevel(logging.ERROR)
        screens = [one for one in source.handlers if isinstance(one, logging.StreamHandler)]
        levels = [screen.level for screen in screens]
        for screen in screens:
            screen.setLevel(logging.CRITICAL)
        source.addHandler(self)
        try:
            yield
        finally:
            source.removeHandler(self)
            for screen, level in zip(screens, levels, strict=True):
                screen.setLevel(level)


class _Worker:
    """An actor: gets a job ready before its first piece, and does one piece after another.

    What goes wrong with a job is a result, too: Ray would do it again, and report it in a page of its own. Nothing is
    done while the actor is made, since one that ends then is made anew without an end.
    """

    def __init__(self, job: Job[Any, Any]) -> None:
        self._job = job
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle

        results = [_packed(*self._do(cloudpickle.loads(piece))) for piece in batch["piece"]]
        return {"number": batch["number"], "result": results}

    def _do(self, piece: Any) -> tuple[bool, Any]:
        try:
            if self._work is None:
                self._work = self._job.begin()
            return True, self._work(piece)
        except Exception as error:
            return False, error


def _packed(done: bool, result: Any) -> bytes:
    """Pickle what came of a piece; an exception that cannot be pickled, such as a client's, by its message."""
    from ray import cloudpickle

    try:
        content: bytes = cloudpickle.dumps((done, result))
        if not done:
            cloudpickle.loads(content)
    except Exception as error:
        said = error if done else result
        return cloudpickle.dumps((False, RuntimeError(f"{type(said).__name__}: {said}")))
    return content


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
