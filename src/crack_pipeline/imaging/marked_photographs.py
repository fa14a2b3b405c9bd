"""Photographs with masks that nobody drew: from labels of squares, or from what a network believes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.photograph_stack import IGNORED, PhotographStack, cut_mask

FALSE_ALARM = 3
"""In the masks that are given: background that a network has taken for a crack."""

_LEVEL = 1
_BAND = 256
"""Rows that are compressed together: of a large photograph a crop needs few of them."""
_AS_BACKGROUND = np.array([0, 1, 2, 0], np.uint8)


class MarkedPhotographs:
    """Photographs of a stack with other masks than its own, kept compressed in memory.

    Parameters
    ----------
    photographs
        The stack; its own masks cannot be reached from here.
    masks
        Row in the stack and mask, (H, W) uint8: 0 background, 1 crack, 2 ignored, 3 (`FALSE_ALARM`) background, too. A
        photograph that is not named is ignored in every pixel.

    Raises
    ------
    ValueError
        If a mask is not of the size of its photograph.
    """

    def __init__(self, photographs: PhotographStack, masks: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
        self._photographs = photographs.without_masks()
        self._masks: Mapping[int, list[bytes]] = {row: self._compressed(row, mask) for row, mask in masks}

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of every photograph of the stack in px, (N, 2)."""
        return self._photographs.sizes

    def photograph(self, row: int) -> NDArray[np.uint8]:
        """Give one photograph, (H, W) or (H, W, 3)."""
        return self._photographs.photograph(row)

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Give one mask, (H, W): 0 background, 1 crack, 2 ignored."""
        return _AS_BACKGROUND[self._given(row, 0, int(self.sizes[row, 0]))]

    def false_alarms(self, row: int) -> NDArray[np.uint8]:
        """Give (H, W): 1 where a network has taken background for a crack, else 0."""
        return (self._given(row, 0, int(self.sizes[row, 0])) == FALSE_ALARM).view(np.uint8)

    def crops(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut squares, as :meth:`crack_pipeline.imaging.photograph_stack.PhotographStack.crops` does."""
        images = self._photographs.cut(rows, corners, size)
        masks = np.empty((len(images), size, size), np.uint8)
        for mask, row, (y, x) in zip(masks, rows.tolist(), corners.tolist(), strict=True):
            top = min(max(y, 0), int(self.sizes[row, 0]) - 1) // _BAND * _BAND
            cut_mask(self._given(row, top, max(y + size, 0)), y - top, x, mask)
        return images, _AS_BACKGROUND[masks]

    def _given(self, row: int, top: int, bottom: int) -> NDArray[np.uint8]:
        """Give a mask from a row on that begins a band, to the end of the one that holds another, as it was given."""
        height, width = self.sizes[row].tolist()
        if row not in self._masks:
            return np.full((min(bottom, height) - min(top, height), width), IGNORED, np.uint8)
        bands = self._masks[row][top // _BAND : -(-bottom // _BAND)]
        return np.frombuffer(b"".join(map(zlib.decompress, bands)), np.uint8).reshape(-1, width)

    def _compressed(self, row: int, mask: NDArray[np.uint8]) -> list[bytes]:
        if mask.shape != tuple(self.sizes[row]) or mask.dtype != np.uint8:
            raise ValueError(f"photograph {row} is {tuple(self.sizes[row])}, its mask {mask.dtype} {mask.shape}")
        return [zlib.compress(mask[top : top + _BAND].tobytes(), _LEVEL) for top in range(0, len(mask), _BAND)]
