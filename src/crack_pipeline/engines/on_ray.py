"""The engine whose workers are actors on a Ray cluster, handed their blocks by Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from crack_pipeline.engines import cluster
from crack_pipeline.engines.compute import Plan
from crack_pipeline.engines.engine import Job

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class RayEngine:
    """Hands pieces to workers of a Ray cluster; see `engine.Engine`.

    A worker takes the cores and the share of a GPU that the plan says, and gets a job ready once. One that is lost,
    with its machine or alone, is replaced where there is room, and its pieces are done again.

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
        """See `engine.Engine.map`."""
        if not len(pieces):
            return
        import ray
        from ray import cloudpickle
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"number": number, "piece": cloudpickle.dumps(piece)} for number, piece in enumerate(pieces)]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        results = data.map_batches(
            _Worker,
            fn_constructor_args=(job,),
            batch_size=1,
            num_cpus=self._plan.cores,
            num_gpus=self._plan.gpus or None,
            compute=ActorPoolStrategy(min_size=1, max_size=min(len(rows), self.workers())),
        )
        try:
            for row in results.iter_rows():
                done, result = cloudpickle.loads(row["result"])
                if not done:
                    raise result
                yield int(row["number"]), result
        except ray.exceptions.RayError as error:
            raise RuntimeError(f"the Ray cluster cannot go on: {str(error).strip().splitlines()[-1]}") from error

    def workers(self) -> int:
        """Count the workers for which the cluster has room."""
        import ray

        have = ray.cluster_resources()
        fit = [have.get("CPU", 0) / self._plan.cores]
        if self._plan.gpus:
            fit.append(have.get("GPU", 0) / self._plan.gpus)
        return max(1, int(min(fit)))


class _Worker:
    """An actor: gets a job ready once, and does one piece after another.

    What goes wrong with a job is a result, too: Ray would do it again, and report it in a page of its own.
    """

    def __init__(self, job: Job[Any, Any]) -> None:
        self._failure: Exception | None = None
        try:
            self._work = job.begin()
        except Exception as error:
            self._failure = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle

        results = [cloudpickle.dumps(self._do(cloudpickle.loads(piece))) for piece in batch["piece"]]
        return {"number": batch["number"], "result": results}

    def _do(self, piece: Any) -> tuple[bool, Any]:
        if self._failure is not None:
            return False, self._failure
        try:
            return True, self._work(piece)
        except Exception as error:
            return False, error
