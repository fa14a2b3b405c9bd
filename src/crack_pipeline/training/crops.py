"""Square crops of photographs with masks, drawn anew in every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import cv2
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
_CRACKED = 1 / 8
"""Least share of the validation crops that hold a crack, where there are so many."""
_STRIP = 64 * _BLOCK

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Where the crops of a batch lie: rows (n,) of the stack, and corners (n, 2), y and x."""

Squares = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Images (n, S, S) or (n, S, S, C), and masks (n, S, S): 0 background, 1 crack, 2 ignored."""


class Source(Protocol):
    """Where batches come from: what is in them is decided in one process, and made in any."""

    def draw(self, seed: int) -> Sequence[Any]:
        """Decide what is in the batches of one epoch."""

    def make(self, batch: Any) -> Squares:
        """Make a batch out of what was decided."""


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
    """Random squares to learn from, and fixed ones to validate on.

    Parameters
    ----------
    train, validation
        Where they come from; what is validated is decided once, with the seed 0.
    batch_size
        Squares in a batch.
    steps
        Batches in an epoch.
    seed
        Decides what is drawn in each epoch.
    workers
        Processes that make batches ahead.
    """

    def __init__(
        self, train: Source, validation: Source, *, batch_size: int, steps: int, seed: int, workers: int = 0
    ) -> None:
        super().__init__(batch_size=batch_size, images_per_epoch=steps * batch_size, seed=seed)
        self._train, self._validation, self._steps, self._workers = train, validation, steps, workers
        self._fixed = validation.draw(0)
        # One loader each for all epochs, since starting its workers anew can take longer than an epoch on a GPU; made
        # in the process that trains.
        self._loaders: dict[str, DataLoader[tuple[Tensor, Tensor]]] = {}

    def train_dataloader(self) -> Any:
        """Give this epoch's batches: images (n, C, size, size) and masks (n, size, size), both uint8."""
        if "train" not in self._loaders:
            self._loaders["train"] = self._loader(self._train, _Batches(self._draw, self._steps))
        return self._loaders["train"]

    def val_dataloader(self) -> Any:
        """Give the validation batches, the same ones every time."""
        if "validation" not in self._loaders:
            fixed = self.place.deal(self._fixed)
            self._loaders["validation"] = self._loader(self._validation, _Batches(lambda: fixed, len(fixed)))
        return self._loaders["validation"]

    def release(self) -> None:
        """End the processes that read ahead: torch waits 5 s for each that only the collection of garbage ends."""
        for loader in self._loaders.values():
            if loader._iterator is not None:
                loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
        self._loaders.clear()

    def _draw(self) -> list[Any]:
        return [self.place.part(batch) for batch in self._train.draw(self.epoch_seed)]

    def _loader(self, source: Source, batches: _Batches) -> DataLoader[tuple[Tensor, Tensor]]:
        if self._workers:
            # Every worker would start a thread per core. Told here: a process that was forked waits forever for the
            # threads that OpenCV had before.
            cv2.setNumThreads(1)
        return DataLoader(
            _Made(source),
            batch_size=None,
            sampler=batches,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            # Its own, so that reading does not use up the randomness of the training.
            generator=torch.Generator().manual_seed(self.seed),
            pin_memory=torch.cuda.is_available(),
        )


class _Batches(Sampler[Any]):
    """The batches of an epoch, decided when the epoch begins."""

    def __init__(self, draw: Callable[[], Sequence[Any]], number: int) -> None:
        self._draw, self._number = draw, number

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Any]:
        yield from self._draw()


class _Made(Dataset[tuple[Tensor, Tensor]]):
    """Makes batches; a worker needs to know nothing else."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, batch: Any) -> tuple[Tensor, Tensor]:
        images, masks = self._source.make(batch)
        return as_tensor(images), torch.from_numpy(masks)


class RandomCrops:
    """Crops anywhere in the photographs.

    Parameters
    ----------
    photographs
        The stack.
    rows
        (n,), which of its photographs.
    size
        Side of a crop in px. What lies beyond a smaller photograph is a reflection, and ignored.
    batch_size
        Crops in a batch.
    steps
        Batches in an epoch.
    centred
        Share of the crops that are made to hold a crack, from 0 to 1: most of a photograph is sound concrete, and a
        network that sees little else learns little else.
    others
        Gives, for a row of the stack, another mask, (H, W), and the share of the crops that are made to hold some of
        what is marked as crack there; the two shares are 1 together at most.

    Raises
    ------
    ValueError
        If they are more.
    """

    def __init__(
        self,
        photographs: Photographs,
        rows: NDArray[np.int64],
        *,
        size: int,
        batch_size: int,
        steps: int,
        centred: float,
        others: tuple[Callable[[int], NDArray[np.uint8]], float] | None = None,
    ) -> None:
        self._photographs, self._rows, self._size, self._shape = photographs, rows, size, (steps, batch_size)
        self._sizes = photographs.sizes
        # No larger than a crop, so that a crop around a block holds all of it.
        self._block = min(_BLOCK, size)
        wanted = [(photographs.mask, centred), *([others] if others else [])]
        if sum(share for _, share in wanted) > 1:
            raise ValueError(f"shares of {' and '.join(f'{share:g}' for _, share in wanted)} are more than all crops")
        self._kinds = [(_Blocks(mask, rows, self._block), share) for mask, share in wanted if share]

    def draw(self, seed: int) -> list[Batch]:
        """Decide where the crops of one epoch lie."""
        rng = np.random.default_rng(seed)
        steps, batch_size = self._shape
        number = steps * batch_size
        which = rng.integers(len(self._rows), size=number)
        chance, below = rng.random(number), 0.0
        chosen = []
        for kind, share in self._kinds:
            at = np.flatnonzero((below <= chance) & (chance < below + share * bool(len(kind.photographs))))
            which[at] = rng.choice(kind.photographs, len(at)) if len(at) else which[at]
            chosen.append((kind, at))
            below += share
        rows = self._rows[which]
        room = np.maximum(self._sizes[rows] - self._size, 0)
        corners = rng.integers(0, room + 1)
        for kind, at in chosen:
            blocks = kind.draw(which[at], rng)
            before = rng.integers(0, self._size - self._block + 1, blocks.shape)
            corners[at] = np.clip(blocks * self._block - before, 0, room[at])
        return list(_in_batches(rows, corners, batch_size))

    def make(self, batch: Batch) -> Squares:
        """Cut the crops of a batch."""
        return self._photographs.crops(*batch, self._size)


class _Blocks:
    """Where masks of photographs are marked."""

    def __init__(self, mask: Callable[[int], NDArray[np.uint8]], rows: NDArray[np.int64], block: int) -> None:
        found = [_crack_blocks(mask(int(row)), block) for row in rows]
        self._numbers = np.array([len(blocks) for blocks in found], np.int64)
        self._starts = np.cumsum(self._numbers) - self._numbers
        self._blocks = np.concatenate(found) if found else np.empty((0, 2), np.int32)
        self.photographs = np.flatnonzero(self._numbers)
        """(n,): which of the photographs have any."""

    def draw(self, which: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a block, (n, 2), of each of some photographs, in blocks."""
        return self._blocks[self._starts[which] + rng.integers(self._numbers[which])].astype(np.int64)


class GridCrops:
    """Crops side by side, over whole photographs.

    Parameters
    ----------
    photographs
        The stack.
    rows
        (n,), which of its photographs.
    size
        Side of a crop in px.
    batch_size
        Crops in a batch.
    most
        At most so many crops, spread over all of the photographs, an eighth of them with a crack if there are so many.
    """

    def __init__(
        self, photographs: Photographs, rows: NDArray[np.int64], *, size: int, batch_size: int, most: int
    ) -> None:
        self._photographs, self._size, self._batch_size = photographs, size, batch_size
        self._places = _grid(photographs, rows, size, most)

    def draw(self, seed: int) -> list[Batch]:
        """Give where the crops lie, which is the same for every seed."""
        return list(_in_batches(*self._places, self._batch_size))

    def make(self, batch: Batch) -> Squares:
        """Cut the crops of a batch."""
        return self._photographs.crops(*batch, self._size)


def _in_batches(rows: NDArray[np.int64], corners: NDArray[np.int64], size: int) -> Iterator[Batch]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size], corners[start : start + size]


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
    """Lay crops side by side over the photographs; of more than so many, keep one of each equal run of them.

    Where next to none of these holds a crack, some that do take the place of others: without them there is no Dice.
    """
    all_rows, all_corners = [], []
    for row in rows:
        height, width = (max(int(side), size) for side in photographs.sizes[row])
        corners = tiling.grid(height, width, size, cover=True)
        all_rows.append(np.full(len(corners), row, np.int64))
        all_corners.append(corners)
    joined = np.concatenate(all_rows), np.concatenate(all_corners)
    bounds = np.linspace(0, len(joined[0]), min(most, len(joined[0])) + 1).astype(np.int64)
    # Not always the first of a run: that could be the same corner of every photograph.
    rng = np.random.default_rng(0)
    kept = rng.integers(bounds[:-1], bounds[1:])
    if len(kept) < len(joined[0]):
        kept = _with_cracks(kept, _cracked(photographs, *joined, size), rng)
    return joined[0][kept], joined[1][kept]


def _cracked(
    photographs: Photographs, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int
) -> NDArray[np.bool_]:
    """Whether each crop holds a crack, (n,)."""
    places = zip(rows, corners, strict=True)
    found = ((photographs.mask(int(row))[y : y + size, x : x + size] == CRACK).any() for row, (y, x) in places)
    return np.fromiter(found, np.bool_, len(rows))


def _with_cracks(kept: NDArray[np.int64], cracked: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Put crops with a crack in the place of others, until there are enough to measure by, or no more of them."""
    enough = math.ceil(_CRACKED * len(kept))
    missing = enough - int(cracked[kept].sum())
    more = np.setdiff1d(np.flatnonzero(cracked), kept)
    if missing <= 0 or not len(more):
        return kept
    chosen = rng.permutation(more)[:missing]
    given_up = rng.permutation(np.flatnonzero(~cracked[kept]))[: len(chosen)]
    return np.sort(np.concatenate([np.delete(kept, given_up), chosen]))
