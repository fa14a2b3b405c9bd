"""Train a network that gives logits of pixels from nothing but labels of whole images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

from crack_pipeline.imaging.labelled_squares import LabelledSquares
from crack_pipeline.imaging.photograph_stack import IGNORED
from crack_pipeline.training.augmentation import augment
from crack_pipeline.training.batches import as_tensor, normalise
from crack_pipeline.training.fit import Data
from crack_pipeline.training.pooling import Pooling, pool
from crack_pipeline.training.segmentation import SegmentationTraining
from crack_pipeline.training.sharing import log_means

Labelled = tuple[Tensor, Tensor, Tensor]
"""Images (n, C, S, S) uint8, masks (n, S, S) uint8 of what does not count (2), and labels (n,) float32."""


class ImageLabels(Data):
    """Squares with labels: as many of either kind in every training batch, the same ones in every validation.

    Parameters
    ----------
    train, validation
        With squares of both labels.
    size
        Side of the images, px.
    batch_size
        Images in a batch.
    steps
        Batches in an epoch.
    most
        Images of a validation, at most; half of either kind, as far as there are so many.
    seed
        Of what is drawn.
    """

    def __init__(
        self,
        train: LabelledSquares,
        validation: LabelledSquares,
        *,
        size: int,
        batch_size: int,
        steps: int,
        most: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, images_per_epoch=steps * batch_size, seed=seed)
        self._squares, self._size, self._steps = train, size, steps
        self._validation = validation
        rng = np.random.default_rng([0, 7])
        kinds = (np.flatnonzero(validation.cracked == kind) for kind in (False, True))
        self._fixed = np.sort(np.concatenate([rng.permutation(of_kind)[: max(1, most // 2)] for of_kind in kinds]))

    def train_dataloader(self) -> Any:
        """Give this epoch's batches."""
        return self._loader(self._squares, [self.place.part(batch) for batch in self._draw()])

    def val_dataloader(self) -> Any:
        """Give the validation batches."""
        starts = range(0, len(self._fixed), self.batch_size)
        chosen = [self._fixed[start : start + self.batch_size] for start in starts]
        return self._loader(self._validation, self.place.deal(chosen))

    def _loader(self, squares: LabelledSquares, batches: Sequence[NDArray[np.int64]]) -> DataLoader[Labelled]:
        # With a generator of its own: an iterator would otherwise draw from the noise of the training.
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(_Batches(squares, self._size), sampler=batches, batch_size=None, generator=generator)

    def _draw(self) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng(self.epoch_seed)
        sound, cracked = (np.flatnonzero(self._squares.cracked == kind) for kind in (False, True))
        half = self.batch_size // 2
        return [
            np.concatenate([rng.choice(cracked, half), rng.choice(sound, self.batch_size - half)])
            for _ in range(self._steps)
        ]


class _Batches(Dataset[Labelled]):
    """Takes a whole batch of squares at a time."""

    def __init__(self, squares: LabelledSquares, size: int) -> None:
        self._squares, self._size = squares, size

    def __getitem__(self, which: NDArray[np.int64]) -> Labelled:
        images, masks = self._squares.take(which, self._size)
        labels = torch.from_numpy(self._squares.cracked[which].astype(np.float32))
        return as_tensor(images), torch.from_numpy(masks), labels


class ImageLabelTraining(SegmentationTraining):
    """Cross-entropy of labels of images, and of logits that are pooled over their pixels.

    Parameters
    ----------
    pooling
        How.
    others
        As for `SegmentationTraining`; its terms of a loss are not used.
    """

    def __init__(self, *args: Any, pooling: Pooling, **others: Any) -> None:
        super().__init__(*args, terms=(), **others)
        self.pooling: Pooling = pooling

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Give the loss of one batch."""
        self.remember(batch[0])
        images, masks = normalise(batch[0], self.device), batch[1].to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            images, masks = augment(images, masks, self.augmentation)
        loss = binary_cross_entropy_with_logits(self._pooled(self.network(images), masks), batch[2].to(self.device))
        log_means(self, {"train_loss": loss.detach()}, len(images))
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        """Log loss and accuracy."""
        logits = self._pooled(self.result(normalise(batch[0], self.device)), batch[1].to(self.device))
        labels = batch[2].to(self.device)
        measured = {
            "validation_loss": binary_cross_entropy_with_logits(logits, labels),
            "validation_accuracy": ((logits > 0) == (labels > 0.5)).float().mean(),
        }
        log_means(self, measured, len(labels))

    def _pooled(self, logits: Tensor, masks: Tensor) -> Tensor:
        return pool(logits, masks == IGNORED, self.pooling)
