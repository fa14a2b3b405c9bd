"""One way to train every network: Lightning, resumable, the same result whether interrupted or not."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Plan
from crack_pipeline.training.batches import Images, loader
from crack_pipeline.training.memory import kept_memory
from crack_pipeline.training.sharing import Place, place_of

logger = logging.getLogger(__name__)
# Lightning reports through the one that was imported last, and sets its level when it is.
_LIGHTNING = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
_SECONDS_BETWEEN_LINES = 15.0
_STEPS_BETWEEN_CHECKS = 20
_KNOWN_WARNINGS = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*treespec, LeafSpec.*",
    ".*Grad strides do not match bucket view strides.*",
)


class DivergedError(RuntimeError):
    """The loss of a training is no longer a finite number."""


def fingerprint(**parts: Any) -> str:
    """Give a short hash of everything that decides a training: parameters, data, plan.

    Two trainings with one fingerprint are the same training, so that one may go on where the other stopped.
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Give the seed of one epoch: randomness depends on the epoch, not on what ran before it.

    Processes that train together, by their ranks, have different ones: each sees other images.
    """
    return int(np.random.SeedSequence([seed, epoch, rank] if rank else [seed, epoch]).generate_state(1)[0])


def quieten() -> None:
    """Keep Lightning from logging what is no news."""
    for name in _LIGHTNING:
        logging.getLogger(name).setLevel(logging.WARNING)


def ignore_known_warnings() -> None:
    """Ignore warnings of what is as it should be."""
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


class Data(pl.LightningDataModule):
    """What a network learns from; batches of an epoch depend on the seed and the epoch alone.

    Parameters
    ----------
    batch_size
        Images in a batch, all processes that train together counted.
    images_per_epoch
        How many an epoch learns from.
    seed
        Of what is drawn.
    """

    def __init__(self, *, batch_size: int, images_per_epoch: int, seed: int) -> None:
        super().__init__()
        self.batch_size, self.images_per_epoch, self.seed = batch_size, images_per_epoch, seed

    @property
    def epoch_seed(self) -> int:
        """Seed of the epoch that is being trained."""
        return epoch_seed(self.seed, self.trainer.current_epoch if self.trainer else 0)

    @property
    def place(self) -> Place:
        """Of this process among those that train together."""
        return place_of(self.trainer)

    def release(self) -> None:
        """End the processes that read ahead, if they are still there."""


class Batches(Data):
    """Whole images: training batches shuffled anew in every epoch, validation batches in order."""

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
        super().__init__(batch_size=batch_size, images_per_epoch=len(train), seed=seed)
        self.images, self.train, self.validation, self.workers = images, train, validation, workers

    def train_dataloader(self) -> Any:
        """Give this epoch's batches."""
        return loader(
            self.images, self.train, self.batch_size, seed=self.epoch_seed, workers=self.workers, place=self.place
        )

    def val_dataloader(self) -> Any:
        """Give the validation batches."""
        return loader(self.images, self.validation, self.batch_size, workers=self.workers, place=self.place)


class History(Callback):
    """Every metric of every epoch, and how long they took; kept in the checkpoint, to survive an interruption."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch's metrics."""
        self.seconds += time.monotonic() - self._began
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, **metrics})

    def state_dict(self) -> dict[str, Any]:
        """Give what the checkpoint keeps."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.rows, self.seconds = state_dict["rows"], state_dict.get("seconds", 0.0)


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


class Finite(Callback):
    """Ends a training whose loss is no longer a number, before a checkpoint keeps what it has become.

    Raises
    ------
    DivergedError
        Within some steps on a GPU, which would have to wait for every look at the loss; at once elsewhere.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of the batch."""
        # Where half precision overflows now and then, such a step is left out and the scale is lowered.
        often = pl_module.device.type == "cpu" or (batch_idx + 1) % _STEPS_BETWEEN_CHECKS == 0
        if often and trainer.precision != "16-mixed":
            self._check("train_loss", float(outputs["loss"]), trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the losses of the epoch."""
        for name, value in trainer.callback_metrics.items():
            if name.endswith("_loss") and not (name == "train_loss" and trainer.precision == "16-mixed"):
                self._check(name, float(value), trainer)

    def _check(self, name: str, value: float, trainer: pl.Trainer) -> None:
        if math.isfinite(value):
            return
        remedy = "lower the learning rate"
        if trainer.precision != "32-true":
            remedy += f", or compute with the precision 32-true instead of {trainer.precision}"
        raise DivergedError(f"the training diverged: {name} is {value} in epoch {trainer.current_epoch + 1}; {remedy}")


@dataclass(frozen=True)
class Watch:
    """A metric of the validation that says which epoch was the best, and when to stop.

    Attributes
    ----------
    metric
        Name under which the module logs it.
    mode
        Whether the largest or the smallest value is the best.
    patience
        Epochs without a better value after which the training ends; None: it never ends early.
    """

    metric: str
    mode: Literal["max", "min"]
    patience: int | None = None


class Best(Callback):
    """The weights of the best epoch so far; kept in the checkpoint, so that an interruption cannot part them from it.

    Parameters
    ----------
    watch
        What is the best.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch, self.epoch, self.value = watch, -1, math.nan
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if none before were as good."""
        value = float(trainer.callback_metrics[self.watch.metric])
        if not self.weights or (value > self.value if self.watch.mode == "max" else value < self.value):
            self.epoch, self.value = trainer.current_epoch, value
            self.weights = {
                name: tensor.detach().to("cpu", copy=True) for name, tensor in pl_module.state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        """Give what the checkpoint keeps."""
        return {"epoch": self.epoch, "value": self.value, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.epoch, self.value, self.weights = (state_dict[name] for name in ("epoch", "value", "weights"))


class _Stop(EarlyStopping):
    """Early stopping that a resumed training does not outlive by one epoch."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once where the interrupted training had already stopped."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say why it ended."""
        if self.wait_count >= self.patience:
            logger.info("stopped early: %s has not become better for %d epochs", self.monitor, self.wait_count)


@dataclass(frozen=True)
class Training:
    """All that a process needs to take part in a training; it can be pickled.

    Attributes
    ----------
    module, data, plan, epochs, watch, callbacks
        As for :func:`fit`.
    folder
        For the checkpoints of this training alone.
    """

    module: pl.LightningModule
    data: Data
    plan: Plan
    epochs: int
    folder: Path
    watch: Watch | None
    callbacks: tuple[Callback, ...]

    def run(self, newest: Path | None, *more: Callback, devices: int | str = 1, **where: Any) -> list[Callback]:
        """Train the module in place, as Lightning does it.

        Parameters
        ----------
        newest
            Checkpoint to go on from.
        more
            Callbacks of the process.
        devices, where
            For Lightning: how many devices, and what else it must know of them, such as a strategy.

        Returns
        -------
        list of Callback
            All of them, as they are after the training.
        """
        keepers: list[Callback] = []
        if self.watch is not None:
            keepers.append(Best(self.watch))
            if self.watch.patience is not None:
                options: dict[str, Any] = {"patience": self.watch.patience, "check_on_train_epoch_end": True}
                keepers.append(_Stop(self.watch.metric, mode=self.watch.mode, **options))
        # The last to be called, so that its checkpoint knows what the others know.
        keepers.append(ModelCheckpoint(self.folder, "epoch-{epoch:05d}", monitor="epoch", mode="max", save_top_k=2))
        progress = Progress(self.data.images_per_epoch, self.data.batch_size)
        callbacks = [Finite(), History(), progress, *self.callbacks, *keepers, *more]
        precision: Any = self.plan.precision
        quieten()
        trainer = pl.Trainer(
            accelerator="gpu" if self.plan.accelerator == "cuda" else self.plan.accelerator,
            devices=devices,
            precision=precision,
            max_epochs=self.epochs,
            callbacks=callbacks,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **where,
        )
        with warnings.catch_warnings(), kept_memory():
            ignore_known_warnings()
            try:
                trainer.fit(self.module, self.data, ckpt_path=newest, weights_only=True)
            finally:
                self.data.release()
        return callbacks

    def newest(self, *, announce: bool = True) -> tuple[Path | None, int]:
        """Find the newest checkpoint that can be read, so that a damaged file costs one epoch, not the training.

        Parameters
        ----------
        announce
            Whether to log that the training goes on from there.

        Returns
        -------
        tuple
            Its path, and its epoch, from 0; None and -1 if there is none.
        """
        for path in sorted(self.folder.glob("epoch-*.ckpt"), reverse=True):
            try:
                epoch = torch.load(path, map_location="cpu", weights_only=True)["epoch"]
            except Exception as error:
                logger.warning("checkpoint %s cannot be read (%s); an earlier one is used", path.name, error)
                continue
            if announce:
                logger.info("going on after epoch %d of an interrupted training", epoch + 1)
            return path, int(epoch)
        return None, -1


def fit(
    module: pl.LightningModule,
    data: Data,
    plan: Plan,
    *,
    epochs: int,
    checkpoints: Path,
    identity: Mapping[str, Any],
    watch: Watch | None = None,
    callbacks: Sequence[Callback] = (),
) -> pd.DataFrame:
    """Train ``module`` in place, on as many devices as the plan says, or with the workers of a Ray cluster.

    A checkpoint is written after every epoch to a folder named by the fingerprint of ``identity``; a call with
    the same identity goes on from the last one and ends with the weights of an uninterrupted training, where the same
    number of devices goes on.

    Parameters
    ----------
    module
        What to train; its network carries the result.
    data
        Batches for training and validation.
    plan
        Engine, devices, precision, workers, compilation.
    epochs
        How many.
    checkpoints
        Folder for the checkpoints of all trainings of this model; all who train must reach it.
    identity
        Everything that decides the result beside epochs, batch size and seed; JSON-like.
    watch
        Decides which epoch's weights the module has at the end; None: those of the last one.
    callbacks
        More to do during the training, which is then done here and on one device: what they know stays here.

    Returns
    -------
    pandas.DataFrame
        One row per epoch: ``epoch`` from 0 and every metric that the module logs; ``attrs["minutes"]`` is how long they
        took, those before an interruption included.

    Raises
    ------
    DivergedError
        If the loss becomes infinite or not a number.
    ValueError
        If there are fewer images in a batch than devices.
    RuntimeError
        If those who train together cannot go on; what they have done is kept.
    """
    name = fingerprint(**identity, epochs=epochs, batch_size=data.batch_size, seed=data.seed)
    training = Training(module, data, plan, epochs, (checkpoints / name).absolute(), watch, tuple(callbacks))
    if (plan.engine == "ray" or plan.devices > 1) and not callbacks:
        from crack_pipeline.training.together import train_together

        history, best = train_together(training)
    else:
        done = training.run(training.newest()[0])
        history = next(callback for callback in done if isinstance(callback, History))
        best = next((callback for callback in done if isinstance(callback, Best)), None)
    if best is not None and best.weights:
        module.load_state_dict(best.weights)
        logger.info("the best epoch was %d: %s %.4g", best.epoch + 1, best.watch.metric, best.value)
    table = pd.DataFrame(history.rows)
    table.attrs["minutes"] = history.seconds / 60
    return table
