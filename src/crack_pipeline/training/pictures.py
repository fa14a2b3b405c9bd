"""Square pictures of cracks for a generator to learn from."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.photograph_stack import IGNORED
from crack_pipeline.training.crops import Squares


class WholePhotographs(Protocol):
    """What is needed of a stack of photographs."""

    def photograph(self, row: int) -> NDArray[np.uint8]:
        """Give one photograph, (H, W) or (H, W, 3)."""


class ShrunkPhotographs:
    """A source of whole photographs, shrunk to squares; what is longer than wide is cut somewhere.

    For photographs of which nobody knows where in them the crack is.

    Parameters
    ----------
    photographs
        The stack.
    rows
        (n,), which of its photographs.
    size
        Side of a square in px.
    batch_size, steps
        Squares in a batch, batches in an epoch.
    """

    def __init__(
        self, photographs: WholePhotographs, rows: NDArray[np.int64], *, size: int, batch_size: int, steps: int
    ) -> None:
        self._photographs, self._rows, self._size, self._shape = photographs, rows, size, (steps, batch_size)

    def draw(self, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Decide photographs, and where they are cut, from 0 (upper left) to 1."""
        rng = np.random.default_rng(seed)
        steps, batch_size = self._shape
        return [(rng.choice(self._rows, batch_size), rng.random(batch_size)) for _ in range(steps)]

    def make(self, batch: tuple[NDArray[np.int64], NDArray[np.float64]]) -> Squares:
        """Shrink the photographs of a batch; of their masks nothing is known."""
        images = np.stack([self._shrink(int(row), float(at)) for row, at in zip(*batch, strict=True)])
        return images, np.full(images.shape[:3], IGNORED, np.uint8)

    def _shrink(self, row: int, at: float) -> NDArray[np.uint8]:
        photograph = self._photographs.photograph(row)
        height, width = photograph.shape[:2]
        side = min(height, width)
        top, left = round(at * (height - side)), round(at * (width - side))
        square = np.ascontiguousarray(photograph[top : top + side, left : left + side])
        method = cv2.INTER_AREA if side >= self._size else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(square, (self._size, self._size), interpolation=method), np.uint8)
