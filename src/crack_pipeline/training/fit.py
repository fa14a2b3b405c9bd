"""One way to train every network: Lightning, resumable, the same result whether interrupted or not."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from numpy.typing import NDArray

from crack_pipeline.training.batches import Images, loader
from crack_pipeline.training.compute import Plan

logger = logging.getLogger(__name__)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
_SECONDS_BETWEEN_LINES = 15.0


def fingerprint(**parts: Any) -> str:
    """Give a short hash of everything that decides a training: parameters, data, plan.

    Two trainings with one fingerprint are the same training, so that one may go on where the other stopped.
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def epoch_seed(seed: int, epoch: int) -> int:
    """Give the seed of one epoch: randomness depends on the epoch, not on what ran before it."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class Batches(pl.LightningDataModule):
    """Training batches shuffled anew, but reproducibly, in every epoch; validation batches in order."""

    def __init__(
        self,
        images: Images,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.images, self.train, self.validation = images, train, validation
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def train_dataloader(self) -> Any:
        """Give this epoch's batches."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return loader(self.images, self.train, self.batch_size, seed=epoch_seed(self.seed, epoch), workers=self.workers)

    def val_dataloader(self) -> Any:
        """Give the validation batches."""
        return loader(self.images, self.validation, self.batch_size, workers=self.workers)


class History(Callback):
    """Every metric of every epoch; kept in the checkpoint, so that it survives an interruption."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch's metrics."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, **metrics})

    def state_dict(self) -> dict[str, Any]:
        """Give what the checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.rows = state_dict["rows"]


class Progress(Callback):
    """Lines of log that say how far the training is, how fast, and how long it still takes."""

    def __init__(self, images_per_epoch: int, batch_size: int) -> None:
        self.images_per_epoch, self.batch_size = images_per_epoch, batch_size

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.said = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say something now and then."""
        now = time.monotonic()
        if now - self.said < _SECONDS_BETWEEN_LINES:
            return
        self.said = now
        done = min((batch_idx + 1) * self.batch_size, self.images_per_epoch)
        logger.info(
            "epoch %d of %s: %s of %s images, %.0f/s",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            f"{done:,}",
            f"{self.images_per_epoch:,}",
            done / (now - self.started),
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what the epoch gave."""
        seconds = time.monotonic() - self.started
        left = (trainer.max_epochs or 0) - trainer.current_epoch - 1
        metrics = ", ".join(f"{name} {float(value):.4g}" for name, value in trainer.callback_metrics.items())
        logger.info(
            "epoch %d of %s: %s; %.0f images/s, %s left",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            metrics,
            self.images_per_epoch / seconds,
            f"about {left * seconds / 60:.1f} min" if left else "none",
        )


def fit(
    module: pl.LightningModule,
    images: Images,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    plan: Plan,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    checkpoints: Path,
    identity: Mapping[str, Any],
) -> pd.DataFrame:
    """Train ``module`` in place.

    A checkpoint is written after every epoch to a folder named by the fingerprint of ``identity``; a call with
    the same identity goes on from the last one and ends with the weights of an uninterrupted training.

    Parameters
    ----------
    module
        What to train; its network carries the result.
    images
        Image stack.
    train, validation
        (n,), rows of the stack.
    plan
        Device, precision, workers, compilation.
    epochs, batch_size, seed
        As they say; ``seed`` decides order and noise, the module's initial weights are the caller's.
    checkpoints
        Folder for the checkpoints of all trainings of this model.
    identity
        Everything that decides the result, JSON-like.

    Returns
    -------
    pandas.DataFrame
        One row per epoch: ``epoch`` from 0 and every metric that the module logs.
    """
    folder = checkpoints / fingerprint(**identity, epochs=epochs, batch_size=batch_size, seed=seed)
    history = History()
    saver = ModelCheckpoint(folder, "epoch-{epoch:05d}", monitor="epoch", mode="max", save_top_k=2)
    precision: Any = plan.precision
    trainer = pl.Trainer(
        accelerator="gpu" if plan.accelerator == "cuda" else plan.accelerator,
        devices=plan.devices,
        precision=precision,
        max_epochs=epochs,
        callbacks=[history, Progress(len(train), batch_size), saver],
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    data = Batches(images, train, validation, batch_size=batch_size, seed=seed, workers=plan.workers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
        trainer.fit(module, data, ckpt_path=_latest(folder), weights_only=True)
    return pd.DataFrame(history.rows)


def _latest(folder: Path) -> Path | None:
    """Give the newest checkpoint that can be read, so that a damaged file costs one epoch, not the training."""
    for path in sorted(folder.glob("*.ckpt"), reverse=True):
        try:
            epoch = torch.load(path, map_location="cpu", weights_only=True)["epoch"]
        except Exception as error:
            logger.warning("checkpoint %s cannot be read (%s); an earlier one is used", path.name, error)
            continue
        logger.info("going on after epoch %d of an interrupted training", epoch + 1)
        return path
    return None
