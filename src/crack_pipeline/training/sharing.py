"""What a process that trains together with others has of every batch, and how they come to one number.

All decide alike what is in the batches of an epoch; each makes no more than its part of it. So a step learns from as
many images as it does where one device trains alone, and there are as many steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    # It takes seconds to import, and only training needs it.
    import lightning.pytorch as pl

T = TypeVar("T")


class Place(NamedTuple):
    """A process among those that train together."""

    rank: int = 0
    of: int = 1

    def part(self, batch: Any) -> Any:
        """Give the part of a batch that is this one's: every so many-th image, from its own on.

        Parameters
        ----------
        batch
            A list or an array with a row for each image, or a tuple of such batches.

        Returns
        -------
        object
            Of the same kind. All parts are equally long, since gradients are averaged over the processes: if the batch
            cannot be divided, some of its first images are in two parts.
        """
        if self.of == 1:
            return batch
        if isinstance(batch, tuple):
            return tuple(self.part(each) for each in batch)
        number = len(batch)
        chosen = (self.rank + self.of * np.arange(-(-number // self.of))) % max(number, 1)
        return batch[chosen] if isinstance(batch, np.ndarray) else [batch[at] for at in chosen]

    def deal(self, batches: Sequence[T]) -> Sequence[T]:
        """Give the batches that are this one's: every so many-th; all, if there are fewer than processes."""
        return batches[self.rank :: self.of] if len(batches) >= self.of else batches


def place_of(trainer: pl.Trainer | None) -> Place:
    """Give the place of this process; alone where nothing trains."""
    return Place() if trainer is None else Place(trainer.global_rank, trainer.world_size)


def log_means(module: pl.LightningModule, metrics: Mapping[str, Tensor], number: int) -> None:
    """Log the means of some metrics over all images of an epoch, whichever process they are of.

    Parameters
    ----------
    module
        Logs them.
    metrics
        Means over some images.
    number
        Of these images.
    """
    # Lightning divides the number by that of the processes, and takes the integer part of it.
    number *= place_of(module._trainer).of
    module.log_dict(dict(metrics), on_step=False, on_epoch=True, batch_size=number, sync_dist=True)


def total(module: pl.LightningModule, counts: Tensor) -> Tensor:
    """Add up what all processes have counted."""
    return counts if place_of(module._trainer).of == 1 else module.trainer.strategy.reduce(counts, reduce_op="sum")


def whole(module: pl.LightningModule, part: Tensor) -> Tensor:
    """Give what all processes have of a batch, (N, ...), from the part (n, ...) of this one.

    It has a gradient for this part alone: a loss of the whole batch that each computes has to be passed through
    `as_of_all`.
    """
    place = place_of(module._trainer)
    if place.of == 1:
        return part
    sent = part.detach().contiguous()
    parts = [torch.empty_like(sent) for _ in range(place.of)]
    distributed.all_gather(parts, sent)
    return torch.cat([*parts[: place.rank], part, *parts[place.rank + 1 :]])


def as_of_all(module: pl.LightningModule, loss: Tensor) -> Tensor:
    """Make the gradients of a loss over a whole batch, which all compute for their parts, those that add up.

    Gradients are averaged over the processes.
    """
    of = place_of(module._trainer).of
    return loss if of == 1 else loss.detach() + (loss - loss.detach()) * of
