"""How segmentation networks are trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.training.augmentation import Augmentation, augment
from crack_pipeline.training.batches import normalise
from crack_pipeline.training.fit import epoch_seed
from crack_pipeline.training.losses import Term, loss
from crack_pipeline.training.optimisers import Optimiser, create_optimiser
from crack_pipeline.training.settling import settle
from crack_pipeline.training.sharing import as_of_all, log_means, place_of, total, whole

_LEVELS = 256
_RISING = 0.1
_DECAY_AFTER = 10
_FEWEST = 3
_SETTLING_PIXELS = 2**23


class SegmentationTraining(pl.LightningModule):
    """Gradient descent on crops, with a running average of the weights that is what comes out of it.

    Parameters
    ----------
    network
        What is trained: float images (N, C, H, W) in [0, 1] to logits (N, 1, H, W).
    terms
        The loss.
    augmentation
        What is done to the training images.
    optimiser
        By name; ``sgd`` has Nesterov momentum 0.9.
    learning_rate
        The highest of the schedule.
    weight_decay
        Decoupled where the optimiser can do that.
    steps
        Of the whole training.
    schedule
        ``one_cycle``: the learning rate rises during the first tenth of the steps and falls to nothing (Smith and
        Topin, arXiv:1708.07120); ``constant``.
    average
        Decay of the exponential moving average of the weights per step; 0: the weights themselves.
    seed
        Decides the changes of the images.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        terms: Sequence[Term],
        augmentation: Augmentation,
        optimiser: Optimiser,
        learning_rate: float,
        weight_decay: float,
        steps: int,
        schedule: Literal["one_cycle", "constant"],
        average: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False) if average else None
        self.average, self.terms, self.augmentation = average, tuple(terms), augmentation
        self.optimiser, self.learning_rate, self.weight_decay = optimiser, learning_rate, weight_decay
        self.steps, self.schedule, self.seed = steps, schedule, seed
        self._counted: Tensor | None = None
        self._plain: list[Tensor] = []

    @property
    def result(self) -> nn.Module:
        """The network with the weights that are to be used."""
        return self.network if self.averaged is None else self.averaged

    def configure_optimizers(self) -> Any:
        """Give the optimiser, and the schedule of its learning rate where there is one."""
        optimiser = create_optimiser(self.optimiser, self.network, self.learning_rate, self.weight_decay)
        if self.schedule == "constant" or self.steps < _FEWEST:
            return optimiser
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            self.learning_rate,
            total_steps=self.steps,
            # Two steps at least: torch divides by the length of the rise less one.
            pct_start=max(_RISING, 2 / self.steps),
            cycle_momentum=False,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Make the epoch's randomness depend on nothing but seed and epoch."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch, self.global_rank))

    def remember(self, images: Tensor) -> None:
        """Keep some of an epoch's images as they are, (n, C, S, S) uint8, to settle normalisations with."""
        pixels = sum(plain[:, 0].numel() for plain in self._plain)
        if pixels * place_of(self._trainer).of < _SETTLING_PIXELS:
            self._plain.append(images)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Give the loss of one batch: uint8 images (n, C, S, S) and masks (n, S, S)."""
        self.remember(batch[0])
        images, masks = normalise(batch[0], self.device), batch[1].to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            images, masks = augment(images, masks, self.augmentation)
        # Dice, and a mean over the pixels that count, are not the means of what the parts of a batch have.
        logits, masks = whole(self, self.network(images).float()), whole(self, masks)
        value, parts = loss(logits, masks, self.terms)
        metrics = {"train_loss": value.detach(), **{f"train_{name}": part.detach() for name, part in parts.items()}}
        log_means(self, metrics, len(images))
        return as_of_all(self, value)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let the average follow."""
        if self.averaged is None:
            return
        # Early weights are far from where they will be: the average forgets them faster than later ones.
        step = self.trainer.global_step
        decay = min(self.average, step / (step + _DECAY_AFTER))
        # Not by torch's AveragedModel, for which a GPU has to wait several times a step.
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self.averaged.parameters()), list(self.network.parameters()), step)

    def on_validation_epoch_start(self) -> None:
        """Make the statistics of the normalisations those of what is validated."""
        if self._plain:
            with self.trainer.precision_plugin.forward_context():
                settle(self.result, (self.result(normalise(images, self.device)) for images in self._plain))
        self._plain.clear()

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Count the pixels of one batch by class and level of probability."""
        images, masks = normalise(batch[0], self.device), batch[1].to(self.device)
        logits = self.result(images)
        value, _parts = loss(logits, masks, self.terms)
        log_means(self, {"validation_loss": value}, len(images))
        # What is not a number makes the loss tell, which ends the training.
        probabilities = logits.float().sigmoid().squeeze(1).nan_to_num(0)
        level = (probabilities * _LEVELS).long().clamp_(max=_LEVELS - 1)
        counts = torch.bincount((masks.long() * _LEVELS + level).flatten(), minlength=(IGNORED + 1) * _LEVELS)
        self._counted = counts if self._counted is None else self._counted + counts

    def on_validation_epoch_end(self) -> None:
        """Log Dice over all pixels together, at the threshold at which it is highest."""
        if self._counted is None:
            return
        above = total(self, self._counted).cpu().double().view(-1, _LEVELS).flip(1).cumsum(1)
        hit, false_alarm, cracks = above[CRACK], above[0], above[CRACK, -1]
        dice = 2 * hit / (hit + false_alarm + cracks).clamp(min=1)
        self.log("validation_dice", float(dice.max()), sync_dist=True)
        self._counted = None
