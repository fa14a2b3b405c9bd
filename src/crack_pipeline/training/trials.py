"""What a search for parameters needs of its trainings: their values epoch by epoch, and their memory."""

from __future__ import annotations

import gc
from collections.abc import Callable

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from crack_pipeline.training.fit import History

_EXHAUSTED = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")


class EpochReport(Callback):
    """Hands on a metric after every epoch; an error of the receiver ends the training.

    Epochs that an interrupted training had behind it are handed on as well, before the first new one.

    Parameters
    ----------
    metric
        Name under which the module logs it.
    receive
        Takes the epoch, from 0, its value, and whether more epochs follow.
    """

    def __init__(self, metric: str, receive: Callable[[int, float, bool], None]) -> None:
        self.metric, self._receive, self._handed_on = metric, receive, 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand on what has not been so far."""
        (history,) = (callback for callback in trainer.callbacks if isinstance(callback, History))
        for row in history.rows[self._handed_on :]:
            self._handed_on += 1
            epoch = int(row["epoch"])
            self._receive(epoch, row[self.metric], epoch + 1 < (trainer.max_epochs or 0))


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the memory of the device or of the machine does not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _EXHAUSTED)


def release_memory() -> None:
    """Give back what an ended training had reserved, on the device as well."""
    gc.collect()  # trainer and module refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
