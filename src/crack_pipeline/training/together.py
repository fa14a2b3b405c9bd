"""Training by several processes: those of one machine by Lightning's own means, those of a cluster by Ray's.

Each trains the same module on its part of every batch, and the first writes checkpoints to the folder that all reach.
What this process knows of them is what lies there: lines of log and metrics, epoch by epoch, in a file that is followed
while they train, and the last checkpoint, which is the result.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from crack_pipeline.training import listening
from crack_pipeline.training.fit import Best, DivergedError, History, Training, ignore_known_warnings, quieten
from crack_pipeline.training.memory import keep_memory
from crack_pipeline.training.normalising import share_normalisation

logger = logging.getLogger(__name__)

_PACKAGE = "crack_pipeline"
_CPP_LOG = "TORCH_CPP_LOG_LEVEL"
_SECONDS_BETWEEN_LOOKS = 0.5
OPTIONS: dict[str, Any] = {
    # Statistics of normalisations are those of all, and nothing else of a network could differ.
    "forward_sync_buffers": False,
    # Not every encoder uses all of its layers.
    "find_unused_parameters": True,
}
"""Of the strategy that joins the processes."""


def train_together(training: Training) -> tuple[History, Best | None]:
    """Train a module in other processes, and take the result from them.

    Parameters
    ----------
    training
        What is trained; its module has the result in it afterwards.

    Returns
    -------
    tuple
        History, and the best epoch where the training watches for it.

    Raises
    ------
    Exception
        As `training.fit.fit`.
    """
    training.folder.mkdir(parents=True, exist_ok=True)
    newest, epoch = training.newest()
    if epoch + 1 < training.epochs:
        if training.plan.engine == "ray":
            from crack_pipeline.training.on_ray import train_on_ray

            train_on_ray(training)
        else:
            _train_here(training, newest)
        newest, _ = training.newest(announce=False)
    if newest is None:
        raise RuntimeError(f"those who trained together left no checkpoint in {training.folder}")
    return _take(training, newest)


class Failure(NamedTuple):
    """What ended a process."""

    name: str
    """Of the exception's class, with its module."""
    says: str


def of_connections(says: str) -> bool:
    """Whether an error that is raised by a process can be what the end of another one does to it."""
    words = ("gloo", "nccl", "connection", "broken pipe", "socket", "timed out", "timeout")
    return any(word in says.lower() for word in words)


def followed(folder: Path, work: Callable[[Path], None], failures: list[Failure] | None = None) -> None:
    """Do some work in a thread, and pass on meanwhile what is told by those who do it.

    Parameters
    ----------
    folder
        Where the file lies through which they tell.
    work
        Is called with that file. What it raises is raised here.
    failures
        Takes what they tell of their ends, the first one first.
    """
    told = folder / f".told-{uuid.uuid4().hex}.jsonl"
    told.touch()
    raised: list[BaseException] = []
    failures = [] if failures is None else failures

    def do() -> None:
        try:
            work(told)
        except BaseException as error:
            raised.append(error)

    # What waits in a thread cannot keep Ctrl-C from ending the run.
    thread = threading.Thread(target=do, daemon=True, name="training")
    thread.start()
    try:
        at = 0
        while thread.is_alive():
            thread.join(_SECONDS_BETWEEN_LOOKS)
            at = _pass_on(told, at, failures)
        _pass_on(told, at, failures)
    finally:
        told.unlink(missing_ok=True)
    if raised:
        raise raised[0]


class Member(Callback):
    """Makes a process one of several that train together; the first of them tells who follows how far they are.

    Parameters
    ----------
    module
        That is trained; parts of it that are compiled here will be there.
    told
        File that is appended to.
    """

    def __init__(self, module: nn.Module, told: Path) -> None:
        self._told = told
        parts = dict(module.named_modules())
        self._compiled = [name for name in parts if getattr(parts[name], "_compiled_call_impl", None) is not None]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        quieten()  # before Lightning says that processes have found each other

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Prepare the process."""
        keep_memory(True)
        ignore_known_warnings()
        share_normalisation(pl_module, trainer.strategy.root_device)
        for name in self._compiled:
            pl_module.get_submodule(name).compile()
        # Lightning calls no callback for what is raised in a process that it has started.
        trainer.fit_loop.run = _told_of(self._told)(trainer.fit_loop.run)
        package = logging.getLogger(_PACKAGE)
        package.handlers = [_ToFile(self._told)] if trainer.is_global_zero else [logging.NullHandler()]
        package.propagate = False
        package.setLevel(logging.INFO)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write down the metrics of an epoch."""
        if trainer.is_global_zero:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            _append(self._told, {"epoch": trainer.current_epoch, "metrics": metrics})


class _ToFile(logging.Handler):
    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        _append(self._path, {"logger": record.name, "level": record.levelno, "says": record.getMessage()})


@contextmanager
def _told_of(told: Path) -> Iterator[None]:
    """Write down what ends a process, before others notice that it is gone."""
    try:
        yield
    except Exception as error:
        kind = type(error)
        _append(told, {"failed": f"{kind.__module__}.{kind.__qualname__}", "says": str(error)})
        raise


def _append(path: Path, what: dict[str, Any]) -> None:
    # Whoever followed may be gone, which is no reason not to train, or to make the file anew.
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, f"{json.dumps(what)}\n".encode())
        finally:
            os.close(file)


def _pass_on(told: Path, at: int, failures: list[Failure]) -> int:
    """Log and tell what was written down since a place in a file; gives the place up to which that was."""
    with told.open("rb") as file:
        file.seek(at)
        lines = file.read()
    whole = lines.rpartition(b"\n")[0]
    for line in whole.splitlines():
        what = json.loads(line)
        if "epoch" in what:
            listening.tell(what["epoch"], what["metrics"])
        elif "failed" in what:
            failures.append(Failure(what["failed"], what["says"]))
        else:
            logging.getLogger(what["logger"]).log(what["level"], "%s", what["says"])
    return at + len(whole) + bool(whole)


def _train_here(training: Training, newest: Path | None) -> None:
    """Train in processes of this machine; raises as `training.fit.fit`."""
    plan, batch = training.plan, training.data.batch_size
    if batch < plan.devices:
        raise ValueError(
            f"a batch of {batch} cannot be divided among {plan.devices} devices: raise batch_size, or lower "
            "compute.devices"
        )
    logger.info("training in %d processes, each on its part of a batch of %d", plan.devices, batch)
    backend = "nccl" if plan.accelerator == "cuda" else "gloo"
    strategy = DDPStrategy(start_method="spawn", process_group_backend=backend, **OPTIONS)

    def train(told: Path) -> None:
        where: dict[str, Any] = {"strategy": strategy, "plugins": [LightningEnvironment()]}
        training.run(newest, Member(training.module, told), devices=plan.devices, **where)

    failures: list[Failure] = []
    try:
        with _surroundings():
            followed(training.folder, train, failures)
    except torch.multiprocessing.ProcessRaisedException as error:
        raise _raised_there(failures or [_last_line(str(error))]) from None
    except torch.multiprocessing.ProcessExitedException as error:
        raise RuntimeError(
            f"one of the {plan.devices} processes that trained together ended without a word ({error}), perhaps for "
            "lack of memory; the epochs that were done are kept: type the command again"
        ) from None


def _raised_there(failures: Sequence[Failure]) -> Exception:
    """Make an exception of what ended the processes: the first that is not what the end of another one does to it."""
    first = next((failure for failure in failures if not of_connections(failure.says)), failures[0])
    if first.name == f"{DivergedError.__module__}.{DivergedError.__qualname__}":
        return DivergedError(first.says)
    return RuntimeError(f"{first.name.removeprefix('builtins.')}: {first.says}")


def _last_line(text: str) -> Failure:
    """Take the exception from the traceback of another process."""
    name, _, says = text.strip().splitlines()[-1].partition(": ")
    return Failure(name, says)


@contextmanager
def _surroundings() -> Iterator[None]:
    """Set what the processes are to find in their environment, and only for them."""
    before = {name: os.environ.pop(name, None) for name in ("MASTER_PORT", _CPP_LOG)}
    # Torch would warn, in every process, of layers that all have been used; Lightning chooses a port.
    os.environ[_CPP_LOG] = "ERROR"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _take(training: Training, path: Path) -> tuple[History, Best | None]:
    """Give the module the weights of a checkpoint; gives what the callbacks knew then."""
    kept = torch.load(path, map_location="cpu", weights_only=True)
    training.module.load_state_dict(kept["state_dict"])
    history = History()
    history.load_state_dict(kept["callbacks"][history.state_key])
    if training.watch is None:
        return history, None
    best = Best(training.watch)
    best.load_state_dict(kept["callbacks"][best.state_key])
    return history, best
