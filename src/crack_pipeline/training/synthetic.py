"""Squares that a generator makes while a network learns from them, alone or among real ones."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.training.crops import Source, Squares

_SEEDS = 2**62
_REAL = -1


class Generator(Protocol):
    """Makes images with masks out of nothing but a seed each."""

    def squares(self, seeds: NDArray[np.int64], size: int) -> Squares:
        """Make one square of so many px for every seed; the same seed gives the same square, whatever the others."""


class GeneratedSquares:
    """A source of nothing but generated squares.

    Parameters
    ----------
    generator
        Makes them.
    size
        Side of a square in px.
    batch_size, steps
        Squares in a batch, batches in an epoch.
    """

    def __init__(self, generator: Generator, *, size: int, batch_size: int, steps: int) -> None:
        self._generator, self._size, self._shape = generator, size, (steps, batch_size)

    def draw(self, seed: int) -> list[NDArray[np.int64]]:
        """Draw the seeds of the squares of one epoch."""
        return list(np.random.default_rng(seed).integers(_SEEDS, size=self._shape))

    def make(self, batch: NDArray[np.int64]) -> Squares:
        """Make the squares of a batch."""
        return self._generator.squares(batch, self._size)


class Mixed:
    """Squares of another source, some of which are replaced by generated ones.

    Parameters
    ----------
    real
        The other source.
    generator
        Makes squares.
    share
        Of the squares that are generated, from 0 to 1, on average.
    size
        Side of a square in px.
    """

    def __init__(self, real: Source, generator: Generator, *, share: float, size: int) -> None:
        self._real, self._generator, self._share, self._size = real, generator, share, size

    def draw(self, seed: int) -> list[tuple[Any, NDArray[np.int64]]]:
        """Decide the real squares, and the seeds of those that take the place of some."""
        rng = np.random.default_rng([seed, 1])
        batches = []
        for batch in self._real.draw(seed):
            number = len(batch[0])
            seeds = np.where(rng.random(number) < self._share, rng.integers(_SEEDS, size=number), _REAL)
            batches.append((batch, seeds))
        return batches

    def make(self, batch: tuple[Any, NDArray[np.int64]]) -> Squares:
        """Make the squares of a batch."""
        real, seeds = batch
        images, masks = self._real.make(real)
        replaced = np.flatnonzero(seeds != _REAL)
        if len(replaced):
            images[replaced], masks[replaced] = self._generator.squares(seeds[replaced], self._size)
        return images, masks
