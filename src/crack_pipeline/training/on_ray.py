"""Training by workers of a Ray cluster: Ray Train starts and joins them, Lightning trains in each."""

from __future__ import annotations

import logging
import math
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import ray.train
import torch
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment
from ray.train.torch import TorchConfig, TorchTrainer

from crack_pipeline.engines import cluster
from crack_pipeline.training.fit import Training
from crack_pipeline.training.together import OPTIONS, Member, followed, of_connections

logger = logging.getLogger(__name__)

_IN_VAIN = 3
"""Attempts in a row that may end without a finished epoch."""
_START = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


class NoRoomError(ConnectionError):
    """A Ray cluster has no room, at the moment, for those who are to train."""


def train_on_ray(training: Training) -> None:
    """Train with as many workers as a cluster has room for, and go on with those that are left where some are lost.

    Ray can begin again by itself, but with as many workers as before, or else it waits without an end where there is
    no room for any. So an attempt ends with the first worker that is lost, and the next one, from the newest
    checkpoint, is made with as many as there is room for then.

    Parameters
    ----------
    training
        What is trained; its checkpoints lie on storage that all nodes share.

    Raises
    ------
    Exception
        What goes wrong with the training itself, as `training.fit.fit` raises it.
    RuntimeError
        If workers are lost again and again before an epoch is finished.
    NoRoomError
        If workers cannot be started in time.
    """
    cluster.join(training.plan)
    in_vain = 0
    for attempt in count():
        newest, epoch = training.newest(announce=attempt > 0)
        try:
            _attempt(training, newest)
            return
        except (_LostError, NoRoomError) as error:
            _, reached = training.newest(announce=False)
            in_vain = 0 if reached > epoch else in_vain + 1
            if isinstance(error, NoRoomError) and (attempt == 0 or in_vain == _IN_VAIN):
                raise
            if in_vain == _IN_VAIN:
                raise RuntimeError(
                    f"workers of the Ray cluster were lost {_IN_VAIN} times before an epoch was finished, at last: "
                    f"{error}; the {reached + 1} epochs that were done are kept: type the command again"
                ) from None
            logger.warning("training goes on without some of its workers: %s", error)
            # A node that is gone counts for a while, until it has not answered several times.
            with suppress(ConnectionError, RayError):
                cluster.on_every_node(lambda _: None, training.plan.patience)


class _LostError(Exception):
    """Workers were lost; says why."""


def _attempt(training: Training, newest: Path | None) -> None:
    plan, batch = training.plan, training.data.batch_size
    gpus = max(1.0, plan.gpus) if plan.accelerator == "cuda" else 0.0
    size = number_of_workers(min(plan.devices, max(1, cluster.room(plan.cores, gpus))), batch)
    logger.info(
        "training with %d workers of %g cores and %g GPUs, each on its part of a batch of %d",
        size,
        plan.cores,
        gpus,
        batch,
    )
    # Ray's own limit is for workers to be placed; what has to be imported comes after it.
    os.environ[_START] = str(max(plan.patience, 30.0))

    def train(told: Path) -> None:
        member = Member(training.module, told)
        TorchTrainer(
            lambda: _take_part(training, newest, member),
            torch_config=_Torch(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=size,
                use_gpu=bool(gpus),
                resources_per_worker={"CPU": plan.cores} | ({"GPU": gpus} if gpus else {}),
            ),
            run_config=RunConfig(
                name=told.stem,
                storage_path=str(training.folder / "ray"),
                # Nothing is tried again inside of an attempt, which would begin from where the attempt began.
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            ),
        ).fit()

    try:
        followed(training.folder, train)
    except ray.train.WorkerGroupError as error:
        raise _cause(list(error.worker_failures.values())) from None
    except ray.train.PreemptionError as error:
        raise _LostError(f"nodes of the Ray cluster are being taken away: {_line(error)}") from None
    except ray.train.ControllerError as error:
        why = error.controller_failure
        if "Timeout" in type(why).__name__:
            raise NoRoomError(
                f"no room for {size} workers of {plan.cores:g} cores and {gpus:g} GPUs on the Ray cluster within "
                f"{float(os.environ[_START]):g} s: does something else use it?"
            ) from None
        raise _LostError(_line(why)) from None


def number_of_workers(most: int, batch: int) -> int:
    """Give how many of so many workers a batch is divided among: no more than make a step shorter.

    Of 16 images, 12 workers would have two each, as 8 have, and make 8 of them twice.
    """
    return math.ceil(batch / math.ceil(batch / most))


def _take_part(training: Training, newest: Path | None, member: Member) -> None:
    """Train, as one of the workers."""
    strategy = RayDDPStrategy(**OPTIONS)
    training.run(newest, member, devices="auto", strategy=strategy, plugins=[RayLightningEnvironment()])


def _cause(errors: list[BaseException]) -> BaseException:
    """Give what ended an attempt: an error of the training, or the loss of a worker, which others only notice."""
    for error in errors:
        if not isinstance(error, RayError) and not _of_connections(error) and not _of_workers(error):
            return error
    first = [error for error in errors if not _of_connections(error)] or errors
    return _LostError(_line(first[0]) if first else "no reason is known")


def _of_connections(error: BaseException) -> bool:
    """Whether an error can be that of one who lost another: Gloo has no exceptions of its own for it."""
    if isinstance(error, torch.distributed.DistError | ConnectionError):
        return True
    return type(error) is RuntimeError and of_connections(str(error))


def _of_workers(error: BaseException) -> bool:
    return type(error).__module__.startswith("ray.")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


@dataclass
class _Torch(TorchConfig):
    """Joins workers over the network by which their nodes have joined the cluster."""

    @property
    def backend_cls(self) -> Any:
        return _Backend


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(_choose_interface)
        super().on_start(worker_group, backend_config)


def _choose_interface() -> None:
    """Have Gloo use the interface of the node's address; by itself it takes what the host's name stands for."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == socket.AF_INET and each.address == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
