"""Square crops of photographs with masks, drawn anew in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from crack_pipeline.imaging import tiling
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.training.batches import as_tensor
from crack_pipeline.training.fit import Data

_BLOCK = 16
_STRIP = 64 * _BLOCK

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Where the crops of a batch lie: rows (n,) of the stack, and corners (n, 2), y and x."""


class Photographs(Protocol):
    """What training needs of a stack of photographs with masks."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of each photograph in px, (N, 2)."""

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Give one mask, (H, W): 0 background, 1 crack, 2 ignored."""

    def crops(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut squares out of some photographs and their masks."""


class Crops(Data):
    """Random crops to learn from, and a grid of crops to validate on.

    Parameters
    ----------
    photographs
        The stack.
    train, validation
        (n,), rows of the stack.
    size
        Side of a crop in px. What lies beyond a smaller photograph is a reflection, and ignored.
    batch_size
        Crops in a batch.
    steps
        Batches in an epoch.
    centred
        Share of the crops that are made to hold a crack, from 0 to 1: most of a photograph is sound concrete, and a
        network that sees little else learns little else.
    validation_crops
        At most so many crops, spread over all validation photographs.
    seed
        Decides what is drawn in each epoch.
    workers
        Processes that read ahead.
    """

    def __init__(
        self,
        photographs: Photographs,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
        *,
        size: int,
        batch_size: int,
        steps: int,
        centred: float,
        validation_crops: int,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, images_per_epoch=steps * batch_size, seed=seed)
        drawing = _Drawing(photographs, train, size=size, batch_size=batch_size, steps=steps, centred=centred)
        rows, corners = _grid(photographs, validation, size, validation_crops)
        fixed = [
            (rows[start : start + batch_size], corners[start : start + batch_size])
            for start in range(0, len(rows), batch_size)
        ]
        cut = _Cut(photographs, size)
        # One loader each for all epochs, since starting its workers anew can take longer than an epoch on a GPU.
        self._train = self._loader(cut, _Places(lambda: drawing.draw(self.epoch_seed), steps), workers)
        self._validation = self._loader(cut, _Places(lambda: fixed, len(fixed)), workers)

    def train_dataloader(self) -> Any:
        """Give this epoch's batches: images (n, C, size, size) and masks (n, size, size), both uint8."""
        return self._train

    def val_dataloader(self) -> Any:
        """Give the validation batches, the same ones every time."""
        return self._validation

    def _loader(self, cut: _Cut, places: _Places, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(
            cut,
            batch_size=None,
            sampler=places,
            num_workers=workers,
            persistent_workers=workers > 0,
            # Its own, so that reading does not use up the randomness of the training.
            generator=torch.Generator().manual_seed(self.seed),
            pin_memory=torch.cuda.is_available(),
        )


class _Places(Sampler[Batch]):
    """The places of an epoch's crops, asked for when the epoch begins."""

    def __init__(self, places: Callable[[], Sequence[Batch]], number: int) -> None:
        self._places, self._number = places, number

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Batch]:
        yield from self._places()


class _Cut(Dataset[tuple[Tensor, Tensor]]):
    """Cuts the crops of a batch; a worker needs to know nothing else."""

    def __init__(self, photographs: Photographs, size: int) -> None:
        self._photographs, self._size = photographs, size

    def __getitem__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, masks = self._photographs.crops(*batch, self._size)
        return as_tensor(images), torch.from_numpy(masks)


class _Drawing:
    """Where the crops of an epoch lie."""

    def __init__(
        self,
        photographs: Photographs,
        rows: NDArray[np.int64],
        *,
        size: int,
        batch_size: int,
        steps: int,
        centred: float,
    ) -> None:
        self._rows, self._size, self._shape, self._centred = rows, size, (steps, batch_size), centred
        self._sizes = photographs.sizes
        # No larger than a crop, so that a crop around a block holds all of it.
        self._block = min(_BLOCK, size)
        found = [_crack_blocks(photographs.mask(int(row)), self._block) for row in rows] if centred else []
        numbers = np.array([len(blocks) for blocks in found], np.int64)
        self._cracked, self._numbers = np.flatnonzero(numbers), numbers
        self._starts = np.cumsum(numbers) - numbers
        self._blocks = np.concatenate(found) if found else np.empty((0, 2), np.int32)

    def draw(self, seed: int) -> list[Batch]:
        """Draw the batches of one epoch."""
        rng = np.random.default_rng(seed)
        steps, batch_size = self._shape
        number = steps * batch_size
        which = rng.integers(len(self._rows), size=number)
        share = self._centred if len(self._cracked) else 0.0
        centred = np.flatnonzero(rng.random(number) < share)
        which[centred] = rng.choice(self._cracked, len(centred))
        rows = self._rows[which]
        room = np.maximum(self._sizes[rows] - self._size, 0)
        corners = rng.integers(0, room + 1)
        blocks = self._blocks[self._starts[which[centred]] + rng.integers(self._numbers[which[centred]])]
        before = rng.integers(0, self._size - self._block + 1, blocks.shape)
        corners[centred] = np.clip(blocks.astype(np.int64) * self._block - before, 0, room[centred])
        return [
            (rows[start : start + batch_size], corners[start : start + batch_size])
            for start in range(0, number, batch_size)
        ]


def _crack_blocks(mask: NDArray[np.uint8], block: int) -> NDArray[np.int32]:
    """Give the positions, (n, 2), of the blocks of a mask that hold a crack, in blocks."""
    height, width = mask.shape
    found = [np.empty((0, 2), np.int32)]
    # In strips, since a mask can be larger than the memory.
    strip = _STRIP // block * block
    for top in range(0, height, strip):
        crack = mask[top : top + strip] == CRACK
        crack = np.logical_or.reduceat(crack, np.arange(0, len(crack), block), axis=0)
        crack = np.logical_or.reduceat(crack, np.arange(0, width, block), axis=1)
        found.append(np.argwhere(crack).astype(np.int32) + np.array([top // block, 0], np.int32))
    return np.concatenate(found)


def _grid(photographs: Photographs, rows: NDArray[np.int64], size: int, most: int) -> Batch:
    """Lay crops side by side over the photographs; of more than so many, keep one of each equal run of them."""
    all_rows, all_corners = [], []
    for row in rows:
        height, width = (max(int(side), size) for side in photographs.sizes[row])
        corners = tiling.grid(height, width, size, cover=True)
        all_rows.append(np.full(len(corners), row, np.int64))
        all_corners.append(corners)
    joined = np.concatenate(all_rows), np.concatenate(all_corners)
    bounds = np.linspace(0, len(joined[0]), min(most, len(joined[0])) + 1).astype(np.int64)
    # Not always the first of a run: that could be the same corner of every photograph.
    kept = np.random.default_rng(0).integers(bounds[:-1], bounds[1:])
    return joined[0][kept], joined[1][kept]
